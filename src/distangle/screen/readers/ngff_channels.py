"""Channels of OME-Zarr fields: which a screen has, and which plane each is."""

from collections import Counter
from collections.abc import Sequence

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import IndexOptions, ReaderResult, SiteRecord
from distangle.screen.readers.filenames.plane_and_time import read_planes
from distangle.screen.readers.ngff import NgffImage
from distangle.screen.roles import Channel, named_channels


def choose_fields_channels(fields: Sequence[NgffImage], asked: Sequence[str]) -> list[tuple[str | int, Channel]]:
    """Return how each channel is found in a field, by label or number.

    Args:
        fields: Of all plates.
        asked: `NAME` or `NAME=LABEL`; none for all that most fields have.

    Raises:
        ScreenError: A channel that the plates do not have, or one that is asked for twice.
    """
    if not fields:
        return [(name, channel) for name, channel in zip(asked, named_channels(list(asked)), strict=True)]
    labels, colours = Counter((field.labels, field.colours) for field in fields).most_common(1)[0][0]
    has_labels = "" not in labels and len(set(labels)) == len(labels)
    keys: list[str | int] = list(labels) if has_labels else list(range(len(labels)))
    names = list(labels) if has_labels else [str(k + 1) for k in range(len(labels))]
    if asked:
        spelling = {name.lower(): k for k, name in enumerate(names)}
        parts = [item.partition("=") for item in asked]
        wanted = [(name.strip(), (key or name).strip()) for name, _, key in parts]
        for _, key in wanted:
            if key.lower() not in spelling:
                raise ScreenError(
                    f"--channels {','.join(asked)}: the plates have no channel {key!r}. {did_you_mean(key, names)}"
                )
        places = [spelling[key.lower()] for _, key in wanted]
        names = [name for name, _ in wanted]
        if len(set(places)) < len(places) or len(set(names)) < len(names):
            raise ScreenError(f"--channels {','.join(asked)}: every channel once, with a name of its own.")
        keys, colours = [keys[k] for k in places], tuple(colours[k] for k in places)
    known = named_channels(names)
    shown = [c.model_copy(update={"colour": colour}) if colour else c for c, colour in zip(known, colours, strict=True)]
    return list(zip(keys, shown, strict=True))


def add_fields(
    result: ReaderResult,
    read: Sequence[tuple[SiteRecord, NgffImage]],
    channels: Sequence[tuple[str | int, Channel]],
    request: IndexOptions,
) -> None:
    """Give every field its plane per channel; refuse fields with none or several.

    Args:
        result: Gets the entries and the refusals.
        read: Fields and their entries, whose paths and pages are rewritten.
        channels: From `choose_fields_channels`.
        request: For the plane and the time that it asks for.
    """
    keys = [key for key, _ in channels]
    names = [_said(key) for key in keys]
    planes = read_planes(request.planes, [(channel.name, _said(key)) for key, channel in channels])
    wanted = [(planes.get(name, planes.get("", "")), request.time) for name in names]
    for entry, field in read:
        try:
            positions = [_position(field, plane, time) for plane, time in wanted]
        except ScreenError as error:
            found = f"{entry.paths[0]}: {error}"
            fix = "Choose by number from 1, such as --plane 2 or --plane DNA=3,actin=5, and --time 1; or project first."
            result.problems.append(
                entry.problem("several planes or times", found=found, expected="one plane per channel", fix=fix)
            )
            continue
        at = [_place(key, field) for key in keys]
        missing = [name for name, k in zip(names, at, strict=True) if k < 0]
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
        pages = [field.page(c=k, **position) for k, position in zip(at, positions, strict=True)]
        entry.pages = (-1,) * len(keys) if field.n_planes == 1 else tuple(pages)
        result.entries.append(entry)


def _position(field: NgffImage, plane: str, time: str) -> dict[str, int]:
    """Return plane and time of a channel, from 0.

    Raises:
        ScreenError: There are several and none was asked for, or there are not so many.
    """
    position: dict[str, int] = {}
    for axis, asked, flag in (("z", plane, "--plane"), ("t", time, "--time")):
        size = field.sizes.get(axis, 1)
        if not asked and size != 1:
            raise ScreenError(
                f"several planes or times: {', '.join(f'{name} = {n}' for name, n in field.several.items())}"
            )
        if asked and not (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= size):
            raise ScreenError(f"{axis} = {size}, and {flag} {asked}")
        position[axis] = int(asked or "1") - 1
    return position


def _place(key: str | int, field: NgffImage) -> int:
    if isinstance(key, str):
        return field.labels.index(key) if key in field.labels else -1
    return key if key < len(field.labels) else -1


def _said(key: str | int) -> str:
    return key if isinstance(key, str) else str(key + 1)
