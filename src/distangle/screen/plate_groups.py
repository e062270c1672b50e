"""Choose which plates share norm statistics, and from which sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from distangle.screen.roles import NEGATIVE
from distangle.screen.screen import PLATE_COLUMNS, Screen

AtTest = Literal["running", "plate", "experiment", "controls"]
Plate = tuple[str, str]


@dataclass(frozen=True)
class StatisticsGroup:
    """Plates that share statistics.

    Attributes:
        description: Whose statistics, such as `plate HUVEC-01 2`.
        plates: Experiment and plate of each.
        rows: Sites that the statistics are computed from; none for the running statistics of the training.
    """

    description: str
    plates: tuple[Plate, ...]
    rows: tuple[int, ...]


def statistics_groups(
    screen: Screen,
    rows: Sequence[int],
    *,
    by: AtTest,
    min_sites: int,
    source_rows: Sequence[int],
    fold: np.ndarray | None = None,
) -> tuple[list[StatisticsGroup], list[str]]:
    """Return which plates share statistics, from which sites, and remarks.

    Args:
        screen: The screen.
        rows: Sites whose plates need statistics.
        by: `plate`, `experiment`, or `controls` of the plate; a plate with too few sites takes those of its
            experiment, an experiment with too few the running statistics of the training.
        min_sites: Sites that a group needs.
        source_rows: Sites that statistics may rest on.
        fold: Of each site: the plates of an experiment in several folds share statistics within a fold only.
    """
    if by == "controls":
        known = set(control_rows(screen))
        source_rows = [row for row in source_rows if row in known]
    members: dict[Plate, list[int]] = {}
    for row, plate in zip(source_rows, plates_of(screen, source_rows, fold), strict=True):
        members.setdefault(plate, []).append(row)
    fold_of = dict(zip(plates_of(screen, rows, fold), _folds(rows, fold), strict=True))
    fold_of |= dict(zip(plates_of(screen, source_rows, fold), _folds(source_rows, fold), strict=True))
    # In the order of the wells, whatever the order of the table: sums are rounded alike.
    wells = screen.sites[["well", "site"]].apply(tuple, axis=1)
    members = {plate: sorted(found, key=lambda row: wells.iloc[row]) for plate, found in sorted(members.items())}
    groups: dict[str, StatisticsGroup] = {}
    remarks = []
    for plate in sorted(set(plates_of(screen, rows, fold))):
        same = [other for other in members if other[0] == plate[0] and fold_of[other] == fold_of[plate]]
        experiment = tuple(row for other in same for row in members[other])
        own, whose = tuple(members.get(plate, ())), "controls of " if by == "controls" else ""
        here = _in_fold(fold_of, plate)
        choices = [(f"{whose}plate {' '.join(plate)}", own), (f"{whose}experiment {plate[0]}{here}", experiment)]
        if by == "experiment":
            choices = choices[1:]
        fine = [(words, found) for words, found in choices if len(found) >= min_sites]
        words, found = fine[0] if fine else ("the running statistics of the training", ())
        if (words, found) != choices[0]:
            n_found = f" ({len(found)} sites)" if found else ""
            remarks.append(
                f"Norms of plate {' '.join(plate)}: {len(choices[0][1])} readable site(s) of {choices[0][0]}, fewer "
                f"than batch_norm.min_sites={min_sites}; used instead: {words}{n_found}."
            )
        before = groups[words].plates if words in groups else ()
        groups[words] = StatisticsGroup(description=words, plates=(*before, plate), rows=found)
    return list(groups.values()), remarks


def control_rows(screen: Screen) -> list[int]:
    """Return the rows of negative controls."""
    control = screen.sites["role"].isin(NEGATIVE)
    return [row for row, is_control in enumerate(control) if is_control]


def plates_of(screen: Screen, rows: Sequence[int], fold: np.ndarray | None = None) -> list[Plate]:
    """Return experiment and plate of each row.

    A plate in several folds is one plate in each, `PLATE (FOLD)`.
    """
    chosen = list(rows)
    sites = screen.sites.iloc[chosen]
    plates = [(str(e), str(p)) for e, p in zip(sites["experiment"], sites["plate"], strict=True)]
    if fold is None:
        return plates
    whole = group_codes(screen.sites, list(PLATE_COLUMNS))
    n_folds = pd.Series(fold).groupby(whole).nunique().to_numpy()
    return [
        (experiment, f"{plate} ({fold[row]})" if n_folds[whole[row]] > 1 else plate)
        for (experiment, plate), row in zip(plates, chosen, strict=True)
    ]


def group_codes(sites: pd.DataFrame, columns: Sequence[str], fold: np.ndarray | None = None) -> np.ndarray:
    """Return the group number of each site by columns and fold, int64 [site].

    Args:
        sites: Rows of a screen.
        columns: What a group is, such as `experiment`.
        fold: Of each site, a further column; None for none.
    """
    keys = sites[list(columns)].astype(str).reset_index(drop=True)
    if fold is not None:
        keys["fold"] = np.asarray(fold).astype(str)
    return np.asarray(keys.groupby(list(keys.columns), sort=True).ngroup(), dtype=np.int64)


def _folds(rows: Sequence[int], fold: np.ndarray | None) -> list[str]:
    return ["" if fold is None else str(fold[row]) for row in rows]


def _in_fold(fold_of: dict[Plate, str], plate: Plate) -> str:
    """Name a plate's fold where its experiment lies in several; else nothing."""
    folds = {name for other, name in fold_of.items() if other[0] == plate[0]}
    return f" ({fold_of[plate]})" if len(folds) > 1 else ""
