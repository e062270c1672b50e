"""Write and read one image in one file: lattice remainders, zstd, checksum."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import ImageError
from distangle.images.jit_threshold import JIT_THRESHOLD, load_kernels
from distangle.images.packing import codec
from distangle.images.packing.codec import compress, decompress
from distangle.images.readers.common import MAX_PIXELS

MAGIC = b"DSTGREC2"
_HEAD = struct.Struct("<8sII")  # magic, length of the JSON that follows, its CRC-32
SUFFIX = ".dsr"
LONGEST_HEADER = 1 << 16  # bytes
Restore = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def encode_record(image: np.ndarray, *, level: int, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record.

    Args:
        image: uint8 or uint16 [channel, height, width].
        level: Of zstd, 1 to 22.
        about: Kept in the header beside type and shape; ready for JSON.
    """
    parts, halved = codec.split_nibbles(codec.predict_residuals(image))
    header = {**about, "dtype": str(image.dtype), "shape": list(image.shape), "halved": halved.astype(int).tolist()}
    said = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return _HEAD.pack(MAGIC, len(said), zlib.crc32(said)) + said + compress(parts.tobytes(), level=level)


def decode_record(blob: bytes, *, path: Path) -> np.ndarray:
    """Return the image of a record, uint8 or uint16 [channel, height, width].

    Args:
        blob: The whole file.
        path: Named in errors.

    Raises:
        ImageError: It is cut short or changed.
    """
    header, begins = record_header(blob, path=path)
    dtype, (channels, height, width) = np.dtype(header["dtype"]), header["shape"]
    tall, wide = codec.pad(height), codec.pad(width)
    n_bytes = channels * tall * wide * dtype.itemsize
    plain = decompress(memoryview(blob)[begins:], n_bytes=n_bytes, path=path)
    parts = plain.reshape(dtype.itemsize, channels, tall * wide)
    planes = np.empty((channels, tall, wide), dtype=dtype)
    (_quick() if JIT_THRESHOLD.is_reached else restore_by_arrays)(parts, np.array(header["halved"], dtype=bool), planes)
    return planes if (tall, wide) == (height, width) else np.ascontiguousarray(planes[:, :height, :width])


def restore_by_arrays(parts: np.ndarray, halved: np.ndarray, planes: np.ndarray) -> None:
    """Write the pixels of remainders that were split, with NumPy alone.

    Args:
        parts: uint8 [byte, channel, number].
        halved: bool [byte, channel].
        planes: uint8 or uint16 [channel, height, width]; sides of whole grains.
    """
    planes[...] = codec.reconstruct(codec.join_nibbles(parts, halved), *planes.shape[1:])
    JIT_THRESHOLD.count(planes.size)


def _quick() -> Restore:
    loops = load_kernels("distangle.images.packing.codec_kernels")
    return restore_by_arrays if loops is None else loops.restore_by_loops


def record_header(blob: bytes, *, path: Path) -> tuple[dict[str, Any], int]:
    """Return what a record says of itself, and where its pixels begin.

    Raises:
        ImageError: It is no record, or claims what no image is.
    """
    try:
        magic, length, checksum = _HEAD.unpack_from(blob)
        if magic != MAGIC or length > LONGEST_HEADER:
            raise ValueError("no record")
        said = blob[_HEAD.size : _HEAD.size + length]
        if len(said) != length or zlib.crc32(said) != checksum:
            raise ValueError("its header is not as it was written")
        header = dict(json.loads(said))
        shape = [int(side) for side in header["shape"]]
        likely = len(shape) == 3 and min(shape) > 0 and shape[1] * shape[2] <= MAX_PIXELS
        if header["dtype"] not in ("uint8", "uint16") or not likely:
            raise ValueError(f"it claims {header['dtype']} {shape}")
        halved = [len(of_byte) for of_byte in header["halved"]]
        if halved != [shape[0]] * np.dtype(header["dtype"]).itemsize:
            raise ValueError(f"it names {halved} channels for {header['dtype']} {shape}")
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{path} is damaged ({error}). Pack the screen again: `distangle pack` makes only what is not whole."
        ) from error
    return header, _HEAD.size + length
