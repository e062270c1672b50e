"""Read a folder by a pattern of file names, with or without a table of wells."""

from collections import Counter
from collections.abc import Iterator, Sequence

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.digits import refuse_lost_channels
from distangle.screen.readers.filenames.image_file import ImageFile, choose_channels, group_sites, n_sites_of
from distangle.screen.readers.filenames.image_list import ImageList, list_images
from distangle.screen.readers.filenames.instrument_patterns import IGNORED, KNOWN, WITHOUT_WELLS, is_thumbnail
from distangle.screen.readers.filenames.pattern import FIELDS, OPTIONS_OF_NAMES, Pattern, parse_pattern
from distangle.screen.readers.filenames.plane_and_time import PlaneChoice, choose_plane
from distangle.screen.readers.filenames.scan import NOT_UNDERSTOOD, folders_below
from distangle.screen.readers.instruments.agreement import reconcile_records
from distangle.screen.readers.wells.columns import apply_controls
from distangle.screen.readers.wells.join_metadata import WellMetadata, join_metadata
from distangle.screen.readers.wells.table_set import MetadataTables, read_tables, sibling_tables
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import named_channels

_ENOUGH = 2000  # files looked at to guess a pattern


def find_folder(request: IndexOptions) -> ReaderResult:
    """Find sites by a pattern of file names, and their wells in `tables`.

    Where the pattern has no plate, the folder of a file names it; without an experiment all are one, `all`;
    without a site every well has one. Without a table nothing is known of the wells.

    Raises:
        ScreenError: The pattern cannot be read or fits no file, the channels cannot be told, or `tables` is no
            table of wells.
    """
    source = request.source
    if not source.is_dir():
        raise ScreenError(f"{source} is no folder. Expected the folder of the images.")
    if request.tables_only:
        raise ScreenError(
            "Layout 'folder' finds the wells by their images: leave --tables-only away, or use --layout table."
        )
    if request.pattern is None:
        raise ScreenError(
            f"Layout 'folder' needs --pattern. {infer_pattern(source) or _without_wells(source) or _EXAMPLE}"
        )
    pattern = parse_pattern(request.pattern)
    extra = tuple(name for name in pattern.names if name not in FIELDS)
    tables = None if request.tables is None else read_tables(request.tables, request.mapping, missing=request.missing)
    named_plates = set() if tables is None else tables.named_plates
    listed = list_images(source, pattern, extra=extra, named_plates=named_plates)
    if listed.is_empty:
        odd = [problem for problem in listed.problems if problem.kind == NOT_UNDERSTOOD]
        message = f"No file below {source} is named like {pattern.text!r}. "
        small = next((f", only {problem.found}" for problem in listed.problems if problem.kind == IGNORED), "")
        message += (
            f"There is {odd[0].file}/{odd[0].found.split(', ')[0]}. " if odd else f"There is no image at all{small}. "
        )
        message += infer_pattern(source) or _without_wells(source)
        raise ScreenError(message.rstrip())
    return _of_pictures(request, listed, tables, pattern=pattern, extra=extra)


def _of_pictures(
    request: IndexOptions, listed: ImageList, tables: MetadataTables | None, *, pattern: Pattern, extra: tuple[str, ...]
) -> ReaderResult:
    """Make sites of pictures, and give them the labels of the request's table."""
    pictures = listed.pictures
    result = ReaderResult(
        source=request.source,
        problems=list(listed.problems),
        key_columns=frozenset({"experiment", "plate"} & set(pattern.names)),
        extra_columns=extra,
        duplicate_fix="Tell the plates apart with {plate} in --pattern.",
        provenance={"pattern": pattern.text, "columns": {}},
    )
    labels = None
    if tables is not None:
        labels = tables.together({picture.plate for picture in pictures})
        if "plate" not in result.key_columns and not _is_named_by(labels, pictures, result.problems):
            result.key_columns |= {"plate"}
    elif not request.mapping:
        result.problems += sibling_tables(request.source)
    wells = resolve_names(
        pictures,
        labels,
        shared=labels.keys & result.key_columns if labels is not None else frozenset(),
        request=request,
        count=n_sites_of,
        base=pattern.base,
    )
    result.problems += wells.problems
    result.n_found += wells.n_refused
    refused_sites = add_sites(result, request, listed, pattern, of=wells.places)
    if wells.labels is not None:
        result.provenance["columns"] = dict(wells.labels.columns)
        join_metadata(result, wells.labels, aside=refused_sites)
    elif request.mapping:
        raise ScreenError("--map names columns of a table: name the table too, --tables FILE.")
    apply_controls(result.entries, request.controls)
    return result


def selected_planes(
    request: IndexOptions, pictures: Sequence[ImageFile], channels: Sequence[tuple[str, str]]
) -> PlaneChoice:
    """Return the plane, time, cycle and acquisition that a request asks for.

    Raises:
        ScreenError: No image is of them, or a channel would be lost.
    """
    images = [(picture.channel, picture.moment) for picture in pictures if not picture.left_out]
    return choose_plane(images, channels, planes=request.planes, values=request.selected_axes)


def infer_pattern(source: AnyPath) -> str:
    """Return which known pattern the names in a folder follow, as advice; "" if none."""
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    seen = 0
    known = {name: parse_pattern(name) for name in KNOWN}
    for path in _first_paths(source):
        follows = [key for key, pattern in known.items() if pattern.read(path)]
        counts.update(follows)
        example.update({key: path for key in follows if key not in example})
        seen += 1
    if not counts:
        return ""
    name, count = counts.most_common(1)[0]
    written = next(way for way in KNOWN[name] if parse_pattern(way).read(example[name]))
    return f"{count} of {seen} names are as in --pattern {name}, which stands for {written!r}."


def _without_wells(source: AnyPath) -> str:
    """Return advice where an instrument's file names give positions and no well."""
    names = [path.rsplit("/", 1)[-1] for path in _first_paths(source)]
    for instrument, form in WITHOUT_WELLS.items():
        if found := [name for name in names if form.fullmatch(name)]:
            return (
                f"{len(found)} of {len(names)} names, such as {found[0]!r}, are of {instrument}: they number places in "
                f"the order in which they were taken, and say no well. Write a table with the well and the path of "
                f"each, and take --layout table."
            )
    return ""


def _first_paths(source: AnyPath) -> Iterator[str]:
    """Give the paths of so many files as tell how all are named, without thumbnails."""
    seen = 0
    for folder, names in folders_below(source, []):
        if seen > _ENOUGH:
            return
        seen += len(names)
        yield from (f"{folder}/{name}" for name in names if not is_thumbnail(folder, name))


def add_sites(
    result: ReaderResult, request: IndexOptions, listed: ImageList, pattern: Pattern, *, of: Sequence[ImageFile]
) -> list[Problem]:
    """Group the files of each site as the request and the instruments say.

    Args:
        result: Gets the channels, entries, problems, number of sites, and what the instruments say.
        request: For its channels and the moment that it asks for.
        listed: The files.
        pattern: How they were read.
        of: Those of `listed` whose wells are read; the others tell only which channels there are.

    Returns:
        The refusals of sites: these have images, though they are no entries.

    Raises:
        ScreenError: The channels cannot be told, or one of them would be lost.
    """
    pictures = listed.pictures
    n_before = len(result.problems)
    if "channel" in pattern.names:
        if not request.channels:
            refuse_lost_channels(
                pattern, [picture.channel for picture in pictures if not picture.left_out], listed.lost
            )
            choose_channels(pictures, ())
        told = reconcile_records(pictures, listed.records, request.channels)
        channels = choose_channels(pictures, told.asked or request.channels)
        names = [name for name, _ in channels]
        result.problems += told.problems
        group_sites(result, of, channels, choice=selected_planes(request, pictures, channels))
    else:
        names = [name.strip() for name in request.channels]
        if not names or "" in names or len(set(names)) < len(names):
            message = f"{pattern.text!r} has no {{channel}}: a file has all of them. Name its pages in their order, "
            message += "each once: --channels DNA,actin (one name for files of one plane)."
            raise ScreenError(message)
        told = reconcile_records(pictures, listed.records, ())
        whole = [("", "")]
        result.problems += told.problems
        group_sites(result, of, whole, choice=selected_planes(request, pictures, whole))
        if len(names) > 1:
            for entry in result.entries:
                entry.paths, entry.pages = entry.paths * len(names), tuple(range(len(names)))
                entry.numbering = "channels"
    result.channels = named_channels(names)
    result.provenance |= told.notes
    result.pixel_size_um = told.pixel_size_um
    return [problem for problem in result.problems[n_before:] if problem.severity == "refused"]


def _is_named_by(labels: WellMetadata, pictures: list[ImageFile], remarks: list[Problem]) -> bool:
    """Whether one folder without a plate's name has the table's only plate.

    Raises:
        ScreenError: The table has several plates, none of the folder's name.
    """
    folders = {picture.plate for picture in pictures}
    told = sorted({row.plate for row in labels.rows})
    if "plate" not in labels.keys or len(folders) > 1 or not told or folders & set(told):
        return False
    (folder,) = folders
    if len(told) > 1:
        message = (
            f"{labels.tables[0]} names {len(told)} plates ({', '.join(told[:5])}, ...), and the images lie in one "
        )
        message += f"folder, {folder!r}. Say which plate they are of: {{plate={told[0]}}} in --pattern."
        raise ScreenError(message.replace(", ...)", ")") if len(told) <= 5 else message)
    remarks.append(
        Problem(
            severity="warning",
            kind="plate named by the table",
            plate=told[0],
            found=f"one folder of images, {folder!r}",
            expected=f"a folder {told[0]!r}",
            fix=f"Nothing, if they are of this plate; if not, name the table of {folder!r}.",
        )
    )
    return True


def _sign(source: AnyPath) -> str:
    return advice.removesuffix(".") if source.is_dir() and (advice := infer_pattern(source)) else ""


_EXAMPLE = "Write how the names are built, such as --pattern '{plate}/{well}_s{site}_w{channel}.tif'."

LAYOUT = Reader(
    name="folder",
    read=find_folder,
    detect=_sign,
    options=OPTIONS_OF_NAMES,
)
