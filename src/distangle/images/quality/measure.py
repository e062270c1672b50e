"""Measure intensity, clipping, damage and sharpness of a plane, exactly.

The planes of one site: read, measured, or the reason why not.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distangle.errors import ImageError

CLIPPED_BITS = (8, 10, 12, 14, 15, 16)  # a camera of n bits clips at 2^n - 1
FEWEST_CLIPPED = 5  # pixels at the largest value before it counts as clipped there


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaneMeasurement:
    """What is measured of a plane; intensities are in units of a pixel as stored.

    Attributes:
        mean: Over all pixels.
        std: Standard deviation over all pixels.
        min: Smallest value.
        p1: 1st percentile.
        median: Median.
        p99_9: 99.9th percentile.
        max: Largest value.
        clipped: Share of pixels at `max` where that is what a camera of so many bits clips at; else 0.
        value_step: Greatest common divisor of the differences of the values: 257 for 8 bits stretched to 16; 0 if
            constant.
        longest_constant_run: Longest run of pixels of one value, in the order of the rows.
        longest_constant_run_start: First pixel of that run, counted from 0.
        tail_rows: Rows at the end that all hold one and the same value.
        sharpness: Share of the variance that a smoothing by 3 x 3 takes away, of the image binned 2 x 2.
        digest: Hash of the pixels, whatever file they came in.
    """

    mean: float
    std: float
    min: int
    p1: int
    median: int
    p99_9: int
    max: int
    clipped: float
    value_step: int
    longest_constant_run: int
    longest_constant_run_start: int
    tail_rows: int
    sharpness: float
    digest: str


def measure_plane(plane: np.ndarray) -> PlaneMeasurement:
    """Measure one plane.

    Args:
        plane: uint8 or uint16 [height, width].
    """
    counts = _histogram(plane)
    values = np.flatnonzero(counts)
    held = counts[values]
    n = plane.size
    mean = float(values @ held) / n
    # Whole numbers until the last division: nothing cancels.
    spread = math.sqrt(max(0, n * int((values**2) @ held) - int(values @ held) ** 2)) / n
    below = np.cumsum(held)
    low, middle, high = (int(values[np.searchsorted(below, share * n)]) for share in (0.01, 0.5, 0.999))
    most = int(values[-1])
    is_limit = most + 1 in {1 << bits for bits in CLIPPED_BITS} and held[-1] >= FEWEST_CLIPPED and len(values) > 1
    run, run_at = _longest_run(plane)
    return PlaneMeasurement(
        mean=mean,
        std=spread,
        min=int(values[0]),
        p1=low,
        median=middle,
        p99_9=high,
        max=most,
        clipped=float(held[-1]) / n if is_limit else 0.0,
        value_step=int(np.gcd.reduce(np.diff(values))) if len(values) > 1 else 0,
        longest_constant_run=run,
        longest_constant_run_start=run_at,
        tail_rows=_tail_rows(plane),
        sharpness=sharpness(plane),
        digest=hashlib.blake2b(np.ascontiguousarray(plane).data, digest_size=12).hexdigest(),
    )


def sharpness(plane: np.ndarray) -> float:
    """Return the share of variance that smoothing by 3 x 3 pixels removes, in [0, 1].

    The image is binned 2 x 2 first, which halves the noise of single pixels: an image out of focus has no fine
    structure left, while its noise stays.

    Args:
        plane: [height, width]; one that is constant, or smaller than 6 x 6, gives 0.
    """
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    if min(height, width) < 6:
        return 0.0
    cut = plane[:height, :width].astype(np.float32)
    binned = cut[0::2, 0::2] + cut[0::2, 1::2] + cut[1::2, 0::2] + cut[1::2, 1::2]
    rows = binned[:-2] + binned[1:-1] + binned[2:]
    smooth = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    inside = binned[1:-1, 1:-1]
    variance = float(inside.var(dtype=np.float64))
    return float((inside - smooth).var(dtype=np.float64)) / variance if variance > 0 else 0.0


def _histogram(plane: np.ndarray) -> np.ndarray:
    if plane.dtype == np.uint8:  # four times as fast as bincount, which makes 64-bit indices first
        return np.array(Image.fromarray(plane).histogram(), dtype=np.int64)
    return np.bincount(plane.ravel())


def _longest_run(plane: np.ndarray) -> tuple[int, int]:
    flat = plane.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    longest = int(lengths.argmax())
    return int(lengths[longest]), int(starts[longest])


def _tail_rows(plane: np.ndarray) -> int:
    last = plane[-1, -1]
    varied = np.flatnonzero((plane != last).any(axis=1))
    return int(len(plane) - 1 - varied[-1]) if len(varied) else len(plane)


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


def to_json(plane: PlaneRead) -> dict[str, Any]:
    """Return a plane ready for JSON; `unpacked` restores it to the last bit."""
    profile = plane.profile
    numbers = None if profile is None else base64.b64encode(profile.astype("<f8").tobytes()).decode("ascii")
    return {
        "measures": plane.measures,
        "profile": numbers,
        "shape": None if profile is None else profile.shape,
        "reason": plane.reason,
    }


def from_json(said: dict[str, Any]) -> PlaneRead:
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
