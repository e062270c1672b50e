"""Choose plane, time, cycle and acquisition of images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.readers.filenames.folders import AXES
from distangle.screen.readers.filenames.plates import is_same_value
from distangle.screen.roles import natural_sort_key

AxisValues = tuple[tuple[str, str], ...]
"""Axes and values of an image within its site and channel, such as `(("plane", "2"),)`."""

_AXIS_OF = {
    **{name: "plane" for name in ("plane", "z", "zplane", "z_plane", "zstep", "slice")},
    **{name: "time" for name in ("time", "timepoint", "time_point", "t", "frame", "day", "hour")},
    **{name: "cycle" for name in ("cycle", "round")},
    **{name: "acquisition" for name in ("acquisition", "measurement", "pass", "scan")},
}
_FLAGS = {"plane": "--plane", "time": "--time", "cycle": "--cycle", "acquisition": "--acquisition"}


def plane_and_time(folder: Mapping[str, str], name: Mapping[str, str], extra: Iterable[str]) -> AxisValues:
    """Return plane, time, cycle and acquisition of an image.

    Args:
        folder: Fields from its folders.
        name: Fields from its file name.
        extra: Fields of the name that become columns; a site has one value of each.
    """
    axis_values: dict[str, str] = {}
    for field_name, value in name.items():
        axis = _AXIS_OF.get(field_name.lower())
        if axis is not None:
            axis_values[axis if axis not in axis_values else field_name] = value
        elif field_name in extra:
            axis_values[field_name] = value
    for axis, value in folder.items():
        if axis == "site":
            continue
        if axis in axis_values and not is_same_value(axis_values[axis], value):
            axis_values[f"{axis} of the folder"] = value
        axis_values.setdefault(axis, value)
    return tuple(axis_values.items())


@dataclass(frozen=True, kw_only=True)
class PlaneChoice:
    """The selected plane, time, cycle and acquisition.

    Attributes:
        planes: Plane of each channel as written in the files; `""` for all others.
        values: Selected `time`, `cycle` and `acquisition`.
    """

    planes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def selects(self, channel: str, axis_values: AxisValues) -> bool:
        """Test whether an image has the selected plane, time, cycle and acquisition."""
        plane = self.planes.get(channel, self.planes.get("", ""))
        selected = {**self.values, **({"plane": plane} if plane else {})}
        actual = dict(axis_values)
        return all(axis in actual and is_same_value(actual[axis], value) for axis, value in selected.items())

    def without_plane(self, axis_values: AxisValues) -> AxisValues:
        """Drop the plane if channels have planes of their own."""
        return tuple((axis, value) for axis, value in axis_values if not (axis == "plane" and set(self.planes) - {""}))

    def describe(self, channel: str = "") -> str:
        """Return the selection as text, such as `plane 2, time 1`; "" without one."""
        plane = self.planes.get(channel, self.planes.get("", ""))
        return describe_plane((*((("plane", plane),) if plane else ()), *self.values.items()))


def read_planes(items: Sequence[str], channels: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Parse `--plane` into the plane of every channel.

    Args:
        items: `PLANE` for all channels, `CHANNEL=PLANE` for one.
        channels: Name and spelling of every channel.

    Raises:
        ScreenError: A channel is unknown, named twice, or without a plane.
    """
    planes: dict[str, str] = {}
    names = {name: key for name, key in channels} | {key: key for _, key in channels}
    for item in items:
        name, separator, plane = item.rpartition("=")
        name, plane = name.strip(), plane.strip()
        key = next((names[spelling] for spelling in names if is_same_value(spelling, name)), None) if separator else ""
        if key is None:
            raise ScreenError(
                f"--plane {item}: no channel {name!r}. {did_you_mean(name, [name for name, _ in channels])}"
            )
        if not plane or key in planes:
            message = f"--plane {','.join(items)}: write one plane for all channels, --plane 2, or one for each, "
            message += "--plane DNA=3,actin=5."
            raise ScreenError(message)
        planes[key] = plane
    unassigned = [name for name, key in channels if key not in planes]
    if planes and "" not in planes and unassigned:
        message = (
            f"--plane {','.join(items)} has no plane for the channel {', '.join(unassigned)}. Name the plane of each "
        )
        message += f"channel: --plane {','.join([*items, f'{unassigned[0]}=...'])}; or exclude the channel with "
        message += "--channels."
        raise ScreenError(message)
    return planes


def choose_plane(
    images: Sequence[tuple[str, AxisValues]],
    channels: Sequence[tuple[str, str]],
    *,
    planes: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> PlaneChoice:
    """Validate the selected plane, time, cycle and acquisition.

    Args:
        images: Spelling of the channel, and axis values, of each image.
        channels: Name and spelling of every channel.
        planes: `PLANE` for all channels, `CHANNEL=PLANE` for one.
        values: Selected `time`, `cycle` and `acquisition`.

    Raises:
        ScreenError: No image has a selected value, or a channel has none with it.
    """
    values = dict(values or {})
    values_of: dict[tuple[str, str], set[str]] = {}
    for channel, axis_values in images:
        for axis, value in axis_values:
            values_of.setdefault((channel, axis), set()).add(value)
    choice = PlaneChoice(planes=read_planes(planes, channels), values=values)
    for axis, selected in [*values.items(), *(("plane", plane) for plane in choice.planes.values())]:
        if not any(known_axis == axis for _, known_axis in values_of):
            message = (
                f"{_FLAGS[axis]} {selected}: no file name and no folder contains a {axis}. Write {{{axis}}} at its "
            )
            message += f"position in --pattern, or omit {_FLAGS[axis]}."
            raise ScreenError(message)
    for name, key in channels:
        plane = choice.planes.get(key, choice.planes.get("", ""))
        for axis, selected in [*values.items(), *([("plane", plane)] if plane else [])]:
            known_values = sorted(values_of.get((key, axis), ()), key=natural_sort_key)
            if not any(is_same_value(selected, value) for value in known_values):
                raise ScreenError(_lost_channel_message(name, axis, selected, known_values, channels))
    return choice


def describe_plane(axis_values: Iterable[tuple[str, str]]) -> str:
    """Return axis values as text, such as `plane 2, time 1`."""
    return ", ".join(f"{axis} {value}" for axis, value in axis_values)


def differing_axes(images: Iterable[AxisValues]) -> list[str]:
    """Return the axes in which images differ, the standard axes first."""
    values: dict[str, set[str]] = {}
    all_values = list(images)
    for axis in dict.fromkeys(axis for axis_values in all_values for axis, _ in axis_values):
        values[axis] = {dict(axis_values).get(axis, "") for axis_values in all_values}
    differing = [axis for axis, distinct in values.items() if len(distinct) > 1]
    return sorted(differing, key=lambda axis: (axis not in AXES, AXES.index(axis) if axis in AXES else 0))


def advise(axes: Sequence[str], axis_values: AxisValues, *, from_folder: bool) -> str:
    """Return advice how to select one of several planes or times.

    Args:
        axes: Axes in which the images differ.
        axis_values: Values of one image.
        from_folder: Folders, which may be plates, supply the values.
    """
    values = dict(axis_values)
    flags = [f"{_FLAGS[axis]} {_quote(values[axis])}" for axis in axes if axis in _FLAGS and axis in values]
    others = [axis for axis in axes if axis not in _FLAGS]
    options = [f"Select one, such as {' '.join(flags)}"] if flags else []
    if "plane" in axes:
        first = options[-1] if options else "Select a plane"
        options[-1:] = [f"{first} (a plane per channel: --plane DNA=3,actin=5), or project the planes first"]
    if "channel of the folder" in others:
        options.append("Folders are named like channels: read them with {channel} in --pattern")
        others.remove("channel of the folder")
    if others:
        options.append(f"Write {{}} for {{{others[0]}}} in --pattern if it does not distinguish images of a site")
    if from_folder:
        options.append("If these folders are plates, write {plate}/ in --pattern")
    return ". ".join(options) + "."


def _quote(value: str) -> str:
    return value if value.isalnum() else f"'{value}'"


def _lost_channel_message(
    name: str, axis: str, value: str, known_values: Sequence[str], channels: Sequence[tuple[str, str]]
) -> str:
    subject = f"channel {name!r}" if name else "the source"
    available = f"it has {axis} {', '.join(known_values[:5])}" if known_values else f"its names contain no {axis}"
    message = f"{_FLAGS[axis]} {value}: no image of {subject} has {axis} {value}; {available}. "
    if axis == "plane" and known_values and len(channels) > 1:
        others = ",".join(f"{other}={known_values[0] if other == name else value}" for other, _ in channels)
        return message + f"Set a plane per channel, such as --plane {others}, or exclude the channel with --channels."
    return message + f"{did_you_mean(value, known_values)}"
