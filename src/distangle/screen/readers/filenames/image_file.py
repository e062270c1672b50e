"""Group image files into sites with one file per channel."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.folders import AXES
from distangle.screen.readers.filenames.plane_and_time import (
    AxisValues,
    PlaneChoice,
    advise,
    describe_plane,
    differing_axes,
)
from distangle.screen.roles import natural_sort_key


@dataclass(frozen=True, kw_only=True, slots=True)
class PlateDoubt:
    """A contradiction of the file name of an image.

    Attributes:
        kind: Kind of the problem.
        description: The contradicting fact.
        fix: The next step.
    """

    kind: str
    description: str
    fix: str


@dataclass(kw_only=True, slots=True)
class ImageFile:
    """An image file, with the fields of its name and folders.

    Attributes:
        path: Path relative to the source, with `/`.
        experiment: Experiment in the name or the folders.
        plate: Plate in the name or the folders.
        well: Well in the name.
        site: Number of the field of view.
        channel: Channel in the name; "" if the file contains all channels.
        axis_values: Plane, time, cycle and acquisition in the name or the folders.
        cell_type: "" if unknown.
        extra: Values of the extra columns.
        doubt: A contradiction of its name, or None.
        is_from_folder: Folders supply some of the axis values.
        unmatched_digits: Digits that differ from the pattern and exclude the file, such as `Z01`; else "".
    """

    path: str
    experiment: str
    plate: str
    well: str
    site: int
    channel: str = ""
    axis_values: AxisValues = ()
    cell_type: str = ""
    extra: tuple[str, ...] = ()
    doubt: PlateDoubt | None = None
    is_from_folder: bool = False
    unmatched_digits: str = ""


@dataclass(slots=True)
class _Site:
    first: ImageFile
    files: dict[str, list[ImageFile]] = field(default_factory=dict)
    excluded_images: list[ImageFile] = field(default_factory=list)  # of a plane or time that is not selected
    doubt: PlateDoubt | None = None


def choose_channels(images: Sequence[ImageFile], selection: Sequence[str]) -> list[tuple[str, str]]:
    """Return name and spelling of every selected channel.

    Args:
        images: All image files.
        selection: `NAME` or `NAME=WRITTEN`; empty for all channels, in natural order.

    Raises:
        ScreenError: No file has a channel, a channel is selected twice, or, without a selection, more than half of the
            sites lack a channel.
    """
    sites: dict[str, set[tuple[str, str, str, int]]] = defaultdict(set)
    for image in images:
        if image.unmatched_digits:
            continue
        sites[image.channel].add((image.experiment, image.plate, image.well, image.site))
    written = sorted(sites, key=natural_sort_key)
    if not selection:
        n_sites = len(set().union(*sites.values()))
        rare = [name for name in written if 2 * len(sites[name]) < n_sites]
        if rare:
            counts_text = ", ".join(f"{name} in {len(sites[name])}" for name in written)
            usual = ",".join(name for name in written if name not in rare)
            message = (
                f"Less than half of {n_sites} sites have the channel {rare[0]!r} ({counts_text}). A screen has one "
            )
            message += f"list of channels. Name them: --channels {usual}."
            raise ScreenError(message)
        return [(name, name) for name in written]
    channels: list[tuple[str, str]] = []
    for item in selection:
        name, _, key = item.partition("=")
        requested = (key or name).strip()
        matches = [
            spelling
            for spelling in written
            if spelling == requested or _as_number(spelling) == _as_number(requested) is not None
        ]
        if not matches:
            raise ScreenError(
                f"--channels {item}: no file has the channel {requested!r}. {did_you_mean(requested, written)}"
            )
        channels.append((name.strip(), matches[0]))
    if len({name for name, _ in channels}) < len(channels) or len({key for _, key in channels}) < len(channels):
        raise ScreenError(f"--channels {','.join(selection)}: list every channel once, with a unique name.")
    return channels


def group_sites(
    result: ReaderResult,
    images: Sequence[ImageFile],
    channels: Sequence[tuple[str, str]],
    *,
    choice: PlaneChoice | None = None,
) -> None:
    """Group files into sites with all channels of one plane and time.

    Args:
        result: Receives an entry for each site with a file per channel, refusals of the other sites, warnings, and the
            number of sites.
        images: The files.
        channels: From `choose_channels`.
        choice: The selected plane and time, if any.
    """
    sites: dict[tuple[object, ...], _Site] = {}
    written = {key for _, key in channels}
    choice = choice or PlaneChoice()
    constants = _channel_constants(images)
    excluded_channels: Counter[str] = Counter()
    n_excluded = 0
    for image in images:
        position = split_well(image.well) or image.well
        key = (image.experiment, image.plate, position, image.site)
        site = sites.setdefault(key, _Site(image))
        if image.unmatched_digits:
            site.excluded_images.append(image)
        elif image.channel not in written:
            excluded_channels[image.channel] += 1
        elif choice.selects(image.channel, image.axis_values):
            site.files.setdefault(image.channel, []).append(image)
            site.doubt = site.doubt or image.doubt
        else:
            site.excluded_images.append(image)
            n_excluded += 1
    for site in sites.values():
        entry = _entry(site)
        problem = _site_problem(site, entry, channels, choice, constants)
        if problem is None:
            files = [site.files[key][0] for _, key in channels]
            entry.paths = tuple(image.path for image in files)
            entry.pages = (-1,) * len(channels)
            entry.extra = tuple(
                ", ".join(dict.fromkeys(values)) for values in zip(*(f.extra for f in files), strict=True)
            )
            result.entries.append(entry)
        else:
            result.problems.append(problem)
    result.problems += _excluded_problems(excluded_channels, written, n_excluded, choice)
    result.n_found += len(sites)


def _excluded_problems(
    excluded_channels: Counter[str], written: set[str], n_excluded: int, choice: PlaneChoice
) -> list[Problem]:
    problems = [
        Problem(
            severity="warning",
            kind="channel not selected",
            channel=name,
            found=f"{count} files",
            expected=f"channels {', '.join(sorted(written, key=natural_sort_key))}",
            fix="Name it in --channels if it belongs to the screen.",
            count=count,
        )
        for name, count in sorted(excluded_channels.items())
    ]
    if n_excluded:
        descriptions = sorted({choice.describe(key) for key in written}, key=natural_sort_key)
        problems.append(
            Problem(
                severity="warning",
                kind="plane or time not selected",
                found=f"{n_excluded} files",
                expected=" or ".join(descriptions),
                fix="No action needed: --plane, --time, --cycle or --acquisition excludes them.",
                count=n_excluded,
            )
        )
    return problems


def _channel_constants(images: Sequence[ImageFile]) -> set[str]:
    """Return columns with one value per channel, such as an exposure time."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for image in images:
        for axis, value in () if image.unmatched_digits else image.axis_values:
            values[axis, image.channel].add(value)
    several = {axis for (axis, _), distinct in values.items() if len(distinct) > 1}
    return {axis for axis, _ in values if axis not in AXES and not axis.endswith(" of the folder")} - several


def n_sites_of(images: Sequence[ImageFile]) -> int:
    """Return the number of sites of files, by their names."""
    return len({(image.experiment, image.plate, image.well, image.site) for image in images})


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


def _site_problem(
    site: _Site, entry: SiteRecord, channels: Sequence[tuple[str, str]], choice: PlaneChoice, constants: set[str]
) -> Problem | None:
    if site.doubt is not None:
        return entry.problem(
            site.doubt.kind,
            found=site.doubt.description,
            expected=f"well {entry.well}, site {entry.site}, as the name says",
            fix=site.doubt.fix,
        )
    missing = [name for name, key in channels if key not in site.files]
    if missing:
        return _missing_problem(site, entry, channels, choice, missing)
    by_axes: dict[AxisValues, dict[str, list[ImageFile]]] = defaultdict(lambda: defaultdict(list))
    for _, key in channels:
        for image in site.files[key]:
            axis_values = tuple(pair for pair in choice.without_plane(image.axis_values) if pair[0] not in constants)
            by_axes[axis_values][key].append(image)
    for files in by_axes.values():
        for name, key in channels:
            if len(files.get(key, ())) > 1:
                return _duplicate_problem(entry, name, files[key])
    return _ambiguous_problem(entry, channels, by_axes) if len(by_axes) > 1 else None


def _missing_problem(
    site: _Site, entry: SiteRecord, channels: Sequence[tuple[str, str]], choice: PlaneChoice, missing: Sequence[str]
) -> Problem:
    present = [name for name, key in channels if key in site.files]
    keys = {name: key for name, key in channels}
    plane = choice.describe(keys[missing[0]])
    excluded = [image for image in site.excluded_images if image.channel == keys[missing[0]]]
    found = f"channels {', '.join(present)}" if present else "none of the selected channels"
    if excluded:
        texts = [image.unmatched_digits or describe_plane(image.axis_values) for image in excluded[:5]]
        found = f"{missing[0]} of {' and '.join(texts)}".lstrip()
    return entry.problem(
        "missing channel" if present else "no image",
        channel=", ".join(missing),
        found=found,
        expected=f"channels {', '.join(name for name, _ in channels)}" + (f" of {plane}" if plane else ""),
        fix="Copy the missing files and index again, or exclude the channel with --channels.",
    )


def _duplicate_problem(entry: SiteRecord, name: str, files: Sequence[ImageFile]) -> Problem:
    has_same_names = len({image.path.rsplit("/", 1)[-1] for image in files}) < len(files)  # equal except for the folder
    names = ", ".join(image.path if has_same_names else image.path.rsplit("/", 1)[-1] for image in files[:3])
    return entry.problem(
        "two files for a channel",
        channel=name,
        found=names + (f" and {len(files) - 3} more" if len(files) > 3 else ""),
        expected="one file per channel",
        fix="Keep one of them, or separate plates and batches with {plate} and {experiment} in --pattern.",
    )


def _ambiguous_problem(
    entry: SiteRecord, channels: Sequence[tuple[str, str]], by_axes: dict[AxisValues, dict[str, list[ImageFile]]]
) -> Problem:
    """Refuse a site with images of several planes or times.

    Channels of different planes or times are never combined.
    """
    axes = differing_axes(by_axes)
    ordered = sorted(by_axes, key=lambda axis_values: natural_sort_key(describe_plane(axis_values)))
    complete = [axis_values for axis_values in ordered if len(by_axes[axis_values]) == len(channels)]

    def listed(axis_values: AxisValues) -> str:
        names = ", ".join(name for name, key in channels if key in by_axes[axis_values] and name)
        description = describe_plane(pair for pair in axis_values if pair[0] in axes) or "no plane or time"
        return description if axis_values in complete or not names else f"{description} ({names} only)"

    found = "; ".join(map(listed, ordered[:6])) + (f" and {len(ordered) - 6} more" if len(ordered) > 6 else "")
    from_folder = any(p.is_from_folder for files in by_axes.values() for found in files.values() for p in found)
    if complete:
        kind = "several planes or times" if set(axes) <= {"plane", "time"} else "several planes, times or cycles"
        fix = advise(
            axes, max(complete, key=lambda axis_values: len(dict(axis_values).keys() & axes)), from_folder=from_folder
        )
    else:
        kind = "channels of several planes or times"
        fix = "Copy the missing files again: no plane and time has all channels."
        if axes == ["plane"]:
            planes = {name: dict(m)["plane"] for m in ordered for name, key in channels if key in by_axes[m]}
            fix += " If each channel has its own plane: --plane "
            fix += f"{','.join(f'{name}={plane}' for name, plane in planes.items())}."
        else:
            fix += f" {advise([axis for axis in axes if axis not in AXES], ordered[0], from_folder=from_folder)}"
    return entry.problem(
        kind,
        channel="" if complete else ", ".join(name for name, _ in channels),
        found=found,
        expected=f"one {axes[0]} for all channels of a site" if axes else "one plane and time",
        fix=fix.strip(" .") + ".",
    )


def _as_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
