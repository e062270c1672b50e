"""How far a mean can be believed: whole experiments drawn with replacement."""

import numpy as np
from jaxtyping import Float


def interval_over(
    values: Float[np.ndarray, " site"], groups: np.ndarray, *, rng: np.random.Generator, n_draws: int
) -> list[float] | None:
    """Return a 95 % percentile interval of a mean from drawing whole groups with replacement; None below two groups.

    Args:
        values: One per site.
        groups: Its experiment.
        rng: Equal generators give equal draws.
        n_draws: How many.
    """
    names, index = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    drawn = rng.integers(len(names), size=(n_draws, len(names)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [2.5, 97.5])
    return [float(low), float(high)]
