"""One image in one file: differences, zstd with a checksum, and the name of its site; read in two milliseconds."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distangle.errors import ImageError
from distangle.images.packed.differences import differences, undo
from distangle.images.packed.zstd import compressed, decompressed

MAGIC = b"DSTGREC1"
_HEAD = struct.Struct("<8sI")  # magic, length of the JSON that follows
SUFFIX = ".dsr"
LONGEST_HEADER = 1 << 16


def encode_record(image: np.ndarray, *, level: int, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record.

    Args:
        image: uint8 or uint16 [channel, height, width].
        level: Of zstd, 1 to 22.
        about: Kept in the header beside type and shape; ready for JSON.
    """
    plain = np.ascontiguousarray(differences(image))
    parts = [plain.tobytes()] if image.dtype == np.uint8 else [_low(plain).tobytes(), _high(plain).tobytes()]
    header = {**about, "dtype": str(image.dtype), "shape": list(image.shape)}
    said = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return _HEAD.pack(MAGIC, len(said)) + said + compressed(b"".join(parts), level=level)


def decode_record(blob: bytes, *, path: Path) -> np.ndarray:
    """Return the image of a record, uint8 or uint16 [channel, height, width].

    Args:
        blob: The whole file.
        path: Named in errors.

    Raises:
        ImageError: It is cut short or changed.
    """
    header, begins = record_header(blob, path=path)
    dtype, shape = np.dtype(header["dtype"]), tuple(header["shape"])
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    plain = decompressed(memoryview(blob)[begins:], n_bytes=n_bytes, path=path)
    if dtype == np.uint8:
        planes = plain.reshape(shape)
    else:
        low, high = plain.reshape(2, *shape)
        planes = low.astype(np.uint16)
        planes |= high.astype(np.uint16) << 8
    undo(planes)
    return planes


def record_header(blob: bytes, *, path: Path) -> tuple[dict[str, Any], int]:
    """Return what a record says of itself, and where its pixels begin.

    Raises:
        ImageError: It is no record, or claims what no image is.
    """
    try:
        magic, length = _HEAD.unpack_from(blob)
        if magic != MAGIC or length > LONGEST_HEADER:
            message = "no record"
            raise ValueError(message)
        header = dict(json.loads(blob[_HEAD.size : _HEAD.size + length]))
        shape = [int(side) for side in header["shape"]]
        if header["dtype"] not in ("uint8", "uint16") or len(shape) != 3 or min(shape) < 1:
            message = f"it claims {header['dtype']} {shape}"
            raise ValueError(message)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        message = f"{path} is damaged ({error}). Pack the screen again: `distangle pack` makes only what is not whole."
        raise ImageError(message) from error
    return header, _HEAD.size + length


def _low(values: np.ndarray) -> np.ndarray:
    return (values & 255).astype(np.uint8)


def _high(values: np.ndarray) -> np.ndarray:
    return (values >> 8).astype(np.uint8)
