"""Lay profiles out in a plane; more than 20,000 are placed beside a sample."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.geometry import unit
from distangle.profiles.project import MIN_VECTORS, PACKAGES, Method, Projection, is_installed, project, projections

Features = Float[np.ndarray, "row feature"]
MAX_ROWS = 20_000  # rows that a method lays out itself
_N_PLACES = 5  # neighbors that place a row beside them
_CHUNK = 4_096  # rows that are placed at once


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Places of profiles in a plane.

    Attributes:
        x: First coordinate, [row].
        y: Second coordinate, [row].
        method: Method that made them; PCA for fewer than 8 rows.
        seed: Seed of the first places and of the sample.
        neighbors: Perplexity of t-SNE or neighbors of UMAP; 0 for PCA.
        is_sampled: Rows that the method laid out itself, [row]; the others lie at their nearest ones.
    """

    x: Float[np.ndarray, " row"]
    y: Float[np.ndarray, " row"]
    method: Method
    seed: int
    neighbors: int
    is_sampled: Bool[np.ndarray, " row"]


def map_profiles(
    features: Features,
    *,
    method: Method = "tsne",
    seed: int = 0,
    neighbors: int = 30,
    max_rows: int = MAX_ROWS,
) -> Coordinates:
    """Lay profiles out in a plane by their directions, not their lengths.

    Of more rows than `max_rows`, t-SNE and UMAP lay out a random sample. Every other row lies at the mean of the places
    of its 5 nearest rows of the sample, weighted by 1 / distance.

    Args:
        features: Profiles, [row, feature].
        method: Method. t-SNE and UMAP need the extra `maps`; see `project.is_installed`.
        seed: Seed of the first places and of the sample; unused by PCA.
        neighbors: Perplexity of t-SNE or neighbors of UMAP; fewer rows give fewer.
        max_rows: Rows that the method lays out itself.

    Raises:
        ProfileError: There are fewer than two rows, values are not finite, a number is too small, or the package of the
            method is not installed.
    """
    if len(features) < 2:
        raise ProfileError(f"{len(features)} profile(s); expected at least 2 for a map. Give more profiles.")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ProfileError(f"Row {bad[0]} has values that are not finite. Expected numbers; leave this row out.")
    if neighbors < 1 or max_rows < MIN_VECTORS:
        raise ProfileError(
            f"{neighbors} neighbors and {max_rows} rows; expected at least 1 and {MIN_VECTORS}. Give greater numbers."
        )
    if not is_installed(method):
        name, package = PACKAGES[method]
        raise ProfileError(f"{name} needs {package}, which is not installed: pip install '.[maps]'. PCA needs nothing.")
    is_sampled = np.ones(len(features), dtype=bool)
    if method != "pca" and len(features) > max_rows:
        chosen = rng_for(seed, "map, sample").choice(len(features), max_rows, replace=False)
        is_sampled = np.isin(np.arange(len(features)), chosen)
    layouts = projections(
        int(is_sampled.sum()), methods=[method], seeds=[seed], perplexities=[neighbors], neighbors=neighbors
    )
    layout = next(layouts, Projection(method="pca"))
    points = np.empty((len(features), 2))
    points[is_sampled] = project(features[is_sampled], layout)
    if not is_sampled.all():
        points[~is_sampled] = _placed(features[~is_sampled], features[is_sampled], points[is_sampled])
    return Coordinates(
        x=points[:, 0].copy(),
        y=points[:, 1].copy(),
        method=layout.method,
        seed=seed,
        neighbors=layout.neighbors,
        is_sampled=is_sampled,
    )


def _placed(
    rest: Features, sample: Float[np.ndarray, "place feature"], points: Float[np.ndarray, "place 2"]
) -> Float[np.ndarray, "row 2"]:
    """Return the weighted mean of the places of the nearest rows of a sample."""
    directions = unit(sample).astype(np.float32)
    places = np.empty((len(rest), 2))
    for start in range(0, len(rest), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosines = unit(rest[rows]).astype(np.float32) @ directions.T
        nearest = np.argpartition(-cosines, _N_PLACES - 1, axis=1)[:, :_N_PLACES]
        # The distance of vectors of length 1; one of nothing would have an infinite weight.
        distances = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(cosines, nearest, axis=1), 1e-6))
        weights = 1 / distances.astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        places[rows] = np.einsum("ij,ijk->ik", weights, points[nearest])
    return places
