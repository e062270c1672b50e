"""Similarity of maps: rank correlation over places, with its null."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from distangle.explain.stains.nulls import random_smooth_maps

PerSite = Float[np.ndarray, " site"]


def likeness(first: Float[np.ndarray, "site *place"], second: Float[np.ndarray, "site *place"]) -> PerSite:  # noqa: F821 - axes
    """Return Spearman's correlation of each pair of maps, in [-1, 1].

    Rows of Shapley values are compared the same way.

    Args:
        first: One per site, of any sign.
        second: To be compared with it, place by place.

    Returns:
        0 where one of the two is constant: it names no place.
    """
    ranks = [rankdata(values.reshape(len(values), -1), axis=1) for values in (first, second)]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    length = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray(np.divide((a * b).sum(1), length, out=np.zeros(len(a)), where=length > 0))


def random_likeness(
    *, grid: tuple[int, int], rng: np.random.Generator, n_draws: int = 1000
) -> Float[np.ndarray, " draw"]:
    """Return the similarity of pairs of unrelated random smooth maps.

    Args:
        grid: Height and width of the maps.
        rng: Equal generators give equal draws.
        n_draws: Pairs.
    """
    drawn = random_smooth_maps(2 * n_draws, grid=grid, size=grid, rng=rng).grid
    return likeness(drawn[:n_draws], drawn[n_draws:])


def mean_of_random(
    null: Float[np.ndarray, " draw"], *, n_sites: int, rng: np.random.Generator, n_draws: int = 1000
) -> tuple[float, float]:
    """Return the central 95 % of the mean similarity of random maps.

    Each of `n_sites` sites has a draw of its own.
    """
    means = null[rng.integers(len(null), size=(n_draws, n_sites))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
