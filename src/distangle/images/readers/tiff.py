"""Read planes of TIFF files; refuse truncated, damaged or unsupported data."""

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

MIN_TAIL_BYTES = 4096  # zeros at the end of a page that no camera writes: a block of most file systems
BEFORE_BYTES = 1 << 16  # examined before the zeros
MAX_ZERO_SHARE = 0.5  # a larger share of zeros among these means a background of zero
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_OFFSETS = (273, 324)  # tags StripOffsets and TileOffsets
_UNCOMPRESSED, _ZLIB, _PACKBITS = 1, (8, 32946), 32773  # values of the tag Compression
_PHOTOMETRIC, _ORIENTATION = 262, 274  # tags
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE = 0, 1, 3  # values of the tag PhotometricInterpretation
_TRANSPOSED = 5  # of the eight orientations, the first whose rows are columns
_RAMP_TOLERANCE = 0.02  # share of a palette's maximum by which a shade may deviate
_PIXEL_TAGS = frozenset({*range(256, 340), 347})  # tags from ImageWidth to SampleFormat, JPEGTables
_SLACK = 1024  # tolerated bytes after the packed pixels


def find_zeroed_rows(path: Path) -> dict[int, tuple[int, int]]:
    """Return the pages of an uncompressed TIFF file that end in zeroed rows.

    An interrupted copy leaves such pages. A tail has at least 4096 bytes and one whole row of zeros. A black page has
    no tail, nor has one whose background just before is zero, because its end may be background too. Only the last
    bytes of a page are read, and more where these are zero; nothing is decoded.

    Args:
        path: Any file; only strips of uncompressed TIFF are examined, not tiles or other formats.

    Returns:
        By page: the first and the last of the zeroed rows, counted from 1.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) not in _TIFF:
            return {}
        file.seek(0)
        rows_by_page: dict[int, tuple[int, int]] = {}
        # The header check or the decoder reports what the parser cannot read.
        with contextlib.suppress(tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, OverflowError):
            with tifffile.TiffFile(file) as tiff:
                for number, page in enumerate(tiff.pages):
                    rows = _zeroed_rows(file, page.aspage())
                    if rows is not None:
                        rows_by_page[number] = rows
    return rows_by_page


def tiff_header(path: Path, page: int = 0) -> tuple[str, tuple[int, int], int]:
    """Return pixel type and (height, width) of a page, and number of pages.

    Args:
        path: The file.
        page: Page number from 0; the first page is used if it does not exist.

    Raises:
        PixelTypeError: The planes are not gray.
        ValueError: The file is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            n_pages = len(opened.pages)
            tiff_page = opened.pages[page].aspage() if 0 < page < n_pages else opened.pages.first
            dtype, shape = _checked_header(path, opened, tiff_page)
            return dtype, shape, n_pages
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a flipped bit may raise any error in the parser
        raise ValueError(_describe_error(error)) from error


def probe_tiff(path: Path) -> ImageHeader:
    """Return the header of the first page that is not a thumbnail, and the pages.

    Raises:
        PixelTypeError: The planes are not gray, or one page holds several.
        ValueError: The file is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            stack = read_page_layout(opened, path)
            page = opened.pages.first if stack is None else opened.pages[stack.image_pages[0]].aspage()
            dtype, shape = _checked_header(path, opened, page)
            return ImageHeader(dtype, shape, len(opened.pages), stack, _is_inverted(page))
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(_describe_error(error)) from error


def read_tiff(path: Path, page: int, *, max_pixels: int) -> np.ndarray:
    """Return a plane [height, width], upright, with black as zero.

    Args:
        path: The file.
        page: Page number from 0.
        max_pixels: Limit of the pixels of a plane, checked before decoding.

    Raises:
        PixelTypeError: The plane is not gray, or too large.
        ValueError: The file is damaged.
    """
    try:
        with tifffile.TiffFile(path) as opened:
            tiff_page = opened.pages[page].aspage()
            _, (height, width) = _checked_header(path, opened, tiff_page)
            if height * width > max_pixels:
                raise PixelTypeError(
                    f"{path} page {page} claims {height} x {width} pixels; the limit is {max_pixels} per plane."
                )
            _check_segments(path, page, tiff_page)
            return _black_is_zero(_decode(path, page, tiff_page), tiff_page)
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(_describe_error(error)) from error


def _zeroed_rows(file: IO[bytes], page: tifffile.TiffPage) -> tuple[int, int] | None:
    if page.compression != _UNCOMPRESSED or page.is_tiled or len(page.shape) != 2:
        return None
    height, width = (int(n) for n in page.shape)
    row_bytes = -(-width * int(page.bitspersample) // 8)
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    size = os.fstat(file.fileno()).st_size
    if (
        not row_bytes
        or sum(n for _, n in strips) != height * row_bytes
        or any(offset + n > size for offset, n in strips)
    ):
        return None
    n_zeros = _trailing_zeros(file, strips)
    n_rows = n_zeros // row_bytes
    if n_zeros < MIN_TAIL_BYTES or not n_rows or n_zeros == height * row_bytes:
        return None
    end = height * row_bytes - n_zeros
    before = _read_bytes(file, strips, max(0, end - BEFORE_BYTES), end)
    # The zeros may start within a sample: only whole samples count.
    sample_bytes = 2 if page.bitspersample == 16 else 1
    samples = np.frombuffer(before[len(before) % sample_bytes :], dtype=f"u{sample_bytes}")
    if len(samples) and float(np.mean(samples == 0)) > MAX_ZERO_SHARE:
        return None
    return height - n_rows + 1, height


def _trailing_zeros(file: IO[bytes], strips: Sequence[tuple[int, int]]) -> int:
    """Return how many of the last bytes of a page are zero."""
    zeros, part = 0, MIN_TAIL_BYTES
    for offset, n in reversed(strips):
        left = n
        while left:
            step = min(part, left)
            file.seek(offset + left - step)
            block = file.read(step)
            n_ending = step - len(block.rstrip(b"\0"))
            zeros += n_ending
            if n_ending < step:
                return zeros
            left -= step
            part = 1 << 20
    return zeros


def _read_bytes(file: IO[bytes], strips: Sequence[tuple[int, int]], start: int, end: int) -> bytes:
    """Return some bytes of a page, counted as if its strips were contiguous."""
    parts, first = [], 0
    for offset, n in strips:
        lower, upper = max(start, first), min(end, first + n)
        if lower < upper:
            file.seek(offset + lower - first)
            parts.append(file.read(upper - lower))
        first += n
    return b"".join(parts)


def _decode(path: Path, number: int, page: tifffile.TiffPage) -> np.ndarray:
    """Return a plane upright, with its stored values, for any codec."""
    if page.bitspersample == 12:
        return _rotate_upright(_unpack_12_bit(path, page), _orientation(page))
    try:
        return _rotate_upright(np.asarray(page.asarray()), _orientation(page))
    except ValueError as error:
        # Without the optional imagecodecs, tifffile lacks LZW and other codecs of Pillow.
        if "imagecodecs" not in str(error):
            raise
    with Image.open(path, formats=["TIFF"]) as opened:
        opened.seek(number)
        raw_mode = _raw_mode(opened)
        plane = np.asarray(opened)  # Pillow rotates it upright, and inverts 8 bits where zero is white
    return np.subtract(255, plane, dtype=np.uint8) if raw_mode.endswith(";I") else plane


def _raw_mode(opened: ImageFile.ImageFile) -> str:
    """Return the raw mode of an image that Pillow has not decoded; `L;I` inverts."""
    tile = opened.tile[0] if opened.tile else None
    return str(tile.args[0] if tile is not None and isinstance(tile.args, tuple) else tile and tile.args)


def _checked_header(path: Path, opened: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[str, tuple[int, int]]:
    """Return pixel type and (height, width) of a page, after all checks."""
    _check_tags(opened, page)
    shape, dtype = _gray_shape(path, page), str(page.dtype)
    bits = int(page.bitspersample)
    if dtype in ("uint8", "uint16") and (bits not in (8, 12, 16) or (bits == 12 and page.compression != _UNCOMPRESSED)):
        packed = f" with compression {int(page.compression)}" if bits == 12 else ""
        raise PixelTypeError(f"{path} holds {bits}-bit samples{packed}; expected 8 or 16 bit, or 12 bit uncompressed.")
    _check_intensities(path, page)
    return dtype, shape if _orientation(page) < _TRANSPOSED else shape[::-1]


def _check_intensities(path: Path, page: tifffile.TiffPage) -> None:
    """Check that pixels are intensities, not indices into a palette."""
    photometric = int(page.photometric)
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or _PHOTOMETRIC not in page.tags:
        return
    if photometric == _PALETTE and page.colormap is not None and _is_ramp(np.asarray(page.colormap)):
        return
    kind = (
        "a palette that is not a ramp of one color"
        if photometric == _PALETTE
        else f"PhotometricInterpretation {photometric}"
    )
    raise PixelTypeError(f"{path} has {kind}: its pixels are not intensities. Expected gray planes.")


def _is_ramp(colors: np.ndarray) -> bool:
    """Return whether colors [red green blue, index] rise evenly from black.

    The index is then the intensity.
    """
    ramp = np.linspace(0, 1, colors.shape[1])
    brightest = colors.max(axis=1, initial=0).astype(float)
    shades = colors[brightest > 0] / brightest[brightest > 0, None]
    return bool(len(shades)) and bool((np.abs(shades - ramp) < _RAMP_TOLERANCE).all())


def _is_inverted(page: tifffile.TiffPage) -> bool:
    # Without the tag black is zero, as in libtiff; tifffile and Pillow assume white.
    return _PHOTOMETRIC in page.tags and int(page.photometric) == _WHITE_IS_ZERO


def _black_is_zero(plane: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    return (1 << int(page.bitspersample)) - 1 - plane if _is_inverted(page) else plane


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _rotate_upright(plane: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate a plane by the orientation tag of its file.

    Source: TIFF 6.0, Orientation: where the first row and the first column are seen
    """
    if orientation >= _TRANSPOSED:
        plane = plane.T
    if orientation in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    if orientation in (3, 4, 7, 8):
        plane = plane[::-1]
    return plane


def _gray_shape(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> tuple[int, int]:
    if len(page.shape) != 2:
        raise PixelTypeError(f"{path} has pages of shape {page.shape}; expected gray planes (height, width).")
    return int(page.shape[0]), int(page.shape[1])


def _check_tags(opened: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Check that every tag on the storage of pixels was parsed.

    The parser skips unreadable tags. Without its predictor a compressed plane would decode without an error to wrong
    values, so the order of its tags is checked too.
    """
    form, file = opened.tiff, opened.filehandle
    file.seek(page.offset)
    (n_tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    tag_table = file.read(n_tags * form.tagsize)
    codes = [struct.unpack_from(f"{form.byteorder}H", tag_table, k * form.tagsize)[0] for k in range(n_tags)]
    lost = sorted(code for code in {*codes} - {tag.code for tag in page.tags} if code in _PIXEL_TAGS)
    if lost:
        raise ValueError(f"its tag{'s' * (len(lost) > 1)} {', '.join(map(str, lost))} cannot be read")
    if page.compression in _ZLIB and codes != sorted(codes):
        raise ValueError(f"its tags {', '.join(map(str, codes))} are not in order")


def _check_segments(path: Path, number: int, page: tifffile.TiffPage) -> None:
    """Check that all strips or tiles of a page exist and have the right lengths.

    Decoders fill missing data with zeros and ignore extra data. The checksum of zlib is verified here.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    size = path.stat().st_size
    end = max((o + n for o, n in zip(offsets, counts, strict=True)), default=0)
    if end > size or 0 in counts or not len(counts):
        raise ValueError(f"{size} bytes, but its page {number} needs {max(end, size + 1)}")
    expected = _segment_bytes(page)
    # tifffile truncates the list of offsets to the image size; the tag has the true count.
    counts_claimed = {len(counts), *(page.tags[code].count for code in _OFFSETS if code in page.tags)}
    if counts_claimed != {len(expected)}:
        raise ValueError(f"page {number} has {max(counts_claimed)} strips or tiles; its size requires {len(expected)}")
    if page.compression == _UNCOMPRESSED and list(counts) != expected and sum(counts) != sum(expected):
        raise ValueError(f"page {number} has {sum(counts)} bytes of pixels; its size requires {sum(expected)}")
    # PackBits at worst doubles the size: a longer strip does not fit this plane, and may hold gigabytes.
    if any(count > 2 * n_bytes + _SLACK for count, n_bytes in zip(counts, expected, strict=True)):
        raise ValueError(f"page {number} has {sum(counts)} bytes of packed pixels for a plane of {sum(expected)}")
    check = _check_inflated if page.compression in _ZLIB else _check_packbits if page.compression == _PACKBITS else None
    if check is not None:
        with path.open("rb") as opened:
            for offset, count, n_bytes in zip(offsets, counts, expected, strict=True):
                opened.seek(offset)
                check(opened.read(count), n_bytes, number)


def _segment_bytes(page: tifffile.TiffPage) -> list[int]:
    """Return the decoded size in bytes of each strip or tile of a gray page."""
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
    position, n = 0, 0
    while n < n_bytes and position < len(packed):
        run = packed[position]
        if run < 128:  # run + 1 literal bytes
            n, position = n + run + 1, position + run + 2
        elif run > 128:  # one byte repeated 257 - run times
            n, position = n + 257 - run, position + 2
        else:
            position += 1
    if n != n_bytes or not 0 <= len(packed) - position <= _SLACK:
        raise ValueError(f"a strip of page {number} does not hold {n_bytes} bytes")


def _unpack_12_bit(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Unpack 12-bit samples: two in three bytes, rows padded to whole bytes."""
    height, width = page.shape
    row_bytes = (width * 12 + 7) // 8
    packed = np.frombuffer(_read_segments(path, page.dataoffsets, page.databytecounts), dtype=np.uint8)
    packed = packed[: height * row_bytes].reshape(height, row_bytes)
    padded = np.zeros((height, -(-width // 2) * 3), dtype=np.uint16)
    padded[:, :row_bytes] = packed
    first, middle, last = padded[:, 0::3], padded[:, 1::3], padded[:, 2::3]
    plane = np.empty((height, first.shape[1] * 2), dtype=np.uint16)
    plane[:, 0::2] = (first << 4) | (middle >> 4)
    plane[:, 1::2] = ((middle & 15) << 8) | last
    return plane[:, :width]


def _read_segments(path: Path, offsets: Sequence[int], counts: Sequence[int]) -> bytes:
    parts = []
    with path.open("rb") as file:
        for offset, count in zip(offsets, counts, strict=True):
            file.seek(offset)
            parts.append(file.read(count))
    return b"".join(parts)


def _describe_error(error: Exception) -> str:
    return str(error) or type(error).__name__
