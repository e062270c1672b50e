"""Read Cell Painting plates: `load_data.csv` or Harmony's names, with plate maps."""

from collections.abc import Callable, Mapping, Sequence

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult, SiteRecord
from distangle.screen.problems import Problem, n_refused
from distangle.screen.readers.filenames.image_file import n_sites_of
from distangle.screen.readers.filenames.image_list import list_images
from distangle.screen.readers.filenames.pattern import OPTIONS_OF_NAMES, parse_pattern
from distangle.screen.readers.filenames.scan import scan, unnamed_images
from distangle.screen.readers.folder import add_sites
from distangle.screen.readers.gallery_tables import (
    GalleryTables,
    drop_repeats,
    is_known,
    list_tables,
    unknown_tables,
    unread_tables,
)
from distangle.screen.readers.load_data import ImageLocator, LoadData, channel_names, other_columns, written_channels
from distangle.screen.readers.platemaps import column_names, read_platemaps, read_wells
from distangle.screen.readers.wells.columns import OURS, apply_controls
from distangle.screen.readers.wells.join_metadata import WellMetadata, join_metadata, metadata_of
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import named_channels
from distangle.screen.source_tables import SourceTable

_HARMONY = "harmony"


def find_cellpainting(request: IndexOptions) -> ReaderResult:
    """Find the sites of Cell Painting plates.

    Sites: the rows of every `load_data.csv` below `tables` (or the source); where there is none, the files that
    Harmony named (`r01c01f01p01-ch1sk1fk1fl1.tiff`), or those that follow `pattern`. What was done to the wells: the
    rows themselves, `barcode_platemap.csv` with the maps in `platemap/`, JUMP's `well.csv`, and tables of perturbations
    beside them. A batch is an experiment.

    Raises:
        ScreenError: Neither tables nor images, or tables that do not fit together.
    """
    if not request.source.exists():
        raise ScreenError(f"{request.source} does not exist. Expected a folder of Cell Painting plates.")
    problems: list[Problem] = []
    tables, wells = _tables(request, problems)

    unread = unknown_tables(tables.others)

    def labels_of_plates(plates: set[str]) -> WellMetadata | None:
        if wells is not None:
            return wells
        labels, left = read_platemaps(tables, request.mapping, plates=plates, missing=request.missing)
        unread.extend(left)
        return labels

    if tables.load_data:
        result = _of_rows(
            request, [read_wells(path, request.mapping, missing=request.missing) for path in tables.load_data]
        )
        labels = labels_of_plates({entry.plate for entry in result.entries})
        read = resolve_names(result.entries, labels, shared=_shared(result.key_columns, labels), request=request)
        result.entries, labels = read.places, read.labels
        result.problems += read.problems
    else:
        result, labels = _of_names(request, labels_of_plates)
    _check_mapping(request.mapping, result, labels)
    aside = result.refusals
    remarks = [*problems, *unread]
    result.problems = [*remarks, *result.problems]
    result.n_found += n_refused(remarks)
    if labels is not None:
        result.provenance["label_columns"] = dict(labels.columns)
        join_metadata(result, labels, aside=aside)
    apply_controls(result.entries, request.controls)
    return result


def _tables(request: IndexOptions, remarks: list[Problem]) -> tuple[GalleryTables, WellMetadata | None]:
    place = request.tables or request.source
    if not place.is_file():
        return list_tables(place, remarks), None
    table = read_wells(place, request.mapping, missing=request.missing)
    if written_channels(table):
        return GalleryTables(load_data=(place,)), None
    return GalleryTables(), metadata_of(
        table, _without_site(column_names(table, request.mapping, wanted=("well", "perturbation")))
    )


def _of_rows(request: IndexOptions, tables: Sequence[SourceTable]) -> ReaderResult:
    of_images = [table for table in tables if written_channels(table)] or tables
    unread = _without_channels([table for table in tables if table not in of_images])
    n_found = sum(table.n_rows for table in of_images) + n_refused(unread)
    tables = of_images
    channels = channel_names(tables, request.channels)
    column_of = {table.path: column_names(table, request.mapping, wanted=("plate", "well")) for table in tables}
    extra = tuple(dict.fromkeys(name for table in tables for name in other_columns(table, column_of[table.path])))
    source = request.source.parent if request.source.is_file() else request.source
    places = None if request.tables_only else ImageLocator(source)
    entries: list[SiteRecord] = []
    tables, problems = drop_repeats(tables, column_of)
    n_found -= sum(problem.count for problem in problems)
    problems += unread
    for table in tables:
        known, batch = column_of[table.path], _batch_of(table)
        rows = LoadData(table=table, column_of=known, channels=channels, extra=extra, batch=batch)
        read, refused = rows.read(places)
        entries += read
        problems += refused
    if places is not None:
        problems += unnamed_images(source, places.named)
        problems += [_by_name(source, len(places.by_name))] if places.by_name else []
    first = column_of[tables[0].path]
    known_keys = {"plate"} | ({"experiment"} if "experiment" in first or _batch_of(tables[0]) else set())
    return ReaderResult(
        source=source,
        channels=named_channels([name for name, _ in channels]),
        entries=entries,
        problems=problems,
        n_found=n_found,
        extra_columns=extra,
        tables=tuple(table.path for table in tables),
        duplicate_fix=f"Column {first['site']!r} must tell the sites of a well apart."
        if "site" in first
        else "Name the column that tells the sites of a well apart: --map site=COLUMN.",
        provenance={"columns": dict(first)},
        key_columns=frozenset(known_keys),
    )


def _without_channels(tables: Sequence[SourceTable]) -> list[Problem]:
    return unread_tables(
        [table.path for table in tables],
        found="no column of images",
        expected="columns FileName_DNA and PathName_DNA, or URL_DNA, for every channel",
        fix="Give its columns such names, or take it out.",
    )


def _by_name(source: AnyPath, count: int) -> Problem:
    return Problem(
        severity="warning",
        kind="files found by name alone",
        file=".",
        found=f"{count} files in {source} itself",
        expected="the folder that the table names",
        fix="Nothing, if they are of the plate that the table says; files of another plate may have the same names.",
        count=count,
    )


def _shared(known: frozenset[str], labels: WellMetadata | None) -> frozenset[str]:
    return frozenset() if labels is None else known & labels.keys


def _of_names(
    request: IndexOptions, labels_of_plates: Callable[[set[str]], WellMetadata | None]
) -> tuple[ReaderResult, WellMetadata | None]:
    source = request.source
    if not source.is_dir() or request.tables_only:
        raise ScreenError(f"No load_data.csv below {request.tables or source}. Name it or its folder: --tables.")
    pattern = parse_pattern(request.pattern or _HARMONY)
    listed = list_images(source, pattern)
    if listed.is_empty:
        message = f"Neither a load_data.csv nor an image named like {pattern.text!r} below {source}. Name the tables: "
        message += "--tables FOLDER; or say how the images are named: --pattern."
        raise ScreenError(message)
    pictures = listed.pictures
    for picture in pictures:
        picture.experiment = _batch(picture.path) or picture.experiment
    known = {"plate"} | ({"experiment"} if any(_batch(picture.path) for picture in pictures) else set())
    labels = labels_of_plates({picture.plate for picture in pictures})
    wells = resolve_names(
        pictures, labels, shared=_shared(frozenset(known), labels), request=request, count=n_sites_of, base=pattern.base
    )
    result = ReaderResult(
        source=source,
        problems=[*listed.problems, *wells.problems],
        n_found=wells.n_refused,
        key_columns=frozenset(known),
        duplicate_fix="Keep the images of each plate in one folder.",
        provenance={"pattern": pattern.text},
    )
    add_sites(result, request, listed, pattern, of=wells.places)
    return result, wells.labels


def _batch(path: str) -> str:
    """Return the batch of `images/BATCH/images/PLATE/...`; "" elsewhere."""
    parts = path.lower().split("/")
    for k in range(len(parts) - 3):
        if parts[k] == parts[k + 2] == "images":
            return path.split("/")[k + 1]
    return ""


def _batch_of(table: SourceTable) -> str:
    """Return the batch of `load_data_csv/BATCH[/PLATE]/load_data.csv`; "" elsewhere."""
    parts = table.path.as_posix().split("/")
    above = next((k for k in (-4, -3) if len(parts) > -k - 1 and parts[k] == "load_data_csv"), 0)
    return parts[above + 1] if above else ""


def _check_mapping(mapping: Mapping[str, str], found: ReaderResult, labels: WellMetadata | None) -> None:
    """Refuse a mapping that no table knows: one table need not know all of it."""
    columns = {*found.extra_columns, *found.provenance.get("columns", {}).values()}
    if labels is not None:
        columns |= {*labels.extra_columns, *labels.columns.values()}
    for ours, theirs in mapping.items():
        if ours not in OURS:
            raise ScreenError(f"--map {ours}={theirs}: we have no column {ours!r}. {did_you_mean(ours, OURS)}")
        if theirs and theirs not in columns:
            raise ScreenError(
                f"--map {ours}={theirs}: no table has a column {theirs!r}. {did_you_mean(theirs, columns)}"
            )


def _without_site(column_of: dict[str, str]) -> dict[str, str]:
    return {ours: theirs for ours, theirs in column_of.items() if ours != "site"}


def _sign(source: AnyPath) -> str:
    if not source.is_dir():
        return ""
    there = dict(scan(source, "", []))
    for name, is_folder in there.items():
        if not is_folder and is_known(name):
            return name
    usual = ("workspace/load_data_csv", "workspace/metadata/platemaps")
    return next((folder for folder in usual if (source / folder).is_dir()), "")


LAYOUT = Reader(
    name="cellpainting",
    read=find_cellpainting,
    detect=_sign,
    options=OPTIONS_OF_NAMES,
)
