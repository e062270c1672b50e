"""Arrange the predictions of the wells of a plate in arrays of the plate's shape."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd

from distangle.results import Predictions
from distangle.screen import CONTROLS, Role, Screen, parse_well


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
        tooltip: Text that appears when the reader points at the well.
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
    shape = (screen.card.plate_rows, screen.card.plate_columns)
    state = np.zeros(shape, dtype=np.int8)
    confidence = np.full(shape, np.nan)
    role = np.full(shape, "", dtype=object)
    tooltip = np.full(shape, "", dtype=object)
    table, trained = wells.table, frozenset(wells.perturbations) - set(never_trained)
    on_plate = (table["Metadata_Experiment"].astype(str) == experiment) & (table["Metadata_Plate"].astype(str) == plate)
    for entry in table[on_plate].to_dict("records"):
        position = parse_well(str(entry["Metadata_Well"]), rows=shape[0], columns=shape[1])
        state[position] = _well_state(entry, trained=trained)
        role[position] = str(entry["Metadata_Role"])
        if state[position] >= WellState.UNSCORED:
            confidence[position] = float(entry["confidence"])
        tooltip[position] = _tooltip(entry, WellState(int(state[position]))).replace(f"{screen.source}/", "")
    return PlateGrid(experiment=experiment, plate=plate, state=state, confidence=confidence, role=role, tooltip=tooltip)


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
