"""Find raw TIFF pages that end in zeros, as a copy that stopped leaves them.

Only the last bytes of a page are read, and more where these are zero; nothing is decoded.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import tifffile

TAIL_BYTES = 4096  # zeros at the end of a page that no camera gives: a block of most file systems
BEFORE_BYTES = 1 << 16  # of the pixels before the zeros that are looked at
DARK = 0.5  # share of zeros among these from which the background itself is zero, and so may be the end
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_RAW = 1  # value of the tag Compression


def zeroed_tails(path: Path) -> dict[int, tuple[int, int]]:
    """Return the pages of an uncompressed TIFF file that end in zeros.

    The image before the zeros does not.
    A tail is at least 4096 bytes and one whole row of zeros. A page that is black throughout has none, nor one whose
    background is zero just before: there the end may well be so.

    Args:
        path: Any file; only strips of uncompressed TIFF are looked at, other formats and tiles are not.

    Returns:
        By page: the first and the last of the rows that hold only zeros, counted from 1.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as opened:
        if opened.read(4) not in _TIFF:
            return {}
        opened.seek(0)
        found: dict[int, tuple[int, int]] = {}
        # What its parser cannot read, the header's check or the decoder refuses by name.
        with contextlib.suppress(tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, OverflowError):
            with tifffile.TiffFile(opened) as read:
                for number, page in enumerate(read.pages):
                    rows = _zeroed_rows(opened, page.aspage())
                    if rows is not None:
                        found[number] = rows
    return found


def _zeroed_rows(opened: IO[bytes], page: tifffile.TiffPage) -> tuple[int, int] | None:
    if page.compression != _RAW or page.is_tiled or len(page.shape) != 2:
        return None
    height, width = (int(n) for n in page.shape)
    row_bytes = -(-width * int(page.bitspersample) // 8)
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    size = os.fstat(opened.fileno()).st_size
    if not row_bytes or sum(n for _, n in strips) != height * row_bytes or any(at + n > size for at, n in strips):
        return None
    n_zeros = _zeros_at_the_end(opened, strips)
    n_rows = n_zeros // row_bytes
    if n_zeros < TAIL_BYTES or not n_rows or n_zeros == height * row_bytes:
        return None
    end = height * row_bytes - n_zeros
    before = _bytes(opened, strips, max(0, end - BEFORE_BYTES), end)
    # A sample begins where the zeros may not: the count is of whole ones.
    wide = 2 if page.bitspersample == 16 else 1
    samples = np.frombuffer(before[len(before) % wide :], dtype=f"u{wide}")
    if len(samples) and float(np.mean(samples == 0)) > DARK:
        return None
    return height - n_rows + 1, height


def _zeros_at_the_end(opened: IO[bytes], strips: Sequence[tuple[int, int]]) -> int:
    """Return how many of the last bytes of a page are zero."""
    zeros, part = 0, TAIL_BYTES
    for at, n in reversed(strips):
        left = n
        while left:
            step = min(part, left)
            opened.seek(at + left - step)
            read = opened.read(step)
            n_ending = step - len(read.rstrip(b"\0"))
            zeros += n_ending
            if n_ending < step:
                return zeros
            left -= step
            part = 1 << 20
    return zeros


def _bytes(opened: IO[bytes], strips: Sequence[tuple[int, int]], start: int, end: int) -> bytes:
    """Return some bytes of a page, counted as if its strips were one."""
    parts, first = [], 0
    for at, n in strips:
        lower, upper = max(start, first), min(end, first + n)
        if lower < upper:
            opened.seek(at + lower - first)
            parts.append(opened.read(upper - lower))
        first += n
    return b"".join(parts)
