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
CHUNK = ("0", "c", "0", "0", "0")  # path in the folder of an image: array `0`, its only chunk
METADATA_FILE = "zarr.json"


def write_plate(
    folder: Path, *, name: str, wells: Mapping[str, Sequence[str]], rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Write the metadata of a plate and its wells.

    Args:
        folder: `NAME.zarr`.
        name: Name of the plate.
        wells: Fields of each well, by a path such as `B/02`.
        rows: Letters of all rows of the plate.
        columns: Numbers of all columns, such as `02`.

    Source: OME-NGFF 0.5, "plate" and "well" metadata
    """
    well_list = [
        {"path": path, "rowIndex": rows.index(path.split("/")[0]), "columnIndex": columns.index(path.split("/")[1])}
        for path in wells
    ]
    plate = {
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": well_list,
        "field_count": max(map(len, wells.values()), default=0),
        "acquisitions": [{"id": 0}],
    }
    for well_folder in {folder, *(folder / path for path in wells), *((folder / path).parent for path in wells)}:
        remove_stale_temporaries(well_folder)
    for path, fields in wells.items():
        images = [{"path": field, "acquisition": 0} for field in fields]
        _write_group(folder / path, {"version": VERSION, "well": {"images": images}})
    for row in {path.split("/")[0] for path in wells}:
        write_json(folder / row / METADATA_FILE, {"zarr_format": 3, "node_type": "group", "attributes": {}})
    _write_group(folder, {"version": VERSION, "plate": plate})


def write_image(
    folder: Path, image: np.ndarray, *, level: int, channels: Sequence[Channel], about: Mapping[str, Any]
) -> Path:
    """Write metadata and array of one field; return the file of its only chunk.

    Args:
        folder: `NAME.zarr/B/02/0`.
        image: uint8 or uint16 [channel, height, width].
        level: Level of zstd.
        channels: Names and colors.
        about: Additional attributes beside `ome`.
    """
    chunk = folder.joinpath(*CHUNK)
    write_bytes(
        chunk, compress(np.ascontiguousarray(image).astype(image.dtype.newbyteorder("<")).tobytes(), level=level)
    )
    write_json(folder / CHUNK[0] / METADATA_FILE, _array_metadata(image, level=level))
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    ome = {
        "version": VERSION,
        "multiscales": [{"axes": axes, "datasets": [{"path": CHUNK[0], "coordinateTransformations": scale}]}],
        "omero": {"channels": [_omero_channel(channel, plane) for channel, plane in zip(channels, image, strict=True)]},
    }
    _write_group(folder, ome, about)
    return chunk


def read_chunk(blob: bytes, *, path: Path) -> np.ndarray:
    """Return the image of a chunk of `write_image`.

    Args:
        blob: Content of the file.
        path: Path of the chunk; the `zarr.json` of its array lies four folders up.

    Returns:
        uint8 or uint16 [channel, height, width].

    Raises:
        ImageError: The chunk is damaged, or is not the only chunk of an array with zstd alone.
    """
    shape, dtype = describe_array(path)
    content = decompress(blob, n_bytes=int(np.prod(shape)) * dtype.itemsize, path=path)
    return content.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def describe_array(chunk: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and pixel type of the array of a chunk.

    Raises:
        ImageError: The array does not exist, has several chunks, or uses other codecs.
    """
    path = chunk.parents[len(CHUNK) - 2] / METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        shape = tuple(int(side) for side in metadata["shape"])
        codecs = [codec["name"] for codec in metadata["codecs"]]
        dtype = np.dtype(metadata["data_type"])
        is_single_chunk = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]) == shape
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{chunk} belongs to no array: {path} cannot be understood ({error}). Pack the screen again."
        ) from error
    if not is_single_chunk or codecs != ["bytes", "zstd"] or len(shape) != 3 or str(dtype) not in ("uint8", "uint16"):
        raise ImageError(
            f"{path}: {dtype} {shape} by {codecs}; expected one chunk of uint8 or uint16 by bytes and zstd."
        )
    return shape, dtype


def metadata_of(chunk: Path) -> dict[str, Any]:
    """Return the attributes beside `ome` of a chunk's image; empty if unreadable."""
    path = chunk.parents[len(CHUNK) - 1] / METADATA_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["attributes"]["distangle"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_group(folder: Path, ome: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    attributes = {"ome": ome, **({"distangle": about} if about else {})}
    write_json(folder / METADATA_FILE, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _array_metadata(image: np.ndarray, *, level: int) -> dict[str, Any]:
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


def _omero_channel(channel: Channel, plane: np.ndarray) -> dict[str, Any]:
    low, high = (float(value) for value in np.percentile(plane[::4, ::4], (1, 99.8)))
    return {
        "label": channel.name,
        "color": (channel.color or "#FFFFFF").removeprefix("#"),
        "active": True,
        "window": {"start": low, "end": max(high, low + 1), "min": 0.0, "max": float(np.iinfo(plane.dtype).max)},
    }
