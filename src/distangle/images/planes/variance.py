"""How much of a quantity varies between experiments, plates, wells and sites."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

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
