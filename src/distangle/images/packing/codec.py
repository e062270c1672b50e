"""Predict pixels from their neighbours: a coarse lattice first, then between.

A plane is taken apart three times into every second pixel of every second row, and the three quarters between
them. Each pixel between is the mean of its four nearest known neighbours and a small remainder. On microscopy the
remainders take a tenth less than what PNG's filters leave, and no pixel waits for the one beside it, so a processor
makes 64 at once.

Split bytes into halves, so that a code of whole bits wastes less.

Write and read zstd frames with a checksum; refuse frames that break it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import ConfigError, ImageError

DEPTH = 3
GRAIN = 1 << DEPTH  # sides are filled up to a multiple of this
MIDDLE = 0x88  # a remainder of zero: what is near it differs in four low bits only


def pad(side: int) -> int:
    """Return a length filled up to whole grains."""
    return -(-side // GRAIN) * GRAIN


def predict_residuals(planes: np.ndarray) -> np.ndarray:
    """Return the remainders of the pixels, in the order of `put_together`.

    Args:
        planes: uint8 or uint16 [channel, height, width].

    Returns:
        The same type [channel, number]; the number is that of the pixels with both sides `padded`.
    """
    _, height, width = planes.shape
    filled = np.pad(planes, ((0, 0), (0, pad(height) - height), (0, pad(width) - width)), mode="edge")
    parts = _taken_apart(filled.astype(np.int32), DEPTH)
    flat = np.concatenate([part.reshape(len(planes), -1) for part in parts], axis=1)
    return np.asarray((flat + MIDDLE).astype(planes.dtype))  # modulo its range


def reconstruct(flat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pixels that `remainders` were taken of.

    Args:
        flat: uint8 or uint16 [channel, number].
        height: Of a plane, filled up.
        width: Of a plane, filled up.

    Returns:
        The same type [channel, height, width].
    """
    return _put_together(flat - flat.dtype.type(MIDDLE), height, width, depth=DEPTH)


def _taken_apart(planes: np.ndarray, depth: int) -> list[np.ndarray]:
    if depth == 0:
        along = np.diff(planes, axis=2, prepend=0)
        return [np.diff(along, axis=1, prepend=0)]
    known = planes[:, ::2, ::2]
    middle, right, below = planes[:, 1::2, 1::2], planes[:, ::2, 1::2], planes[:, 1::2, ::2]
    between = [
        middle - _mean(known, _next(known, 2), _next(known, 1), _next(_next(known, 1), 2)),
        right - _mean(known, _next(known, 2), middle, _last(middle, 1)),
        below - _mean(known, _next(known, 1), middle, _last(middle, 2)),
    ]
    return _taken_apart(known, depth - 1) + between


def _put_together(flat: np.ndarray, height: int, width: int, *, depth: int) -> np.ndarray:
    n_channels = len(flat)
    if depth == 0:
        plain = flat.reshape(n_channels, height, width)
        along = np.add.accumulate(plain, axis=1, dtype=flat.dtype)
        return np.asarray(np.add.accumulate(along, axis=2, dtype=flat.dtype))
    shape = (n_channels, height // 2, width // 2)
    first, *others = np.split(flat, 4, axis=1)
    middle, right, below = (part.reshape(shape) for part in others)
    known = _put_together(first, *shape[1:], depth=depth - 1)
    middle = middle + _mean(known, _next(known, 2), _next(known, 1), _next(_next(known, 1), 2))
    planes = np.empty((n_channels, height, width), dtype=flat.dtype)
    planes[:, ::2, ::2], planes[:, 1::2, 1::2] = known, middle
    planes[:, ::2, 1::2] = right + _mean(known, _next(known, 2), middle, _last(middle, 1))
    planes[:, 1::2, ::2] = below + _mean(known, _next(known, 1), middle, _last(middle, 2))
    return planes


def _mean(*four: np.ndarray) -> np.ndarray:
    total = four[0].astype(np.int32)
    for one in four[1:]:
        total += one
    return np.asarray(((total + 2) >> 2).astype(four[0].dtype))


def _next(planes: np.ndarray, axis: int) -> np.ndarray:
    """Return the neighbour behind each pixel; of the last, itself."""
    n = planes.shape[axis]
    return np.asarray(planes.take(np.minimum(np.arange(1, n + 1), n - 1), axis=axis))


def _last(planes: np.ndarray, axis: int) -> np.ndarray:
    """Return the neighbour before each pixel; of the first, itself."""
    return np.asarray(planes.take(np.maximum(np.arange(planes.shape[axis]) - 1, 0), axis=axis))


_DEARER = 1.02  # halves may cost so much more: they are read faster


def split_nibbles(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split numbers into bytes, and bytes into halves where that is as small.

    Args:
        flat: uint8 or uint16 [channel, number], an even number of them.

    Returns:
        uint8 [byte, channel, number], the low byte first, and bool [byte, channel]: which are in halves. Of those the
        first part of a row has the low halves, of each two numbers that lie half a row apart; the rest the high ones.
    """
    parts = np.stack([((flat >> (8 * k)) & 255).astype(np.uint8) for k in range(flat.itemsize)])
    low, high = parts & 15, parts >> 4
    n = flat.shape[1] // 2
    halves = np.concatenate([low[..., :n] | low[..., n:] << 4, high[..., :n] | high[..., n:] << 4], axis=-1)
    halved = np.zeros(parts.shape[:2], dtype=bool)
    for place in np.ndindex(halved.shape):
        cost = _bytes_needed(halves[place][:n], least=0.0) + _bytes_needed(halves[place][n:], least=0.0)
        halved[place] = cost <= _DEARER * _bytes_needed(parts[place], least=1.0)
    return np.where(halved[..., None], halves, parts), halved


def join_nibbles(parts: np.ndarray, halved: np.ndarray) -> np.ndarray:
    """Return the numbers that were split, uint8 or uint16 [channel, number]."""
    n = parts.shape[-1] // 2
    low, high = parts[..., :n], parts[..., n:]
    whole = np.concatenate([(low & 15) | ((high & 15) << 4), (low >> 4) | (high & 240)], axis=-1)
    plain = np.where(halved[..., None], whole, parts)
    return np.asarray(plain[0] if len(plain) == 1 else plain[0] | (plain[1].astype(np.uint16) << 8))


def _bytes_needed(values: np.ndarray, *, least: float) -> float:
    """Return the bytes of a code of single bytes, with `least` bits each or more.

    zstd has whole bits and finds no gain.
    """
    shares = np.bincount(values, minlength=256) / max(values.size, 1)
    shares = shares[shares > 0]
    return float(max(-(shares * np.log2(shares)).sum(), least)) * values.size / 8


MAGIC = b"\x28\xb5\x2f\xfd"
LEVELS = (1, 22)
SHORTEST = 9  # an empty frame: magic, descriptor, size, one empty block


def compress(plain: bytes, *, level: int) -> bytes:
    """Return a frame that ends with the checksum of its content.

    Raises:
        ConfigError: No such level, or the package that knows zstd is not installed.
    """
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise ConfigError(f"zstd has no level {level}: expected {LEVELS[0]} (fast) to {LEVELS[1]} (small).")
    return bytes(_codec()(level=level, checksum=True).encode(plain))


def decompress(frame: bytes | memoryview, *, n_bytes: int, path: Path) -> np.ndarray:
    """Return the content of a frame, uint8 [byte].

    Args:
        frame: From `compressed`, or of any other program.
        n_bytes: That must come out; checked before anything is taken.
        path: Named in errors.

    Raises:
        ImageError: The frame is damaged, or holds another number of bytes.
        ConfigError: The package that knows zstd is not installed.
    """
    said = content_size(frame)
    if said != n_bytes:
        raise ImageError(f"{path} is damaged: its frame holds {said} bytes, expected {n_bytes}. Pack the screen again.")
    plain = np.empty(n_bytes, dtype=np.uint8)
    try:
        _codec()().decode(frame, plain)
    except (RuntimeError, ValueError) as error:
        raise ImageError(
            f"{path} is damaged ({error}). Pack the screen again: `distangle pack` makes only what is not whole."
        ) from error
    return plain


def content_size(frame: bytes | memoryview) -> int | None:
    """Return the content size of a frame; None if absent, or if it is no frame.

    Source: RFC 8878, 3.1.1.1
    """
    if bytes(frame[:4]) != MAGIC or len(frame) < SHORTEST:
        return None
    described = frame[4]
    single = described >> 5 & 1
    begins = 5 + (1 - single) + (0, 1, 2, 4)[described & 3]
    length = (single, 2, 4, 8)[described >> 6]
    size = int.from_bytes(frame[begins : begins + length], "little")
    return size + (256 if length == 2 else 0) if length else None


def _codec() -> Any:
    try:
        from numcodecs.zstd import Zstd
    except ImportError as error:
        raise ConfigError(
            "Packed images are compressed with zstd, which needs a package: pip install 'distangle[zarr]'."
        ) from error
    return Zstd
