"""Arrange the predictions of the wells of a plate in arrays of the plate's shape."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import brief
from distangle.results import Predictions
from distangle.screen import CONTROLS, Role, Screen, parse_well

MAX_ANNOTATIONS = 4  # columns such as gene and dose in the text of a well
_OWN_COLUMNS = frozenset(
    f"Metadata_{name}" for name in ("Experiment", "Plate", "Well", "Site", "Cell_Type", "Role", "Perturbation", "Fold")
) | {"Metadata_Cross_Validation"}


class WellState(IntEnum):
    """The state of a well on a plate map."""

    EMPTY = 0  # no site in the screen
    TRAINING = 1  # used in training
    UNREADABLE = 2  # images could not be read
    UNSCORED = 3  # held out, with an unknown or never trained perturbation
    WRONG = 4
    CORRECT = 5


@dataclass(frozen=True, kw_only=True)
class PlateGrid:
    """The wells of one plate; every array is [row, column].

    Attributes:
        experiment: Name of the experiment.
        plate: Name of the plate.
        state: `WellState` values, int8.
        confidence: Probability of the predicted perturbation, in [0, 1]; NaN without a prediction.
        role: Role of the well, "" if empty.
        tooltip: Text that appears when the reader points at the well, taps it or moves the keyboard focus to it.
    """

    experiment: str
    plate: str
    state: np.ndarray
    confidence: np.ndarray
    role: np.ndarray
    tooltip: np.ndarray

    @property
    def n_scored(self) -> int:
        """Number of wells that are correct or wrong."""
        return int((self.state >= WellState.WRONG).sum())

    @property
    def n_correct(self) -> int:
        """Number of wells that are correct."""
        return int((self.state == WellState.CORRECT).sum())


def held_out_plates(predictions: Predictions) -> list[tuple[str, str]]:
    """Return (experiment, plate) of every plate with a held-out well, in order."""
    held_out = predictions.table[predictions.table["Metadata_Fold"] == "held_out"]
    pairs = held_out[["Metadata_Experiment", "Metadata_Plate"]].astype(str).drop_duplicates()
    return [(str(experiment), str(plate)) for experiment, plate in pairs.itertuples(index=False)]


def spread_over_experiments(items: list[tuple[str, str]], *, limit: int) -> list[tuple[str, str]]:
    """Choose at most `limit` plates, spread over the experiments, in order."""
    n_seen: dict[str, int] = {}
    ranked = []
    for position, (experiment, plate) in enumerate(items):
        n_seen[experiment] = n_seen.get(experiment, -1) + 1
        ranked.append((n_seen[experiment], position, (experiment, plate)))
    first = sorted(ranked)[:limit]
    return [pair for _, _, pair in sorted(first, key=lambda entry: entry[1])]


def plate_grid(
    wells: Predictions, screen: Screen, *, experiment: str, plate: str, never_trained: tuple[str, ...] = ()
) -> PlateGrid:
    """Arrange the wells of one plate by row and column.

    Args:
        wells: Predictions at the level of wells.
        screen: Screen, for the size of the plate.
        experiment: Name of the experiment.
        plate: Name of the plate.
        never_trained: Perturbations without a training well.

    Raises:
        ScreenError: The name of a well is not on the plate.
    """
    return plate_grids(wells, screen, plates=[(experiment, plate)], never_trained=never_trained)[0]


def plate_grids(
    wells: Predictions, screen: Screen, *, plates: Sequence[tuple[str, str]], never_trained: tuple[str, ...] = ()
) -> list[PlateGrid]:
    """Arrange the wells of several plates by row and column, in their order.

    Args:
        wells: Predictions at the level of wells.
        screen: Screen, for the size of the plates.
        plates: (experiment, plate) of each.
        never_trained: Perturbations without a training well.

    Raises:
        ScreenError: The name of a well is not on the plate.
    """
    table = wells.table
    names = [table[f"Metadata_{name}"].astype(str) for name in ("Experiment", "Plate")]
    positions = {key: rows for key, rows in table.groupby(names, sort=False).indices.items()}
    trained = frozenset(wells.perturbations) - set(never_trained)
    annotations = annotation_columns(table)
    grids = []
    for experiment, plate in plates:
        entries = table.iloc[positions.get((experiment, plate), [])].to_dict("records")
        grid = _empty_grid(screen, experiment, plate)
        for entry in entries:
            _fill_well(grid, entry, trained=trained, annotations=annotations, source=str(screen.source))
        grids.append(grid)
    return grids


def annotation_columns(table: pd.DataFrame) -> list[str]:
    """Return the laboratory's columns, such as gene and dose, at most four.

    A column with another value in every well is a name of the well and is left out.
    """
    columns = [str(name) for name in table.columns if str(name).startswith("Metadata_")]
    columns = [name for name in columns if name not in _OWN_COLUMNS and 1 < table[name].nunique() < len(table)]
    return columns[:MAX_ANNOTATIONS]


def _empty_grid(screen: Screen, experiment: str, plate: str) -> PlateGrid:
    shape = (screen.metadata.plate_rows, screen.metadata.plate_columns)
    return PlateGrid(
        experiment=experiment, plate=plate, state=np.zeros(shape, dtype=np.int8), confidence=np.full(shape, np.nan),
        role=np.full(shape, "", dtype=object), tooltip=np.full(shape, "", dtype=object),
    )  # fmt: skip


def _fill_well(
    grid: PlateGrid, entry: Mapping[Hashable, Any], *, trained: frozenset[str], annotations: Sequence[str], source: str
) -> None:
    rows, columns = grid.state.shape
    position = parse_well(str(entry["Metadata_Well"]), rows=rows, columns=columns)
    state = _well_state(entry, trained=trained)
    grid.state[position] = state
    grid.role[position] = str(entry["Metadata_Role"])
    if state >= WellState.UNSCORED:
        grid.confidence[position] = float(entry["confidence"])
    parts = [_tooltip(entry, state).replace(f"{source}/", "")]
    for name in annotations:
        value = entry[name]
        if value is not None and value == value and str(value):
            label = name.removeprefix("Metadata_").replace("_", " ")
            parts.append(f"{brief(label, max_length=24)} {brief(str(value), max_length=32)}")
    grid.tooltip[position] = " · ".join(parts)


def is_control(role: str) -> bool:
    """Return whether a role is that of a control."""
    return role in CONTROLS


def _well_state(entry: Mapping[Hashable, Any], *, trained: frozenset[str]) -> WellState:
    if entry["Metadata_Fold"] != "held_out":
        return WellState.TRAINING
    if entry["reason"]:
        return WellState.UNREADABLE
    if entry["perturbation"] not in trained:
        return WellState.UNSCORED
    return WellState.CORRECT if entry["predicted"] == entry["perturbation"] else WellState.WRONG


def _tooltip(entry: Mapping[Hashable, Any], state: WellState) -> str:
    true = str(entry["perturbation"]) or "unknown"
    parts = [str(entry["Metadata_Well"]), true]
    if entry["Metadata_Role"] not in ("", Role.TREATMENT, Role.UNKNOWN):
        parts.append(str(entry["Metadata_Role"]).replace("_", " "))
    if state is WellState.TRAINING:
        parts.append("training well")
    elif state is WellState.UNREADABLE:
        parts.append(f"not read: {entry['reason']}")
    else:
        confidence = float(str(entry["confidence"]))
        parts.append(f"predicted {entry['predicted']} ({'–' if pd.isna(confidence) else f'{confidence:.2f}'})")
    return " · ".join(parts)
