"""The planes of one site: read, measured, or the reason why not."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import ImageError
from distangle.images.planes.measure import measure_plane

Read = Callable[[Sequence[Path], Sequence[int | None]], np.ndarray]
"""Reads the channels of an image from their files and pages, as `read_image` does. Raises ImageError."""


@dataclass(frozen=True, kw_only=True)
class PlaneRead:
    """What is known of a plane.

    Attributes:
        measures: Those of `PlaneMeasures` by name; empty where it cannot be read.
        profile: Mean of each part of the plane over its whole mean; None for a plane without light.
        reason: "", or why it cannot be read.
    """

    measures: dict[str, object]
    profile: np.ndarray | None = None
    reason: str = ""


def measure_site(
    read: Read, paths: Sequence[Path], pages: Sequence[int | None], *, grid: tuple[int, int]
) -> list[PlaneRead]:
    """Read and measure every plane of a site, also when others cannot be read.

    Args:
        read: Reads the image.
        paths: One file per channel.
        pages: One per channel; None for a file of a single plane.
        grid: Rows and columns of the profiles.
    """
    try:
        planes: list[np.ndarray | ImageError] = list(read(paths, pages))
    except ImageError:
        planes = [_plane(read, path, page) for path, page in zip(paths, pages, strict=True)]
    return [
        PlaneRead(measures={}, reason=str(plane))
        if isinstance(plane, ImageError)
        else PlaneRead(measures=asdict(measure_plane(plane)), profile=_profile(plane, grid))
        for plane in planes
    ]


def packed(plane: PlaneRead) -> dict[str, Any]:
    """Return a plane ready for JSON; `unpacked` restores it to the last bit."""
    profile = plane.profile
    numbers = None if profile is None else base64.b64encode(profile.astype("<f8").tobytes()).decode("ascii")
    return {
        "measures": plane.measures,
        "profile": numbers,
        "shape": None if profile is None else profile.shape,
        "reason": plane.reason,
    }


def unpacked(said: dict[str, Any]) -> PlaneRead:
    """Return the plane that `packed` was given."""
    profile = None
    if said["profile"] is not None:
        profile = np.frombuffer(base64.b64decode(said["profile"]), dtype="<f8").reshape(said["shape"])
    return PlaneRead(measures=said["measures"], profile=profile, reason=said["reason"])


def _plane(read: Read, path: Path, page: int | None) -> np.ndarray | ImageError:
    try:
        return np.asarray(read([path], [page])[0])
    except ImageError as error:
        return error


def _profile(plane: np.ndarray, grid: tuple[int, int]) -> np.ndarray | None:
    # Parts of a side differ by one pixel where it is no multiple of their number.
    edges = [np.arange(parts + 1) * side // parts for side, parts in zip(plane.shape, grid, strict=True)]
    if any((np.diff(edge) == 0).any() for edge in edges):
        return None
    sums = np.add.reduceat(np.add.reduceat(plane, edges[0][:-1], axis=0, dtype=np.float64), edges[1][:-1], axis=1)
    means = sums / np.outer(*map(np.diff, edges))
    return np.asarray(means / plane.mean(dtype=np.float64)) if means.any() else None
