"""Read the JSON metadata of OME-Zarr 0.4 and 0.5."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError

_MICROMETERS = {"micrometer": 1.0, "micron": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "meter": 1e6, "angstrom": 1e-4}
_MAX_BYTES = 64 << 20  # bytes of metadata


@dataclass(frozen=True, kw_only=True)
class NgffImage:
    """Metadata of one image of a plate.

    Attributes:
        array: Path of its largest array, relative to the image.
        sizes: Length of each axis before y and x, in order.
        labels: Name of each channel; "" if missing.
        colors: `#RRGGBB` of each channel; "" if missing.
        pack_record: Metadata written by `distangle pack`.
        pixel_size_um: Pixel size in micrometers; None without a unit of length, or if y and x differ.
    """

    array: str
    sizes: Mapping[str, int]
    labels: tuple[str, ...]
    colors: tuple[str, ...]
    pack_record: Mapping[str, Any]
    pixel_size_um: float | None = None

    @property
    def n_planes(self) -> int:
        """Number of planes over all axes before y and x."""
        return math.prod(self.sizes.values())

    @property
    def repeated_axes(self) -> dict[str, int]:
        """Lengths of t and z that are not 1."""
        return {name: self.sizes[name] for name in ("t", "z") if self.sizes.get(name, 1) != 1}

    def page(self, **position: int) -> int:
        """Return the index of a plane over all axes before y and x, last fastest.

        Args:
            position: Index from 0 on `c`, `z` and `t`; default 0.
        """
        page = 0
        for name, size in self.sizes.items():
            page = page * size + position.get(name, 0)
        return page


def read_attributes(group: AnyPath) -> dict[str, Any] | None:
    """Read the attributes of a group with `ome` unwrapped; None without a group.

    Raises:
        ScreenError: The metadata are unreadable.
    """
    document = _read_json(group / "zarr.json")
    if document is not None:
        group_attributes = _require_mapping(document.get("attributes", {}), group)
        ome = _require_mapping(group_attributes.get("ome", {}), group)
        return {**ome, "distangle": group_attributes.get("distangle", {})}
    return _read_json(group / ".zattrs")


def read_field(image: AnyPath) -> NgffImage:
    """Read the metadata of the largest array and of the channels of an image.

    Source: OME-NGFF 0.4 and 0.5, "multiscales" and "omero" metadata

    Raises:
        ScreenError: There is no image, or its axes are not supported.
    """
    metadata = read_attributes(image)
    if metadata is None:
        raise ScreenError("there is no image (neither zarr.json nor .zattrs)")
    try:
        scales = metadata["multiscales"][0]
        path = str(scales["datasets"][0]["path"])
        axes = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in scales.get("axes", "tczyx")]
        channels = metadata.get("omero", {}).get("channels", [])
        labels = [str(channel.get("label") or "") for channel in channels]
        colors = [_hex_color(channel.get("color")) for channel in channels]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ScreenError(
            f"its metadata contain no valid path of an array ({type(error).__name__}: {error})"
        ) from error
    if ".." in path.split("/") or path.startswith("/"):
        raise ScreenError(f"its array {path!r} lies outside the image")
    shape = _array_shape(image / path)
    if axes[-2:] != ["y", "x"] or len(axes) != len(shape) or not set(axes) <= set("tczyx"):
        raise ScreenError(f"axes {''.join(axes)!r} of an array {list(shape)}: expected some of t, c, z, then y, x")
    sizes = dict(zip(axes, shape, strict=True))
    n_channels = sizes.get("c", 1)
    blank = [""] * n_channels
    return NgffImage(
        array=path,
        sizes={name: size for name, size in sizes.items() if name not in ("y", "x")},
        labels=tuple(labels if len(labels) == n_channels else blank),
        colors=tuple(colors if len(colors) == n_channels else blank),
        pack_record=metadata.get("distangle", {}) if isinstance(metadata.get("distangle", {}), dict) else {},
        pixel_size_um=_pixel_size(scales),
    )


def _pixel_size(scales: Mapping[str, Any]) -> float | None:
    """Return the pixel size of the largest array in micrometers, if known."""
    try:
        units = [str(axis.get("unit", "")) for axis in scales["axes"][-2:]]
        steps = [
            *scales["datasets"][0].get("coordinateTransformations", []),
            *scales.get("coordinateTransformations", []),
        ]
        sides = [1.0, 1.0]
        for step in steps:
            if step.get("type") == "scale":
                sides = [side * float(factor) for side, factor in zip(sides, step["scale"][-2:], strict=True)]
        y, x = (side * _MICROMETERS[unit] for side, unit in zip(sides, units, strict=True))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return y if y > 0 and math.isfinite(y) and math.isclose(x, y, rel_tol=1e-3) else None


def _array_shape(array: AnyPath) -> tuple[int, ...]:
    document = _read_json(array / "zarr.json")
    if document is None:
        document = _read_json(array / ".zarray")
    if document is None or "shape" not in document:
        raise ScreenError(f"there is no array {array.name!r} (neither zarr.json nor .zarray)")
    try:
        return tuple(int(side) for side in document["shape"])
    except (TypeError, ValueError) as error:
        raise ScreenError(f"its array has the shape {document['shape']!r}") from error


def _read_json(path: AnyPath) -> dict[str, Any] | None:
    try:
        blob = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ScreenError(f"{path} is unreadable: {error.strerror or error}") from error
    try:
        if len(blob) > _MAX_BYTES:
            raise ValueError(f"{len(blob)} bytes")
        return _require_mapping(json.loads(blob), path)
    except (ValueError, RecursionError) as error:
        raise ScreenError(f"{path} is not valid Zarr metadata ({error}). Copy it again") from error


def _require_mapping(value: Any, path: AnyPath) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ScreenError(f"{path} contains {type(value).__name__}, expected an object of names and values")
    return value


def _hex_color(value: object) -> str:
    text = str(value or "").removeprefix("#")[:6]
    return f"#{text}" if len(text) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in text) else ""
