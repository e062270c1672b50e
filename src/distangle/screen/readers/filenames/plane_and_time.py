"""Choose plane, time, cycle and acquisition of images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.readers.filenames.folders import MOMENT
from distangle.screen.readers.filenames.plates import is_same_value
from distangle.screen.roles import natural_sort_key

Moment = tuple[tuple[str, str], ...]
"""What tells two images of one place and one channel apart: names and values, such as `(("plane", "2"),)`."""

_AXIS_OF = {
    **{name: "plane" for name in ("plane", "z", "zplane", "z_plane", "zstep", "slice")},
    **{name: "time" for name in ("time", "timepoint", "time_point", "t", "frame", "day", "hour")},
    **{name: "cycle" for name in ("cycle", "round")},
    **{name: "acquisition" for name in ("acquisition", "measurement", "pass", "scan")},
}
_FLAGS = {"plane": "--plane", "time": "--time", "cycle": "--cycle", "acquisition": "--acquisition"}


def plane_and_time(folder: Mapping[str, str], name: Mapping[str, str], extra: Iterable[str]) -> Moment:
    """Return the moment of an image.

    Args:
        folder: What its folders say.
        name: What its name says.
        extra: Fields of the name that become columns: a site has one value of each.
    """
    moment: dict[str, str] = {}
    for field_name, value in name.items():
        axis = _AXIS_OF.get(field_name.lower())
        if axis is not None:
            moment[axis if axis not in moment else field_name] = value
        elif field_name in extra:
            moment[field_name] = value
    for axis, value in folder.items():
        if axis == "site":
            continue
        if axis in moment and not is_same_value(moment[axis], value):
            moment[f"{axis} of the folder"] = value
        moment.setdefault(axis, value)
    return tuple(moment.items())


@dataclass(frozen=True, kw_only=True)
class PlaneChoice:
    """Which moment was asked for.

    Attributes:
        planes: Plane of each channel as the files write it; `""` for all others.
        values: `time`, `cycle` and `acquisition`, as far as they were chosen.
    """

    planes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def takes(self, channel: str, moment: Moment) -> bool:
        """Tell whether an image is of the moment that was asked for."""
        plane = self.planes.get(channel, self.planes.get("", ""))
        wanted = {**self.values, **({"plane": plane} if plane else {})}
        said = dict(moment)
        return all(axis in said and is_same_value(said[axis], value) for axis, value in wanted.items())

    def without_chosen(self, moment: Moment) -> Moment:
        """Return a moment without the plane, where each channel was given its own."""
        return tuple((axis, value) for axis, value in moment if not (axis == "plane" and set(self.planes) - {""}))

    def describe(self, channel: str = "") -> str:
        """Return the requested moment, such as `plane 2 of time 1`; "" without one."""
        plane = self.planes.get(channel, self.planes.get("", ""))
        return describe_plane((*((("plane", plane),) if plane else ()), *self.values.items()))


def read_planes(items: Sequence[str], channels: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the plane of every channel.

    Args:
        items: `PLANE` for all channels, `CHANNEL=PLANE` for one.
        channels: Name of every channel and how files write it.

    Raises:
        ScreenError: A channel that there is not, one named twice, or one left without a plane.
    """
    planes: dict[str, str] = {}
    names = {name: key for name, key in channels} | {key: key for _, key in channels}
    for item in items:
        name, separator, plane = item.rpartition("=")
        name, plane = name.strip(), plane.strip()
        key = next((names[known] for known in names if is_same_value(known, name)), None) if separator else ""
        if key is None:
            raise ScreenError(
                f"--plane {item}: no channel {name!r}. {did_you_mean(name, [name for name, _ in channels])}"
            )
        if not plane or key in planes:
            message = f"--plane {','.join(items)}: write one plane for all channels, --plane 2, or one for each, "
            message += "--plane DNA=3,actin=5."
            raise ScreenError(message)
        planes[key] = plane
    left = [name for name, key in channels if key not in planes]
    if planes and "" not in planes and left:
        message = (
            f"--plane {','.join(items)} leaves out the channel {', '.join(left)}. Name the plane of each channel: "
        )
        message += f"--plane {','.join([*items, f'{left[0]}=...'])}; or leave the channel out: --channels."
        raise ScreenError(message)
    return planes


def choose_plane(
    images: Sequence[tuple[str, Moment]],
    channels: Sequence[tuple[str, str]],
    *,
    planes: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> PlaneChoice:
    """Return which moment is wanted, checked against what there is.

    Args:
        images: Channel as written, and moment, of each.
        channels: Name of every channel and how files write it.
        planes: `PLANE` for all channels, `CHANNEL=PLANE` for one.
        values: `time`, `cycle` and `acquisition`, as far as they were chosen.

    Raises:
        ScreenError: Nothing says such a value, or a channel would be lost by it.
    """
    values = dict(values or {})
    there: dict[tuple[str, str], set[str]] = {}
    for channel, moment in images:
        for axis, value in moment:
            there.setdefault((channel, axis), set()).add(value)
    choice = PlaneChoice(planes=read_planes(planes, channels), values=values)
    for axis, wanted in [*values.items(), *(("plane", plane) for plane in choice.planes.values())]:
        if not any(known == axis for _, known in there):
            message = (
                f"{_FLAGS[axis]} {wanted}: neither names nor folders of the images say a {axis}. Write {{{axis}}} "
            )
            message += "where --pattern has it, or leave the option away."
            raise ScreenError(message)
    for name, key in channels:
        plane = choice.planes.get(key, choice.planes.get("", ""))
        for axis, wanted in [*values.items(), *([("plane", plane)] if plane else [])]:
            known = sorted(there.get((key, axis), ()), key=natural_sort_key)
            if not any(is_same_value(wanted, value) for value in known):
                raise ScreenError(_lost(name, axis, wanted, known, channels))
    return choice


def describe_plane(moment: Iterable[tuple[str, str]]) -> str:
    """Return a moment in words, such as `plane 2, time 1`."""
    return ", ".join(f"{axis} {value}" for axis, value in moment)


def differing_axes(moments: Iterable[Moment]) -> list[str]:
    """Return the names by which moments differ, the usual ones first."""
    values: dict[str, set[str]] = {}
    listed = list(moments)
    for axis in dict.fromkeys(axis for moment in listed for axis, _ in moment):
        values[axis] = {dict(moment).get(axis, "") for moment in listed}
    differ = [axis for axis, found in values.items() if len(found) > 1]
    return sorted(differ, key=lambda axis: (axis not in MOMENT, MOMENT.index(axis) if axis in MOMENT else 0))


def advise(axes: Sequence[str], moment: Moment, *, from_folder: bool) -> str:
    """Return how one of several moments is chosen.

    Args:
        axes: By what they differ.
        moment: One of them.
        from_folder: Folders above the images say it, which may be plates after all.
    """
    said = dict(moment)
    flags = [f"{_FLAGS[axis]} {_quoted(said[axis])}" for axis in axes if axis in _FLAGS and axis in said]
    others = [axis for axis in axes if axis not in _FLAGS]
    ways = [f"Choose one, such as {' '.join(flags)}"] if flags else []
    if "plane" in axes:
        first = ways[-1] if ways else "Choose a plane"
        ways[-1:] = [f"{first} (a plane per channel: --plane DNA=3,actin=5), or project the planes first"]
    if "channel of the folder" in others:
        ways.append("Folders are named as channels: read them with {channel} in --pattern")
        others.remove("channel of the folder")
    if others:
        ways.append(f"Write {{}} for {{{others[0]}}} in --pattern if it tells no images of a site apart")
    if from_folder:
        ways.append("If these folders are plates: {plate}/ in --pattern")
    return ". ".join(ways) + "."


def _quoted(value: str) -> str:
    return value if value.isalnum() else f"'{value}'"


def _lost(name: str, axis: str, wanted: str, known: Sequence[str], channels: Sequence[tuple[str, str]]) -> str:
    of = f"channel {name!r}" if name else "the images"
    there = f"it has {axis} {', '.join(known[:5])}" if known else f"its names say no {axis}"
    message = f"{_FLAGS[axis]} {wanted}: no image of {of} is of {axis} {wanted}; {there}. "
    if axis == "plane" and known and len(channels) > 1:
        others = ",".join(f"{other}={known[0] if other == name else wanted}" for other, _ in channels)
        return message + f"Give each channel a plane of its own, such as --plane {others}, or leave it out: --channels."
    return message + f"{did_you_mean(wanted, known)}"
