"""Write and read one image in one file: residuals, zstd, checksum."""

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
MAX_HEADER_BYTES = 1 << 16  # bytes
Decoder = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def encode_record(image: np.ndarray, *, level: int, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record.

    Args:
        image: uint8 or uint16 [channel, height, width].
        level: Level of zstd, 1 to 22.
        about: Additional header fields beside type and shape; ready for JSON.
    """
    parts, is_split = codec.split_nibbles(codec.predict_residuals(image))
    header = {**about, "dtype": str(image.dtype), "shape": list(image.shape), "halved": is_split.astype(int).tolist()}
    header_bytes = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return (
        _HEAD.pack(MAGIC, len(header_bytes), zlib.crc32(header_bytes))
        + header_bytes
        + compress(parts.tobytes(), level=level)
    )


def decode_record(blob: bytes, *, path: Path) -> np.ndarray:
    """Return the image of a record, uint8 or uint16 [channel, height, width].

    Args:
        blob: Content of the file.
        path: Name of the file, for error messages.

    Raises:
        ImageError: The record is truncated or was altered.
    """
    header, start = record_header(blob, path=path)
    dtype, (channels, height, width) = np.dtype(header["dtype"]), header["shape"]
    padded_height, padded_width = codec.pad(height), codec.pad(width)
    n_bytes = channels * padded_height * padded_width * dtype.itemsize
    content = decompress(memoryview(blob)[start:], n_bytes=n_bytes, path=path)
    parts = content.reshape(dtype.itemsize, channels, padded_height * padded_width)
    planes = np.empty((channels, padded_height, padded_width), dtype=dtype)
    (_fast_decoder() if JIT_THRESHOLD.is_reached else restore_with_numpy)(
        parts, np.array(header["halved"], dtype=bool), planes
    )
    return (
        planes if (padded_height, padded_width) == (height, width) else np.ascontiguousarray(planes[:, :height, :width])
    )


def restore_with_numpy(parts: np.ndarray, is_split: np.ndarray, planes: np.ndarray) -> None:
    """Write the pixels of residuals from `split_nibbles`, with NumPy alone.

    Args:
        parts: uint8 [byte, channel, number].
        is_split: bool [byte, channel].
        planes: uint8 or uint16 [channel, height, width]; sides are multiples of `BLOCK`.
    """
    planes[...] = codec.reconstruct(codec.join_nibbles(parts, is_split), *planes.shape[1:])
    JIT_THRESHOLD.count(planes.size)


def record_header(blob: bytes, *, path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a record, and the offset of its pixels.

    Raises:
        ImageError: The file is not a record, or its header claims an impossible image.
    """
    try:
        magic, length, checksum = _HEAD.unpack_from(blob)
        if magic != MAGIC or length > MAX_HEADER_BYTES:
            raise ValueError("not a record")
        header_bytes = blob[_HEAD.size : _HEAD.size + length]
        if len(header_bytes) != length or zlib.crc32(header_bytes) != checksum:
            raise ValueError("the checksum of its header is wrong")
        header = dict(json.loads(header_bytes))
        shape = [int(side) for side in header["shape"]]
        is_plausible = len(shape) == 3 and min(shape) > 0 and shape[1] * shape[2] <= MAX_PIXELS
        if header["dtype"] not in ("uint8", "uint16") or not is_plausible:
            raise ValueError(f"it claims {header['dtype']} {shape}")
        n_channels = [len(of_byte) for of_byte in header["halved"]]
        if n_channels != [shape[0]] * np.dtype(header["dtype"]).itemsize:
            raise ValueError(f"it names {n_channels} channels for {header['dtype']} {shape}")
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{path} is damaged ({error}). Pack the screen again: `distangle pack` writes only missing or damaged "
            "images."
        ) from error
    return header, _HEAD.size + length


def _fast_decoder() -> Decoder:
    loops = load_kernels("distangle.images.packing.codec_kernels")
    return restore_with_numpy if loops is None else loops.restore_with_numba
