"""Find plate layouts that experiments share, and plates of fixed treatments."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from distangle.screen.folds.coverage import count_well_labels
from distangle.screen.plates import location_name
from distangle.screen.roles import CONTROLS, Role, natural_sort_key
from distangle.screen.screen import PLATE_COLUMNS, WELL_COLUMNS, Screen

ALIKE = 0.9  # share of the treated wells that two experiments have in common before their layouts are one
RARE = 0.1  # share of pairs of experiments whose positive controls may lie alike for that to mean something
DISJOINT = 0.1  # share of a group's perturbations that another group may have


@dataclass(frozen=True, kw_only=True)
class SharedLayout:
    """Experiments of one layout.

    Attributes:
        experiments: Their names.
        share: Least share of wells that two of them, plate by plate, hold in common, in [0, 1].
        by: Whose wells told: `treatment`, or `positive_control` where treatments are not known.
        plates: Which plates lie alike, such as `HUVEC-07 plate 4 = RPE-03 plate 1`.
    """

    experiments: tuple[str, ...]
    share: float
    by: str
    plates: tuple[str, ...]


def shared_layouts(screen: Screen, *, label: str = "perturbation") -> list[SharedLayout]:
    """Return sets of experiments whose plates share their layouts, in any order.

    Treatments tell. Where those of an experiment are not known, as in a test part, positive controls do, unless these
    lie alike in most experiments anyway.

    Args:
        screen: With at least two experiments.
        label: The column that is to be predicted; where it differs within wells it is not what was laid out, and the
            perturbation is looked at.

    Source: RxRx1: HUVEC-07, RPE-03 and HUVEC-18 share one layout, their plates in another order
    """
    label = _laid_out(screen, label)
    by_treatment = _alike(screen, label, Role.TREATMENT)
    by_control = _alike(screen, label, Role.POSITIVE_CONTROL)
    known = {name for pair in by_treatment for name in pair}
    pairs = {pair: (*found, "treatment") for pair, found in by_treatment.items() if found[0] >= ALIKE}
    often = np.mean([share >= ALIKE for share, _ in by_control.values()]) if by_control else 1.0
    if often < RARE:
        for pair, found in by_control.items():
            if found[0] >= ALIKE and not set(pair) <= known:
                pairs[pair] = (*found, "positive_control")
    set_of: dict[str, set[str]] = {name: {name} for pair in pairs for name in pair}
    for one, other in pairs:
        joined = set_of[one] | set_of[other]
        for member in joined:
            set_of[member] = joined
    twins = []
    for members in {frozenset(group) for group in set_of.values()}:
        inside = [found for pair, found in pairs.items() if set(pair) <= members]
        share, _, by = min(inside, key=lambda found: (found[2] == "treatment", found[0]))
        told = [plates for _, plates, how in inside if how == "treatment"]
        twins.append(
            SharedLayout(
                experiments=tuple(sorted(members, key=natural_sort_key)),
                share=share,
                by=by,
                plates=tuple(plate for plates in told for plate in plates),
            )
        )
    return sorted(twins, key=lambda found: natural_sort_key(found.experiments[0]))


def _alike(screen: Screen, label: str, role: Role) -> dict[tuple[str, str], tuple[float, tuple[str, ...]]]:
    """Return for pairs of experiments the share of equal wells, and the plate match."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import csr_array

    wells = screen.sites.drop_duplicates(list(WELL_COLUMNS))
    wells = wells[(wells["role"] == role.value) & (wells[label] != "")]
    if wells["experiment"].nunique() < 2:
        return {}
    plates = wells.groupby(list(PLATE_COLUMNS), sort=True).ngroup().to_numpy()
    held = wells.groupby(["well", label], sort=False).ngroup().to_numpy()
    matrix = csr_array((np.ones(len(wells), dtype=np.int32), (plates, held)))
    shared, sizes = (matrix @ matrix.T).toarray(), np.bincount(plates)
    of_plate = [(str(e), str(p)) for e, p in sorted(set(zip(wells["experiment"], wells["plate"], strict=True)))]
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, (experiment, _) in enumerate(of_plate):
        rows_of[experiment].append(row)
    found = {}
    names = sorted(rows_of, key=natural_sort_key)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            common = shared[np.ix_(rows_of[one], rows_of[other])]
            ours, theirs = linear_sum_assignment(-common)
            n_wells = max(sizes[rows_of[one]].sum(), sizes[rows_of[other]].sum())
            matched = tuple(
                " = ".join(location_name(name, of_plate[rows_of[name][k]][1]) for name, k in ((one, a), (other, b)))
                for a, b in zip(ours, theirs, strict=True)
            )
            found[one, other] = float(common[ours, theirs].sum() / n_wells), matched
    return found


def plate_groups(screen: Screen, *, label: str = "perturbation") -> list[tuple[int, int]]:
    """Return (perturbations, plates) of each group of plates with equal treatments.

    Where there are such groups, to know a plate's group rules out all other perturbations: 277 of 1,108 are left
    on a plate of RxRx1. Nothing where plates carry all treatments, or sets that overlap. Of a label that differs within
    wells, the perturbation is looked at.

    Source: Kaggle's RxRx1: four groups of 277 siRNAs
    """
    label = _laid_out(screen, label)
    wells = screen.sites.drop_duplicates(list(WELL_COLUMNS))
    treated = wells[(wells["role"] == Role.TREATMENT.value) & (wells[label] != "")]
    sets = [frozenset(part[label].astype(str)) for _, part in treated.groupby(list(PLATE_COLUMNS), sort=False)]
    groups: list[Counter[str]] = []
    sizes: list[int] = []
    for names in sorted(sets, key=len, reverse=True):
        for k, group in enumerate(groups):
            if len(names & group.keys()) > len(names) / 2:
                group.update(names)
                sizes[k] += 1
                break
        else:
            groups.append(Counter(names))
            sizes.append(1)
    if len(groups) < 2 or min(sizes) < 2 or _overlap(groups):
        return []
    return [(len(group), n) for group, n in zip(groups, sizes, strict=True)]


def is_of_sites(screen: Screen, label: str) -> bool:
    """Whether a label differs within wells, so that no well layout predicts it."""
    return not count_well_labels(screen.sites[list(WELL_COLUMNS)], screen.sites[label].astype(str).to_numpy()).single


def _laid_out(screen: Screen, label: str) -> str:
    return "perturbation" if is_of_sites(screen, label) else label


def _wells_by_most_sites(sites: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return a row per treated well, with the label of most of its sites.

    In doubt it is the first by name.
    """
    known = sites[(sites[label] != "") & ~sites["role"].isin([role.value for role in CONTROLS])]
    counts = known.groupby([*WELL_COLUMNS, label]).size().rename("n").reset_index()
    return counts.sort_values([*WELL_COLUMNS, "n", label], ascending=[True, True, True, False, True]).drop_duplicates(
        list(WELL_COLUMNS)
    )


def _overlap(groups: Sequence[Counter[str]]) -> bool:
    return any(
        len(one.keys() & other.keys()) > DISJOINT * min(len(one), len(other))
        for k, one in enumerate(groups)
        for other in groups[k + 1 :]
    )


def position_baseline_share(
    screen: Screen, *, label: str = "perturbation", within: bool = False
) -> tuple[float, float, int]:
    """Return how often a well holds what its position holds in other experiments.

    A label that differs within wells is that of most sites of the well, and wells of no known role count too: where
    only sites have labels there may be no treatments.

    Args:
        screen: The screen.
        label: The column that is to be predicted.
        within: Ask the other plates of the same experiment instead.

    Returns:
        The share, what guessing the most frequent treatment elsewhere gives, and the number of wells that others tell
        of; 0, 0, 0 where there are none.
    """
    if is_of_sites(screen, label):
        treated = _wells_by_most_sites(screen.sites, label)
    else:
        wells = screen.sites.drop_duplicates(list(WELL_COLUMNS))
        treated = wells[(wells["role"] == Role.TREATMENT.value) & (wells[label] != "")]
    if not within:
        return _told(treated, treated["experiment"], label)
    told = [_told(part, part["plate"], label) for _, part in treated.groupby("experiment", sort=False)]
    n = sum(n for *_, n in told)
    if not n:
        return 0.0, 0.0, 0
    share, guessed = (sum(one[k] * one[2] for one in told) / n for k in (0, 1))
    return share, guessed, n


def _told(treated: pd.DataFrame, batches: pd.Series, label: str) -> tuple[float, float, int]:
    apart = batches.astype(str)
    if apart.nunique() < 2:
        return 0.0, 0.0, 0
    names, codes = np.unique(treated[label].astype(str).to_numpy(dtype=object), return_inverse=True)
    held: dict[str, Counter[int]] = defaultdict(Counter)
    own: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    everywhere: Counter[int] = Counter(codes.tolist())
    of_batch: dict[str, Counter[int]] = defaultdict(Counter)
    rows = list(zip(apart.tolist(), treated["well"].astype(str).tolist(), codes.tolist(), strict=True))
    for batch, well, code in rows:
        held[well][code] += 1
        own[batch, well][code] += 1
        of_batch[batch][code] += 1
    usual = {batch: _most(everywhere, counts) for batch, counts in of_batch.items()}
    right = sum(_most(held[well], own[batch, well]) == code for batch, well, code in rows)
    guessed = sum(usual[batch] == code for batch, _, code in rows)
    return right / len(rows), max(guessed / len(rows), 1 / len(names)), len(rows)


def _most(all_of_it: Counter[int], without: Counter[int]) -> int:
    left = {code: n - without.get(code, 0) for code, n in all_of_it.items()}
    best = max(left, key=lambda code: (left[code], -code))
    return best if left[best] > 0 else -1
