"""Planes whose pixels encode their position in the screen, and the files that hold them."""

import dataclasses
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile
from PIL import Image

_MARK, _OFFSET, _GRAIN = 91, 20, 100  # a 16-bit pixel holds a hundred times the code
_PLAIN, _SMALL = 0, 1


class Place(NamedTuple):
    """The position of a plane; all numbers start at 0, except plane and time, which start at 1."""

    experiment: int
    plate: int
    row: int
    column: int
    site: int
    channel: int
    plane: int = 1
    time: int = 1
    acquisition: int = 0
    kind: int = _PLAIN

    @property
    def well(self) -> tuple[int, int, int, int]:
        return (self.experiment, self.plate, self.row, self.column)

    @property
    def axis_values(self) -> tuple[int, int, int]:
        return (self.plane, self.time, self.acquisition)


def thumbnail(place: Place) -> Place:
    return place._replace(kind=_SMALL)


def plane_of(place: Place, shape: tuple[int, int], dtype: str, rng: np.random.Generator, first: int = 7) -> np.ndarray:
    """Return pixels that `place_of` reads; the first one is free, each channel has a brightness of its own."""
    pixels = rng.integers(0, 16, shape) + 30 + 60 * (place.channel % 4)
    code = [_MARK, *(number + _OFFSET for number in place)]
    code.append(sum(code) % 200 + 3)
    fine = rng.integers(0, _GRAIN, shape)
    flat = pixels.reshape(-1)
    flat[1 : len(code) + 1] = code
    if dtype == "uint16":
        pixels = pixels * _GRAIN + fine
    pixels.reshape(-1)[0] = first
    return pixels.astype(dtype)


def place_of(pixels: np.ndarray) -> Place | None:
    """Return what a plane shows; None where its pixels are not as they were written."""
    flat = pixels.reshape(-1).astype(int) // (1 if pixels.dtype == np.uint8 else _GRAIN)
    n = len(Place._fields)
    code = flat[1 : n + 2].tolist()
    if code[0] != _MARK or flat[n + 2] != sum(code) % 200 + 3:
        return None
    return Place(*(number - _OFFSET for number in code[1:]))


@dataclasses.dataclass
class FilePlan:
    """A file that is to be written.

    Attributes:
        pages: What its pages show, in the order of the file.
        way: `png`, or how a TIFF is packed: `raw`, `zlib`, `lzw`.
        description: Of its first page: OME-XML or ImageJ's lines.
        white: The darkest pixel is the largest number: PhotometricInterpretation 0.
        reduced: From this page on pages are reduced images (NewSubfileType 1).
        byteorder: Of a TIFF.
    """

    pages: Sequence[Place]
    way: str
    description: str = ""
    white: bool = False
    reduced: int | None = None
    byteorder: Literal["<", ">"] = "<"


def write_file(path: Path, plan: FilePlan, shape: tuple[int, int], dtype: str, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = [plane_of(place, shape, dtype, rng) for place in plan.pages]
    if plan.white:
        planes = [np.iinfo(plane.dtype).max - plane for plane in planes]
    if plan.way == "png":
        Image.fromarray(planes[0]).save(path, format="PNG", compress_level=1)
        return
    if plan.way == "lzw":
        images = [Image.fromarray(plane) for plane in planes]
        images[0].save(path, format="TIFF", compression="tiff_lzw", save_all=len(images) > 1, append_images=images[1:])
        if plan.white:
            _turn_white(path)
        return
    with tifffile.TiffWriter(path, byteorder=plan.byteorder, ome=False) as tiff:
        for k, plane in enumerate(planes):
            tiff.write(
                plane,
                photometric="miniswhite" if plan.white else "minisblack",
                compression=None if plan.way == "raw" else plan.way,
                metadata=None,
                description=plan.description.encode() if plan.description and k == 0 else None,
                subfiletype=1 if plan.reduced is not None and k >= plan.reduced else 0,
            )


def _turn_white(path: Path) -> None:
    """Overwrite the tag of every page: Pillow would invert the pixels itself."""
    blob = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            start = page.tags[262].offset + 8
            blob[start : start + 2] = (0).to_bytes(2, "little")
    path.write_bytes(blob)


def ome_xml(
    shape: tuple[int, int],
    dtype: str,
    *,
    order: str,
    sizes: Mapping[str, int],
    channels: Sequence[str] = (),
    blocks: Sequence[Mapping[str, int]] = (),
) -> str:
    """Return OME-XML of one image; `order` is such as `XYZCT`, `sizes` of Z, C and T, `blocks` the TiffData."""
    channels_xml = "".join(f'<Channel ID="Channel:0:{k}" Name={quoteattr(name)}/>' for k, name in enumerate(channels))
    tags = [" ".join(f'{key}="{value}"' for key, value in block.items()) for block in blocks]
    data = "".join(f"<TiffData {tag}/>" for tag in tags)
    size = " ".join(f'Size{axis}="{sizes.get(axis, 1)}"' for axis in "CZT")
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="{dtype}" SizeX="{shape[1]}" '
        f'SizeY="{shape[0]}" {size}>{channels_xml}{data or "<TiffData/>"}</Pixels></Image></OME>'
    )


def imagej_lines(*, channels: int = 1, slices: int = 1, frames: int = 1) -> str:
    return (
        f"ImageJ=1.53t\nimages={channels * slices * frames}\nchannels={channels}\nslices={slices}\n"
        f"frames={frames}\nhyperstack=true\nmode=grayscale\nloop=false\n"
    )


def write_group(folder: Path, attributes: Mapping[str, Any], version: str) -> None:
    """Write the metadata of an OME-Zarr group, by hand from the specification."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}', encoding="utf-8")
        (folder / ".zattrs").write_text(json.dumps(attributes), encoding="utf-8")
    else:
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **attributes}}}
        (folder / "zarr.json").write_text(json.dumps(document), encoding="utf-8")


def write_array(folder: Path, pixels: np.ndarray, version: str, *, is_compressed: bool, whole: bool) -> None:
    """Write a Zarr array: one chunk per plane, or one chunk if `whole`; compressed with gzip if `is_compressed`."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = list(pixels.shape) if whole else [1] * (pixels.ndim - 2) + list(pixels.shape[-2:])
    pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    if version == "0.4":
        metadata: dict[str, Any] = {
            "zarr_format": 2,
            "shape": list(pixels.shape),
            "chunks": chunks,
            "dtype": pixels.dtype.str,
            "order": "C",
            "fill_value": 0,
            "filters": None,
            "compressor": {"id": "gzip", "level": 1} if is_compressed else None,
            "dimension_separator": "/",
        }
        (folder / ".zarray").write_text(json.dumps(metadata), encoding="utf-8")
    else:
        codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        codecs += [{"name": "gzip", "configuration": {"level": 1}}] if is_compressed else []
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(pixels.shape),
            "data_type": pixels.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": codecs,
            "attributes": {},
        }
        (folder / "zarr.json").write_text(json.dumps(metadata), encoding="utf-8")
    root = folder if version == "0.4" else folder / "c"
    leading = (1,) * (pixels.ndim - 2) if whole else pixels.shape[:-2]
    for index in np.ndindex(*leading):
        file = root.joinpath(*map(str, index), "0", "0")
        file.parent.mkdir(parents=True, exist_ok=True)
        blob = (pixels if whole else pixels[index]).tobytes()
        file.write_bytes(gzip.compress(blob, 1, mtime=0) if is_compressed else blob)
