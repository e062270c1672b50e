"""What became of every well of a plate, as an array of the plate's shape."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd

from distangle.results import Predictions
from distangle.screen import CONTROLS, Role, Screen, parse_well


class WellState(IntEnum):
    """What a plate map shows of a well."""

    EMPTY = 0  # no site of it in the screen
    TRAINING = 1  # seen in training: no test
    UNREADABLE = 2  # its images could not be read
    UNSCORED = 3  # held out, but of an unknown perturbation, or of one never trained
    WRONG = 4
    CORRECT = 5


@dataclass(frozen=True, kw_only=True)
class PlateGrid:
    """One plate; every array is [row, column] of the plate.

    Attributes:
        experiment: Name of the experiment.
        plate: Name of the plate.
        state: `WellState` values, int8.
        confidence: Probability of the predicted perturbation, in [0, 1]; NaN where nothing was predicted.
        role: Role of the well, "" where empty.
        said: What a reader learns of the well when pointing at it.
    """

    experiment: str
    plate: str
    state: np.ndarray
    confidence: np.ndarray
    role: np.ndarray
    said: np.ndarray

    @property
    def n_scored(self) -> int:
        """Number of wells that are right or wrong."""
        return int((self.state >= WellState.WRONG).sum())

    @property
    def n_correct(self) -> int:
        """Number of wells that are right."""
        return int((self.state == WellState.CORRECT).sum())


def held_out_plates(predictions: Predictions) -> list[tuple[str, str]]:
    """Return (experiment, plate) of every plate with a held-out well, in order."""
    held_out = predictions.table[predictions.table["Metadata_Fold"] == "held_out"]
    pairs = held_out[["Metadata_Experiment", "Metadata_Plate"]].astype(str).drop_duplicates()
    return [(str(experiment), str(plate)) for experiment, plate in pairs.itertuples(index=False)]


def spread(items: list[tuple[str, str]], *, most: int) -> list[tuple[str, str]]:
    """Choose at most `most` plates, spread over the experiments, in their order."""
    turns: dict[str, int] = {}
    ranked = []
    for place, (experiment, plate) in enumerate(items):
        turns[experiment] = turns.get(experiment, -1) + 1
        ranked.append((turns[experiment], place, (experiment, plate)))
    kept = sorted(ranked)[:most]
    return [pair for _, _, pair in sorted(kept, key=lambda entry: entry[1])]


def plate_grid(
    wells: Predictions, screen: Screen, *, experiment: str, plate: str, never_trained: tuple[str, ...] = ()
) -> PlateGrid:
    """Lay the wells of one plate out as they lie on it.

    Args:
        wells: Predictions at the level of wells.
        screen: Gives the size of the plate.
        experiment: Name of the experiment.
        plate: Name of the plate.
        never_trained: Perturbations that the network could not know.

    Raises:
        ScreenError: A well has a name that the plate does not have.
    """
    shape = (screen.card.plate_rows, screen.card.plate_columns)
    state = np.zeros(shape, dtype=np.int8)
    confidence = np.full(shape, np.nan)
    role = np.full(shape, "", dtype=object)
    said = np.full(shape, "", dtype=object)
    table = wells.table
    here = (table["Metadata_Experiment"].astype(str) == experiment) & (table["Metadata_Plate"].astype(str) == plate)
    for entry in table[here].to_dict("records"):
        place = parse_well(str(entry["Metadata_Well"]), rows=shape[0], columns=shape[1])
        state[place] = _state(entry, known=frozenset(wells.perturbations) - set(never_trained))
        role[place] = str(entry["Metadata_Role"])
        if state[place] >= WellState.UNSCORED:
            confidence[place] = float(entry["confidence"])
        said[place] = _said(entry, WellState(int(state[place]))).replace(f"{screen.source}/", "")
    return PlateGrid(experiment=experiment, plate=plate, state=state, confidence=confidence, role=role, said=said)


def is_control(role: str) -> bool:
    """Return whether wells of this role are there to check the others."""
    return role in CONTROLS


def _state(entry: Mapping[Hashable, Any], *, known: frozenset[str]) -> WellState:
    if entry["Metadata_Fold"] != "held_out":
        return WellState.TRAINING
    if entry["reason"]:
        return WellState.UNREADABLE
    if entry["perturbation"] not in known:
        return WellState.UNSCORED
    return WellState.CORRECT if entry["predicted"] == entry["perturbation"] else WellState.WRONG


def _said(entry: Mapping[Hashable, Any], state: WellState) -> str:
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
