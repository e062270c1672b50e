"""Geometry of vectors: angles, clusters, distance from a simplex.

How far vectors are spread apart, beside what vectors drawn at random give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.errors import ExplanationError

Vectors = Float[np.ndarray, "vector dimension"]
Cosines = Float[np.ndarray, "vector vector"]


def unit(vectors: Vectors) -> Vectors:
    """Return the vectors at length 1, float64; a vector of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths > 0, lengths, 1))


def cosines(vectors: Vectors) -> Cosines:
    """Return the cosine of every pair, in [-1, 1].

    With a vector of zeros it is 0, also with itself.

    Raises:
        ExplanationError: There is only one vector, so that there is no pair.
    """
    if len(vectors) < 2:
        raise ExplanationError(f"{len(vectors)} vector(s) were given; angles between vectors need at least 2.")
    wide = vectors.astype(np.float64)
    return cosines_of(wide @ wide.T)


def cosines_of(products: Float[np.ndarray, "vector vector"]) -> Cosines:
    """Return the cosine of every pair from the products of all pairs."""
    lengths = np.sqrt(np.diagonal(products))
    directions = np.where(lengths > 0, lengths, 1)
    return np.asarray((products / directions[:, None] / directions[None, :]).clip(-1.0, 1.0))


def off_diagonal(square: Cosines) -> Float[np.ndarray, " pair"]:
    """Return what two different vectors have to do with each other, both orders."""
    return np.asarray(square[~np.eye(len(square), dtype=bool)])


@dataclass(frozen=True)
class Nearest:
    """The nearest other vector of each.

    Attributes:
        angle_deg: Angle to it, in [0, 180].
        index: Which one; the first of several equally near.
    """

    angle_deg: Float[np.ndarray, " vector"]
    index: Int[np.ndarray, " vector"]


def nearest(pairs: Cosines) -> Nearest:
    """Return the nearest other vector of each, by angle.

    Args:
        pairs: From `cosines`, of at least two vectors.
    """
    others = pairs.copy()
    np.fill_diagonal(others, -np.inf)
    return Nearest(angle_deg=np.degrees(np.arccos(others.max(axis=1))), index=others.argmax(axis=1))


def simplex_gap(pairs: Cosines) -> float:
    """Return how far the angles are from those of a simplex.

    In a simplex all angles are equal and as large as can be.

    The mean over pairs of |cos + 1 / (C - 1)|: 0 for a simplex equiangular tight frame, 1 / (C - 1) for vectors at
    right angles. C vectors can form a simplex only in C - 1 dimensions or more: the 1,139 templates of RxRx1 cannot
    in the 1,024 of the paper.

    Source: Papyan, Han & Donoho 2020, Prevalence of neural collapse (PNAS 117), the maximal-angle equiangularity.

    Args:
        pairs: From `cosines`, of at least two vectors.
    """
    return float(np.abs(off_diagonal(pairs) + 1 / (len(pairs) - 1)).mean())


def neighbour_purity(
    pairs: Cosines, labels: Sequence[str], *, k: int, apart: Sequence[str] | None = None
) -> Float[np.ndarray, " vector"]:
    """Return the share of each vector's k nearest others with its label.

    It is NaN for a vector that has no other to compare with.

    Args:
        pairs: From `cosines`.
        labels: One per vector.
        k: How many neighbors; fewer where there are fewer.
        apart: Vectors of one group, such as sites of a well, are never each other's neighbors; None for no groups.
    """
    similarities, names = pairs.copy(), np.asarray(labels, dtype=object)
    same: Bool[np.ndarray, "vector vector"] = np.eye(len(pairs), dtype=bool)
    if apart is not None:
        groups = np.asarray(apart, dtype=object)
        same |= groups[:, None] == groups[None, :]
    similarities[same] = -np.inf
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    counted = np.isfinite(np.take_along_axis(similarities, order, axis=1))
    matches = (names[order] == names[:, None]) & counted
    n = counted.sum(axis=1)
    return np.where(n > 0, matches.sum(axis=1) / np.maximum(n, 1), np.nan)


def silhouettes(pairs: Cosines, labels: Sequence[str]) -> Float[np.ndarray, " vector"] | None:
    """Return the silhouette of each vector by cosine distance.

    The result is None where labels are no grouping.

    Args:
        pairs: From `cosines`.
        labels: One per vector; at least two different ones, and fewer than vectors.
    """
    from sklearn.metrics import silhouette_samples

    names = np.asarray(labels, dtype=object).astype(str)
    if not 2 <= len(np.unique(names)) < len(pairs):
        return None
    distances = 1 - pairs
    np.fill_diagonal(distances, 0)
    return np.asarray(silhouette_samples(distances, names, metric="precomputed"))


def dispersion(vectors: Vectors) -> dict[str, float]:
    """Return the numbers that say how far vectors are spread apart.

    Args:
        vectors: At least two.

    Returns:
        `norm_mean`; `norm_cv`, the standard deviation of the norms as a share of their mean; `nearest_angle_deg_mean`
        and `nearest_angle_deg_smallest`, of the nearest other vector; `cosine_mean` and `cosine_sd` over pairs, the
        latter 0 where all angles are equal; `simplex_gap`.

    Raises:
        ExplanationError: There are fewer than two.
    """
    pairs, norms = cosines(vectors), np.linalg.norm(vectors.astype(np.float64), axis=1)
    angles, others = nearest(pairs).angle_deg, off_diagonal(pairs)
    return {
        "norm_mean": float(norms.mean()),
        "norm_cv": float(norms.std() / norms.mean()) if norms.any() else 0.0,
        "nearest_angle_deg_mean": float(angles.mean()),
        "nearest_angle_deg_smallest": float(angles.min()),
        "cosine_mean": float(others.mean()),
        "cosine_sd": float(others.std()),
        "simplex_gap": simplex_gap(pairs),
    }


def random_dispersions(n: int, dimension: int, *, rng: np.random.Generator, n_draws: int) -> list[dict[str, float]]:
    """Return the spreads of sets of normal random vectors of one shape.

    Args:
        n: Vectors of a set.
        dimension: Of the space.
        rng: Random generator; equal generators give equal draws.
        n_draws: How many sets.
    """
    return [dispersion(rng.standard_normal((n, dimension))) for _ in range(n_draws)]


def compare_with_random(vectors: Vectors, draws: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the spread of vectors beside that of random ones.

    Args:
        vectors: At least two.
        draws: From `random_spreads`, of the same shape.

    Returns:
        By number of `spread`: `value`, `random` (mean of the draws) and `random_range` (their central 95 %); also
        `n`, `dimension`, `norm_mean`, and `simplex_possible`: whether so many vectors can form a simplex there.
    """
    numbers = dispersion(vectors)
    comparison: dict[str, Any] = {
        "n": len(vectors),
        "dimension": vectors.shape[1],
        "simplex_possible": vectors.shape[1] >= len(vectors) - 1,
        "norm_mean": numbers.pop("norm_mean"),
    }
    return comparison | {
        name: compare_with_draws(value, [draw[name] for draw in draws]) for name, value in numbers.items()
    }


def compare_with_draws(value: float, draws: Sequence[float]) -> dict[str, Any]:
    """Return a number with the mean and the central 95 % of what chance gives."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": value, "random": float(np.mean(draws)), "random_range": [float(low), float(high)]}
