"""Read plain gray PNG files, checking every checksum, length and stream end."""

import functools
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import PixelTypeError
from distangle.images.jit_threshold import load_kernels
from distangle.images.readers.common import MAX_PIXELS, inflated_length

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DTYPES = {(8, 0): "uint8", (16, 0): "uint16"}  # (bits, color type 0: gray)
_COLOR_TYPES = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
# Chunks that do not affect the pixels, with their length; None: any.
_ANCILLARY = {b"pHYs": 9, b"gAMA": 4, b"sRGB": 1, b"cHRM": 32, b"tIME": 7, b"tEXt": None}
# Left, top, steps right and down of the seven passes of an interlaced image (PNG specification, 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_MAX_ANCILLARY = 1 << 20  # bytes
_MAX_FILE_BYTES = 4 * MAX_PIXELS  # bytes of a file: twice its pixels at 16 bit

Unfilter = Callable[[np.ndarray, np.ndarray, int], bool]


@dataclass(frozen=True)
class Header:
    """Content of an IHDR chunk."""

    height: int
    width: int
    dtype: str
    is_plain: bool  # deflate, the five filters, not interlaced
    is_interlaced: bool


def png_header(head: bytes, *, path: Path) -> Header:
    """Read an IHDR chunk directly.

    Pillow checks the size of a large image too late.

    Args:
        head: The first bytes of the file, at least 29.
        path: Name of the file, for error messages.

    Raises:
        PixelTypeError: The image is not one gray channel of 8 or 16 bit.
        ValueError: The chunk does not exist.
    """
    if len(head) < 29 or head[12:16] != b"IHDR":
        raise ValueError("no IHDR chunk")
    width, height, bits, color, *methods = struct.unpack(">IIBBBBB", head[16:29])
    dtype = _DTYPES.get((bits, color))
    if dtype is None:
        kind = f"{_COLOR_TYPES.get(color, f'color type {color}')} of {bits} bit"
        raise PixelTypeError(f"{path} is {kind}; expected one gray channel of 8 or 16 bit per file.")
    return Header(height, width, dtype, not any(methods), methods[2] != 0)


def read_pngs(paths: Sequence[Path]) -> np.ndarray | None:
    """Read planes of one shape and type; return None for any doubtful file.

    Args:
        paths: One file per channel.

    Returns:
        uint8 or uint16 [channel, height, width]. None without numba, or if a file is not a plain gray PNG or is
        possibly
        damaged: the general reader supports more kinds and raises the error.
    """
    unfilter = _load_unfilter()
    if unfilter is None:
        return None
    image = None
    for k, path in enumerate(paths):
        blob = _read_file(path)
        if blob is None:
            return None
        try:
            header = png_header(blob, path=path)
        except ValueError:  # includes ImageError
            return None
        filtered = _filtered_rows(blob, header)
        if filtered is None:  # checked before allocating the size in the header
            return None
        if image is None:
            image = np.empty((len(paths), header.height, header.width), dtype=header.dtype)
        if image[k].shape != (header.height, header.width) or image.dtype != header.dtype:
            return None
        lines = image[k].view(np.uint8)
        if not unfilter(filtered, lines, image.itemsize):
            return None
        if image.itemsize > 1:
            image[k] = image[k].view(">u2")
    return image


def check_stream(path: Path) -> None:
    """Check that the image stream of a gray PNG has exactly the bytes of its size.

    Pillow leaves missing rows black, even if every checksum is right.

    Args:
        path: A file whose chunks were checked.

    Raises:
        PixelTypeError: The image is not one gray channel of 8 or 16 bit.
        ValueError: The stream is too short, too long, or has no end.
    """
    blob = path.read_bytes()
    header = png_header(blob, path=path)
    n_bytes = _stream_bytes(header)
    try:
        n_inflated, has_end = inflated_length(b"".join(_image_streams(blob)), n_bytes)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if n_inflated != n_bytes or not has_end:
        content = "more bytes" if n_inflated > n_bytes else f"{n_inflated} bytes" if n_inflated < n_bytes else "no end"
        raise ValueError(f"its image stream has {content}; expected {n_bytes} bytes")


def check_single(path: Path, start: bytes) -> None:
    """Check that a PNG file is a single picture.

    A decoder shows the first frame of an animation without an error.

    Args:
        path: The file.
        start: Its first bytes; the file is read only if its pixels begin after them.

    Raises:
        PixelTypeError: The file holds several frames.
        OSError: The file cannot be read.

    Source: PNG specification, third edition, chunk acTL
    """
    n_frames = _count_frames(io.BytesIO(start))
    if n_frames is None:
        with path.open("rb") as file:
            n_frames = _count_frames(file) or 1
    if n_frames > 1:
        raise PixelTypeError(f"{path} is an animation of {n_frames} frames; expected one plane.")


def _count_frames(file: io.BytesIO | io.BufferedReader) -> int | None:
    """Return the number of frames; None if the bytes end before the pixels begin."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4])
        if head[4:] == b"IDAT":
            return 1
        if head[4:] == b"acTL" and len(count := file.read(4)) == 4:
            return int.from_bytes(count)
        file.seek(length + 4, os.SEEK_CUR)
    return None


def _stream_bytes(header: Header) -> int:
    """Return the bytes of all filtered rows."""
    passes = _ADAM7 if header.is_interlaced else ((0, 0, 1, 1),)
    size, total = np.dtype(header.dtype).itemsize, 0
    for left, top, right, down in passes:
        width, height = -(-(header.width - left) // right), -(-(header.height - top) // down)
        if width > 0 and height > 0:
            total += height * (1 + width * size)
    return total


def _image_streams(blob: bytes) -> Iterator[bytes]:
    position = len(SIGNATURE)
    while position + 12 <= len(blob):
        length = int.from_bytes(blob[position : position + 4])
        if blob[position + 4 : position + 8] == b"IDAT":
            yield blob[position + 8 : position + 8 + length]
        position += 12 + length


def _read_file(path: Path) -> bytes | None:
    """Return the bytes of a PNG file of a plausible size."""
    try:
        with path.open("rb", buffering=0) as file:
            if file.read(len(SIGNATURE)) != SIGNATURE or os.fstat(file.fileno()).st_size > _MAX_FILE_BYTES:
                return None
            file.seek(0)
            return file.readall()
    except OSError:
        return None


def _filtered_rows(blob: bytes, header: Header) -> np.ndarray | None:
    """Return the filtered rows, uint8 [row, 1 + byte]; None if anything is wrong."""
    if not header.is_plain or not 0 < header.height * header.width <= MAX_PIXELS:
        return None
    streams = _image_chunks(blob)
    if streams is None:
        return None
    n_bytes = header.height * (1 + header.width * np.dtype(header.dtype).itemsize)
    module = _zlib_module()
    stream = module.decompressobj()
    try:
        content = stream.decompress(b"".join(streams) if len(streams) > 1 else streams[0], n_bytes + 1)
    except module.error:
        return None
    if len(content) != n_bytes or not stream.eof or stream.unused_data or stream.unconsumed_tail:
        return None
    return np.frombuffer(content, dtype=np.uint8).reshape(header.height, -1)


def _image_chunks(blob: bytes) -> list[memoryview] | None:
    """Return the parts of the image stream if the chunks are intact and in order."""
    view = memoryview(blob)
    streams: list[memoryview] = []
    position, ancillary_bytes, is_closed = len(SIGNATURE), 0, False
    while position + 12 <= len(blob):
        length, kind = int.from_bytes(view[position : position + 4]), blob[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(blob) or zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4]):
            return None
        if position == len(SIGNATURE):
            if kind != b"IHDR" or length != 13:
                return None
        elif kind == b"IDAT" and not is_closed:
            streams.append(view[position + 8 : end])
        elif kind == b"IEND":
            return streams if streams and length == 0 else None
        elif _ANCILLARY.get(kind, -1) not in (None, length) or ancillary_bytes + length > _MAX_ANCILLARY:
            return None
        else:
            ancillary_bytes, is_closed = ancillary_bytes + length, bool(streams)
        position = end + 4
    return None


def _load_unfilter() -> Unfilter | None:
    loops = load_kernels("distangle.images.readers.png_kernels")
    return None if loops is None else loops.undo_filters


@functools.cache
def _zlib_module() -> Any:
    """Return isal where installed (three times as fast), else zlib."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib
