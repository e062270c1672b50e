"""What OME-Zarr says of itself, in JSON: groups, arrays and channels, of NGFF 0.4 and 0.5, no pixel read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distangle.errors import ScreenError
from distangle.remote import AnyPath

_LARGEST = 64 << 20  # bytes of metadata that anything honest has


@dataclass(frozen=True, kw_only=True)
class Field:
    """An image of a plate.

    Attributes:
        array: Its largest array, relative to the image.
        n_planes: How many planes the array has.
        planes: Plane of each channel, counted over all axes before y and x, the last of them fastest.
        labels: Name of each channel, "" where it has none.
        colours: `#RRGGBB` of each channel, "" where it has none.
        about: What `distangle pack` wrote beside.
    """

    array: str
    n_planes: int
    planes: tuple[int, ...]
    labels: tuple[str, ...]
    colours: tuple[str, ...]
    about: Mapping[str, Any]


def attributes(group: AnyPath) -> dict[str, Any] | None:
    """Return what a group says of itself, with `ome` unwrapped; None where there is no group.

    Raises:
        ScreenError: The metadata cannot be read.
    """
    found = _json(group / "zarr.json")
    if found is not None:
        said = _mapping(found.get("attributes", {}), group)
        ome = _mapping(said.get("ome", {}), group)
        return {**ome, "distangle": said.get("distangle", {})}
    return _json(group / ".zattrs")


def read_field(image: AnyPath) -> Field:
    """Return what an image says of its largest array and its channels.

    Source: OME-NGFF 0.4 and 0.5, "multiscales" and "omero" metadata

    Raises:
        ScreenError: There is no image, its axes are not understood, or it has several planes or times.
    """
    said = attributes(image)
    if said is None:
        message = "there is no image (neither zarr.json nor .zattrs)"
        raise ScreenError(message)
    try:
        scales = said["multiscales"][0]
        path = str(scales["datasets"][0]["path"])
        axes = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in scales.get("axes", "tczyx")]
        shown = said.get("omero", {}).get("channels", [])
        labels = [str(channel.get("label") or "") for channel in shown]
        colours = [_colour(channel.get("color")) for channel in shown]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        message = f"its metadata do not say where its array is ({type(error).__name__}: {error})"
        raise ScreenError(message) from error
    if ".." in path.split("/") or path.startswith("/"):
        message = f"its array {path!r} lies outside"
        raise ScreenError(message)
    shape = _shape(image / path)
    if axes[-2:] != ["y", "x"] or len(axes) != len(shape) or not set(axes) <= set("tczyx"):
        message = f"axes {''.join(axes)!r} of an array {list(shape)}: expected some of t, c, z, then y, x"
        raise ScreenError(message)
    sizes = dict(zip(axes, shape, strict=True))
    several = {name: sizes[name] for name in ("t", "z") if sizes.get(name, 1) != 1}
    if several:
        message = f"several planes or times: {', '.join(f'{name} = {size}' for name, size in several.items())}"
        raise ScreenError(message)
    n_channels = sizes.get("c", 1)
    blank = [""] * n_channels
    return Field(
        array=path,
        n_planes=n_channels,
        planes=tuple(range(n_channels)),
        labels=tuple(labels if len(labels) == n_channels else blank),
        colours=tuple(colours if len(colours) == n_channels else blank),
        about=said.get("distangle", {}) if isinstance(said.get("distangle", {}), dict) else {},
    )


def _shape(array: AnyPath) -> tuple[int, ...]:
    found = _json(array / "zarr.json")
    if found is None:
        found = _json(array / ".zarray")
    if found is None or "shape" not in found:
        message = f"there is no array {array.name!r} (neither zarr.json nor .zarray)"
        raise ScreenError(message)
    try:
        return tuple(int(side) for side in found["shape"])
    except (TypeError, ValueError) as error:
        message = f"its array has the shape {found['shape']!r}"
        raise ScreenError(message) from error


def _json(path: AnyPath) -> dict[str, Any] | None:
    try:
        blob = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        raise ScreenError(message) from error
    try:
        if len(blob) > _LARGEST:
            message = f"{len(blob)} bytes"
            raise ValueError(message)
        return _mapping(json.loads(blob), path)
    except (ValueError, RecursionError) as error:
        message = f"{path} is no metadata of Zarr ({error}). Copy it again"
        raise ScreenError(message) from error


def _mapping(value: Any, place: AnyPath) -> dict[str, Any]:
    if not isinstance(value, dict):
        message = f"{place} holds {type(value).__name__} where names and values are expected"
        raise ScreenError(message)
    return value


def _colour(said: object) -> str:
    text = str(said or "").removeprefix("#")[:6]
    return f"#{text}" if len(text) == 6 and all(sign in "0123456789abcdefABCDEF" for sign in text) else ""
