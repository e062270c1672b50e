"""Compare profiles with known relations; find neighbors and opposites."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.errors import ProfileError
from distangle.profiles.geometry import cosines


@dataclass(frozen=True)
class EdgeRecall:
    """Recall of known relations in the tails of the cosines.

    Attributes:
        recall: Share of the edges in a tail; NaN only with a reason.
        chance: Share of all pairs in a tail.
        n_edges: Number of different edges between known names.
        n_pairs: Number of all pairs.
        n_unknown: Number of edges left out because a name has no profile.
        unknown: Names of the edges without a profile, in order.
        reason: Why there is no recall; "" if there is.
    """

    recall: float
    chance: float
    n_edges: int
    n_pairs: int
    n_unknown: int
    unknown: tuple[str, ...]
    reason: str = ""


def recall_of_edges(
    features: Float[np.ndarray, "row feature"],
    names: Sequence[str],
    edges: Iterable[tuple[str, str]],
    *,
    tails: tuple[float, float] = (0.05, 0.95),
) -> EdgeRecall:
    """Return the share of known relations with a cosine in the tails of all pairs.

    An edge of a name with itself and repeated edges, in either order, do not count.

    Source: Celik et al. 2024, Building, benchmarking, and exploring perturbative maps (PLoS Comput. Biol. 20).

    Args:
        features: One vector per perturbation.
        names: Name of every row, each once.
        edges: Pairs of names.
        tails: Shares of the pairs below which a cosine is low, and above which it is high.

    Raises:
        ProfileError: Names repeat, sizes differ, there are fewer than two rows, or the tails are not ordered.
    """
    position = _positions(features, names)
    low, high = tails
    if not 0 <= low < high <= 1:
        raise ProfileError(f"Tails {low} and {high}; expected 0 <= low < high <= 1. Give for example 0.05 and 0.95.")
    pairs = {(a, b) if a <= b else (b, a) for a, b in edges if a != b}
    unknown = sorted({name for pair in pairs for name in pair if name not in position})
    known = sorted((position[a], position[b]) for a, b in pairs if a in position and b in position)
    square = cosines(features)
    null = np.sort(square[np.triu_indices(len(square), 1)])
    # The upper triangle holds the very numbers of the null, so that ties are exact.
    queries = np.array([square[min(pair), max(pair)] for pair in known], dtype=np.float64)
    return EdgeRecall(
        recall=float(in_tails(queries, null, tails).mean()) if known else float("nan"),
        chance=float(in_tails(null, null, tails).mean()),
        n_edges=len(known),
        n_pairs=len(null),
        n_unknown=len(pairs) - len(known),
        unknown=tuple(unknown),
        reason="" if known else "No edge joins two names with a profile.",
    )


def in_tails(
    values: Float[np.ndarray, " value"], null: Float[np.ndarray, " draw"], tails: tuple[float, float]
) -> np.ndarray:
    """Return which values lie in a tail of a null.

    A value is low if the share of the null at or below it is at most the lower tail, and high if the share below it is
    at least the upper tail.

    Args:
        values: Values to judge.
        null: The null, at least one number.
        tails: The lower and upper share.
    """
    ordered = np.sort(null)
    below = np.searchsorted(ordered, values, side="left") / len(ordered)
    at_most = np.searchsorted(ordered, values, side="right") / len(ordered)
    return np.asarray((at_most <= tails[0]) | (below >= tails[1]))


def nearest_and_opposite(features: Float[np.ndarray, "row feature"], names: Sequence[str], k: int = 3) -> pd.DataFrame:
    """Return the most similar and the most opposite others of every name, by cosine.

    Args:
        features: One vector per perturbation.
        names: Name of every row, each once.
        k: Number of others on each side; fewer rows give fewer.

    Returns:
        One row per name, kind and rank: `name`, `kind` (`nearest` or `opposite`), `rank` from 1, `other`, `cosine`.
        The first of equal ones comes first. An opposite can have a positive cosine.

    Raises:
        ProfileError: Names repeat, sizes differ, there are fewer than two rows, or k is below 1.
    """
    _positions(features, names)
    if k < 1:
        raise ProfileError(f"{k} neighbors; expected at least 1. Ask for more.")
    square, k = cosines(features), min(k, len(features) - 1)
    rows = []
    for kind, sign in (("nearest", -1.0), ("opposite", 1.0)):
        keys = sign * square
        np.fill_diagonal(keys, np.inf)
        order = np.argsort(keys, axis=1, kind="stable")[:, :k]
        rows += [
            (row, kind, rank + 1, names[other], float(square[row, other]))
            for row, others in enumerate(order)
            for rank, other in enumerate(others)
        ]
    rows.sort(key=lambda entry: entry[:3])
    return pd.DataFrame(
        [(names[row], *rest) for row, *rest in rows], columns=["name", "kind", "rank", "other", "cosine"]
    )


def energy_distance(
    a: Float[np.ndarray, "first feature"], b: Float[np.ndarray, "second feature"], *, unbiased: bool = False
) -> float:
    """Return the energy distance of two clouds of points.

    2 E|x - y| - E|x - x'| - E|y - y'| with Euclidean distances.

    Source: Szekely & Rizzo 2013, Energy statistics: a class of statistics based on distances (J. Stat. Plan. Inference
    143).

    Args:
        a: Points, at least one.
        b: Points, at least one.
        unbiased: Take the means within a cloud over different points only: 0 on average for clouds of one
            distribution, and sometimes below 0. Otherwise each point is a pair with itself too: 0 for equal clouds,
            and never below, but larger for smaller clouds.

    Raises:
        ProfileError: A cloud is empty, or holds one point only where it must be unbiased, or the numbers of features
            differ.
    """
    from scipy.spatial.distance import cdist, pdist

    least = 2 if unbiased else 1
    if min(len(a), len(b)) < least or a.shape[1] != b.shape[1]:
        raise ProfileError(
            f"Clouds of shape {a.shape} and {b.shape}; expected at least {least} point(s) each and equal numbers of "
            "features. Give the same features of both."
        )
    first, second = a.astype(np.float64), b.astype(np.float64)
    between = cdist(first, second).mean()
    if unbiased:
        return float(2 * between - pdist(first).mean() - pdist(second).mean())
    return max(0.0, float(2 * between - cdist(first, first).mean() - cdist(second, second).mean()))


def _positions(features: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    position = {name: row for row, name in enumerate(names)}
    if not len(features) == len(names) == len(position) or len(names) < 2:
        raise ProfileError(
            f"{len(features)} vectors, {len(names)} names, {len(position)} of them different; expected equal numbers, "
            "at least 2. Give one profile per name."
        )
    return position
