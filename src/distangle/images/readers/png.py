"""Read plain grey PNG files, checking every checksum, length and stream end."""

import functools
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
_DTYPES = {(8, 0): "uint8", (16, 0): "uint16"}  # (bits, colour type 0: grey)
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
# Chunks that say nothing of the pixels, with the length they must have; None: any.
_ASIDE = {b"pHYs": 9, b"gAMA": 4, b"sRGB": 1, b"cHRM": 32, b"tIME": 7, b"tEXt": None}
# Left, top, steps right and down of the seven passes of an interlaced image (PNG specification, 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_MOST_ASIDE = 1 << 20  # bytes
_LARGEST = 4 * MAX_PIXELS  # bytes of a file: twice its pixels at 16 bit

Unfilter = Callable[[np.ndarray, np.ndarray, int], bool]


@dataclass(frozen=True)
class Header:
    """What an IHDR chunk says."""

    height: int
    width: int
    dtype: str
    usual: bool  # deflated, the five filters, not interlaced
    interlaced: bool


def png_header(head: bytes, *, path: Path) -> Header:
    """Read an IHDR chunk by hand.

    Pillow warns of a large image only after it has begun to believe it.

    Args:
        head: The first bytes of the file, 29 at least.
        path: Named in errors.

    Raises:
        PixelTypeError: It is not one grey channel of 8 or 16 bit.
        ValueError: There is no such chunk.
    """
    if len(head) < 29 or head[12:16] != b"IHDR":
        raise ValueError("no IHDR chunk")
    width, height, bits, colour, *methods = struct.unpack(">IIBBBBB", head[16:29])
    dtype = _DTYPES.get((bits, colour))
    if dtype is None:
        kind = f"{_COLOURS.get(colour, f'colour type {colour}')} of {bits} bit"
        raise PixelTypeError(f"{path} is {kind}; expected one grey channel of 8 or 16 bit per file.")
    return Header(height, width, dtype, not any(methods), methods[2] != 0)


def read_pngs(paths: Sequence[Path]) -> np.ndarray | None:
    """Read planes of one shape and type, or leave it to another reader.

    Args:
        paths: One file per channel.

    Returns:
        uint8 or uint16 [channel, height, width]. None where numba is missing, where a file is no plain grey PNG,
        and where anything in it is in doubt: the general reader knows more kinds, and says what is wrong.
    """
    unfilter = _unfilter()
    if unfilter is None:
        return None
    image = None
    for k, path in enumerate(paths):
        blob = _file(path)
        if blob is None:
            return None
        try:
            header = png_header(blob, path=path)
        except ValueError:  # ImageError is one
            return None
        filtered = _filtered(blob, header)
        if filtered is None:  # before room is made for what a header claims
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
    """Check that the image stream of a grey PNG ends just where its size asks for.

    Pillow leaves the rows black that a stream does not hold, though every checksum is right.

    Args:
        path: A file whose chunks were checked.

    Raises:
        PixelTypeError: It is not one grey channel of 8 or 16 bit.
        ValueError: The stream holds less or more, or does not end.
    """
    blob = path.read_bytes()
    header = png_header(blob, path=path)
    n_bytes = _stream_bytes(header)
    try:
        n_inflated, ended = inflated_length(b"".join(_streams(blob)), n_bytes)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if n_inflated != n_bytes or not ended:
        content = "more" if n_inflated > n_bytes else f"{n_inflated} bytes" if n_inflated < n_bytes else "no end"
        raise ValueError(f"its image stream should hold {n_bytes} bytes and has {content}")


def check_single(path: Path) -> None:
    """Check that a PNG file is one picture.

    A decoder shows the first frame of an animation without an error.

    Raises:
        PixelTypeError: It holds several frames.
        OSError: It cannot be read.

    Source: PNG specification, third edition, chunk acTL
    """
    with path.open("rb") as opened:
        opened.seek(len(SIGNATURE))
        while len(head := opened.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4])
            if head[4:] == b"acTL":
                n_frames = int.from_bytes(opened.read(4))
                if n_frames > 1:
                    raise PixelTypeError(f"{path} is an animation of {n_frames} frames; expected one plane.")
                return
            opened.seek(length + 4, os.SEEK_CUR)


def _stream_bytes(header: Header) -> int:
    """Return the bytes of all filtered rows."""
    passes = _ADAM7 if header.interlaced else ((0, 0, 1, 1),)
    size, total = np.dtype(header.dtype).itemsize, 0
    for left, top, right, down in passes:
        width, height = -(-(header.width - left) // right), -(-(header.height - top) // down)
        if width > 0 and height > 0:
            total += height * (1 + width * size)
    return total


def _streams(blob: bytes) -> Iterator[bytes]:
    place = len(SIGNATURE)
    while place + 12 <= len(blob):
        length = int.from_bytes(blob[place : place + 4])
        if blob[place + 4 : place + 8] == b"IDAT":
            yield blob[place + 8 : place + 8 + length]
        place += 12 + length


def _file(path: Path) -> bytes | None:
    """Return the bytes of a PNG file of a likely size."""
    try:
        with path.open("rb", buffering=0) as opened:
            if opened.read(len(SIGNATURE)) != SIGNATURE or os.fstat(opened.fileno()).st_size > _LARGEST:
                return None
            opened.seek(0)
            return opened.readall()
    except OSError:
        return None


def _filtered(blob: bytes, header: Header) -> np.ndarray | None:
    """Return the filtered rows, uint8 [row, 1 + byte]; None if anything is off."""
    if not header.usual or not 0 < header.height * header.width <= MAX_PIXELS:
        return None
    streams = _image_chunks(blob)
    if streams is None:
        return None
    n_bytes = header.height * (1 + header.width * np.dtype(header.dtype).itemsize)
    module = _inflate()
    stream = module.decompressobj()
    try:
        plain = stream.decompress(b"".join(streams) if len(streams) > 1 else streams[0], n_bytes + 1)
    except module.error:
        return None
    if len(plain) != n_bytes or not stream.eof or stream.unused_data or stream.unconsumed_tail:
        return None
    return np.frombuffer(plain, dtype=np.uint8).reshape(header.height, -1)


def _image_chunks(blob: bytes) -> list[memoryview] | None:
    """Return the parts of the image stream if the chunks are whole and in order."""
    seen = memoryview(blob)
    streams: list[memoryview] = []
    place, aside, closed = len(SIGNATURE), 0, False
    while place + 12 <= len(blob):
        length, kind = int.from_bytes(seen[place : place + 4]), blob[place + 4 : place + 8]
        ends = place + 8 + length
        if ends + 4 > len(blob) or zlib.crc32(seen[place + 4 : ends]) != int.from_bytes(seen[ends : ends + 4]):
            return None
        if place == len(SIGNATURE):
            if kind != b"IHDR" or length != 13:
                return None
        elif kind == b"IDAT" and not closed:
            streams.append(seen[place + 8 : ends])
        elif kind == b"IEND":
            return streams if streams and length == 0 else None
        elif _ASIDE.get(kind, -1) not in (None, length) or aside + length > _MOST_ASIDE:
            return None
        else:
            aside, closed = aside + length, bool(streams)
        place = ends + 4
    return None


def _unfilter() -> Unfilter | None:
    loops = load_kernels("distangle.images.readers.png_kernels")
    return None if loops is None else loops.undo_filters


@functools.cache
def _inflate() -> Any:
    """Return isal where it is installed (three times as fast), else zlib."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib
