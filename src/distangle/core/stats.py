"""Compute variance components, and confidence intervals over groups of wells.

Groups are experiments, or plates of one experiment.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.stats import beta, t

T = TypeVar("T", bound=Hashable)

LEVELS: Mapping[str, list[str]] = {
    "experiment": ["experiment"],
    "plate": ["experiment", "plate"],
    "well": ["experiment", "plate", "well"],
    "site": ["experiment", "plate", "well", "site"],
}
MIN_GROUPS = 5  # fewer give no interval: it would span half of [0, 1]
MIN_SEEDS = 3  # for a difference between networks: two seeds say too little about the variance over seeds
MIN_INTRACLASS = 0.02  # smallest assumed intraclass correlation of wells of one group; they share their staining
QUANTILES = (0.025, 0.975)
Interval = tuple[float, float]


@dataclass(frozen=True)
class LeaveOneGroupOut:
    """Hold an accuracy, and the same without each of the groups.

    Attributes:
        value: Accuracy, or the mean recall of the classes.
        without: The same with one group left out, [group].
        weights: Weight of each group in the value, [group].
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
        """Jackknife variance over groups."""
        return _jackknife(self.without - self.value)

    @property
    def n_values(self) -> float:
        """Effective number of groups: groups of equal size that give the same variance."""
        return float(1 / np.square(self.weights).sum())


def positions_by_value(values: Iterable[T]) -> dict[T, list[int]]:
    """Return the positions of every value, in the order of their first positions."""
    positions: dict[T, list[int]] = {}
    for k, value in enumerate(values):
        positions.setdefault(value, []).append(k)
    return positions


def variance_components(values: Sequence[float] | np.ndarray, sites: pd.DataFrame) -> dict[str, float | None]:
    """Return the variance components of experiments, plates, wells and sites.

    Nested analysis of variance with groups of any size: the sums of squares are set equal to their expectations, which
    gives unbiased estimates. A negative estimate becomes 0.

    Args:
        values: One per site.
        sites: Table with the columns `experiment`, `plate`, `well` and `site`, one row per value.

    Returns:
        The component of each level; None where it cannot be estimated, such as sites where every well has one. Its
        variance is then part of the next coarser level.

    Source: Searle, Casella & McCulloch, Variance Components (1992), Henderson's method I
    """
    y = np.asarray(values, dtype=np.float64) - float(np.mean(values))
    n = len(y)
    groups = [np.zeros(n, dtype=int)]
    for columns in LEVELS.values():
        groups.append(sites.groupby(columns, sort=False).ngroup().to_numpy())
    sums = np.array([_sum_of_squares(y, group) for group in groups])
    # [level, component]: how often each component is in the sum of squares of a level, on average.
    coefficients = np.array([[_share(group, finer) for finer in groups[1:]] for group in groups])
    system, observed = np.diff(coefficients, axis=0), np.diff(sums)
    components: dict[str, float | None] = {}
    estimates = np.zeros(len(LEVELS))
    for k, name in reversed(list(enumerate(LEVELS))):
        if system[k, k] <= 1e-9 * n:
            components[name] = None
            continue
        estimates[k] = max(0.0, (observed[k] - float(system[k, k + 1 :] @ estimates[k + 1 :])) / system[k, k])
        components[name] = float(estimates[k])
    return {name: components[name] for name in LEVELS}


def share_interval(
    correct: Shaped[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    *,
    wells: Shaped[np.ndarray, " row"],
    classes: Shaped[np.ndarray, " row"] | None = None,
) -> Interval | None:
    """Return the 95 % interval of an accuracy or balanced accuracy in new groups.

    The variance is the jackknife over groups. It gives the number n = p (1 - p) / variance of independent wells with
    the same uncertainty. n is at most the number of wells, reduced for an intraclass correlation of at least
    `MIN_INTRACLASS`, and is lowered for a small number of groups. The result is the exact binomial interval of n wells:
    40 of 40 in five groups is not certain. Leaving out a group also leaves out the classes that only this group has, so
    their wells contribute to the variance. Coverage and its limits: docs/calibration.md.

    Source: Korn and Graubard 1998, Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data, Survey Methodology 24, 193-201. There groups have one size; here those of unlike
        size count as 1 / sum of their squared shares.

    Args:
        correct: Whether each row was classified correctly; a mean over several networks may lie between 0 and 1.
        groups: Name of the group of each row.
        wells: Name of the well of each row, each in one group: rows of a well are not independent.
        classes: True class names, for the mean recall of the classes; None for accuracy.

    Returns:
        An interval in [0, 1] around the share; None below `MIN_GROUPS` groups.
    """
    group, n_groups = _factorize(groups)
    return None if n_groups < MIN_GROUPS else _share_interval(correct, group, _factorize(wells)[0], classes)


def mean_intervals(
    values: Float[np.ndarray, "row column"], groups: Shaped[np.ndarray, " row"], *, min_error: float = 0.0
) -> Float[np.ndarray, "column 2"] | None:
    """Return 95 % intervals of the mean of each column in new groups.

    Student's t with the jackknife variance over groups. It assumes that group means are nearly normal, and that group
    effects do not depend on the number of rows.

    Source: Cameron and Miller 2015, A practitioner's guide to cluster-robust inference, Journal of Human Resources 50,
        317-372, Sec. VI; groups of unlike size count as in `share_interval`.

    Args:
        values: One row per site or well.
        groups: Name of the group of each row.
        min_error: Lower bound of the standard error, such as 1 / n where none of n wells changed: one could have.

    Returns:
        Lower and upper ends; None below `MIN_GROUPS` groups.
    """
    group, n_groups = _factorize(groups)
    return None if n_groups < MIN_GROUPS else _mean_intervals(values, group, min_error)


def mean_interval(
    values: Shaped[np.ndarray, " row"], groups: Shaped[np.ndarray, " row"], *, min_error: float = 0.0
) -> list[float] | None:
    """Return `mean_intervals` of a single column.

    Args:
        values: One per site or well.
        groups: Name of the group of each value.
        min_error: Lower bound of the standard error.
    """
    intervals = mean_intervals(np.asarray(values, dtype=np.float64)[:, None], groups, min_error=min_error)
    return None if intervals is None else [float(end) for end in intervals[0]]


def leave_one_group_out(
    hits: Float[np.ndarray, " pair"],
    counts: Float[np.ndarray, " pair"],
    *,
    of_group: Int[np.ndarray, " pair"],
    of_class: Int[np.ndarray, " pair"],
) -> LeaveOneGroupOut:
    """Return the mean recall of the classes with and without each group.

    With a single class, this is the accuracy. Only pairs of group and class that occur take memory, because a thousand
    plates by ten thousand compounds would not fit as a matrix.

    Args:
        hits: Correctly classified rows of each pair.
        counts: Rows of each pair, at least one.
        of_group: Group number of each pair, from 0; every number occurs.
        of_class: Class number of each pair, from 0; every number occurs.
    """
    all_hits, all_counts = np.bincount(of_class, weights=hits), np.bincount(of_class, weights=counts)
    recalls, n_groups = all_hits / all_counts, int(of_group.max()) + 1
    counts_left = all_counts[of_class] - counts
    recall_left = np.divide(
        all_hits[of_class] - hits, counts_left, out=np.zeros_like(counts_left), where=counts_left > 0
    )
    change = np.bincount(of_group, weights=recall_left - recalls[of_class])
    value, n_classes_left = (
        min(max(float(recalls.mean()), 0.0), 1.0),
        len(recalls) - np.bincount(of_group, weights=counts_left <= 0),
    )
    return LeaveOneGroupOut(
        value=value,
        without=np.divide(
            recalls.sum() + change, n_classes_left, out=np.full(n_groups, value), where=n_classes_left > 0
        ),
        weights=np.bincount(of_group, weights=counts / all_counts[of_class]) / len(recalls),
        sizes=np.bincount(of_group, weights=counts),
        by_class=all_counts,
    )


def crossed_intervals(
    runs: Sequence[LeaveOneGroupOut], others: Sequence[LeaveOneGroupOut] = (), *, n_wells: int
) -> tuple[Interval | None, Interval | None]:
    """Return 95 % intervals of the mean of networks and of its difference to others.

    The networks differ in their seed and were scored on the same wells. The variances over groups and over seeds are
    added. With one seed the interval holds for that network alone. The variance that both share counts twice, so the
    interval is slightly too wide.

    Args:
        runs: One per seed.
        others: Runs with the same seeds; empty for no difference.
        n_wells: Number of scored wells.

    Returns:
        The interval of the mean, as from `share_interval`, and the interval of the difference, by Student's t; None
        below `MIN_GROUPS` groups, the second also below `MIN_SEEDS` seeds.
    """
    first = runs[0]
    if len(first.sizes) < MIN_GROUPS:
        return None, None
    values = np.array([run.value for run in runs])
    without = np.mean([run.without for run in runs], axis=0)
    variance, n_values = _variance_over_seeds(values, without, first.n_values)
    share = n_wells / first.sizes.sum()
    interval = _binomial_interval(
        float(values.mean()), variance, n_values, sizes=share * first.sizes, class_sizes=share * first.by_class
    )
    if not others or len(runs) < MIN_SEEDS:
        return interval, None
    differences = values - np.array([run.value for run in others])
    variance, n_values = _variance_over_seeds(
        differences, without - np.mean([run.without for run in others], axis=0), first.n_values
    )
    # The smallest possible change is one well.
    half = _t_quantile(n_values) * max(np.sqrt(variance), 1 / n_wells)
    return interval, (float(differences.mean() - half), float(differences.mean() + half))


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


def _variance_over_seeds(values: np.ndarray, without: np.ndarray, n_groups: float) -> tuple[float, float]:
    """Return the variance of a mean over seeds and groups, and its number of values.

    Source: Satterthwaite's approximation.
    """
    over_groups = _jackknife(without - values.mean())
    over_seeds = float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0
    variance = over_groups + over_seeds
    if over_seeds == 0:
        return variance, n_groups
    return variance, 1 + variance**2 / (over_groups**2 / (max(n_groups, 2.0) - 1) + over_seeds**2 / (len(values) - 1))


def _share_interval(correct: np.ndarray, group: np.ndarray, well: np.ndarray, classes: np.ndarray | None) -> Interval:
    class_code = np.zeros(len(group), dtype=np.int64) if classes is None else _factorize(classes)[0]
    n_classes = int(class_code.max()) + 1
    pairs, pair = np.unique(group.astype(np.int64) * n_classes + class_code, return_inverse=True)
    of_group, of_class = np.divmod(pairs, n_classes)
    counts = np.bincount(pair).astype(np.float64)
    result = leave_one_group_out(
        np.bincount(pair, weights=correct.astype(np.float64)), counts, of_group=of_group, of_class=of_class
    )
    first = np.unique(well, return_index=True)[1]
    sizes, class_sizes = (np.bincount(codes[first]).astype(np.float64) for codes in (group, class_code))
    return _binomial_interval(result.value, result.variance, result.n_values, sizes=sizes, class_sizes=class_sizes)


def _binomial_interval(
    value: float, variance: float, n_values: float, *, sizes: np.ndarray, class_sizes: np.ndarray
) -> Interval:
    """Return the binomial interval of the number of wells with this variance.

    `sizes` and `class_sizes` count wells.
    """
    n_wells = float(sizes.sum())
    # Classes of few wells weigh as much as the others in a balanced accuracy.
    max_n = len(class_sizes) ** 2 / (1 / np.maximum(class_sizes, 1e-9)).sum()
    max_n /= 1 + MIN_INTRACLASS * max(np.square(sizes).sum() / n_wells - 1, 0)
    variance_of_one = value * (1 - value)
    n = min(max_n, variance_of_one / variance) if variance > 0 and variance_of_one > 0 else max_n
    n *= (_t_quantile(n_wells) / _t_quantile(n_values)) ** 2
    hits = n * value
    low = float(beta.ppf(QUANTILES[0], hits, n - hits + 1)) if value > 0 else 0.0
    high = float(beta.ppf(QUANTILES[1], hits + 1, n - hits)) if value < 1 else 1.0
    return min(low, value), max(high, value)


def _mean_intervals(values: np.ndarray, group: np.ndarray, min_error: float) -> np.ndarray:
    sizes = np.bincount(group).astype(np.float64)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, group, values.astype(np.float64))
    n, total = sizes.sum(), sums.sum(axis=0)
    means = total / n
    without = (total - sums) / (n - sizes)[:, None]
    errors = np.sqrt([_jackknife(shifts) for shifts in (without - means).T])
    half = _t_quantile(1 / np.square(sizes / n).sum()) * np.maximum(errors, min_error)
    return np.stack([means - half, means + half], axis=1)


def _jackknife(changes: np.ndarray) -> float:
    return float((len(changes) - 1) / len(changes) * np.square(changes).sum())


def _factorize(names: np.ndarray) -> tuple[np.ndarray, int]:
    codes, categories = pd.factorize(np.asarray(names))
    return codes, len(categories)


def _t_quantile(n: float) -> float:
    """Return the two-sided 95 % quantile of Student's t for a variance from n values."""
    return float(t.ppf(QUANTILES[1], max(n, 2.0) - 1))
