"""Compress pixels losslessly: prediction residuals, split into nibbles, as zstd.

A plane is split three times into every second pixel of every second row, and the three quarters of pixels between
them. Each pixel between is stored as its residual from the mean of its four nearest known neighbors. On microscopy
images these residuals take a tenth less space than PNG filters, and no pixel depends on the one beside it, so a CPU
decodes 64 at once.
"""

from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import ConfigError, ImageError

DEPTH = 3
BLOCK = 1 << DEPTH  # planes are padded to sides that are multiples of this
ZERO_RESIDUAL = 0x88  # small residuals about this value differ in their four low bits only
MAGIC = b"\x28\xb5\x2f\xfd"
LEVELS = (1, 22)
MIN_FRAME = 9  # an empty frame: magic, descriptor, size, one empty block
_SPLIT_TOLERANCE = 1.02  # split bytes may be this much larger, because they decode faster


def pad(side: int) -> int:
    """Return a length rounded up to a multiple of `BLOCK`."""
    return -(-side // BLOCK) * BLOCK


def predict_residuals(planes: np.ndarray) -> np.ndarray:
    """Return the residuals of the pixels, in the order that `reconstruct` reads.

    Args:
        planes: uint8 or uint16 [channel, height, width].

    Returns:
        The same type [channel, number]; the number is that of the pixels with both sides padded by `pad`.
    """
    _, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, pad(height) - height), (0, pad(width) - width)), mode="edge")
    levels = _decompose(padded.astype(np.int32), DEPTH)
    flat = np.concatenate([part.reshape(len(planes), -1) for part in levels], axis=1)
    return np.asarray((flat + ZERO_RESIDUAL).astype(planes.dtype))  # wraps modulo the range of the type


def reconstruct(flat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pixels of residuals from `predict_residuals`.

    Args:
        flat: uint8 or uint16 [channel, number].
        height: Padded height of a plane.
        width: Padded width of a plane.

    Returns:
        The same type [channel, height, width].
    """
    return _recompose(flat - flat.dtype.type(ZERO_RESIDUAL), height, width, depth=DEPTH)


def split_nibbles(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split numbers into bytes, and bytes into nibbles where that is as small.

    Args:
        flat: uint8 or uint16 [channel, number], an even number of them.

    Returns:
        uint8 [byte, channel, number], the low byte first, and bool [byte, channel]: which rows are nibbles. The first
        half of such a row holds the low nibbles, each byte those of two numbers half a row apart; the second half the
        high ones.
    """
    parts = np.stack([((flat >> (8 * k)) & 255).astype(np.uint8) for k in range(flat.itemsize)])
    low, high = parts & 15, parts >> 4
    n = flat.shape[1] // 2
    halves = np.concatenate([low[..., :n] | low[..., n:] << 4, high[..., :n] | high[..., n:] << 4], axis=-1)
    is_split = np.zeros(parts.shape[:2], dtype=bool)
    for index in np.ndindex(is_split.shape):
        cost = _bytes_needed(halves[index][:n], min_bits=0.0) + _bytes_needed(halves[index][n:], min_bits=0.0)
        is_split[index] = cost <= _SPLIT_TOLERANCE * _bytes_needed(parts[index], min_bits=1.0)
    return np.where(is_split[..., None], halves, parts), is_split


def join_nibbles(parts: np.ndarray, is_split: np.ndarray) -> np.ndarray:
    """Return the numbers from `split_nibbles`, uint8 or uint16 [channel, number]."""
    n = parts.shape[-1] // 2
    low, high = parts[..., :n], parts[..., n:]
    joined = np.concatenate([(low & 15) | ((high & 15) << 4), (low >> 4) | (high & 240)], axis=-1)
    values = np.where(is_split[..., None], joined, parts)
    return np.asarray(values[0] if len(values) == 1 else values[0] | (values[1].astype(np.uint16) << 8))


def compress(content: bytes, *, level: int) -> bytes:
    """Return a zstd frame that ends with the checksum of its content.

    Raises:
        ConfigError: The level is invalid, or the zstd package is not installed.
    """
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise ConfigError(f"zstd has no level {level}: expected {LEVELS[0]} (fast) to {LEVELS[1]} (small).")
    return bytes(_codec()(level=level, checksum=True).encode(content))


def decompress(frame: bytes | memoryview, *, n_bytes: int, path: Path) -> np.ndarray:
    """Return the content of a zstd frame, uint8 [byte].

    Args:
        frame: From `compress`, or from any other program.
        n_bytes: Expected length of the content; checked before memory is allocated.
        path: Name of the file, for error messages.

    Raises:
        ImageError: The frame is damaged, or its content has another length.
        ConfigError: The zstd package is not installed.
    """
    size = content_size(frame)
    if size != n_bytes:
        raise ImageError(f"{path} is damaged: its frame holds {size} bytes, expected {n_bytes}. Pack the screen again.")
    content = np.empty(n_bytes, dtype=np.uint8)
    try:
        _codec()().decode(frame, content)
    except (RuntimeError, ValueError) as error:
        raise ImageError(
            f"{path} is damaged ({error}). Pack the screen again: `distangle pack` writes only missing or damaged "
            "images."
        ) from error
    return content


def content_size(frame: bytes | memoryview) -> int | None:
    """Return the content size of a frame; None if absent, or if it is not a frame.

    Source: RFC 8878, 3.1.1.1
    """
    if bytes(frame[:4]) != MAGIC or len(frame) < MIN_FRAME:
        return None
    descriptor = frame[4]
    is_single = descriptor >> 5 & 1
    start = 5 + (1 - is_single) + (0, 1, 2, 4)[descriptor & 3]
    length = (is_single, 2, 4, 8)[descriptor >> 6]
    size = int.from_bytes(frame[start : start + length], "little")
    return size + (256 if length == 2 else 0) if length else None


def _decompose(planes: np.ndarray, depth: int) -> list[np.ndarray]:
    if depth == 0:
        differences = np.diff(planes, axis=2, prepend=0)
        return [np.diff(differences, axis=1, prepend=0)]
    coarse = planes[:, ::2, ::2]
    middle, right, lower = planes[:, 1::2, 1::2], planes[:, ::2, 1::2], planes[:, 1::2, ::2]
    residuals = [
        middle - _mean_of_corners(coarse),
        right - _mean(coarse, _next_neighbor(coarse, 2), middle, _previous_neighbor(middle, 1)),
        lower - _mean(coarse, _next_neighbor(coarse, 1), middle, _previous_neighbor(middle, 2)),
    ]
    return _decompose(coarse, depth - 1) + residuals


def _recompose(flat: np.ndarray, height: int, width: int, *, depth: int) -> np.ndarray:
    n_channels = len(flat)
    if depth == 0:
        differences = flat.reshape(n_channels, height, width)
        column_sums = np.add.accumulate(differences, axis=1, dtype=flat.dtype)
        return np.asarray(np.add.accumulate(column_sums, axis=2, dtype=flat.dtype))
    shape = (n_channels, height // 2, width // 2)
    coarse_flat, *residuals = np.split(flat, 4, axis=1)
    middle, right, lower = (part.reshape(shape) for part in residuals)
    coarse = _recompose(coarse_flat, *shape[1:], depth=depth - 1)
    middle = middle + _mean_of_corners(coarse)
    planes = np.empty((n_channels, height, width), dtype=flat.dtype)
    planes[:, ::2, ::2], planes[:, 1::2, 1::2] = coarse, middle
    planes[:, ::2, 1::2] = right + _mean(coarse, _next_neighbor(coarse, 2), middle, _previous_neighbor(middle, 1))
    planes[:, 1::2, ::2] = lower + _mean(coarse, _next_neighbor(coarse, 1), middle, _previous_neighbor(middle, 2))
    return planes


def _mean(*neighbors: np.ndarray) -> np.ndarray:
    total = neighbors[0].astype(np.int32)
    for values in neighbors[1:]:
        total += values
    return np.asarray(((total + 2) >> 2).astype(neighbors[0].dtype))


def _mean_of_corners(coarse: np.ndarray) -> np.ndarray:
    below = _next_neighbor(coarse, 1)
    return _mean(coarse, _next_neighbor(coarse, 2), below, _next_neighbor(below, 2))


def _next_neighbor(planes: np.ndarray, axis: int) -> np.ndarray:
    """Return the next neighbor of each pixel; the last pixel is its own."""
    n = planes.shape[axis]
    return np.asarray(planes.take(np.minimum(np.arange(1, n + 1), n - 1), axis=axis))


def _previous_neighbor(planes: np.ndarray, axis: int) -> np.ndarray:
    """Return the previous neighbor of each pixel; the first pixel is its own."""
    return np.asarray(planes.take(np.maximum(np.arange(planes.shape[axis]) - 1, 0), axis=axis))


def _bytes_needed(values: np.ndarray, *, min_bits: float) -> float:
    """Return the bytes of an entropy code with at least `min_bits` bits per value.

    zstd codes single bytes with whole bits.
    """
    shares = np.bincount(values, minlength=256) / max(values.size, 1)
    shares = shares[shares > 0]
    return float(max(-(shares * np.log2(shares)).sum(), min_bits)) * values.size / 8


def _codec() -> Any:
    try:
        from numcodecs.zstd import Zstd
    except ImportError as error:
        raise ConfigError(
            "Packed images are compressed with zstd, which needs a package: pip install '.[zarr]'."
        ) from error
    return Zstd
