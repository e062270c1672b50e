"""Read planes of Zarr arrays, format 2 or 3; refuse missing chunks."""

import itertools
import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distangle.errors import ConfigError, ImageError
from distangle.images.packing import ngff
from distangle.images.packing.codec import content_size
from distangle.images.readers.packed_image import read_packed

_MAX_CHUNK_BYTES = 1 << 30  # bytes, once decoded
_MISSING_CHUNK = (1 << 64) - 1  # offset and length of a missing chunk in a shard
_BLOSC = struct.Struct("<4BII")  # version, version of the codec, flags, size of an item; bytes decoded, in a block


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """Metadata of an array.

    Attributes:
        dtype: NumPy name of the pixel type, without byte order.
        shape: Shape of the array; y and x are last.
        grid: Shape of the content of one file: a chunk, or a shard of chunks.
        inner: Shape of a chunk in a shard; None without shards.
        index: Position of the index of a shard: `start`, `end`, or "" for an unsupported one.
        prefix: Prefix of file names, before the numbers.
        separator: Separator between the numbers.
        zarr_format: 2 or 3.
        codec: Compression of a chunk, as in the metadata; "" for raw pixels, `?` where filters or several codecs change
            the number of bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    inner: tuple[int, ...] | None
    index: str
    prefix: str
    separator: str
    zarr_format: Literal[2, 3]
    codec: str = "?"

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""
        return self.shape[:-2]

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk, or of a shard."""
        return math.prod(self.grid) * np.dtype(self.dtype).itemsize


def array_header(path: Path) -> ArrayHeader:
    """Read the metadata of an array, without opening a chunk or importing zarr.

    Args:
        path: The folder of the array.

    Raises:
        ImageError: The array does not exist, or cannot be an image.
    """
    try:
        header = _format_3(path) if (path / "zarr.json").is_file() else _format_2(path)
        is_valid = len(header.shape) >= 2 and len(header.grid) == len(header.shape)
        if not is_valid or min(header.shape) < 1 or min(header.grid) < 1:
            raise ValueError(f"shape {header.shape} in chunks {header.grid}")
        if header.chunk_bytes > _MAX_CHUNK_BYTES:
            raise ValueError(f"chunks of {header.chunk_bytes} bytes; the limit is {_MAX_CHUNK_BYTES}")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ImageError(
            f"{path} has no metadata of an array that can be an image ({error}). Copy it again, and index again."
        ) from error
    return header


def probe_array(path: Path) -> tuple[str, tuple[int, int], int]:
    """Return pixel type, (height, width) and number of planes of a complete array.

    Raises:
        ImageError: The array is not an image, or a chunk is missing.
    """
    header = array_header(path)
    _check_chunks(path, header, [range(side) for side in header.leading])
    return header.dtype, (header.shape[-2], header.shape[-1]), math.prod(header.leading)


def read_planes(path: Path, pages: Sequence[int]) -> np.ndarray:
    """Read planes of an array.

    Args:
        path: The folder of the array.
        pages: Plane numbers, counted over all axes before y and x, the last of them fastest.

    Returns:
        uint8 or uint16 [page, height, width].

    Raises:
        ImageError: The array is damaged, a chunk is missing, or a page does not exist.
        ConfigError: The zarr package is not installed.
    """
    header = array_header(path)
    n_pages = math.prod(header.leading)
    if max(pages) >= n_pages:
        raise ImageError(f"{path} has {n_pages} planes, but plane {max(pages)} was requested. Index the screen again.")
    packed = _read_packed_array(path)
    if packed is not None:
        return np.ascontiguousarray(packed[list(pages)])
    places = [np.unravel_index(page, header.leading) if header.leading else () for page in pages]
    indices = [sorted({int(place[axis]) for place in places}) for axis in range(len(header.leading))]
    _check_chunks(path, header, indices)
    block = _read_block(path, header, indices)
    planes = [block[tuple(indices[k].index(int(at)) for k, at in enumerate(place))] for place in places]
    return np.stack(planes).astype(header.dtype, copy=False)


def is_packed_array(path: Path) -> bool:
    """Return whether `distangle pack` wrote an array: one chunk with a checksum."""
    chunk = path.joinpath(*ngff.CHUNK[1:])
    try:
        ngff.describe_array(chunk)
    except ImageError:
        return False
    return chunk.is_file()


def _read_block(path: Path, header: ArrayHeader, indices: Sequence[Sequence[int]]) -> np.ndarray:
    try:
        import zarr
    except ImportError as error:
        raise ConfigError(f"{path} is an array of Zarr, which needs a package: pip install '.[zarr]'.") from error
    try:
        array = zarr.open_array(str(path), mode="r", zarr_format=header.zarr_format)
        leading: tuple[Any, ...] = tuple(list(ks) for ks in indices)
        return np.asarray(array.get_orthogonal_selection((*leading, slice(None), slice(None))))
    except Exception as error:  # noqa: BLE001 - every codec raises its own errors
        raise ImageError(
            f"{path} is damaged ({type(error).__name__}: {error}). Copy it again, or remove its site, and index again."
        ) from error


def _read_packed_array(path: Path) -> np.ndarray | None:
    """Return an image of `distangle pack`, read without zarr."""
    return read_packed(path.joinpath(*ngff.CHUNK[1:])) if is_packed_array(path) else None


def _check_chunks(path: Path, header: ArrayHeader, indices: Sequence[Sequence[int]]) -> None:
    for numbers in _chunk_numbers(header, indices):
        file = path / (header.prefix + header.separator.join(map(str, numbers)))
        try:
            with file.open("rb") as opened:
                head = opened.read(_BLOSC.size + 2)
                n_bytes = os.fstat(opened.fileno()).st_size
        except OSError as error:
            raise ImageError(_missing_message(file.relative_to(path).as_posix(), path, error.strerror)) from error
        if header.inner is not None:
            _check_shard(file, path, header, numbers)
        else:
            _check_length(file, header, head, n_bytes)


def _chunk_numbers(header: ArrayHeader, indices: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    lengths = header.grid
    leading = [sorted({k // length for k in ks}) for ks, length in zip(indices, lengths, strict=False)]
    plane = [range(-(-side // length)) for side, length in zip(header.shape[-2:], lengths[-2:], strict=True)]
    return itertools.product(*leading, *plane)


def _check_shard(file: Path, path: Path, header: ArrayHeader, numbers: Sequence[int]) -> None:
    """Read the index of a shard, and refuse one that lacks a chunk inside the array."""
    inner = header.inner or header.grid
    counts = [outer_side // inner_side for outer_side, inner_side in zip(header.grid, inner, strict=True)]
    n_bytes = math.prod(counts) * 16
    if not header.index:
        return
    with file.open("rb") as opened:
        if header.index == "end":
            opened.seek(-(n_bytes + 4), 2)  # a checksum of four bytes follows
        index = np.frombuffer(opened.read(n_bytes), dtype="<u8")
    if len(index) * 8 != n_bytes:
        raise ImageError(_missing_message(file.relative_to(path).as_posix(), path, "cut short"))
    is_inside = np.ones(counts, dtype=bool)
    for axis, (number, outer_side, inner_side, side) in enumerate(
        zip(numbers, header.grid, inner, header.shape, strict=True)
    ):
        starts = number * outer_side + np.arange(counts[axis]) * inner_side
        is_inside &= (starts < side).reshape([-1 if k == axis else 1 for k in range(len(counts))])
    is_missing = (index.reshape(*counts, 2)[..., 0] == _MISSING_CHUNK) & is_inside
    if is_missing.any():
        parts = f"{int(is_missing.sum())} of the chunks in {file.relative_to(path).as_posix()}"
        raise ImageError(_missing_message(parts, path, None))


def _check_length(file: Path, header: ArrayHeader, head: bytes, n_bytes: int) -> None:
    """Refuse a chunk of a wrong length: of the file if raw, else in its header."""
    if not header.codec:
        if n_bytes != header.chunk_bytes:
            raise ImageError(f"{file} holds {n_bytes} bytes; a chunk has {header.chunk_bytes}. Copy it again.")
    elif _claimed_bytes(header.codec, head) > header.chunk_bytes:
        claimed = _claimed_bytes(header.codec, head)
        raise ImageError(f"{file} claims {claimed} bytes; a chunk has {header.chunk_bytes}. Copy it again.")


def _claimed_bytes(codec: str, head: bytes) -> int:
    """Return the number of bytes in a chunk's header; 0 where there is none."""
    if codec == "zstd":
        return content_size(head) or 0
    if codec == "blosc" and len(head) >= _BLOSC.size:
        return int(_BLOSC.unpack_from(head)[4])
    if codec in ("lz4", "numcodecs.lz4"):
        return int.from_bytes(head[:4], "little")
    return 0


def _missing_message(parts: str, path: Path, reason: str | None) -> str:
    suffix = f" ({reason})" if reason else ""
    return (
        f"{path}: {parts} is missing{suffix}. It was lost, or a writer omitted it because it is constant: copy it "
        "again, or write the plate with write_empty_chunks=True."
    )


def _format_3(path: Path) -> ArrayHeader:
    metadata = _read_json(path / "zarr.json")
    if metadata["node_type"] != "array" or metadata["chunk_grid"]["name"] != "regular":
        raise ValueError(f"{metadata['node_type']}, chunks {metadata.get('chunk_grid', {}).get('name')}")
    keys = metadata["chunk_key_encoding"]
    default = keys["name"] == "default"
    separator = str(keys.get("configuration", {}).get("separator", "/" if default else "."))
    shards = [codec["configuration"] for codec in metadata["codecs"] if codec["name"] == "sharding_indexed"]
    has_plain_index = bool(shards) and [codec["name"] for codec in shards[0].get("index_codecs", [])] == [
        "bytes",
        "crc32c",
    ]
    return ArrayHeader(
        dtype=str(metadata["data_type"]),
        shape=_sides(metadata["shape"]),
        grid=_sides(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
        inner=_sides(shards[0]["chunk_shape"]) if shards else None,
        index=str(shards[0].get("index_location", "end")) if has_plain_index else "",
        prefix=f"c{separator}" if default else "",
        separator=separator,
        zarr_format=3,
        codec=_codec_3(metadata["codecs"]),
    )


def _format_2(path: Path) -> ArrayHeader:
    metadata = _read_json(path / ".zarray")
    return ArrayHeader(
        dtype=np.dtype(str(metadata["dtype"])).newbyteorder("=").name,
        shape=_sides(metadata["shape"]),
        grid=_sides(metadata["chunks"]),
        inner=None,
        index="",
        prefix="",
        separator=str(metadata.get("dimension_separator", ".")),
        zarr_format=2,
        codec="?" if metadata.get("filters") else str((metadata.get("compressor") or {}).get("id", "")),
    )


def _codec_3(codecs: Sequence[dict[str, Any]]) -> str:
    """Return the only codec that compresses a chunk of format 3."""
    names = [str(codec["name"]) for codec in codecs]
    compressors = [name for name in names if name not in ("bytes", "transpose", "endian")]
    return "" if not compressors else compressors[0] if len(compressors) == 1 else "?"


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _sides(values: Sequence[object]) -> tuple[int, ...]:
    return tuple(int(str(value)) for value in values)
