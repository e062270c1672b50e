"""Intervals of means and shares over groups of wells that were made together: experiments, or plates of one."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy.stats import beta, t

LEAST_GROUPS = 5  # fewer give no interval: it would cover, but be half as wide as all there is
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
    """Return a 95 % interval of an accuracy, or of a balanced accuracy, in other groups of the same kind.

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
    """Return 95 % intervals of the mean of each column in other groups of the same kind.

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


def _share_interval(right: np.ndarray, group: np.ndarray, well: np.ndarray, classes: np.ndarray | None) -> Interval:
    kind = np.zeros(len(group), dtype=np.int64) if classes is None else _codes(classes)[0]
    value, variance, weights = _left_out(right, group, kind)
    first = np.unique(well, return_index=True)[1]
    n_wells, sizes = len(first), np.bincount(group[first]).astype(np.float64)
    # Classes of few wells weigh as much as the others in a balanced accuracy.
    by_class = np.bincount(kind[first], minlength=int(kind.max()) + 1).astype(np.float64)
    most = len(by_class) ** 2 / (1 / np.maximum(by_class, 1)).sum()
    most /= 1 + ALIKE * (np.square(sizes).sum() / n_wells - 1)
    spread = value * (1 - value)
    n = min(most, spread / variance) if variance > 0 and spread > 0 else most
    n *= (_t(float(n_wells)) / _t(1 / np.square(weights).sum())) ** 2
    hits = n * value
    low = float(beta.ppf(ENDS[0], hits, n - hits + 1)) if value > 0 else 0.0
    high = float(beta.ppf(ENDS[1], hits + 1, n - hits)) if value < 1 else 1.0
    return min(low, value), max(high, value)


def _mean_intervals(values: np.ndarray, group: np.ndarray, least_error: float) -> np.ndarray:
    sizes = np.bincount(group).astype(np.float64)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, group, values.astype(np.float64))
    n, total, n_groups = sizes.sum(), sums.sum(axis=0), len(sizes)
    means = total / n
    without = (total - sums) / (n - sizes)[:, None]
    errors = np.sqrt((n_groups - 1) / n_groups * np.square(without - means).sum(axis=0))
    half = _t(1 / np.square(sizes / n).sum()) * np.maximum(errors, least_error)
    return np.stack([means - half, means + half], axis=1)


def _left_out(right: np.ndarray, group: np.ndarray, kind: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Mean recall of the classes, its jackknife variance over groups, and the share that each group has in it.

    Only pairs of a group and a class that occur are counted: a thousand plates of ten thousand compounds are no
    matrix.
    """
    n_groups, n_kinds = int(group.max()) + 1, int(kind.max()) + 1
    pairs, pair = np.unique(group.astype(np.int64) * n_kinds + kind, return_inverse=True)
    hits, counts = np.bincount(pair, weights=right.astype(np.float64)), np.bincount(pair).astype(np.float64)
    of_group, of_kind = np.divmod(pairs, n_kinds)
    all_hits, all_counts = (np.bincount(of_kind, weights=one, minlength=n_kinds) for one in (hits, counts))
    recalls = all_hits / all_counts
    left = all_counts[of_kind] - counts
    recall_left = np.divide(all_hits[of_kind] - hits, left, out=np.zeros_like(left), where=left > 0)
    gone = np.bincount(of_group, weights=left <= 0, minlength=n_groups)
    change = np.bincount(of_group, weights=recall_left - recalls[of_kind], minlength=n_groups)
    value = float(recalls.mean())
    kept = n_kinds - gone
    without = np.divide(recalls.sum() + change, kept, out=np.full(n_groups, value), where=kept > 0)
    variance = (n_groups - 1) / n_groups * float(np.square(without - value).sum())
    weights = np.bincount(of_group, weights=counts / all_counts[of_kind], minlength=n_groups) / n_kinds
    return min(max(value, 0.0), 1.0), variance, weights


def _codes(names: np.ndarray) -> tuple[np.ndarray, int]:
    codes, found = pd.factorize(np.asarray(names))
    return codes, len(found)


def _t(n: float) -> float:
    """Two-sided 95 % quantile of Student's t for a variance from n values."""
    return float(t.ppf(ENDS[1], max(n, 2.0) - 1))
