"""Place sites, wells and perturbations in two dimensions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from distangle.web.answers import AnswerError
from distangle.web.index import ViewIndex
from distangle.web.vectors import first_components, principal_components

Of = Literal["sites", "wells", "perturbations"]


@dataclass(frozen=True, kw_only=True)
class PointMap:
    """Points of a map.

    Attributes:
        of: What a point is.
        method: How the points were placed.
        places: float32 [point, (x, y)], finite.
        ids: Number of the site, well or perturbation of every point, uint32 [point].
    """

    of: Of
    method: str
    places: np.ndarray
    ids: np.ndarray

    def to_bytes(self) -> bytes:
        """Return all places, then all numbers, little endian."""
        return self.places.astype("<f4").tobytes() + self.ids.astype("<u4").tobytes()


def has_map(index: ViewIndex) -> bool:
    """Return whether there is a map of anything."""
    return index.source.profiles is not None or index.source.predictions is not None


def make_map(index: ViewIndex, of: Of) -> PointMap:
    """Place sites, wells or perturbations.

    Wells have the places that `distangle profile` stored. All others, and wells without profiles, have the first two
    principal components of their embeddings.

    Args:
        index: The source.
        of: What to place.

    Raises:
        AnswerError: There are no embeddings.
    """
    source = index.source
    if of == "wells" and source.profiles is not None and source.profiles.coordinates is not None:
        places = source.profiles.coordinates[["x", "y"]].to_numpy(dtype=np.float32)
        return _points(of, source.profiles.method, places, index.profile_wells)
    if of == "perturbations" and source.profiles is not None:
        names = source.profiles.perturbations["Metadata_Perturbation"].astype(str)
        ids = np.array([index.perturbation_ids.get(name, -1) for name in names], dtype=np.int64)
        return _points(of, "pca", first_components(source.profiles.features("perturbations")), ids)
    if of == "wells" and source.profiles is not None:
        return _points(of, "pca", first_components(source.profiles.features("wells")), index.profile_wells)
    if of == "perturbations" or source.predictions is None:
        verb = "profile" if of == "perturbations" else "predict"
        raise AnswerError(404, f"There is no map of {of}.", f"Make it: `distangle {verb} RUN`.")
    if of == "wells":
        ids, vectors = index.predicted_wells, source.predictions.well_embeddings
    else:
        ids, vectors = index.predicted_sites, source.predictions.site_embeddings
    return _points(of, "pca", principal_components(vectors), ids)


def _points(of: Of, method: str, places: np.ndarray, ids: np.ndarray) -> PointMap:
    good = np.isfinite(places).all(axis=1) & (ids >= 0)
    return PointMap(of=of, method=method, places=places[good].astype(np.float32), ids=ids[good].astype(np.uint32))
