"""Measure intensity, clipping, damage and sharpness of the planes of a site."""

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
MIN_CLIPPED_PIXELS = 5  # pixels at the maximum that count as clipping
Read = Callable[[Sequence[Path], Sequence[int | None]], np.ndarray]
"""Function that reads the channels of an image from files and pages, like `read_image`. Raises ImageError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaneMeasurement:
    """Measurements of a plane; intensities are in pixel units as stored.

    Attributes:
        mean: Mean over all pixels.
        spread: Standard deviation over all pixels.
        least: Minimum.
        low: 1st percentile.
        middle: Median.
        high: 99.9th percentile.
        most: Maximum.
        clipped: Share of pixels at the maximum if a camera of some bit depth clips there; else 0.
        step: Greatest common divisor of the differences of values: 257 for 8 bits stretched to 16; 0 if constant.
        run: Longest run of equal pixels, in row order.
        run_at: First pixel of that run, counted from 0.
        tail_rows: Rows at the end with one constant value.
        sharpness: Share of the variance that 3 x 3 smoothing removes from the image binned 2 x 2.
        digest: Hash of the pixels, independent of the file format.
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


@dataclass(frozen=True, kw_only=True)
class PlaneRead:
    """Measurements of a plane, or the reason why it cannot be read.

    Attributes:
        measures: The fields of `PlaneMeasurement` by name; empty for an unreadable plane.
        profile: Mean of each part of the plane over its total mean; None for a black plane.
        reason: Why it cannot be read; "" if it can.
    """

    measures: dict[str, object]
    profile: np.ndarray | None = None
    reason: str = ""


def measure_plane(plane: np.ndarray) -> PlaneMeasurement:
    """Measure one plane.

    Args:
        plane: uint8 or uint16 [height, width].
    """
    counts = _histogram(plane)
    values = np.flatnonzero(counts)
    value_counts = counts[values]
    n = plane.size
    mean = float(values @ value_counts) / n
    # Integers until the last division avoid cancellation.
    spread = math.sqrt(max(0, n * int((values**2) @ value_counts) - int(values @ value_counts) ** 2)) / n
    cumulative = np.cumsum(value_counts)
    low, middle, high = (int(values[np.searchsorted(cumulative, share * n)]) for share in (0.01, 0.5, 0.999))
    most = int(values[-1])
    is_limit = (
        most + 1 in {1 << bits for bits in CLIPPED_BITS} and value_counts[-1] >= MIN_CLIPPED_PIXELS and len(values) > 1
    )
    run, run_at = _longest_run(plane)
    return PlaneMeasurement(
        mean=mean,
        std=spread,
        min=int(values[0]),
        p1=low,
        median=middle,
        p99_9=high,
        max=most,
        clipped=float(value_counts[-1]) / n if is_limit else 0.0,
        value_step=int(np.gcd.reduce(np.diff(values))) if len(values) > 1 else 0,
        longest_constant_run=run,
        longest_constant_run_start=run_at,
        tail_rows=_tail_rows(plane),
        sharpness=sharpness(plane),
        digest=hashlib.blake2b(np.ascontiguousarray(plane).data, digest_size=12).hexdigest(),
    )


def sharpness(plane: np.ndarray) -> float:
    """Return the share of variance that smoothing by 3 x 3 pixels removes, in [0, 1].

    The image is binned 2 x 2 first, which halves pixel noise: an image out of focus has no fine structure left, while
    its noise stays.

    Args:
        plane: [height, width]; a plane that is constant, or smaller than 6 x 6, gives 0.
    """
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    if min(height, width) < 6:
        return 0.0
    cut = plane[:height, :width].astype(np.float32)
    binned = cut[0::2, 0::2] + cut[0::2, 1::2] + cut[1::2, 0::2] + cut[1::2, 1::2]
    rows = binned[:-2] + binned[1:-1] + binned[2:]
    smooth = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    interior = binned[1:-1, 1:-1]
    variance = float(interior.var(dtype=np.float64))
    return float((interior - smooth).var(dtype=np.float64)) / variance if variance > 0 else 0.0


def measure_site(
    read: Read, paths: Sequence[Path], pages: Sequence[int | None], *, grid: tuple[int, int]
) -> list[PlaneRead]:
    """Read and measure every plane of a site, even if others cannot be read.

    Args:
        read: Reads the image.
        paths: One file per channel.
        pages: One per channel; None for a file of a single plane.
        grid: Rows and columns of the profiles.
    """
    try:
        planes: list[np.ndarray | ImageError] = list(read(paths, pages))
    except ImageError:
        planes = [_read_plane(read, path, page) for path, page in zip(paths, pages, strict=True)]
    return [
        PlaneRead(measures={}, reason=str(plane))
        if isinstance(plane, ImageError)
        else PlaneRead(measures=asdict(measure_plane(plane)), profile=_profile(plane, grid))
        for plane in planes
    ]


def to_json(plane: PlaneRead) -> dict[str, Any]:
    """Return a plane ready for JSON; `from_json` restores it exactly."""
    profile = plane.profile
    encoded = None if profile is None else base64.b64encode(profile.astype("<f8").tobytes()).decode("ascii")
    return {
        "measures": plane.measures,
        "profile": encoded,
        "shape": None if profile is None else profile.shape,
        "reason": plane.reason,
    }


def from_json(content: dict[str, Any]) -> PlaneRead:
    """Return the plane of a result of `to_json`."""
    profile = None
    if content["profile"] is not None:
        profile = np.frombuffer(base64.b64decode(content["profile"]), dtype="<f8").reshape(content["shape"])
    return PlaneRead(measures=content["measures"], profile=profile, reason=content["reason"])


def _histogram(plane: np.ndarray) -> np.ndarray:
    if plane.dtype == np.uint8:  # four times as fast as bincount, which first makes 64-bit indices
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
    varied_rows = np.flatnonzero((plane != last).any(axis=1))
    return int(len(plane) - 1 - varied_rows[-1]) if len(varied_rows) else len(plane)


def _read_plane(read: Read, path: Path, page: int | None) -> np.ndarray | ImageError:
    try:
        return np.asarray(read([path], [page])[0])
    except ImageError as error:
        return error


def _profile(plane: np.ndarray, grid: tuple[int, int]) -> np.ndarray | None:
    # Parts of a side differ by one pixel if it is not a multiple of their number.
    edges = [np.arange(parts + 1) * side // parts for side, parts in zip(plane.shape, grid, strict=True)]
    if any((np.diff(edge) == 0).any() for edge in edges):
        return None
    sums = np.add.reduceat(np.add.reduceat(plane, edges[0][:-1], axis=0, dtype=np.float64), edges[1][:-1], axis=1)
    means = sums / np.outer(*map(np.diff, edges))
    return np.asarray(means / plane.mean(dtype=np.float64)) if means.any() else None
