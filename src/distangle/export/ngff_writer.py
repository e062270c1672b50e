"""Write images and plates as OME-Zarr 0.4 (zarr format 2), without zarr itself."""

import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distangle.core.io import make_folder

VERSION = "0.4"
"""The version that napari-ome-zarr and vizarr both read; readers of 0.5 (zarr format 3) are fewer."""
CHUNK_SIDE = 1024  # pixels; a chunk has one channel
COARSEST_SIDE = 256  # pixels of the longer side, at most, of the coarsest level
_AXES: Mapping[str, Mapping[str, str]] = {
    "c": {"name": "c", "type": "channel"},
    "y": {"name": "y", "type": "space"},
    "x": {"name": "x", "type": "space"},
}


@dataclass(frozen=True, kw_only=True)
class DisplayChannel:
    """How a viewer shows a channel at first.

    Attributes:
        label: Its name.
        color: `RRGGBB`.
        low: Pixel value drawn as black.
        high: Pixel value drawn at full brightness.
        largest: Largest value that the pixels can have.
        active: Whether it is shown.
    """

    label: str
    color: str
    low: float
    high: float
    largest: float
    active: bool = True


@dataclass(frozen=True, kw_only=True)
class PixelGrid:
    """Where the pixels of an image lie.

    Attributes:
        size: Height and width of a pixel, in micrometers or in pixels of the site.
        in_um: Whether the unit is the micrometer.
        start: Position of the center of the first pixel.
    """

    size: tuple[float, float] = (1.0, 1.0)
    in_um: bool = False
    start: tuple[float, float] = (0.0, 0.0)

    def level(self, factor: int) -> "PixelGrid":
        """Return the grid of pixels that each cover `factor` x `factor` of these."""
        height, width = self.size
        shift = (factor - 1) / 2
        return PixelGrid(
            size=(height * factor, width * factor),
            in_um=self.in_um,
            start=(self.start[0] + shift * height, self.start[1] + shift * width),
        )


def write_group(folder: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """Write a group with its attributes.

    Args:
        folder: Folder of the group; it is made when absent.
        attributes: Its attributes.
    """
    make_folder(folder)
    _write(folder / ".zgroup", {"zarr_format": 2})
    if attributes:
        _write(folder / ".zattrs", attributes)


def write_image(
    folder: Path,
    image: np.ndarray,
    *,
    name: str,
    grid: PixelGrid,
    channels: Sequence[DisplayChannel] = (),
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write an image with coarser levels, as long as it is large.

    Args:
        folder: Folder of the image.
        image: uint8, uint16 or float32 [channel, height, width], or [height, width].
        name: Name of the image.
        grid: Its pixels.
        channels: Display of every channel; empty for none.
        about: Attributes of the group beside those of the format.

    Source: OME-NGFF 0.4, "multiscales" and "omero" metadata
    """
    datasets = []
    for number, pixels in enumerate(levels(image)):
        write_array(folder / str(number), pixels)
        datasets.append({"path": str(number), "coordinateTransformations": _transforms(grid.level(2**number), image)})
    unit = {"unit": "micrometer"} if grid.in_um else {}
    axes = [{**_AXES[axis], **(unit if axis != "c" else {})} for axis in "cyx"[-image.ndim :]]
    attributes: dict[str, Any] = {
        "multiscales": [{"version": VERSION, "name": name, "axes": axes, "datasets": datasets, "type": "mean"}]
    }
    if channels:
        displays = [
            {
                "label": channel.label,
                "color": channel.color,
                "active": channel.active,
                "window": {"start": channel.low, "end": channel.high, "min": 0.0, "max": channel.largest},
            }
            for channel in channels
        ]
        rendering = {"model": "color", "defaultT": 0, "defaultZ": 0}
        attributes["omero"] = {"version": VERSION, "name": name, "channels": displays, "rdefs": rendering}
    write_group(folder, {**attributes, **(about or {})})


def write_plate(
    folder: Path, wells: Mapping[tuple[str, str], int], *, name: str, about: Mapping[str, Any] | None = None
) -> None:
    """Write the metadata of a plate and its wells.

    Only rows and columns with a well are listed, so that a viewer shows the wells large.

    Args:
        folder: `NAME.zarr`.
        wells: Number of images by row and column, such as `("B", "02")`; the images are `B/02/0`, `B/02/1` ...
        name: Name of the plate.
        about: Attributes of the group beside those of the format.

    Source: OME-NGFF 0.4, "plate" and "well" metadata
    """
    rows = sorted({row for row, _ in wells}, key=lambda row: (len(row), row))
    columns = sorted({column for _, column in wells}, key=lambda column: (len(column), column))
    for row in rows:
        write_group(folder / row)
    for (row, column), n_images in wells.items():
        images = [{"path": str(number)} for number in range(n_images)]
        write_group(folder / row / column, {"well": {"version": VERSION, "images": images}})
    plate = {
        "version": VERSION,
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
            for row, column in sorted(wells, key=lambda well: (rows.index(well[0]), columns.index(well[1])))
        ],
        "field_count": max(wells.values(), default=0),
    }
    write_group(folder, {"plate": plate, **(about or {})})


def levels(image: np.ndarray) -> list[np.ndarray]:
    """Return the image and its means over squares of 2, 4, ... pixels.

    The last one has at most `COARSEST_SIDE` pixels a side. Incomplete squares are left out.

    Args:
        image: [..., height, width].
    """
    result = [image]
    while max(result[-1].shape[-2:]) > COARSEST_SIDE and min(result[-1].shape[-2:]) >= 2:
        *first, height, width = result[-1].shape
        squares = result[-1][..., : height // 2 * 2, : width // 2 * 2]
        squares = squares.reshape(*first, height // 2, 2, width // 2, 2)
        means = squares.mean(axis=(-3, -1), dtype=np.float32)
        is_float = np.issubdtype(image.dtype, np.floating)
        result.append((means if is_float else np.rint(means)).astype(image.dtype))
    return result


def write_array(folder: Path, array: np.ndarray) -> None:
    """Write an array in chunks of one channel, compressed by zlib.

    Args:
        folder: Folder of the array.
        array: uint8, uint16 or float32 [..., height, width].
    """
    little = array.dtype.newbyteorder("<")
    *first, height, width = array.shape
    chunk = (*(1 for _ in first), min(height, CHUNK_SIDE), min(width, CHUNK_SIDE))
    make_folder(folder)
    metadata = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunk),
        "dtype": little.str,
        "compressor": {"id": "zlib", "level": 1},
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }
    _write(folder / ".zarray", metadata)
    counts = [-(-side // step) for side, step in zip(array.shape, chunk, strict=True)]
    for place in itertools.product(*map(range, counts)):
        window = tuple(slice(k * step, (k + 1) * step) for k, step in zip(place, chunk, strict=True))
        block = np.zeros(chunk, dtype=little)  # also a chunk at the edge has the whole size
        part = array[window]
        block[tuple(slice(side) for side in part.shape)] = part
        path = folder.joinpath(*map(str, place))
        make_folder(path.parent)
        path.write_bytes(zlib.compress(block.tobytes(), 1))


def _transforms(grid: PixelGrid, image: np.ndarray) -> list[dict[str, Any]]:
    n_others = image.ndim - 2
    result: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * n_others + [float(size) for size in grid.size]}]
    if any(grid.start):
        result.append(
            {"type": "translation", "translation": [0.0] * n_others + [float(position) for position in grid.start]}
        )
    return result


def _write(path: Path, content: Mapping[str, Any]) -> None:
    # The folder is made new as a whole, so no file of it is replaced.
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
