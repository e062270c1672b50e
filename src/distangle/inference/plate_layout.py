"""Predict the wells of a plate with what its layout tells."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from distangle.core.stats import positions_by_value
from distangle.inference.assignment import assign_per_plate
from distangle.inference.control_checks import was_trained
from distangle.results import Predictions
from distangle.screen import CONTROLS
from distangle.screen.plate_layout import PlateLayout, find_layout

BY_GROUP, BY_ASSIGNMENT, GROUP_SIZE = "predicted_by_group", "predicted_by_assignment", "group_size"


@dataclass(frozen=True, kw_only=True)
class TrainingWells:
    """The training wells of the network that predicted some wells.

    Attributes:
        rows: Whether each predicted well belongs to it, bool [well].
        table: Wells that the network was trained on, with `Metadata_Experiment`, `Metadata_Plate`, `Metadata_Role` and
            `perturbation`.
    """

    rows: np.ndarray
    table: pd.DataFrame


def add_layout_columns(wells: Predictions, training: Sequence[TrainingWells]) -> tuple[Predictions, str]:
    """Add the predictions that use the layout of the plate.

    The groups of perturbations come from training wells alone. The group of a plate is the one that its wells
    predict: no label of the plate is used. Known roles are used: control wells are left out.

    Args:
        wells: Predicted wells.
        training: The training wells of each network; empty if they are unknown.

    Returns:
        The predictions with the columns `predicted_by_group` and `predicted_by_assignment` ("" for training wells,
        controls and unreadable wells) and `group_size` (perturbations of the plate's group, 0 where there is no
        prediction); and a sentence on their origin. Without such a layout, the same predictions and the reason.
    """
    n = len(wells.table)
    by_group, by_assignment = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
    sizes, n_full = np.zeros(n, dtype=np.int64), 0
    reason = "the training screen was not found"
    layouts: list[PlateLayout] = []
    for part in training:
        layout, why = find_layout(*_treatments(part.table))
        if layout is None:
            reason = why
            continue
        rows = np.flatnonzero(part.rows & _is_predictable(wells.table))
        if not len(rows):
            reason = "no readable treatment well was held out"
            continue
        layouts.append(layout)
        members, full = _predict(wells, rows, layout)
        by_group[rows], by_assignment[rows], sizes[rows] = members
        n_full += full
    if not layouts:
        return wells, f"No prediction uses the layout of the plate: {reason}."
    table = wells.table.assign(**{BY_GROUP: by_group, BY_ASSIGNMENT: by_assignment, GROUP_SIZE: sizes})
    counts = ", ".join(str(len(group)) for group in layouts[0].groups)
    sentence = (
        f"In the training wells, every plate carries one of {len(layouts[0].groups)} groups of treatments ({counts}), "
        "each treatment once."
    )
    if n_full:
        sentence += f" {n_full} plate(s) have more wells than their group: each well is predicted for itself there."
    return replace(wells, table=table), sentence


def _treatments(table: pd.DataFrame) -> tuple[list[tuple[str, str]], list[str]]:
    """Return plate and label of the labeled treatment wells."""
    used = table[~table["Metadata_Role"].isin(CONTROLS) & (table["perturbation"] != "")]
    return plates_of_wells(used), used["perturbation"].astype(str).tolist()


def plates_of_wells(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return experiment and plate of each well."""
    return list(
        zip(table["Metadata_Experiment"].astype(str), table["Metadata_Plate"].astype(str), strict=True)
    )  # names of plates repeat between experiments


def _is_predictable(table: pd.DataFrame) -> np.ndarray:
    return np.asarray(~was_trained(table) & ~table["Metadata_Role"].isin(CONTROLS) & (table["reason"] == ""))


def _predict(
    wells: Predictions, rows: np.ndarray, layout: PlateLayout
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], int]:
    """Return both predictions and the group size of some wells, and the number of full plates."""
    logits = wells.logits[rows].astype(np.float64)
    column = {name: k for k, name in enumerate(wells.perturbations)}
    columns = [np.array([column[name] for name in group if name in column], dtype=np.int64) for group in layout.groups]
    columns = [group for group in columns if len(group)]
    names = np.array(wells.perturbations, dtype=object)
    # log of the probability of a group, up to a term that all groups share
    evidence = np.stack([logsumexp(logits[:, group], axis=1) for group in columns], axis=1)
    by_group, by_assignment = np.empty(len(rows), dtype=object), np.empty(len(rows), dtype=object)
    sizes, n_full = np.zeros(len(rows), dtype=np.int64), 0
    plates = plates_of_wells(wells.table.iloc[rows])
    for plate, positions in positions_by_value(plates).items():
        group = columns[int(evidence[positions].sum(axis=0).argmax())]
        part = logits[positions][:, group]
        by_group[positions] = names[group[part.argmax(axis=1)]]
        sizes[positions] = len(group)
        if len(positions) > len(group):
            by_assignment[positions], n_full = by_group[positions], n_full + 1
        else:
            by_assignment[positions] = names[group[assign_per_plate(part, [plate] * len(positions))]]
    return (by_group, by_assignment, sizes), n_full
