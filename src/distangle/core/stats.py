"""How much of a quantity varies between experiments, plates, wells and sites.

Compute confidence intervals of means and shares over groups of wells.

Groups are experiments, or plates of one experiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.stats import beta, t

LEVELS: Mapping[str, list[str]] = {
    "experiment": ["experiment"],
    "plate": ["experiment", "plate"],
    "well": ["experiment", "plate", "well"],
    "site": ["experiment", "plate", "well", "site"],
}


def variance_components(values: Sequence[float] | np.ndarray, places: pd.DataFrame) -> dict[str, float | None]:
    """Return the variance components of experiments, plates, wells and sites.

    Nested analysis of variance with groups of any size: the sums of squares are set equal to what components would
    give on average, which is without bias. A negative estimate is 0.

    Args:
        values: One per site.
        places: With the columns `experiment`, `plate`, `well` and `site`, a row per value.

    Returns:
        By level; None where there is nothing to tell by, such as sites where wells have one. What a level that
        cannot be told adds is then part of the next coarser one.

    Source: Searle, Casella & McCulloch, Variance Components (1992), Henderson's method I
    """
    y = np.asarray(values, dtype=np.float64) - float(np.mean(values))
    n = len(y)
    groups = [np.zeros(n, dtype=int)]
    for columns in LEVELS.values():
        groups.append(places.groupby(columns, sort=False).ngroup().to_numpy())
    sums = np.array([_sum_of_squares(y, group) for group in groups])
    # [level, component]: how often each component is in the sum of squares of a level, on average.
    shared = np.array([[_share(group, finer) for finer in groups[1:]] for group in groups])
    system, seen = np.diff(shared, axis=0), np.diff(sums)
    found: dict[str, float | None] = {}
    solved = np.zeros(len(LEVELS))
    for k, name in reversed(list(enumerate(LEVELS))):
        if system[k, k] <= 1e-9 * n:
            found[name] = None
            continue
        solved[k] = max(0.0, (seen[k] - float(system[k, k + 1 :] @ solved[k + 1 :])) / system[k, k])
        found[name] = float(solved[k])
    return {name: found[name] for name in LEVELS}


def _sum_of_squares(y: np.ndarray, group: np.ndarray) -> float:
    n = np.bincount(group)
    return float((np.bincount(group, weights=y) ** 2 / n).sum())


def _share(group: np.ndarray, component: np.ndarray) -> float:
    """Return the coefficient of a variance component.

    The sum over groups of the squared row numbers of the component's levels, divided by the group's row number.
    """
    pairs, counts = np.unique(np.stack([group, component]), axis=1, return_counts=True)
    sizes = np.bincount(group)
    return float((counts.astype(np.float64) ** 2 / sizes[pairs[0]]).sum())


LEAST_GROUPS = 5  # fewer give no interval: it would cover, but be half as wide as all there is
LEAST_SEEDS = 3  # of a difference between networks: two say too little of how far seeds are apart
ALIKE = 0.02  # least intraclass correlation of wells of one group; they share their staining
ENDS = (0.025, 0.975)
Interval = tuple[float, float]


def share_interval(
    right: Shaped[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    *,
    wells: Shaped[np.ndarray, " row"],
    classes: Shaped[np.ndarray, " row"] | None = None,
) -> Interval | None:
    """Return the 95 % interval of an accuracy or balanced accuracy in new groups.

    The variance is that of leaving out one group at a time. It gives the number n = p (1 - p) / variance of
    independent wells that would be as uncertain: never more than there are wells, nor than wells give that are at
    least a little alike within a group (`ALIKE`). It is lowered for the few groups that the variance rests on, and the
    exact binomial interval of n wells is returned: 40 of 40 in five groups are no certainty. Leaving out a group also
    leaves out the classes that only it has, so that their wells bring their share of the variance. Coverage, and where
    it fails: docs/calibration.md.

    Source: Korn and Graubard 1998, Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data, Survey Methodology 24, 193-201. There groups have one size; here those of unlike
        size count as 1 / sum of their squared shares.

    Args:
        right: Whether each row was named rightly; a mean over several networks may lie between 0 and 1.
        groups: Names of the groups.
        wells: Names of the wells, each in one group: the rows of a well are no independent witnesses.
        classes: True names, for the mean recall of the classes; None for accuracy.

    Returns:
        In [0, 1], around the share; None below `LEAST_GROUPS` groups.
    """
    group, n_groups = _codes(groups)
    return None if n_groups < LEAST_GROUPS else _share_interval(right, group, _codes(wells)[0], classes)


def mean_intervals(
    values: Float[np.ndarray, "row column"], groups: Shaped[np.ndarray, " row"], *, least_error: float = 0.0
) -> Float[np.ndarray, "column 2"] | None:
    """Return 95 % intervals of the mean of each column in new groups.

    Student's t with the variance of leaving out one group at a time. It supposes group means that are not far from
    normal, and group effects that have nothing to do with the number of rows.

    Source: Cameron and Miller 2015, A practitioner's guide to cluster-robust inference, Journal of Human Resources 50,
        317-372, Sec. VI; groups of unlike size count as in `share_interval`.

    Args:
        values: One row per site or well.
        groups: Names of the groups.
        least_error: Standard error below which no mean is taken to lie: where right turned to wrong in none of n
            wells, it could have in one, and the error is 1 / n.

    Returns:
        Low and high; None below `LEAST_GROUPS` groups.
    """
    group, n_groups = _codes(groups)
    return None if n_groups < LEAST_GROUPS else _mean_intervals(values, group, least_error)


def mean_interval(
    values: Shaped[np.ndarray, " row"], groups: Shaped[np.ndarray, " row"], *, least_error: float = 0.0
) -> list[float] | None:
    """Return `mean_intervals` of a single column.

    Args:
        values: One per site or well.
        groups: Names of the groups.
        least_error: As there.
    """
    found = mean_intervals(np.asarray(values, dtype=np.float64)[:, None], groups, least_error=least_error)
    return None if found is None else [float(end) for end in found[0]]


@dataclass(frozen=True)
class ExcludedGroups:
    """A share, and what it is without each of the groups.

    Attributes:
        value: Accuracy, or the mean recall of the classes.
        without: The same with one group left out, [group].
        weights: Share that each group has in the value, [group].
        sizes: Rows of each group, [group].
        by_class: Rows of each class, [class].
    """

    value: float
    without: Float[np.ndarray, " group"]
    weights: Float[np.ndarray, " group"]
    sizes: Float[np.ndarray, " group"]
    by_class: Float[np.ndarray, " class"]

    @property
    def variance(self) -> float:
        """The jackknife's, over groups."""
        return _jackknife(self.without - self.value)

    @property
    def n_values(self) -> float:
        """Groups of one size that the variance would rest on."""
        return float(1 / np.square(self.weights).sum())


def excluded_groups(
    hits: Float[np.ndarray, " pair"],
    counts: Float[np.ndarray, " pair"],
    *,
    of_group: Int[np.ndarray, " pair"],
    of_kind: Int[np.ndarray, " pair"],
) -> ExcludedGroups:
    """Return the mean recall of the classes with and without each group.

    With a single class, that is the accuracy.
    Only pairs of a group and a class that occur are counted: a thousand plates of ten thousand compounds are no
    matrix.

    Args:
        hits: Rows named rightly.
        counts: Rows, at least one.
        of_group: Numbers from 0, each occurring.
        of_kind: Likewise, of the class.
    """
    all_hits, all_counts = np.bincount(of_kind, weights=hits), np.bincount(of_kind, weights=counts)
    recalls, n_groups = all_hits / all_counts, int(of_group.max()) + 1
    left = all_counts[of_kind] - counts
    recall_left = np.divide(all_hits[of_kind] - hits, left, out=np.zeros_like(left), where=left > 0)
    change = np.bincount(of_group, weights=recall_left - recalls[of_kind])
    value, kept = min(max(float(recalls.mean()), 0.0), 1.0), len(recalls) - np.bincount(of_group, weights=left <= 0)
    return ExcludedGroups(
        value=value,
        without=np.divide(recalls.sum() + change, kept, out=np.full(n_groups, value), where=kept > 0),
        weights=np.bincount(of_group, weights=counts / all_counts[of_kind]) / len(recalls),
        sizes=np.bincount(of_group, weights=counts),
        by_class=all_counts,
    )


def crossed_intervals(
    runs: Sequence[ExcludedGroups], others: Sequence[ExcludedGroups] = (), *, n_wells: int
) -> tuple[Interval | None, Interval | None]:
    """Return 95 % intervals of the mean of networks and of its difference to others.

    The networks differ by their seed and have named the same wells. The variance over groups and that over seeds are
    added, as with other groups and other seeds; of one seed, the interval of the mean is of that network alone. The
    variance that both share is counted twice, so that the interval is rather too wide.

    Args:
        runs: One per seed.
        others: Of the same seeds; empty for no difference.
        n_wells: That each has named.

    Returns:
        The interval of the mean, as `share_interval`, and that of the difference, by Student's t; None below
        `LEAST_GROUPS` groups, the latter also below `LEAST_SEEDS` seeds.
    """
    first = runs[0]
    if len(first.sizes) < LEAST_GROUPS:
        return None, None
    values = np.array([run.value for run in runs])
    without = np.mean([run.without for run in runs], axis=0)
    variance, n_values = _crossed(values, without, first.n_values)
    share = n_wells / first.sizes.sum()
    interval = _exact(float(values.mean()), variance, n_values, sizes=share * first.sizes, kinds=share * first.by_class)
    if not others or len(runs) < LEAST_SEEDS:
        return interval, None
    apart = values - np.array([run.value for run in others])
    variance, n_values = _crossed(apart, without - np.mean([run.without for run in others], axis=0), first.n_values)
    # One well more or less is the least that could have changed.
    half = _t(n_values) * max(np.sqrt(variance), 1 / n_wells)
    return interval, (float(apart.mean() - half), float(apart.mean() + half))


def _crossed(values: np.ndarray, without: np.ndarray, n_groups: float) -> tuple[float, float]:
    """Variance of a mean over seeds and groups, and its number of values.

    Source: Satterthwaite's approximation.
    """
    over_groups = _jackknife(without - values.mean())
    over_seeds = float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0
    variance = over_groups + over_seeds
    if over_seeds == 0:
        return variance, n_groups
    return variance, 1 + variance**2 / (over_groups**2 / (max(n_groups, 2.0) - 1) + over_seeds**2 / (len(values) - 1))


def _share_interval(right: np.ndarray, group: np.ndarray, well: np.ndarray, classes: np.ndarray | None) -> Interval:
    kind = np.zeros(len(group), dtype=np.int64) if classes is None else _codes(classes)[0]
    n_kinds = int(kind.max()) + 1
    pairs, pair = np.unique(group.astype(np.int64) * n_kinds + kind, return_inverse=True)
    of_group, of_kind = np.divmod(pairs, n_kinds)
    counts = np.bincount(pair).astype(np.float64)
    found = excluded_groups(
        np.bincount(pair, weights=right.astype(np.float64)), counts, of_group=of_group, of_kind=of_kind
    )
    first = np.unique(well, return_index=True)[1]
    sizes, kinds = (np.bincount(one[first]).astype(np.float64) for one in (group, kind))
    return _exact(found.value, found.variance, found.n_values, sizes=sizes, kinds=kinds)


def _exact(value: float, variance: float, n_values: float, *, sizes: np.ndarray, kinds: np.ndarray) -> Interval:
    """The binomial interval of the number of wells that would have this variance.

    `sizes` and `kinds` count wells.
    """
    n_wells = float(sizes.sum())
    # Classes of few wells weigh as much as the others in a balanced accuracy.
    most = len(kinds) ** 2 / (1 / np.maximum(kinds, 1e-9)).sum()
    most /= 1 + ALIKE * max(np.square(sizes).sum() / n_wells - 1, 0)
    spread = value * (1 - value)
    n = min(most, spread / variance) if variance > 0 and spread > 0 else most
    n *= (_t(n_wells) / _t(n_values)) ** 2
    hits = n * value
    low = float(beta.ppf(ENDS[0], hits, n - hits + 1)) if value > 0 else 0.0
    high = float(beta.ppf(ENDS[1], hits + 1, n - hits)) if value < 1 else 1.0
    return min(low, value), max(high, value)


def _mean_intervals(values: np.ndarray, group: np.ndarray, least_error: float) -> np.ndarray:
    sizes = np.bincount(group).astype(np.float64)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, group, values.astype(np.float64))
    n, total = sizes.sum(), sums.sum(axis=0)
    means = total / n
    without = (total - sums) / (n - sizes)[:, None]
    errors = np.sqrt([_jackknife(one) for one in (without - means).T])
    half = _t(1 / np.square(sizes / n).sum()) * np.maximum(errors, least_error)
    return np.stack([means - half, means + half], axis=1)


def _jackknife(changes: np.ndarray) -> float:
    return float((len(changes) - 1) / len(changes) * np.square(changes).sum())


def _codes(names: np.ndarray) -> tuple[np.ndarray, int]:
    codes, found = pd.factorize(np.asarray(names))
    return codes, len(found)


def _t(n: float) -> float:
    """Two-sided 95 % quantile of Student's t for a variance from n values."""
    return float(t.ppf(ENDS[1], max(n, 2.0) - 1))
