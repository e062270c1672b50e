"""Measure angles, clusters and dispersion of vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.errors import ExplanationError

Vectors = Float[np.ndarray, "vector dimension"]
Cosines = Float[np.ndarray, "vector vector"]


@dataclass(frozen=True)
class Nearest:
    """Nearest other vector of each vector.

    Attributes:
        angle_deg: Angle to the nearest vector, in [0, 180].
        index: Index of the nearest vector, the first one for ties.
    """

    angle_deg: Float[np.ndarray, " vector"]
    index: Int[np.ndarray, " vector"]


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors to length 1, float64; a vector of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths > 0, lengths, 1))


def cosines(vectors: Vectors) -> Cosines:
    """Return the cosine of every pair, in [-1, 1].

    The cosine with a vector of zeros is 0, also with itself.

    Raises:
        ExplanationError: There are fewer than two vectors.
    """
    if len(vectors) < 2:
        raise ExplanationError(f"{len(vectors)} vector(s); expected at least 2 to measure angles between them.")
    wide = vectors.astype(np.float64)
    return cosines_of(wide @ wide.T)


def cosines_of(products: Float[np.ndarray, "vector vector"]) -> Cosines:
    """Return the cosine of every pair from the products of all pairs."""
    lengths = np.sqrt(np.diagonal(products))
    directions = np.where(lengths > 0, lengths, 1)
    return np.asarray((products / directions[:, None] / directions[None, :]).clip(-1.0, 1.0))


def off_diagonal(square: Cosines) -> Float[np.ndarray, " pair"]:
    """Return the entries of all pairs of different vectors, in both orders."""
    return np.asarray(square[~np.eye(len(square), dtype=bool)])


def nearest(pairs: Cosines) -> Nearest:
    """Return the nearest other vector of each, by angle.

    Args:
        pairs: Cosines from `cosines`, of at least two vectors.
    """
    others = pairs.copy()
    np.fill_diagonal(others, -np.inf)
    return Nearest(angle_deg=np.degrees(np.arccos(others.max(axis=1))), index=others.argmax(axis=1))


def simplex_gap(pairs: Cosines) -> float:
    """Return the mean difference of the angles from those of a simplex.

    In a simplex all angles are equal and maximal. The gap is the mean over pairs of |cos + 1 / (C - 1)|: 0 for a
    simplex equiangular tight frame, 1 / (C - 1) for orthogonal vectors. C vectors can form a simplex only in at least C
    - 1 dimensions, so the 1,139 templates of RxRx1 cannot in the 1,024 dimensions of the paper.

    Source: Papyan, Han & Donoho 2020, Prevalence of neural collapse (PNAS 117), the maximal-angle equiangularity.

    Args:
        pairs: Cosines from `cosines`, of at least two vectors.
    """
    return float(np.abs(off_diagonal(pairs) + 1 / (len(pairs) - 1)).mean())


def neighbor_purity(
    pairs: Cosines, labels: Sequence[str], *, k: int, apart: Sequence[str] | None = None
) -> Float[np.ndarray, " vector"]:
    """Return the share of the k nearest neighbors of each vector with its label.

    The share is NaN for a vector without neighbors.

    Args:
        pairs: Cosines from `cosines`.
        labels: One label per vector.
        k: Maximum number of neighbors.
        apart: Groups, such as wells, within which vectors are no neighbors; None for no groups.
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

    The result is None if all labels are equal or all differ.

    Args:
        pairs: Cosines from `cosines`.
        labels: One label per vector.
    """
    from sklearn.metrics import silhouette_samples

    names = np.asarray(labels, dtype=object).astype(str)
    if not 2 <= len(np.unique(names)) < len(pairs):
        return None
    distances = 1 - pairs
    np.fill_diagonal(distances, 0)
    return np.asarray(silhouette_samples(distances, names, metric="precomputed"))


def dispersion(vectors: Vectors) -> dict[str, float]:
    """Return the measures of the dispersion of vectors.

    Args:
        vectors: At least two vectors.

    Returns:
        `norm_mean`; `norm_cv`, the standard deviation of the norms as a share of their mean; `nearest_angle_deg_mean`
        and `nearest_angle_deg_min`, of the nearest other vector; `cosine_mean` and `cosine_sd` over pairs, the
        latter 0 where all angles are equal; `simplex_gap`.

    Raises:
        ExplanationError: There are fewer than two vectors.
    """
    pairs, norms = cosines(vectors), np.linalg.norm(vectors.astype(np.float64), axis=1)
    angles, others = nearest(pairs).angle_deg, off_diagonal(pairs)
    return {
        "norm_mean": float(norms.mean()),
        "norm_cv": float(norms.std() / norms.mean()) if norms.any() else 0.0,
        "nearest_angle_deg_mean": float(angles.mean()),
        "nearest_angle_deg_min": float(angles.min()),
        "cosine_mean": float(others.mean()),
        "cosine_sd": float(others.std()),
        "simplex_gap": simplex_gap(pairs),
    }


def random_dispersions(n: int, dimension: int, *, rng: np.random.Generator, n_draws: int) -> list[dict[str, float]]:
    """Return the dispersions of sets of normal random vectors of one shape.

    Args:
        n: Number of vectors of a set.
        dimension: Dimension of the space.
        rng: Random generator; equal generators give equal draws.
        n_draws: Number of sets.
    """
    return [dispersion(rng.standard_normal((n, dimension))) for _ in range(n_draws)]


def compare_with_random(vectors: Vectors, draws: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the dispersion of vectors compared with random vectors.

    Args:
        vectors: At least two vectors.
        draws: Dispersions from `random_dispersions`, of the same shape.

    Returns:
        By measure of `dispersion`: `value`, `random` (mean of the draws) and `random_range` (their central 95 %); also
        `n`, `dimension`, `norm_mean`, and `simplex_possible`: whether so many vectors can form a simplex in this
        dimension.
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
    """Return a number with the mean and the central 95 % of its null draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": value, "random": float(np.mean(draws)), "random_range": [float(low), float(high)]}
