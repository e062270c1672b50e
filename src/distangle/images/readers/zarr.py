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

_LARGEST_CHUNK = 1 << 30  # bytes, once decoded
_ABSENT = (1 << 64) - 1  # offset and length of a chunk that a shard does not hold
_BLOSC = struct.Struct("<4BII")  # version, version of the codec, flags, size of an item; bytes decoded, in a block


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """What an array says of itself.

    Attributes:
        dtype: Of a pixel, as NumPy writes it, without byte order.
        shape: Of the whole array; y and x are last.
        grid: Of what lies in one file: a chunk, or a shard of chunks.
        inner: Of a chunk in a shard; None where there are no shards.
        index: Where a shard keeps its index: `start`, `end`, or "" where that is not the usual one.
        prefix: Before the numbers in the name of a file.
        separator: Between the numbers.
        zarr_format: 2 or 3.
        codec: What a chunk is compressed with, as the metadata name it; "" where its bytes are the pixels themselves,
            `?` where filters or several codecs change their number.
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
        """Bytes of a decoded chunk, or of a shard of them."""
        return math.prod(self.grid) * np.dtype(self.dtype).itemsize


def array_header(path: Path) -> ArrayHeader:
    """Read what an array says of itself; no chunk is opened and Zarr not needed.

    Args:
        path: The folder of the array.

    Raises:
        ImageError: There is no array, or one that cannot be an image.
    """
    try:
        header = _format_3(path) if (path / "zarr.json").is_file() else _format_2(path)
        fits = len(header.shape) >= 2 and len(header.grid) == len(header.shape)
        if not fits or min(header.shape) < 1 or min(header.grid) < 1:
            raise ValueError(f"shape {header.shape} in chunks {header.grid}")
        if header.chunk_bytes > _LARGEST_CHUNK:
            raise ValueError(f"chunks of {header.chunk_bytes} bytes; the limit is {_LARGEST_CHUNK}")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ImageError(
            f"{path} has no metadata of an array that can be an image ({error}). Copy it again, and index again."
        ) from error
    return header


def probe_array(path: Path) -> tuple[str, tuple[int, int], int]:
    """Return pixel type, (height, width) and number of planes of a whole array.

    All its chunks are there.

    Raises:
        ImageError: It is no image, or a chunk is absent.
    """
    header = array_header(path)
    _check_chunks(path, header, [range(side) for side in header.leading])
    return header.dtype, (header.shape[-2], header.shape[-1]), math.prod(header.leading)


def read_planes(path: Path, pages: Sequence[int]) -> np.ndarray:
    """Read planes of an array.

    Args:
        path: The folder of the array.
        pages: Each counted over all axes before y and x, the last of them fastest.

    Returns:
        uint8 or uint16 [page, height, width].

    Raises:
        ImageError: It is damaged, a chunk is absent, or it has no such page.
        ConfigError: The package that reads Zarr is not installed.
    """
    header = array_header(path)
    n_pages = math.prod(header.leading)
    if max(pages) >= n_pages:
        raise ImageError(f"{path} has {n_pages} planes, but plane {max(pages)} was asked for. Index the screen again.")
    packed = _packed(path)
    if packed is not None:
        return np.ascontiguousarray(packed[list(pages)])
    places = [np.unravel_index(page, header.leading) if header.leading else () for page in pages]
    wanted = [sorted({int(place[axis]) for place in places}) for axis in range(len(header.leading))]
    _check_chunks(path, header, wanted)
    block = _read_block(path, header, wanted)
    planes = [block[tuple(wanted[k].index(int(at)) for k, at in enumerate(place))] for place in places]
    return np.stack(planes).astype(header.dtype, copy=False)


def _read_block(path: Path, header: ArrayHeader, wanted: Sequence[Sequence[int]]) -> np.ndarray:
    try:
        import zarr
    except ImportError as error:
        raise ConfigError(
            f"{path} is an array of Zarr, which needs a package: pip install 'distangle[zarr]'."
        ) from error
    try:
        array = zarr.open_array(str(path), mode="r", zarr_format=header.zarr_format)
        leading: tuple[Any, ...] = tuple(list(ks) for ks in wanted)
        return np.asarray(array.get_orthogonal_selection((*leading, slice(None), slice(None))))
    except Exception as error:  # noqa: BLE001 - every codec raises kinds of its own
        raise ImageError(
            f"{path} is damaged ({type(error).__name__}: {error}). Copy it again, or remove its site, and index again."
        ) from error


def is_packed_array(path: Path) -> bool:
    """Tell whether `distangle pack` wrote an array: one chunk with a checksum."""
    chunk = path.joinpath(*ngff.CHUNK[1:])
    try:
        ngff.describe_array(chunk)
    except ImageError:
        return False
    return chunk.is_file()


def _packed(path: Path) -> np.ndarray | None:
    """Return an image that `distangle pack` wrote, read without Zarr."""
    return read_packed(path.joinpath(*ngff.CHUNK[1:])) if is_packed_array(path) else None


def _check_chunks(path: Path, header: ArrayHeader, wanted: Sequence[Sequence[int]]) -> None:
    for numbers in _chunk_numbers(header, wanted):
        file = path / (header.prefix + header.separator.join(map(str, numbers)))
        try:
            with file.open("rb") as opened:
                head = opened.read(_BLOSC.size + 2)
                n_bytes = os.fstat(opened.fileno()).st_size
        except OSError as error:
            raise ImageError(_absent(file.relative_to(path).as_posix(), path, error.strerror)) from error
        if header.inner is not None:
            _check_shard(file, path, header, numbers)
        else:
            _check_length(file, header, head, n_bytes)


def _chunk_numbers(header: ArrayHeader, wanted: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    lengths = header.grid
    leading = [sorted({k // length for k in ks}) for ks, length in zip(wanted, lengths, strict=False)]
    plane = [range(-(-side // length)) for side, length in zip(header.shape[-2:], lengths[-2:], strict=True)]
    return itertools.product(*leading, *plane)


def _check_shard(file: Path, path: Path, header: ArrayHeader, numbers: Sequence[int]) -> None:
    """Read the index of a shard, and refuse one that lacks a chunk within the array."""
    inner = header.inner or header.grid
    counts = [outer // small for outer, small in zip(header.grid, inner, strict=True)]
    n_bytes = math.prod(counts) * 16
    if not header.index:
        return
    with file.open("rb") as opened:
        if header.index == "end":
            opened.seek(-(n_bytes + 4), 2)  # a checksum of four bytes follows
        index = np.frombuffer(opened.read(n_bytes), dtype="<u8")
    if len(index) * 8 != n_bytes:
        raise ImageError(_absent(file.relative_to(path).as_posix(), path, "cut short"))
    inside = np.ones(counts, dtype=bool)
    for axis, (number, outer, small, side) in enumerate(zip(numbers, header.grid, inner, header.shape, strict=True)):
        starts = number * outer + np.arange(counts[axis]) * small
        inside &= (starts < side).reshape([-1 if k == axis else 1 for k in range(len(counts))])
    lacking = (index.reshape(*counts, 2)[..., 0] == _ABSENT) & inside
    if lacking.any():
        what = f"{int(lacking.sum())} of the chunks in {file.relative_to(path).as_posix()}"
        raise ImageError(_absent(what, path, None))


def _check_length(file: Path, header: ArrayHeader, head: bytes, n_bytes: int) -> None:
    """Refuse a chunk of another length, by its size if raw, else by its header."""
    if not header.codec:
        if n_bytes != header.chunk_bytes:
            raise ImageError(f"{file} holds {n_bytes} bytes, and a chunk has {header.chunk_bytes}. Copy it again.")
    elif _claims(header.codec, head) > header.chunk_bytes:
        message = f"{file} claims {_claims(header.codec, head)} bytes, and a chunk has {header.chunk_bytes}. "
        message += "Copy it again."
        raise ImageError(message)


def _claims(codec: str, head: bytes) -> int:
    """Return how many bytes a chunk's header claims; 0 where it does not say."""
    if codec == "zstd":
        return content_size(head) or 0
    if codec == "blosc" and len(head) >= _BLOSC.size:
        return int(_BLOSC.unpack_from(head)[4])
    if codec in ("lz4", "numcodecs.lz4"):
        return int.from_bytes(head[:4], "little")
    return 0


def _absent(what: str, path: Path, reason: str | None) -> str:
    said = f" ({reason})" if reason else ""
    return (
        f"{path}: {what} is absent{said}. It was lost, or left out by a writer because all of it is one value: copy it "
        "again, or write the plate with write_empty_chunks=True."
    )


def _format_3(path: Path) -> ArrayHeader:
    said = _json(path / "zarr.json")
    if said["node_type"] != "array" or said["chunk_grid"]["name"] != "regular":
        raise ValueError(f"{said['node_type']}, chunks {said.get('chunk_grid', {}).get('name')}")
    keys = said["chunk_key_encoding"]
    default = keys["name"] == "default"
    separator = str(keys.get("configuration", {}).get("separator", "/" if default else "."))
    shards = [codec["configuration"] for codec in said["codecs"] if codec["name"] == "sharding_indexed"]
    usual = bool(shards) and [codec["name"] for codec in shards[0].get("index_codecs", [])] == ["bytes", "crc32c"]
    return ArrayHeader(
        dtype=str(said["data_type"]),
        shape=_sides(said["shape"]),
        grid=_sides(said["chunk_grid"]["configuration"]["chunk_shape"]),
        inner=_sides(shards[0]["chunk_shape"]) if shards else None,
        index=str(shards[0].get("index_location", "end")) if usual else "",
        prefix=f"c{separator}" if default else "",
        separator=separator,
        zarr_format=3,
        codec=_codec_3(said["codecs"]),
    )


def _format_2(path: Path) -> ArrayHeader:
    said = _json(path / ".zarray")
    return ArrayHeader(
        dtype=np.dtype(str(said["dtype"])).newbyteorder("=").name,
        shape=_sides(said["shape"]),
        grid=_sides(said["chunks"]),
        inner=None,
        index="",
        prefix="",
        separator=str(said.get("dimension_separator", ".")),
        zarr_format=2,
        codec="?" if said.get("filters") else str((said.get("compressor") or {}).get("id", "")),
    )


def _codec_3(codecs: Sequence[dict[str, Any]]) -> str:
    """Return the one codec that compresses a chunk of format 3."""
    names = [str(codec["name"]) for codec in codecs]
    packing = [name for name in names if name not in ("bytes", "transpose", "endian")]
    return "" if not packing else packing[0] if len(packing) == 1 else "?"


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return dict(found)


def _sides(values: Sequence[object]) -> tuple[int, ...]:
    return tuple(int(str(value)) for value in values)
