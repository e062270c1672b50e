"""Planes of TIFF files: what is compressed must come out at just its length, or nothing comes out."""

import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from distangle.errors import ImageError, PixelTypeError

_OFFSETS = (273, 324)  # tags StripOffsets and TileOffsets
_RAW, _ZLIB, _PACKBITS = 1, (8, 32946), 32773  # values of the tag Compression
_OF_PIXELS = frozenset({*range(256, 340), 347})  # tags from ImageWidth to SampleFormat, JPEGTables
_SLACK = 1024  # bytes after the packed pixels that do no harm


def tiff_header(path: Path) -> tuple[str, tuple[int, int], int]:
    """Return pixel type, (height, width) of the first page, and number of pages.

    Raises:
        PixelTypeError: It has no grey planes.
        ValueError: It is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            page = opened.pages.first
            _check_tags(opened, page)
            return str(page.dtype), _grey(path, page), len(opened.pages)
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a flipped bit makes its parser fail in any way
        raise ValueError(_said(error)) from error


def read_tiff(path: Path, page: int, *, most: int) -> np.ndarray:
    """Return a plane [height, width].

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
            _check_tags(opened, chosen)
            height, width = _grey(path, chosen)
            if height * width > most:
                message = f"{path} page {page} claims {height} x {width} pixels; the limit is {most} per plane."
                raise PixelTypeError(message)
            _check_segments(path, page, chosen)
            if chosen.bitspersample not in (8, 16):
                return _unpack(path, chosen)
            try:
                return np.asarray(chosen.asarray())
            except ValueError as error:
                # Without the optional imagecodecs, tifffile lacks LZW and some others that Pillow knows.
                if "imagecodecs" not in str(error):
                    raise
        with Image.open(path, formats=["TIFF"]) as opened_image:
            opened_image.seek(page)
            return np.asarray(opened_image)
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(_said(error)) from error


def _grey(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> tuple[int, int]:
    if len(page.shape) != 2:
        message = f"{path} has pages of shape {page.shape}; expected grey planes (height, width)."
        raise PixelTypeError(message)
    return int(page.shape[0]), int(page.shape[1])


def _check_tags(opened: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Check that every tag that says how pixels are stored was understood: the parser leaves out what it cannot read.

    Without its predictor a compressed plane would come out whole, and wrong; so the order of its tags is looked at too.
    """
    form, file = opened.tiff, opened.filehandle
    file.seek(page.offset)
    (n_tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    listed = file.read(n_tags * form.tagsize)
    codes = [struct.unpack_from(f"{form.byteorder}H", listed, k * form.tagsize)[0] for k in range(n_tags)]
    lost = sorted(code for code in {*codes} - {tag.code for tag in page.tags} if code in _OF_PIXELS)
    if lost:
        message = f"its tag{'s' * (len(lost) > 1)} {', '.join(map(str, lost))} cannot be read"
        raise ValueError(message)
    if page.compression in _ZLIB and codes != sorted(codes):
        message = f"its tags {', '.join(map(str, codes))} are not in order"
        raise ValueError(message)


def _check_segments(path: Path, number: int, page: tifffile.TiffPage) -> None:
    """Check that the strips or tiles of a page are all there, and of the lengths that its size asks for.

    Decoders fill what is missing with zeros and leave out what is too much. The checksum of zlib is looked at here.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    size = path.stat().st_size
    end = max((o + n for o, n in zip(offsets, counts, strict=True)), default=0)
    if end > size or 0 in counts or not len(counts):
        message = f"{size} bytes, but its page {number} needs {max(end, size + 1)}"
        raise ValueError(message)
    expected = _segment_bytes(page)
    # The list of offsets is cut to what the size asks for; the tag says how many there are.
    there = {len(counts), *(page.tags[code].count for code in _OFFSETS if code in page.tags)}
    if there != {len(expected)}:
        message = f"page {number} has {max(there)} strips or tiles; its size asks for {len(expected)}"
        raise ValueError(message)
    if page.compression == _RAW and list(counts) != expected and sum(counts) != sum(expected):
        message = f"page {number} has {sum(counts)} bytes of pixels; its size asks for {sum(expected)}"
        raise ValueError(message)
    # What packs worst is PackBits, two bytes for one: a longer strip is no plane of this size, but may hold gigabytes.
    if any(count > 2 * n_bytes + _SLACK for count, n_bytes in zip(counts, expected, strict=True)):
        message = f"page {number} has {sum(counts)} bytes of packed pixels for a plane of {sum(expected)}"
        raise ValueError(message)
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
    inflate = zlib.decompressobj()
    plain = inflate.decompress(packed, n_bytes + 1)
    if len(plain) != n_bytes or not (
        inflate.eof or inflate.decompress(inflate.unconsumed_tail, 1) == b"" and inflate.eof
    ):
        message = f"a strip of page {number} does not hold {n_bytes} bytes"
        raise ValueError(message)


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
        message = f"a strip of page {number} does not hold {n_bytes} bytes"
        raise ValueError(message)


def _unpack(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Unpack 12-bit samples (two in three bytes, each row padded to whole bytes), uncompressed."""
    bits = page.bitspersample
    if bits != 12 or page.compression != _RAW:
        message = f"{bits}-bit samples with compression {page.compression}; expected 8, 12 or 16 bit"
        raise ValueError(message)
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
