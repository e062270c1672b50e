"""Write OME-Zarr plates (NGFF 0.5, zarr 3) with one chunk for each image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distangle.core.io import remove_stale_temporaries, write_bytes, write_json
from distangle.errors import ImageError
from distangle.images.packing.codec import compress, decompress
from distangle.screen import Channel

VERSION = "0.5"
CHUNK = ("0", "c", "0", "0", "0")  # of an image: array `0`, the one chunk of channel, row and column
DESCRIBED = "zarr.json"


def write_plate(
    folder: Path, *, name: str, wells: Mapping[str, Sequence[str]], rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Write what a plate and its wells say of themselves.

    Args:
        folder: `NAME.zarr`.
        name: Of the plate.
        wells: `B/02` to the fields in it.
        rows: Letters of the rows of the whole plate.
        columns: Numbers of the columns, such as `02`.

    Source: OME-NGFF 0.5, "plate" and "well" metadata
    """
    listed = [
        {"path": path, "rowIndex": rows.index(path.split("/")[0]), "columnIndex": columns.index(path.split("/")[1])}
        for path in wells
    ]
    plate = {
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": listed,
        "field_count": max(map(len, wells.values()), default=0),
        "acquisitions": [{"id": 0}],
    }
    for touched in {folder, *(folder / path for path in wells), *((folder / path).parent for path in wells)}:
        remove_stale_temporaries(touched)
    for path, fields in wells.items():
        images = [{"path": field, "acquisition": 0} for field in fields]
        _group(folder / path, {"version": VERSION, "well": {"images": images}})
    for row in {path.split("/")[0] for path in wells}:
        write_json(folder / row / DESCRIBED, {"zarr_format": 3, "node_type": "group", "attributes": {}})
    _group(folder, {"version": VERSION, "plate": plate})


def write_image(
    folder: Path, image: np.ndarray, *, level: int, channels: Sequence[Channel], about: Mapping[str, Any]
) -> Path:
    """Write metadata and array of one field; return the file of its only chunk.

    Args:
        folder: `NAME.zarr/B/02/0`.
        image: uint8 or uint16 [channel, height, width].
        level: Of zstd.
        channels: Names and colours.
        about: Kept as attributes beside `ome`.
    """
    chunk = folder.joinpath(*CHUNK)
    write_bytes(
        chunk, compress(np.ascontiguousarray(image).astype(image.dtype.newbyteorder("<")).tobytes(), level=level)
    )
    write_json(folder / CHUNK[0] / DESCRIBED, _array(image, level=level))
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    ome = {
        "version": VERSION,
        "multiscales": [{"axes": axes, "datasets": [{"path": CHUNK[0], "coordinateTransformations": scale}]}],
        "omero": {"channels": [_shown(channel, plane) for channel, plane in zip(channels, image, strict=True)]},
    }
    _group(folder, ome, about)
    return chunk


def read_chunk(blob: bytes, *, path: Path) -> np.ndarray:
    """Return the image of a chunk, uint8 or uint16 [channel, height, width].

    `write_image` wrote the chunk.

    Args:
        blob: The whole file.
        path: Of the chunk; its array's `zarr.json` lies four folders up.

    Raises:
        ImageError: It is damaged, or is not the only chunk of an array of zstd alone.
    """
    shape, dtype = describe_array(path)
    plain = decompress(blob, n_bytes=int(np.prod(shape)) * dtype.itemsize, path=path)
    return plain.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def describe_array(chunk: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and pixel type of the array that a chunk is of.

    Raises:
        ImageError: There is no such array, or it has more than this chunk or other codecs.
    """
    path = chunk.parents[len(CHUNK) - 2] / DESCRIBED
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        shape = tuple(int(side) for side in said["shape"])
        codecs = [codec["name"] for codec in said["codecs"]]
        dtype = np.dtype(said["data_type"])
        one = tuple(said["chunk_grid"]["configuration"]["chunk_shape"]) == shape
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{chunk} belongs to no array: {path} cannot be understood ({error}). Pack the screen again."
        ) from error
    if not one or codecs != ["bytes", "zstd"] or len(shape) != 3 or str(dtype) not in ("uint8", "uint16"):
        raise ImageError(
            f"{path}: {dtype} {shape} by {codecs}; expected one chunk of uint8 or uint16 by bytes and zstd."
        )
    return shape, dtype


def _group(folder: Path, ome: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    attributes = {"ome": ome, **({"distangle": about} if about else {})}
    write_json(folder / DESCRIBED, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _array(image: np.ndarray, *, level: int) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(image.shape),
        "data_type": str(image.dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(image.shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}} if image.dtype.itemsize > 1 else {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": level, "checksum": True}},
        ],
        "dimension_names": ["c", "y", "x"],
        "attributes": {},
    }


def _shown(channel: Channel, plane: np.ndarray) -> dict[str, Any]:
    low, high = (float(value) for value in np.percentile(plane[::4, ::4], (1, 99.8)))
    return {
        "label": channel.name,
        "color": (channel.colour or "#FFFFFF").removeprefix("#"),
        "active": True,
        "window": {"start": low, "end": max(high, low + 1), "min": 0.0, "max": float(np.iinfo(plane.dtype).max)},
    }


def metadata_of(chunk: Path) -> dict[str, Any]:
    """Return the attributes beside `ome` of a chunk's image; empty if unreadable."""
    path = chunk.parents[len(CHUNK) - 1] / DESCRIBED
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["attributes"]["distangle"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
