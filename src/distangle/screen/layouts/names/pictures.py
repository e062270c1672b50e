"""Files whose names say what they show, brought together into sites with a file per channel."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError, nearest
from distangle.screen.entry import Entry
from distangle.screen.perturbation import natural_key
from distangle.screen.plate import split_well
from distangle.screen.problems import Problem


@dataclass(kw_only=True, slots=True)
class Picture:
    """One file of one channel.

    Attributes:
        path: Relative to the source, `/` between.
        experiment: As the name or the folders have it.
        plate: As the name or the folders have it.
        well: As the name has it.
        site: Number of the field of view.
        channel: As the name has it; "" when the file holds all channels.
        moment: Focal plane and time, as far as the name has them.
        cell_type: "" if unknown.
        extra: Values of the extra columns.
    """

    path: str
    experiment: str
    plate: str
    well: str
    site: int
    channel: str = ""
    moment: str = ""
    cell_type: str = ""
    extra: tuple[str, ...] = ()


@dataclass(slots=True)
class _Site:
    first: Picture
    files: dict[str, list[Picture]] = field(default_factory=dict)


def choose_channels(pictures: Sequence[Picture], asked: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name of every channel and how the files' names write it.

    Args:
        pictures: What was found.
        asked: `NAME` or `NAME=WRITTEN`; none for all that the names have, in natural order.

    Raises:
        ScreenError: A channel that no file has or that is named twice; or, when none is asked for, one that more
            than half of the sites lack.
    """
    sites: dict[str, set[tuple[str, str, str, int]]] = defaultdict(set)
    for picture in pictures:
        sites[picture.channel].add((picture.experiment, picture.plate, picture.well, picture.site))
    written = sorted(sites, key=natural_key)
    if not asked:
        n_sites = len(set().union(*sites.values()))
        rare = [name for name in written if 2 * len(sites[name]) < n_sites]
        if rare:
            counted = ", ".join(f"{name} in {len(sites[name])}" for name in written)
            usual = ",".join(name for name in written if name not in rare)
            message = f"Of {n_sites} sites few have the channel {rare[0]!r} ({counted}). A screen has one list of "
            message += f"channels: name them, --channels {usual}."
            raise ScreenError(message)
        return [(name, name) for name in written]
    chosen: list[tuple[str, str]] = []
    for item in asked:
        name, _, key = item.partition("=")
        wanted = (key or name).strip()
        same = [found for found in written if found == wanted or _number(found) == _number(wanted) is not None]
        if not same:
            message = f"--channels {item}: no file has the channel {wanted!r}. {nearest(wanted, written)}"
            raise ScreenError(message)
        chosen.append((name.strip(), same[0]))
    if len({name for name, _ in chosen}) < len(chosen) or len({key for _, key in chosen}) < len(chosen):
        message = f"--channels {','.join(asked)}: every channel once, with a name of its own."
        raise ScreenError(message)
    return chosen


def into_sites(
    pictures: Sequence[Picture], channels: Sequence[tuple[str, str]]
) -> tuple[list[Entry], list[Problem], int]:
    """Bring the files of each site together.

    Args:
        pictures: What was found.
        channels: From `choose_channels`.

    Returns:
        Entries that have a file for each channel, refusals of the others and remarks, and how many sites there
        are: entries and refusals together.
    """
    sites: dict[tuple[object, ...], _Site] = {}
    written = {key for _, key in channels}
    aside: Counter[str] = Counter()
    for picture in pictures:
        position = split_well(picture.well) or picture.well
        key = (picture.experiment, picture.plate, position, picture.site)
        site = sites.setdefault(key, _Site(picture))
        if picture.channel in written:
            site.files.setdefault(picture.channel, []).append(picture)
        else:
            aside[picture.channel] += 1
    entries: list[Entry] = []
    problems: list[Problem] = []
    for site in sites.values():
        entry = _entry(site)
        problem = _wrong(site, entry, channels)
        if problem is None:
            entry.paths = tuple(site.files[key][0].path for _, key in channels)
            entry.pages = (-1,) * len(channels)
            entries.append(entry)
        else:
            problems.append(problem)
    for name, count in sorted(aside.items()):
        problems.append(
            Problem(
                severity="warning",
                kind="channel not asked for",
                channel=name,
                found=f"{count} files",
                expected=f"channels {', '.join(sorted(written, key=natural_key))}",
                fix="Name it in --channels if it belongs to the screen.",
                count=count,
            )
        )
    return entries, problems, len(sites)


def n_sites_of(pictures: Sequence[Picture]) -> int:
    """Return how many sites some files are of, by what their names say."""
    return len({(picture.experiment, picture.plate, picture.well, picture.site) for picture in pictures})


def _entry(site: _Site) -> Entry:
    first = site.first
    return Entry(
        experiment=first.experiment,
        plate=first.plate,
        well=first.well,
        site=first.site,
        cell_type=first.cell_type,
        extra=first.extra,
        paths=(first.path,),
        pages=(-1,),
    )


def _wrong(site: _Site, entry: Entry, channels: Sequence[tuple[str, str]]) -> Problem | None:
    missing = [name for name, key in channels if key not in site.files]
    if missing:
        there = [name for name, key in channels if key in site.files]
        return entry.problem(
            "missing channel" if there else "no image",
            channel=", ".join(missing),
            found=f"channels {', '.join(there)}" if there else "none of the channels asked for",
            expected=f"channels {', '.join(name for name, _ in channels)}",
            fix="Copy the missing files and index again, or leave the channel out: --channels.",
        )
    for name, key in channels:
        files = site.files[key]
        if len(files) > 1:
            moments = list(dict.fromkeys(picture.moment for picture in files))
            whole = len({picture.path.rsplit("/", 1)[-1] for picture in files}) < len(files)  # alike but for the folder
            listed = ", ".join(picture.path if whole else picture.path.rsplit("/", 1)[-1] for picture in files[:3])
            several = len(moments) == len(files) and len(moments) > 1
            return entry.problem(
                "several planes or times" if several else "two files for a channel",
                channel=name,
                found=listed + (f" and {len(files) - 3} more" if len(files) > 3 else ""),
                expected="one file per channel",
                fix="Write the plane and time that are wanted into --pattern as figures, or project them first."
                if several
                else "Keep one of them, or tell plates and batches apart with {plate} and {experiment} in --pattern.",
            )
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
