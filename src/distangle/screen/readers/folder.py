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
from distangle.screen.readers.filenames.instrument_patterns import (
    KNOWN,
    THUMBNAILS_IGNORED,
    WITHOUT_WELLS,
    is_thumbnail,
)
from distangle.screen.readers.filenames.pattern import FIELDS, FILE_NAME_OPTIONS, Pattern, parse_pattern
from distangle.screen.readers.filenames.plane_and_time import PlaneChoice, choose_plane
from distangle.screen.readers.filenames.scan import NAME_NOT_RECOGNIZED, folders_below
from distangle.screen.readers.instruments.agreement import reconcile_records
from distangle.screen.readers.wells.columns import apply_controls
from distangle.screen.readers.wells.join_metadata import WellMetadata, join_metadata
from distangle.screen.readers.wells.table_set import MetadataTables, read_tables, sibling_tables
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import named_channels

_MAX_SAMPLE = 2000  # file names from which a pattern is inferred


def find_folder(request: IndexOptions) -> ReaderResult:
    """Find sites by a pattern of file names, and well metadata in `tables`.

    If the pattern has no plate, the folder of a file names its plate. Without an experiment every file belongs to the
    experiment `all`; without a site every well has one site. Without a table the wells have no labels.

    Raises:
        ScreenError: The pattern is invalid or matches no file, the channels are ambiguous, or `tables` is not a table
            of wells.
    """
    source = request.source
    if not source.is_dir():
        raise ScreenError(f"{source} is not a folder. Expected the folder of the images.")
    if request.tables_only:
        raise ScreenError("Layout 'folder' finds wells by their images. Omit --tables-only, or use --layout table.")
    if request.pattern is None:
        advice = infer_pattern(source) or _wellless_instrument_advice(source) or _EXAMPLE
        raise ScreenError(f"Layout 'folder' needs --pattern. {advice}")
    pattern = parse_pattern(request.pattern)
    extra = tuple(name for name in pattern.names if name not in FIELDS)
    tables = None if request.tables is None else read_tables(request.tables, request.mapping, missing=request.missing)
    named_plates = set() if tables is None else tables.named_plates
    image_list = list_images(source, pattern, extra=extra, named_plates=named_plates)
    if image_list.has_no_match:
        unmatched = [problem for problem in image_list.problems if problem.kind == NAME_NOT_RECOGNIZED]
        message = f"No file name below {source} matches {pattern.text!r}. "
        thumbnails = next(
            (f", only {problem.found}" for problem in image_list.problems if problem.kind == THUMBNAILS_IGNORED), ""
        )
        message += (
            f"An example is {unmatched[0].file}/{unmatched[0].found.split(', ')[0]}. "
            if unmatched
            else f"There is no image{thumbnails}. "
        )
        message += infer_pattern(source) or _wellless_instrument_advice(source)
        raise ScreenError(message.rstrip())
    return _build_result(request, image_list, tables, pattern=pattern, extra=extra)


def _build_result(
    request: IndexOptions,
    image_list: ImageList,
    tables: MetadataTables | None,
    *,
    pattern: Pattern,
    extra: tuple[str, ...],
) -> ReaderResult:
    """Group images into sites and join the labels of the table."""
    images = image_list.images
    result = ReaderResult(
        source=request.source,
        problems=list(image_list.problems),
        key_columns=frozenset({"experiment", "plate"} & set(pattern.names)),
        extra_columns=extra,
        duplicate_fix="Separate the plates with {plate} in --pattern.",
        provenance={"pattern": pattern.text, "columns": {}},
    )
    labels = None
    if tables is not None:
        labels = tables.concatenate({image.plate for image in images})
        if "plate" not in result.key_columns and not _takes_plate_of_table(labels, images, result.problems):
            result.key_columns |= {"plate"}
    elif not request.mapping:
        result.problems += sibling_tables(request.source)
    reading = resolve_names(
        images,
        labels,
        shared=labels.keys & result.key_columns if labels is not None else frozenset(),
        request=request,
        count=n_sites_of,
        base=pattern.base,
    )
    result.problems += reading.problems
    result.n_found += reading.n_refused
    refusals = add_sites(result, request, image_list, pattern, readable=reading.places)
    if reading.labels is not None:
        result.provenance["columns"] = dict(reading.labels.columns)
        join_metadata(result, reading.labels, refusals=refusals)
    elif request.mapping:
        raise ScreenError("--map names columns of a table, and there is no table. Name it with --tables FILE.")
    apply_controls(result.entries, request.controls)
    return result


def select_planes(
    request: IndexOptions, images: Sequence[ImageFile], channels: Sequence[tuple[str, str]]
) -> PlaneChoice:
    """Return the plane, time, cycle and acquisition selected by a request.

    Raises:
        ScreenError: No image has these values, or a channel has none with them.
    """
    axis_values_by_channel = [(image.channel, image.axis_values) for image in images if not image.unmatched_digits]
    return choose_plane(axis_values_by_channel, channels, planes=request.planes, values=request.selected_axes)


def infer_pattern(source: AnyPath) -> str:
    """Return advice that names the known pattern of a folder; "" if none fits."""
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    n_names = 0
    patterns = {name: parse_pattern(name) for name in KNOWN}
    for path in _sample_paths(source):
        matches = [key for key, pattern in patterns.items() if pattern.read(path)]
        counts.update(matches)
        example.update({key: path for key in matches if key not in example})
        n_names += 1
    if not counts:
        return ""
    name, count = counts.most_common(1)[0]
    usual_pattern = next(text for text in KNOWN[name] if parse_pattern(text).read(example[name]))
    return f"{count} of {n_names} names match --pattern {name}, which stands for {usual_pattern!r}."


def _wellless_instrument_advice(source: AnyPath) -> str:
    """Return advice if file names of an instrument give positions but no well."""
    names = [path.rsplit("/", 1)[-1] for path in _sample_paths(source)]
    for instrument, regex in WITHOUT_WELLS.items():
        if matches := [name for name in names if regex.fullmatch(name)]:
            return (
                f"{len(matches)} of {len(names)} names, such as {matches[0]!r}, are of {instrument}: they number "
                f"positions in the order of acquisition and contain no well. Write a table with the well and the path "
                f"of each image, and use --layout table."
            )
    return ""


def _sample_paths(source: AnyPath) -> Iterator[str]:
    """Yield a sample of file paths without thumbnails."""
    n_names = 0
    for folder, names in folders_below(source, []):
        if n_names > _MAX_SAMPLE:
            return
        n_names += len(names)
        yield from (f"{folder}/{name}" for name in names if not is_thumbnail(folder, name))


def add_sites(
    result: ReaderResult,
    request: IndexOptions,
    image_list: ImageList,
    pattern: Pattern,
    *,
    readable: Sequence[ImageFile],
) -> list[Problem]:
    """Group files into sites by the request and the instrument metadata.

    Args:
        result: Receives channels, entries, problems, the number of sites, and the instrument metadata.
        request: Supplies channels, plane, time, cycle and acquisition.
        image_list: All files; they define the channels.
        pattern: The pattern of the file names.
        readable: The images of `image_list` with readable wells.

    Returns:
        The refusals of sites, which have images but no entry.

    Raises:
        ScreenError: The channels are ambiguous, or a channel would be lost.
    """
    images = image_list.images
    n_before = len(result.problems)
    if "channel" in pattern.names:
        if not request.channels:
            refuse_lost_channels(
                pattern, [image.channel for image in images if not image.unmatched_digits], image_list.near_matches
            )
            choose_channels(images, ())
        reconciled = reconcile_records(images, image_list.records, request.channels)
        channels = choose_channels(images, reconciled.selection or request.channels)
        names = [name for name, _ in channels]
        result.problems += reconciled.problems
        group_sites(result, readable, channels, choice=select_planes(request, images, channels))
    else:
        names = [name.strip() for name in request.channels]
        if not names or "" in names or len(set(names)) < len(names):
            message = (
                f"{pattern.text!r} has no {{channel}}, so each file contains all channels. Name its pages in order, "
            )
            message += "each once: --channels DNA,actin (one name for files with one plane)."
            raise ScreenError(message)
        reconciled = reconcile_records(images, image_list.records, ())
        all_channels = [("", "")]
        result.problems += reconciled.problems
        group_sites(result, readable, all_channels, choice=select_planes(request, images, all_channels))
        if len(names) > 1:
            for entry in result.entries:
                entry.paths, entry.pages = entry.paths * len(names), tuple(range(len(names)))
                entry.numbering = "channels"
    result.channels = named_channels(names)
    result.provenance |= reconciled.notes
    result.pixel_size_um = reconciled.pixel_size_um
    return [problem for problem in result.problems[n_before:] if problem.severity == "refused"]


def _takes_plate_of_table(labels: WellMetadata, images: list[ImageFile], warnings: list[Problem]) -> bool:
    """Test whether the only folder of images is the only plate of the table.

    Raises:
        ScreenError: The table has several plates, none with the name of the folder.
    """
    folders = {image.plate for image in images}
    plates = sorted({row.plate for row in labels.rows})
    if "plate" not in labels.keys or len(folders) > 1 or not plates or folders & set(plates):
        return False
    (folder,) = folders
    if len(plates) > 1:
        message = (
            f"{labels.tables[0]} names {len(plates)} plates ({', '.join(plates[:5])}, ...), and the images are in one "
        )
        message += f"folder, {folder!r}. Fix the plate: {{plate={plates[0]}}} in --pattern."
        raise ScreenError(message.replace(", ...)", ")") if len(plates) <= 5 else message)
    warnings.append(
        Problem(
            severity="warning",
            kind="plate name taken from table",
            plate=plates[0],
            found=f"one folder of images, {folder!r}",
            expected=f"a folder {plates[0]!r}",
            fix=f"No action needed if the images are of this plate; otherwise name the table of {folder!r}.",
        )
    )
    return True


def _detect(source: AnyPath) -> str:
    return advice.removesuffix(".") if source.is_dir() and (advice := infer_pattern(source)) else ""


_EXAMPLE = "Write the pattern of the file names, such as --pattern '{plate}/{well}_s{site}_w{channel}.tif'."

LAYOUT = Reader(
    name="folder",
    read=find_folder,
    detect=_detect,
    options=FILE_NAME_OPTIONS,
)
