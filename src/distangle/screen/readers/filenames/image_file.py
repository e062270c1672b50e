"""Group image files into sites with one file per channel."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.folders import MOMENT
from distangle.screen.readers.filenames.plane_and_time import (
    Moment,
    PlaneChoice,
    advise,
    describe_plane,
    differing_axes,
)
from distangle.screen.roles import natural_sort_key


@dataclass(frozen=True, kw_only=True, slots=True)
class PlateDoubt:
    """Why an image cannot be taken for what its name says.

    Attributes:
        kind: A few words, the same for the same fault.
        found: What says something else.
        fix: The next step.
    """

    kind: str
    found: str
    fix: str


@dataclass(kw_only=True, slots=True)
class ImageFile:
    """One file of one channel.

    Attributes:
        path: Relative to the source, `/` between.
        experiment: As the name or the folders have it.
        plate: As the name or the folders have it.
        well: As the name has it.
        site: Number of the field of view.
        channel: As the name has it; "" when the file holds all channels.
        moment: Plane, time, cycle and the like, as far as name and folders have them.
        cell_type: "" if unknown.
        extra: Values of the extra columns.
        doubt: What contradicts its name; None if nothing does.
        is_of_folder: Its folders say a part of its moment.
        left_out: Its figures where those of the pattern leave it out, such as `Z01`; "" for all others.
    """

    path: str
    experiment: str
    plate: str
    well: str
    site: int
    channel: str = ""
    moment: Moment = ()
    cell_type: str = ""
    extra: tuple[str, ...] = ()
    doubt: PlateDoubt | None = None
    is_of_folder: bool = False
    left_out: str = ""


@dataclass(slots=True)
class _Site:
    first: ImageFile
    files: dict[str, list[ImageFile]] = field(default_factory=dict)
    others: list[ImageFile] = field(default_factory=list)  # of a moment that was not asked for
    doubt: PlateDoubt | None = None


def choose_channels(pictures: Sequence[ImageFile], asked: Sequence[str]) -> list[tuple[str, str]]:
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
        if picture.left_out:
            continue
        sites[picture.channel].add((picture.experiment, picture.plate, picture.well, picture.site))
    written = sorted(sites, key=natural_sort_key)
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
            raise ScreenError(f"--channels {item}: no file has the channel {wanted!r}. {did_you_mean(wanted, written)}")
        chosen.append((name.strip(), same[0]))
    if len({name for name, _ in chosen}) < len(chosen) or len({key for _, key in chosen}) < len(chosen):
        raise ScreenError(f"--channels {','.join(asked)}: every channel once, with a name of its own.")
    return chosen


def group_sites(
    result: ReaderResult,
    pictures: Sequence[ImageFile],
    channels: Sequence[tuple[str, str]],
    *,
    choice: PlaneChoice | None = None,
) -> None:
    """Group files into sites: all channels of one moment.

    Args:
        result: Gets an entry for each site that has a file for each channel, refusals of the other sites, remarks,
            and the number of sites.
        pictures: The files.
        channels: From `choose_channels`.
        choice: The moment that was asked for, if one was.
    """
    sites: dict[tuple[object, ...], _Site] = {}
    written = {key for _, key in channels}
    choice = choice or PlaneChoice()
    bound = _bound_to_channels(pictures)
    aside: Counter[str] = Counter()
    n_others = 0
    for picture in pictures:
        position = split_well(picture.well) or picture.well
        key = (picture.experiment, picture.plate, position, picture.site)
        site = sites.setdefault(key, _Site(picture))
        if picture.left_out:
            site.others.append(picture)
        elif picture.channel not in written:
            aside[picture.channel] += 1
        elif choice.takes(picture.channel, picture.moment):
            site.files.setdefault(picture.channel, []).append(picture)
            site.doubt = site.doubt or picture.doubt
        else:
            site.others.append(picture)
            n_others += 1
    for site in sites.values():
        entry = _entry(site)
        problem = _wrong(site, entry, channels, choice, bound)
        if problem is None:
            files = [site.files[key][0] for _, key in channels]
            entry.paths = tuple(picture.path for picture in files)
            entry.pages = (-1,) * len(channels)
            entry.extra = tuple(
                ", ".join(dict.fromkeys(values)) for values in zip(*(f.extra for f in files), strict=True)
            )
            result.entries.append(entry)
        else:
            result.problems.append(problem)
    result.problems += _not_asked(aside, written, n_others, choice)
    result.n_found += len(sites)


def _not_asked(aside: Counter[str], written: set[str], n_others: int, choice: PlaneChoice) -> list[Problem]:
    problems = [
        Problem(
            severity="warning",
            kind="channel not asked for",
            channel=name,
            found=f"{count} files",
            expected=f"channels {', '.join(sorted(written, key=natural_sort_key))}",
            fix="Name it in --channels if it belongs to the screen.",
            count=count,
        )
        for name, count in sorted(aside.items())
    ]
    if n_others:
        asked = sorted({choice.describe(key) for key in written}, key=natural_sort_key)
        problems.append(
            Problem(
                severity="warning",
                kind="plane or time not asked for",
                found=f"{n_others} files",
                expected=" or ".join(asked),
                fix="Nothing: --plane, --time, --cycle or --acquisition left them out.",
                count=n_others,
            )
        )
    return problems


def _bound_to_channels(pictures: Sequence[ImageFile]) -> set[str]:
    """Return columns with one value per channel, such as an exposure: no moment."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for picture in pictures:
        for axis, value in () if picture.left_out else picture.moment:
            values[axis, picture.channel].add(value)
    several = {axis for (axis, _), found in values.items() if len(found) > 1}
    return {axis for axis, _ in values if axis not in MOMENT and not axis.endswith(" of the folder")} - several


def n_sites_of(pictures: Sequence[ImageFile]) -> int:
    """Return how many sites some files are of, by what their names say."""
    return len({(picture.experiment, picture.plate, picture.well, picture.site) for picture in pictures})


def _entry(site: _Site) -> SiteRecord:
    first = site.first
    return SiteRecord(
        experiment=first.experiment,
        plate=first.plate,
        well=first.well,
        site=first.site,
        cell_type=first.cell_type,
        extra=first.extra,
        paths=(first.path,),
        pages=(-1,),
    )


def _wrong(
    site: _Site, entry: SiteRecord, channels: Sequence[tuple[str, str]], choice: PlaneChoice, bound: set[str]
) -> Problem | None:
    if site.doubt is not None:
        return entry.problem(
            site.doubt.kind,
            found=site.doubt.found,
            expected=f"well {entry.well}, site {entry.site}, as the name says",
            fix=site.doubt.fix,
        )
    missing = [name for name, key in channels if key not in site.files]
    if missing:
        return _missing(site, entry, channels, choice, missing)
    by_moment: dict[Moment, dict[str, list[ImageFile]]] = defaultdict(lambda: defaultdict(list))
    for _, key in channels:
        for picture in site.files[key]:
            moment = tuple(pair for pair in choice.without_chosen(picture.moment) if pair[0] not in bound)
            by_moment[moment][key].append(picture)
    for found in by_moment.values():
        for name, key in channels:
            if len(found.get(key, ())) > 1:
                return _twice(entry, name, found[key])
    return _several(entry, channels, by_moment) if len(by_moment) > 1 else None


def _missing(
    site: _Site, entry: SiteRecord, channels: Sequence[tuple[str, str]], choice: PlaneChoice, missing: Sequence[str]
) -> Problem:
    there = [name for name, key in channels if key in site.files]
    keys = {name: key for name, key in channels}
    asked = choice.describe(keys[missing[0]])
    others = [picture for picture in site.others if picture.channel == keys[missing[0]]]
    found = f"channels {', '.join(there)}" if there else "none of the channels asked for"
    if others:
        found = f"{missing[0]} of {' and '.join(p.left_out or describe_plane(p.moment) for p in others[:5])}".lstrip()
    return entry.problem(
        "missing channel" if there else "no image",
        channel=", ".join(missing),
        found=found,
        expected=f"channels {', '.join(name for name, _ in channels)}" + (f" of {asked}" if asked else ""),
        fix="Copy the missing files and index again, or leave the channel out: --channels.",
    )


def _twice(entry: SiteRecord, name: str, files: Sequence[ImageFile]) -> Problem:
    whole = len({picture.path.rsplit("/", 1)[-1] for picture in files}) < len(files)  # alike but for the folder
    listed = ", ".join(picture.path if whole else picture.path.rsplit("/", 1)[-1] for picture in files[:3])
    return entry.problem(
        "two files for a channel",
        channel=name,
        found=listed + (f" and {len(files) - 3} more" if len(files) > 3 else ""),
        expected="one file per channel",
        fix="Keep one of them, or tell plates and batches apart with {plate} and {experiment} in --pattern.",
    )


def _several(
    entry: SiteRecord, channels: Sequence[tuple[str, str]], by_moment: dict[Moment, dict[str, list[ImageFile]]]
) -> Problem:
    """Refuse a site of several moments: which is meant is unknown.

    None is put together of two.
    """
    axes = differing_axes(by_moment)
    ordered = sorted(by_moment, key=lambda moment: natural_sort_key(describe_plane(moment)))
    complete = [moment for moment in ordered if len(by_moment[moment]) == len(channels)]

    def listed(moment: Moment) -> str:
        names = ", ".join(name for name, key in channels if key in by_moment[moment] and name)
        said = describe_plane(pair for pair in moment if pair[0] in axes) or "no moment"
        return said if moment in complete or not names else f"{said} ({names} only)"

    found = "; ".join(map(listed, ordered[:6])) + (f" and {len(ordered) - 6} more" if len(ordered) > 6 else "")
    from_folder = any(p.is_of_folder for files in by_moment.values() for found in files.values() for p in found)
    if complete:
        kind = "several planes or times" if set(axes) <= {"plane", "time"} else "several moments"
        fix = advise(axes, max(complete, key=lambda moment: len(dict(moment).keys() & axes)), from_folder=from_folder)
    else:
        kind = "channels of several moments"
        fix = "Copy what is missing again: no moment has all channels."
        if axes == ["plane"]:
            planes = {name: dict(m)["plane"] for m in ordered for name, key in channels if key in by_moment[m]}
            fix += " If each channel was taken at a plane of its own: --plane "
            fix += f"{','.join(f'{name}={plane}' for name, plane in planes.items())}."
        else:
            fix += f" {advise([axis for axis in axes if axis not in MOMENT], ordered[0], from_folder=from_folder)}"
    return entry.problem(
        kind,
        channel="" if complete else ", ".join(name for name, _ in channels),
        found=found,
        expected=f"one {axes[0]} for all channels of a site" if axes else "one moment",
        fix=fix.strip(" .") + ".",
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
