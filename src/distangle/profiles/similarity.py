"""Compare all perturbations with each other and find clusters of similar ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from distangle.errors import ProfileError
from distangle.profiles.geometry import cosines

Features = Float[np.ndarray, "row feature"]
_MAX_CLUSTERS = 200  # numbers of clusters that are compared
_MAX_ORDERED = 1500  # rows whose leaves are turned so that neighbors are similar: the time grows with their square


@dataclass(frozen=True)
class Clusters:
    """Clusters of perturbations, and the order to draw them in.

    Attributes:
        labels: Cluster of every row, from 1 in the order of `order`; 0 for a row without a direction.
        order: Rows in the order of the leaves of the tree; rows without a direction come last.
        silhouette: Mean silhouette of the rows, in [-1, 1]; NaN only with a reason.
        reason: Why there is no silhouette; "" if there is.
        n_without_direction: Number of rows that are all zeros.
    """

    labels: Int[np.ndarray, " row"]
    order: Int[np.ndarray, " row"]
    silhouette: float
    reason: str = ""
    n_without_direction: int = 0


def similarity_matrix(features: Features, names: Sequence[str]) -> pd.DataFrame:
    """Return the cosine of every pair of perturbations, with their names.

    Args:
        features: One vector per perturbation.
        names: Name of every row, each once.

    Returns:
        Square table with the names as index and columns; a vector of zeros has the cosine 0 with all.

    Raises:
        ProfileError: Names repeat, sizes differ, values are not finite, or there are fewer than two rows.
    """
    if len(names) != len(features) or len(set(names)) != len(names):
        raise ProfileError(
            f"{len(features)} vectors, {len(names)} names, {len(set(names))} of them different; "
            "expected equal numbers. Give one profile per name."
        )
    _check(features)
    labels = pd.Index(list(names))
    return pd.DataFrame(cosines(features), index=labels, columns=labels)


def clusters(
    features: Features, *, n_clusters: int | None = None, threshold: float | None = None
) -> Int[np.ndarray, " row"]:
    """Return the cluster of every perturbation, from 1; 0 for a vector of zeros.

    The arguments are those of `find_clusters`.
    """
    return find_clusters(features, n_clusters=n_clusters, threshold=threshold).labels


def find_clusters(features: Features, *, n_clusters: int | None = None, threshold: float | None = None) -> Clusters:
    """Cluster perturbations by a tree of average linkage on the cosine distance.

    Without a number or a threshold, the number from 2 to 200 with the greatest mean silhouette is taken, the
    smallest one for ties. If none has a silhouette above 0, all rows are one cluster.

    Source: Rousseeuw 1987, Silhouettes: a graphical aid to the interpretation and validation of cluster analysis.

    Args:
        features: One vector per perturbation.
        n_clusters: Number of clusters; None chooses it.
        threshold: Greatest mean distance (1 - cosine) of two clusters that are joined.

    Raises:
        ProfileError: There are fewer than two rows, values are not finite, both numbers are given, or one is out of
            range.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    _check(features)
    has_direction = features.any(axis=1)
    rows = np.flatnonzero(has_direction)
    _check_options(len(rows), n_clusters, threshold)
    labels, n_without = np.zeros(len(features), dtype=np.int64), len(features) - len(rows)
    rest = np.flatnonzero(~has_direction)
    if len(rows) < 2:
        labels[rows] = 1
        reason = f"{len(rows)} vector(s) that are not all zeros; expected at least 2."
        return Clusters(labels, np.concatenate([rows, rest]), float("nan"), reason, n_without)
    distances = 1 - cosines(features[rows])
    np.fill_diagonal(distances, 0)
    flat = squareform(distances, checks=False)
    tree = linkage(flat, method="average")
    if len(rows) <= _MAX_ORDERED:
        tree = optimal_leaf_ordering(tree, flat)
    leaves = leaves_list(tree)
    if threshold is not None:
        grouping = fcluster(tree, threshold, criterion="distance")
    elif n_clusters is not None:
        grouping = _cut(tree, n_clusters)
    else:
        grouping = _best_cut(tree, distances)
    labels[rows] = _in_order(grouping, leaves)
    value, reason = _silhouette(distances, grouping)
    return Clusters(labels, np.concatenate([rows[leaves], rest]), value, reason, n_without)


def _check(features: Features) -> None:
    if len(features) < 2:
        raise ProfileError(f"{len(features)} vector(s); expected at least 2 to compare. Give more perturbations.")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ProfileError(f"Row {bad[0]} has values that are not finite. Expected numbers; leave this row out.")


def _check_options(n_rows: int, n_clusters: int | None, threshold: float | None) -> None:
    if n_clusters is not None and threshold is not None:
        raise ProfileError(f"{n_clusters} clusters and the threshold {threshold}; expected one of them. Leave one out.")
    if n_clusters is not None and not 1 <= n_clusters <= max(n_rows, 1):
        raise ProfileError(f"{n_clusters} clusters of {n_rows} vectors that are not all zeros; expected 1 to {n_rows}.")
    if threshold is not None and not 0 <= threshold <= 2:
        raise ProfileError(f"The threshold is {threshold}; expected a distance (1 - cosine) from 0 to 2.")


def _cuts(tree: Any, n_rows: int, most: int) -> Iterator[np.ndarray]:
    """Yield the clusters after every merge, from `most` to 2."""
    members = np.arange(n_rows)  # node of the tree that every row is in
    for merge, (first, second) in enumerate(tree[: n_rows - 2, :2].astype(np.int64)):
        members[(members == first) | (members == second)] = n_rows + merge
        if n_rows - merge - 1 <= most:
            yield members


def _cut(tree: Any, n_clusters: int) -> np.ndarray:
    n_rows = len(tree) + 1
    if n_clusters == 1:
        return np.ones(n_rows, dtype=np.int64)
    if n_clusters == n_rows:
        return np.arange(n_rows)
    return next(_cuts(tree, n_rows, n_clusters)).copy()


def _best_cut(tree: Any, distances: Float[np.ndarray, "row row"]) -> np.ndarray:
    """Return the cut of the greatest silhouette, or one cluster."""
    n_rows = len(distances)
    best, grouping = 0.0, np.ones(n_rows, dtype=np.int64)
    for members in _cuts(tree, n_rows, min(_MAX_CLUSTERS, n_rows - 1)):
        value, _ = _silhouette(distances, members)
        # From many clusters to few: of equal ones, the last.
        if value > 0 and value >= best - 1e-12:
            best, grouping = value, members.copy()
    return grouping


def _silhouette(distances: Float[np.ndarray, "row row"], labels: np.ndarray) -> tuple[float, str]:
    """Return the mean silhouette, and why there is none."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 2 <= len(sizes) < len(codes):
        return float("nan"), f"{len(sizes)} cluster(s) of {len(codes)} vectors; a silhouette needs 2 or more, not all."
    means = distances @ np.eye(len(sizes))[codes]
    every = np.arange(len(codes))
    own = means[every, codes] / np.maximum(sizes[codes] - 1, 1)
    means /= sizes
    means[every, codes] = np.inf
    other = means.min(axis=1)
    largest = np.maximum(own, other)
    usable = (sizes[codes] > 1) & (largest > 0)
    values = np.where(usable, (other - own) / np.where(usable, largest, 1), 0)
    return float(values.mean()), ""


def _in_order(grouping: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """Number clusters from 1 in the order of their first leaf."""
    _, first, codes = np.unique(grouping[leaves], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    labels = np.empty(len(leaves), dtype=np.int64)
    labels[leaves] = rank[codes]
    return labels
