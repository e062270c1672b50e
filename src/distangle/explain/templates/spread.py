"""How far vectors are spread apart, beside what vectors drawn at random give."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distangle.explain.templates.geometry import Vectors, cosines, nearest, off_diagonal, simplex_gap


def spread(vectors: Vectors) -> dict[str, float]:
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


def random_spreads(n: int, dimension: int, *, rng: np.random.Generator, n_draws: int) -> list[dict[str, float]]:
    """Return the spreads of sets of normal random vectors of one shape.

    Args:
        n: Vectors of a set.
        dimension: Of the space.
        rng: Equal generators give equal draws.
        n_draws: How many sets.
    """
    return [spread(rng.standard_normal((n, dimension))) for _ in range(n_draws)]


def beside_random(vectors: Vectors, draws: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the spread of vectors beside that of random ones.

    Args:
        vectors: At least two.
        draws: From `random_spreads`, of the same shape.

    Returns:
        By number of `spread`: `value`, `random` (mean of the draws) and `random_range` (their central 95 %); also
        `n`, `dimension`, `norm_mean`, and `simplex_possible`: whether so many vectors can form a simplex there.
    """
    found = spread(vectors)
    said: dict[str, Any] = {
        "n": len(vectors),
        "dimension": vectors.shape[1],
        "simplex_possible": vectors.shape[1] >= len(vectors) - 1,
        "norm_mean": found.pop("norm_mean"),
    }
    return said | {name: beside_draws(value, [draw[name] for draw in draws]) for name, value in found.items()}


def beside_draws(value: float, draws: Sequence[float]) -> dict[str, Any]:
    """Return a number with the mean and the central 95 % of what chance gives."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": value, "random": float(np.mean(draws)), "random_range": [float(low), float(high)]}
