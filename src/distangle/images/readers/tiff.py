"""Find raw TIFF pages that end in zeros, as a copy that stopped leaves them.

Only the last bytes of a page are read, and more where these are zero; nothing is decoded.

Read planes of TIFF files; refuse compressed data of another length.
"""

import contextlib
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import tifffile
from PIL import Image, ImageFile

from distangle.errors import ImageError, PixelTypeError
from distangle.images.readers.common import inflated_length
from distangle.images.readers.tiff_pages import read_page_layout
from distangle.screen.file_pages import ImageHeader

TAIL_BYTES = 4096  # zeros at the end of a page that no camera gives: a block of most file systems
BEFORE_BYTES = 1 << 16  # of the pixels before the zeros that are looked at
DARK = 0.5  # share of zeros among these from which the background itself is zero, and so may be the end
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_RAW = 1  # value of the tag Compression


def find_zeroed_rows(path: Path) -> dict[int, tuple[int, int]]:
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


_OFFSETS = (273, 324)  # tags StripOffsets and TileOffsets
_RAW_COMPRESSION, _ZLIB, _PACKBITS = 1, (8, 32946), 32773  # values of the tag Compression
_PHOTOMETRIC, _ORIENTATION = 262, 274  # tags
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE = 0, 1, 3  # values of the tag PhotometricInterpretation
_TRANSPOSED = 5  # of the eight orientations, the first whose rows are columns
_UNEVEN = 0.02  # of a palette's brightest, by which a shade may miss its place
_OF_PIXELS = frozenset({*range(256, 340), 347})  # tags from ImageWidth to SampleFormat, JPEGTables
_SLACK = 1024  # bytes after the packed pixels that do no harm


def tiff_header(path: Path, page: int = 0) -> tuple[str, tuple[int, int], int]:
    """Return pixel type and (height, width) of a page, and number of pages.

    Args:
        path: The file.
        page: Which one is described, from 0; the first where there is none such.

    Raises:
        PixelTypeError: It has no grey planes.
        ValueError: It is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            n_pages = len(opened.pages)
            chosen = opened.pages[page].aspage() if 0 < page < n_pages else opened.pages.first
            dtype, shape = _described(path, opened, chosen)
            return dtype, shape, n_pages
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a flipped bit makes its parser fail in any way
        raise ValueError(_said(error)) from error


def probe_tiff(path: Path) -> ImageHeader:
    """Return the header of the first page that is no thumbnail, and the pages.

    Raises:
        PixelTypeError: It has no grey planes, or several under one page.
        ValueError: It is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            stack = read_page_layout(opened, path)
            page = opened.pages.first if stack is None else opened.pages[stack.image_pages[0]].aspage()
            dtype, shape = _described(path, opened, page)
            return ImageHeader(dtype, shape, len(opened.pages), stack, _is_inverted(page))
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(_said(error)) from error


def read_tiff(path: Path, page: int, *, most: int) -> np.ndarray:
    """Return a plane [height, width], the right way up, its zero black.

    Args:
        path: The file.
        page: Which plane, from 0.
        most: Pixels of a plane that is believed; checked before any is decoded.

    Raises:
        PixelTypeError: It is not grey, or too large.
        ValueError: It is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            chosen = opened.pages[page].aspage()
            _, (height, width) = _described(path, opened, chosen)
            if height * width > most:
                raise PixelTypeError(
                    f"{path} page {page} claims {height} x {width} pixels; the limit is {most} per plane."
                )
            _check_segments(path, page, chosen)
            return _black_is_zero(_decoded(path, page, chosen), chosen)
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(_said(error)) from error


def _decoded(path: Path, number: int, page: tifffile.TiffPage) -> np.ndarray:
    """Return a plane upright, with its stored values, whatever its codec."""
    if page.bitspersample == 12:
        return _upright(_unpack(path, page), _orientation(page))
    try:
        return _upright(np.asarray(page.asarray()), _orientation(page))
    except ValueError as error:
        # Without the optional imagecodecs, tifffile lacks LZW and some others that Pillow knows.
        if "imagecodecs" not in str(error):
            raise
    with Image.open(path, formats=["TIFF"]) as opened:
        opened.seek(number)
        raw_mode = _raw_mode(opened)
        plane = np.asarray(opened)  # Pillow turns it upright, and inverts 8 bits where zero is white
    return np.subtract(255, plane, dtype=np.uint8) if raw_mode.endswith(";I") else plane


def _raw_mode(opened: ImageFile.ImageFile) -> str:
    """Return the raw mode of an image that Pillow has not decoded; `L;I` inverts."""
    tile = opened.tile[0] if opened.tile else None
    return str(tile.args[0] if tile is not None and isinstance(tile.args, tuple) else tile and tile.args)


def _described(path: Path, opened: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[str, tuple[int, int]]:
    """Return pixel type and (height, width) of a page, after all checks."""
    _check_tags(opened, page)
    shape, dtype = _grey(path, page), str(page.dtype)
    bits = int(page.bitspersample)
    if dtype in ("uint8", "uint16") and (
        bits not in (8, 12, 16) or (bits == 12 and page.compression != _RAW_COMPRESSION)
    ):
        packed = f" with compression {int(page.compression)}" if bits == 12 else ""
        raise PixelTypeError(f"{path} holds {bits}-bit samples{packed}; expected 8 or 16 bit, or 12 bit uncompressed.")
    _check_meaning(path, page)
    return dtype, shape if _orientation(page) < _TRANSPOSED else shape[::-1]


def _check_meaning(path: Path, page: tifffile.TiffPage) -> None:
    """Check that pixels are intensities, not indices into a palette."""
    said = int(page.photometric)
    if said in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or _PHOTOMETRIC not in page.tags:
        return
    if said == _PALETTE and page.colormap is not None and _is_ramp(np.asarray(page.colormap)):
        return
    kind = "a palette whose colours are no shades of one" if said == _PALETTE else f"PhotometricInterpretation {said}"
    raise PixelTypeError(f"{path} has {kind}: its numbers are no intensities. Expected grey planes.")


def _is_ramp(colours: np.ndarray) -> bool:
    """Return whether colours [red green blue, index] rise evenly from black.

    Then the index is the intensity.
    """
    ramp = np.linspace(0, 1, colours.shape[1])
    most = colours.max(axis=1, initial=0).astype(float)
    shades = colours[most > 0] / most[most > 0, None]
    return bool(len(shades)) and bool((np.abs(shades - ramp) < _UNEVEN).all())


def _is_inverted(page: tifffile.TiffPage) -> bool:
    # Without the tag, as in libtiff, black is zero; tifffile and Pillow take it for white.
    return _PHOTOMETRIC in page.tags and int(page.photometric) == _WHITE_IS_ZERO


def _black_is_zero(plane: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    return (1 << int(page.bitspersample)) - 1 - plane if _is_inverted(page) else plane


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _upright(plane: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a plane the way its file says.

    Source: TIFF 6.0, Orientation: where the first row and the first column are seen
    """
    if orientation >= _TRANSPOSED:
        plane = plane.T
    if orientation in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    if orientation in (3, 4, 7, 8):
        plane = plane[::-1]
    return plane


def _grey(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> tuple[int, int]:
    if len(page.shape) != 2:
        raise PixelTypeError(f"{path} has pages of shape {page.shape}; expected grey planes (height, width).")
    return int(page.shape[0]), int(page.shape[1])


def _check_tags(opened: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Check that every tag on the storage of pixels was understood.

    The parser leaves out what it cannot read.
    Without its predictor a compressed plane would come out whole, and wrong; so the order of its tags is looked at too.
    """
    form, file = opened.tiff, opened.filehandle
    file.seek(page.offset)
    (n_tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    listed = file.read(n_tags * form.tagsize)
    codes = [struct.unpack_from(f"{form.byteorder}H", listed, k * form.tagsize)[0] for k in range(n_tags)]
    lost = sorted(code for code in {*codes} - {tag.code for tag in page.tags} if code in _OF_PIXELS)
    if lost:
        raise ValueError(f"its tag{'s' * (len(lost) > 1)} {', '.join(map(str, lost))} cannot be read")
    if page.compression in _ZLIB and codes != sorted(codes):
        raise ValueError(f"its tags {', '.join(map(str, codes))} are not in order")


def _check_segments(path: Path, number: int, page: tifffile.TiffPage) -> None:
    """Check that all strips or tiles of a page exist and have the right lengths.

    Decoders fill what is missing with zeros and leave out what is too much. The checksum of zlib is looked at here.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    size = path.stat().st_size
    end = max((o + n for o, n in zip(offsets, counts, strict=True)), default=0)
    if end > size or 0 in counts or not len(counts):
        raise ValueError(f"{size} bytes, but its page {number} needs {max(end, size + 1)}")
    expected = _segment_bytes(page)
    # The list of offsets is cut to what the size asks for; the tag says how many there are.
    there = {len(counts), *(page.tags[code].count for code in _OFFSETS if code in page.tags)}
    if there != {len(expected)}:
        raise ValueError(f"page {number} has {max(there)} strips or tiles; its size asks for {len(expected)}")
    if page.compression == _RAW_COMPRESSION and list(counts) != expected and sum(counts) != sum(expected):
        raise ValueError(f"page {number} has {sum(counts)} bytes of pixels; its size asks for {sum(expected)}")
    # What packs worst is PackBits, two bytes for one: a longer strip is no plane of this size, but may hold gigabytes.
    if any(count > 2 * n_bytes + _SLACK for count, n_bytes in zip(counts, expected, strict=True)):
        raise ValueError(f"page {number} has {sum(counts)} bytes of packed pixels for a plane of {sum(expected)}")
    check = _check_inflated if page.compression in _ZLIB else _check_packbits if page.compression == _PACKBITS else None
    if check is not None:
        with path.open("rb") as opened:
            for offset, count, n_bytes in zip(offsets, counts, expected, strict=True):
                opened.seek(offset)
                check(opened.read(count), n_bytes, number)


def _segment_bytes(page: tifffile.TiffPage) -> list[int]:
    """Return how many bytes each strip or tile of a grey page holds, once decoded."""
    height, width = page.shape
    bits = int(page.bitspersample)
    if page.is_tiled:
        row = -(-page.tilewidth * bits // 8)
        n = math.ceil(height / page.tilelength) * math.ceil(width / page.tilewidth)
        return [row * page.tilelength] * n
    rows = min(int(page.rowsperstrip) or height, height)
    row = -(-width * bits // 8)
    return [row * min(rows, height - top) for top in range(0, height, rows)]


def _check_inflated(packed: bytes, n_bytes: int, number: int) -> None:
    if inflated_length(packed, n_bytes) != (n_bytes, True):
        raise ValueError(f"a strip of page {number} does not hold {n_bytes} bytes")


def _check_packbits(packed: bytes, n_bytes: int, number: int) -> None:
    place, n = 0, 0
    while n < n_bytes and place < len(packed):
        run = packed[place]
        if run < 128:  # so many bytes and one more as they are
            n, place = n + run + 1, place + run + 2
        elif run > 128:  # one byte so many times
            n, place = n + 257 - run, place + 2
        else:
            place += 1
    if n != n_bytes or not 0 <= len(packed) - place <= _SLACK:
        raise ValueError(f"a strip of page {number} does not hold {n_bytes} bytes")


def _unpack(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Unpack 12-bit samples: two in three bytes, rows padded to whole bytes."""
    height, width = page.shape
    row_bytes = (width * 12 + 7) // 8
    packed = np.frombuffer(_joined(path, page.dataoffsets, page.databytecounts), dtype=np.uint8)
    packed = packed[: height * row_bytes].reshape(height, row_bytes)
    padded = np.zeros((height, -(-width // 2) * 3), dtype=np.uint16)
    padded[:, :row_bytes] = packed
    first, middle, last = padded[:, 0::3], padded[:, 1::3], padded[:, 2::3]
    plane = np.empty((height, first.shape[1] * 2), dtype=np.uint16)
    plane[:, 0::2] = (first << 4) | (middle >> 4)
    plane[:, 1::2] = ((middle & 15) << 8) | last
    return plane[:, :width]


def _joined(path: Path, offsets: Sequence[int], counts: Sequence[int]) -> bytes:
    parts = []
    with path.open("rb") as opened:
        for offset, count in zip(offsets, counts, strict=True):
            opened.seek(offset)
            parts.append(opened.read(count))
    return b"".join(parts)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
