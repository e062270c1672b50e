"""Choose the channels of OME-Zarr fields, and the plane of each."""

from collections import Counter
from collections.abc import Sequence

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import IndexOptions, ReaderResult, SiteRecord
from distangle.screen.readers.filenames.plane_and_time import read_planes
from distangle.screen.readers.ngff import NgffImage
from distangle.screen.roles import Channel, named_channels


def choose_field_channels(fields: Sequence[NgffImage], selection: Sequence[str]) -> list[tuple[str | int, Channel]]:
    """Return each selected channel with its label or index in the fields.

    Args:
        fields: The fields of all plates.
        selection: `NAME` or `NAME=LABEL`; empty for the channels of most fields.

    Raises:
        ScreenError: The plates lack a channel, or a channel is selected twice.
    """
    if not fields:
        return [(name, channel) for name, channel in zip(selection, named_channels(list(selection)), strict=True)]
    labels, colors = Counter((field.labels, field.colors) for field in fields).most_common(1)[0][0]
    has_labels = "" not in labels and len(set(labels)) == len(labels)
    keys: list[str | int] = list(labels) if has_labels else list(range(len(labels)))
    names = list(labels) if has_labels else [str(k + 1) for k in range(len(labels))]
    if selection:
        index_of = {name.lower(): k for k, name in enumerate(names)}
        parts = [item.partition("=") for item in selection]
        requests = [(name.strip(), (label or name).strip()) for name, _, label in parts]
        for _, label in requests:
            if label.lower() not in index_of:
                message = f"--channels {','.join(selection)}: the plates have no channel {label!r}. "
                raise ScreenError(message + did_you_mean(label, names))
        positions = [index_of[label.lower()] for _, label in requests]
        names = [name for name, _ in requests]
        if len(set(positions)) < len(positions) or len(set(names)) < len(names):
            raise ScreenError(f"--channels {','.join(selection)}: list every channel once, with a unique name.")
        keys, colors = [keys[k] for k in positions], tuple(colors[k] for k in positions)
    defaults = named_channels(names)
    channels = [
        c.model_copy(update={"color": color}) if color else c for c, color in zip(defaults, colors, strict=True)
    ]
    return list(zip(keys, channels, strict=True))


def add_fields(
    result: ReaderResult,
    fields: Sequence[tuple[SiteRecord, NgffImage]],
    channels: Sequence[tuple[str | int, Channel]],
    request: IndexOptions,
) -> None:
    """Set the plane of each channel; refuse fields with none or several.

    Args:
        result: Receives the entries and the refusals.
        fields: Entries and their fields; paths and pages of the entries are set.
        channels: From `choose_field_channels`.
        request: Supplies plane and time.
    """
    keys = [key for key, _ in channels]
    names = [_key_label(key) for key in keys]
    plane_of = read_planes(request.planes, [(channel.name, _key_label(key)) for key, channel in channels])
    requests = [(plane_of.get(name, plane_of.get("", "")), request.time) for name in names]
    for entry, field in fields:
        try:
            positions = [_position(field, plane, time) for plane, time in requests]
        except ScreenError as error:
            description = f"{entry.paths[0]}: {error}"
            fix = (
                "Choose by number from 1, such as --plane 2 or --plane DNA=3,actin=5, and --time 1; or project planes."
            )
            result.problems.append(
                entry.problem("several planes or times", found=description, expected="one plane per channel", fix=fix)
            )
            continue
        indices = [_channel_index(key, field) for key in keys]
        missing = [name for name, k in zip(names, indices, strict=True) if k < 0]
        if missing:
            result.problems.append(
                entry.problem(
                    "missing channel",
                    channel=", ".join(missing),
                    found=f"channels {', '.join(field.labels) if any(field.labels) else len(field.labels)}",
                    expected=f"channels {', '.join(names)}",
                    fix="Name the channels that all plates have: --channels.",
                )
            )
            continue
        entry.paths = (entry.paths[0],) * len(keys)
        pages = [field.page(c=k, **position) for k, position in zip(indices, positions, strict=True)]
        entry.pages = (-1,) * len(keys) if field.n_planes == 1 else tuple(pages)
        result.entries.append(entry)


def _position(field: NgffImage, plane: str, time: str) -> dict[str, int]:
    """Return the index of plane and time of a channel.

    Raises:
        ScreenError: There are several and none is selected, or the selected number is too large.
    """
    position: dict[str, int] = {}
    for axis, value, flag in (("z", plane, "--plane"), ("t", time, "--time")):
        size = field.sizes.get(axis, 1)
        if not value and size != 1:
            raise ScreenError(
                f"several planes or times: {', '.join(f'{name} = {n}' for name, n in field.repeated_axes.items())}"
            )
        if value and not (value.isascii() and value.isdigit() and 1 <= int(value) <= size):
            raise ScreenError(f"axis {axis} has length {size}, and {flag} is {value}")
        position[axis] = int(value or "1") - 1
    return position


def _channel_index(key: str | int, field: NgffImage) -> int:
    if isinstance(key, str):
        return field.labels.index(key) if key in field.labels else -1
    return key if key < len(field.labels) else -1


def _key_label(key: str | int) -> str:
    return key if isinstance(key, str) else str(key + 1)
