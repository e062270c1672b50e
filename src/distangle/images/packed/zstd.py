"""Write and read zstd frames with a checksum; refuse frames that break it."""

from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import ConfigError, ImageError

MAGIC = b"\x28\xb5\x2f\xfd"
LEVELS = (1, 22)
SHORTEST = 9  # an empty frame: magic, descriptor, size, one empty block


def compressed(plain: bytes, *, level: int) -> bytes:
    """Return a frame that ends with the checksum of its content.

    Raises:
        ConfigError: No such level, or the package that knows zstd is not installed.
    """
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise ConfigError(f"zstd has no level {level}: expected {LEVELS[0]} (fast) to {LEVELS[1]} (small).")
    return bytes(_codec()(level=level, checksum=True).encode(plain))


def decompressed(frame: bytes | memoryview, *, n_bytes: int, path: Path) -> np.ndarray:
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
