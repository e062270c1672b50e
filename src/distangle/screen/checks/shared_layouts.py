"""Find plate layouts that experiments share, and plates of fixed treatments."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from distangle.screen.folds.coverage import count_well_labels
from distangle.screen.plates import location_name
from distangle.screen.roles import CONTROLS, Role, natural_sort_key
from distangle.screen.screen import PLATE_COLUMNS, WELL_COLUMNS, Screen

MIN_SHARED = 0.9  # share of equal treated wells above which two experiments share a layout
MAX_COMMON = 0.1  # share of experiment pairs with equal positive controls below which these are informative
MAX_OVERLAP = 0.1  # share of a group's perturbations that another group may have


@dataclass(frozen=True, kw_only=True)
class SharedLayout:
    """Experiments that share a layout.

    Attributes:
        experiments: Their names.
        share: Smallest share of equal wells of two of them, plate by plate, in [0, 1].
        by: Role of the compared wells: `treatment`, or `positive_control` if treatments are unknown.
        plates: Plates of equal layout, such as `HUVEC-07 plate 4 = RPE-03 plate 1`.
    """

    experiments: tuple[str, ...]
    share: float
    by: str
    plates: tuple[str, ...]


def shared_layouts(screen: Screen, *, label: str = "perturbation") -> list[SharedLayout]:
    """Return sets of experiments whose plates share their layouts, in any order.

    Treatments are compared. If those of an experiment are unknown, as in a test part, positive controls are compared,
    unless most experiments share their positions.

    Args:
        screen: A screen with at least two experiments.
        label: The column to predict; if it varies within wells, the perturbation is compared instead.

    Source: RxRx1: HUVEC-07, RPE-03 and HUVEC-18 share one layout, their plates in another order
    """
    label = _layout_column(screen, label)
    by_treatment = _compare_layouts(screen, label, Role.TREATMENT)
    by_control = _compare_layouts(screen, label, Role.POSITIVE_CONTROL)
    experiments_with_treatments = {name for pair in by_treatment for name in pair}
    pairs = {pair: (*match, "treatment") for pair, match in by_treatment.items() if match[0] >= MIN_SHARED}
    common_share = np.mean([share >= MIN_SHARED for share, _ in by_control.values()]) if by_control else 1.0
    if common_share < MAX_COMMON:
        for pair, match in by_control.items():
            if match[0] >= MIN_SHARED and not set(pair) <= experiments_with_treatments:
                pairs[pair] = (*match, "positive_control")
    set_of: dict[str, set[str]] = {name: {name} for pair in pairs for name in pair}
    for first, other in pairs:
        merged = set_of[first] | set_of[other]
        for member in merged:
            set_of[member] = merged
    layouts = []
    for members in {frozenset(group) for group in set_of.values()}:
        matches = [match for pair, match in pairs.items() if set(pair) <= members]
        share, _, by = min(matches, key=lambda match: (match[2] == "treatment", match[0]))
        plates_by_treatment = [plates for _, plates, role in matches if role == "treatment"]
        layouts.append(
            SharedLayout(
                experiments=tuple(sorted(members, key=natural_sort_key)),
                share=share,
                by=by,
                plates=tuple(plate for plates in plates_by_treatment for plate in plates),
            )
        )
    return sorted(layouts, key=lambda layout: natural_sort_key(layout.experiments[0]))


def _compare_layouts(screen: Screen, label: str, role: Role) -> dict[tuple[str, str], tuple[float, tuple[str, ...]]]:
    """Return the share of equal wells and the matched plates of experiment pairs.

    A pair whose share cannot reach `MIN_SHARED` has an upper bound of its share, and no plates.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import csr_array

    wells = _wells(screen, label)
    wells = wells[(wells["role"] == role.value) & (wells[label] != "")]
    if wells["experiment"].nunique() < 2:
        return {}
    plates = wells.groupby(list(PLATE_COLUMNS), sort=True).ngroup().to_numpy()
    content = wells.groupby(["well", label], sort=False).ngroup().to_numpy()
    matrix = csr_array((np.ones(len(wells), dtype=np.int32), (plates, content)))
    shared, sizes = (matrix @ matrix.T).toarray(), np.bincount(plates)
    of_plate = [(str(e), str(p)) for e, p in sorted(set(zip(wells["experiment"], wells["plate"], strict=True)))]
    first = [row for row, (name, _) in enumerate(of_plate) if row == 0 or of_plate[row - 1][0] != name]
    rows_of = {
        of_plate[start][0]: range(start, end) for start, end in zip(first, [*first[1:], len(of_plate)], strict=True)
    }
    # Each plate shares at most its best match, so the sum of the best is at least that of any matching.
    most_shared = np.add.reduceat(np.maximum.reduceat(shared, first, axis=1), first, axis=0)
    experiment_sizes = np.add.reduceat(sizes, first)
    bounds = most_shared / np.maximum.outer(experiment_sizes, experiment_sizes)
    number = {name: k for k, name in enumerate(rows_of)}
    matches: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}
    for experiment, other in combinations(sorted(rows_of, key=natural_sort_key), 2):
        bound = float(bounds[number[experiment], number[other]])
        if bound < MIN_SHARED:
            matches[experiment, other] = bound, ()
            continue
        common = shared[np.ix_(rows_of[experiment], rows_of[other])]
        rows, columns = linear_sum_assignment(-common)
        n_wells = max(experiment_sizes[number[experiment]], experiment_sizes[number[other]])
        matched = tuple(
            " = ".join(location_name(name, of_plate[rows_of[name][k]][1]) for name, k in ((experiment, a), (other, b)))
            for a, b in zip(rows, columns, strict=True)
        )
        matches[experiment, other] = float(common[rows, columns].sum() / n_wells), matched
    return matches


def plate_groups(screen: Screen, *, label: str = "perturbation") -> list[tuple[int, int]]:
    """Return (perturbations, plates) of each group of plates with equal treatments.

    Knowing a plate's group rules out all other perturbations: 277 of 1,108 remain on a plate of RxRx1. The result is
    empty if plates carry all treatments, or overlapping sets. If the label varies within wells, the perturbation is
    used.

    Source: Kaggle's RxRx1: four groups of 277 siRNAs
    """
    label = _layout_column(screen, label)
    wells = _wells(screen, label)
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


def varies_within_wells(screen: Screen, label: str) -> bool:
    """Return whether a label varies within wells, so that no layout predicts it."""
    return not count_well_labels(screen.sites[list(WELL_COLUMNS)], screen.sites[label].astype(str).to_numpy()).single


def _wells(screen: Screen, label: str) -> pd.DataFrame:
    """Return a row per well, with its role and label."""
    columns = list(dict.fromkeys([*WELL_COLUMNS, "role", label]))
    return screen.sites[columns].drop_duplicates(list(WELL_COLUMNS))


def _layout_column(screen: Screen, label: str) -> str:
    return "perturbation" if varies_within_wells(screen, label) else label


def _label_by_majority(sites: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return a row per treated well, with the label of most of its sites.

    A tie goes to the first name.
    """
    labeled = sites[(sites[label] != "") & ~sites["role"].isin([role.value for role in CONTROLS])]
    counts = labeled.groupby([*WELL_COLUMNS, label]).size().rename("n").reset_index()
    return counts.sort_values([*WELL_COLUMNS, "n", label], ascending=[True, True, True, False, True]).drop_duplicates(
        list(WELL_COLUMNS)
    )


def _overlap(groups: Sequence[Counter[str]]) -> bool:
    return any(
        len(group.keys() & other.keys()) > MAX_OVERLAP * min(len(group), len(other))
        for k, group in enumerate(groups)
        for other in groups[k + 1 :]
    )


def position_baseline_share(
    screen: Screen, *, label: str = "perturbation", within: bool = False
) -> tuple[float, float, int]:
    """Return how often the position in other experiments predicts a well.

    If the label varies within wells, that of most sites is used, and wells of unknown role count too: a screen with
    labels of sites may have no treatments.

    Args:
        screen: The screen.
        label: The column to predict.
        within: Predict from the other plates of the same experiment instead.

    Returns:
        The share, the share by guessing the most frequent treatment of the others, and the number of wells; 0, 0, 0
        without such wells.
    """
    if varies_within_wells(screen, label):
        treated = _label_by_majority(screen.sites, label)
    else:
        wells = _wells(screen, label)
        treated = wells[(wells["role"] == Role.TREATMENT.value) & (wells[label] != "")]
    if not within:
        return _predicted_share(treated, treated["experiment"], label)
    shares = [_predicted_share(part, part["plate"], label) for _, part in treated.groupby("experiment", sort=False)]
    n = sum(n for *_, n in shares)
    if not n:
        return 0.0, 0.0, 0
    share, chance = (sum(values[k] * values[2] for values in shares) / n for k in (0, 1))
    return share, chance, n


def _predicted_share(treated: pd.DataFrame, batches: pd.Series, label: str) -> tuple[float, float, int]:
    batch_names = batches.astype(str)
    if batch_names.nunique() < 2:
        return 0.0, 0.0, 0
    codes, names = pd.factorize(treated[label].astype(str), sort=True)
    batch, well = pd.factorize(batch_names)[0], pd.factorize(treated["well"].astype(str))[0]
    n_right = int((_modes_without(well, batch, codes) == codes).sum())
    n_guessed = int((_modes_without(np.zeros_like(well), batch, codes) == codes).sum())
    return n_right / len(codes), max(n_guessed / len(codes), 1 / len(names)), len(codes)


def _modes_without(place: np.ndarray, batch: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return the most frequent code at each row's place in other batches, int [row].

    The smallest of equally frequent codes counts; -1 if no other batch has a row at the place.

    Args:
        place: Number of the place of each row, from 0.
        batch: Number of the batch of each row, from 0.
        code: Number of the label of each row, from 0.
    """
    n_codes, n_batches = int(code.max()) + 1, int(batch.max()) + 1
    pairs, pair = np.unique(place.astype(np.int64) * n_batches + batch, return_inverse=True)
    entries, in_pair = np.unique(pair * n_codes + code, return_counts=True)  # code of a pair: its rows
    at_place, in_place = np.unique(place.astype(np.int64) * n_codes + code, return_counts=True)
    place_of_pair, (pair_of_entry, code_of_entry) = pairs // n_batches, np.divmod(entries, n_codes)
    # Codes that the batch has itself: what is left of them elsewhere.
    place_of_entry = place_of_pair[pair_of_entry]
    left = in_place[np.searchsorted(at_place, place_of_entry * n_codes + code_of_entry)] - in_pair
    order = np.lexsort((code_of_entry, -left, pair_of_entry))
    first = np.unique(pair_of_entry[order], return_index=True)[1]
    best_left, best_code = left[order][first], code_of_entry[order][first]
    # Codes that it lacks: the first of its place, most frequent first, after those that it has.
    place_of_code, code_at_place = np.divmod(at_place, n_codes)
    order = np.lexsort((code_at_place, -in_place, place_of_code))
    ranked_code, ranked_count = code_at_place[order], in_place[order]
    starts = np.searchsorted(place_of_code[order], np.arange(int(place.max()) + 2))
    position, end = starts[place_of_pair].copy(), starts[place_of_pair + 1]
    searching = np.arange(len(pairs))
    while len(searching := searching[position[searching] < end[searching]]):
        wanted = searching * n_codes + ranked_code[position[searching]]
        nearest = np.minimum(np.searchsorted(entries, wanted), len(entries) - 1)
        searching = searching[entries[nearest] == wanted]
        position[searching] += 1
    has_other = position < end
    at = np.minimum(position, len(ranked_code) - 1)
    other_left = np.where(has_other, ranked_count[at], 0)
    other_code = ranked_code[at]
    takes_other = (other_left > best_left) | ((other_left == best_left) & (other_code < best_code))
    mode = np.where(takes_other, other_code, best_code)
    mode[np.maximum(other_left, best_left) <= 0] = -1
    return np.asarray(mode[pair])
