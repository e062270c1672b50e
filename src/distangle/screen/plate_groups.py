"""Select which plates share normalization statistics, and from which sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from distangle.screen.roles import NEGATIVE
from distangle.screen.screen import PLATE_COLUMNS, Screen

StatisticsSource = Literal["running", "plate", "experiment", "controls"]
Plate = tuple[str, str]


@dataclass(frozen=True)
class StatisticsGroup:
    """Plates that share statistics.

    Attributes:
        description: The source of the statistics, such as `plate HUVEC-01 2`.
        plates: Experiment and name of each plate.
        rows: Sites that the statistics are computed from; empty for the running statistics of the training.
    """

    description: str
    plates: tuple[Plate, ...]
    rows: tuple[int, ...]


def statistics_groups(
    screen: Screen,
    rows: Sequence[int],
    *,
    by: StatisticsSource,
    min_sites: int,
    source_rows: Sequence[int],
    fold: np.ndarray | None = None,
) -> tuple[list[StatisticsGroup], list[str]]:
    """Return groups of plates that share statistics, and remarks.

    Args:
        screen: The screen.
        rows: Sites whose plates need statistics.
        by: `plate`, `experiment`, or `controls` of the plate; a plate with too few sites takes those of its
            experiment, an experiment with too few the running statistics of the training.
        min_sites: Minimum number of sites per group.
        source_rows: Sites that statistics may be computed from.
        fold: Fold of each site: plates of an experiment in several folds share statistics only within a fold.
    """
    if by == "controls":
        controls = set(control_rows(screen))
        source_rows = [row for row in source_rows if row in controls]
    members: dict[Plate, list[int]] = {}
    for row, plate in zip(source_rows, plates_of(screen, source_rows, fold), strict=True):
        members.setdefault(plate, []).append(row)
    fold_of = dict(zip(plates_of(screen, rows, fold), _folds(rows, fold), strict=True))
    fold_of |= dict(zip(plates_of(screen, source_rows, fold), _folds(source_rows, fold), strict=True))
    # Sort by well, so that sums do not depend on the order of the table.
    sources = screen.sites[["well", "site"]].iloc[list(source_rows)]
    wells = dict(zip(source_rows, zip(sources["well"], sources["site"], strict=True), strict=True))
    members = {plate: sorted(group_rows, key=wells.__getitem__) for plate, group_rows in sorted(members.items())}
    groups: dict[str, StatisticsGroup] = {}
    remarks = []
    for plate in sorted(set(plates_of(screen, rows, fold))):
        same_experiment = [other for other in members if other[0] == plate[0] and fold_of[other] == fold_of[plate]]
        experiment = tuple(row for other in same_experiment for row in members[other])
        plate_rows, prefix = tuple(members.get(plate, ())), "controls of " if by == "controls" else ""
        fold_suffix = _in_fold(fold_of, plate)
        candidates = [
            (f"{prefix}plate {' '.join(plate)}", plate_rows),
            (f"{prefix}experiment {plate[0]}{fold_suffix}", experiment),
        ]
        if by == "experiment":
            candidates = candidates[1:]
        sufficient = [
            (description, group_rows) for description, group_rows in candidates if len(group_rows) >= min_sites
        ]
        description, group_rows = sufficient[0] if sufficient else ("the running statistics of the training", ())
        if (description, group_rows) != candidates[0]:
            size_text = f" ({len(group_rows)} sites)" if group_rows else ""
            remarks.append(
                f"Norms of plate {' '.join(plate)}: {len(candidates[0][1])} readable site(s) of {candidates[0][0]}, "
                f"fewer than batch_norm.min_sites={min_sites}; used instead: {description}{size_text}."
            )
        earlier = groups[description].plates if description in groups else ()
        groups[description] = StatisticsGroup(description=description, plates=(*earlier, plate), rows=group_rows)
    return list(groups.values()), remarks


def control_rows(screen: Screen) -> list[int]:
    """Return the rows of negative controls."""
    control = screen.sites["role"].isin(NEGATIVE)
    return [row for row, is_control in enumerate(control) if is_control]


def plates_of(screen: Screen, rows: Sequence[int], fold: np.ndarray | None = None) -> list[Plate]:
    """Return experiment and plate of each row.

    A plate in several folds is one plate in each, `PLATE (FOLD)`.
    """
    positions = list(rows)
    sites = screen.sites.iloc[positions]
    plates = [(str(e), str(p)) for e, p in zip(sites["experiment"], sites["plate"], strict=True)]
    if fold is None or not positions:
        return plates
    # Only the experiments of these rows, so that the work for one plate does not grow with the screen.
    nearby = np.flatnonzero(screen.sites["experiment"].isin(sites["experiment"].unique()))
    codes = group_codes(screen.sites.iloc[nearby], list(PLATE_COLUMNS))
    n_folds = pd.Series(np.asarray(fold)[nearby]).groupby(codes).nunique().to_numpy()
    folds_of_row = dict(zip(nearby.tolist(), n_folds[codes].tolist(), strict=True))
    return [
        (experiment, f"{plate} ({fold[row]})" if folds_of_row[row] > 1 else plate)
        for (experiment, plate), row in zip(plates, positions, strict=True)
    ]


def group_codes(sites: pd.DataFrame, columns: Sequence[str], fold: np.ndarray | None = None) -> np.ndarray:
    """Return the group number of each site by columns and fold, int64 [site].

    Args:
        sites: Rows of a screen.
        columns: The columns that define a group, such as `experiment`.
        fold: Fold of each site as a further column; None for none.
    """
    keys = sites[list(columns)].astype(str).reset_index(drop=True)
    if fold is not None:
        keys["fold"] = np.asarray(fold).astype(str)
    return np.asarray(keys.groupby(list(keys.columns), sort=True).ngroup(), dtype=np.int64)


def _folds(rows: Sequence[int], fold: np.ndarray | None) -> list[str]:
    return ["" if fold is None else str(fold[row]) for row in rows]


def _in_fold(fold_of: dict[Plate, str], plate: Plate) -> str:
    """Return the name of a plate's fold if its experiment lies in several folds."""
    folds = {name for other, name in fold_of.items() if other[0] == plate[0]}
    return f" ({fold_of[plate]})" if len(folds) > 1 else ""
