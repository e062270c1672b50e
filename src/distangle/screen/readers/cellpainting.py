"""Read Cell Painting plates: `load_data.csv` or Harmony names, with plate maps."""

from collections.abc import Callable, Mapping, Sequence

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult, SiteRecord
from distangle.screen.problems import Problem, n_refused
from distangle.screen.readers.filenames.image_file import n_sites_of
from distangle.screen.readers.filenames.image_list import list_images
from distangle.screen.readers.filenames.pattern import FILE_NAME_OPTIONS, parse_pattern
from distangle.screen.readers.filenames.scan import scan, unnamed_images
from distangle.screen.readers.folder import add_sites
from distangle.screen.readers.gallery_tables import (
    GalleryTables,
    drop_repeats,
    is_gallery_table,
    list_tables,
    unknown_tables,
    unread_tables,
)
from distangle.screen.readers.load_data import ImageLocator, LoadData, channel_names, other_columns, written_channels
from distangle.screen.readers.platemaps import column_names, read_platemaps, read_wells
from distangle.screen.readers.wells.columns import FIELD_NAMES, apply_controls
from distangle.screen.readers.wells.join_metadata import WellMetadata, join_metadata, metadata_of
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import named_channels
from distangle.screen.source_tables import SourceTable

_HARMONY = "harmony"


def find_cellpainting(request: IndexOptions) -> ReaderResult:
    """Find the sites of Cell Painting plates.

    The sites are the rows of every `load_data.csv` below `tables` (or the source). Without `load_data.csv` they are the
    files that match `pattern` or Harmony's names (`r01c01f01p01-ch1sk1fk1fl1.tiff`). Well metadata come from the rows,
    from `barcode_platemap.csv` with the maps in `platemap/`, from JUMP's `well.csv`, and from perturbation tables.
    A batch is an experiment.

    Raises:
        ScreenError: There are no tables and no images, or the tables are inconsistent.
    """
    if not request.source.exists():
        raise ScreenError(f"{request.source} does not exist. Expected a folder of Cell Painting plates.")
    problems: list[Problem] = []
    tables, wells = _list_or_read_tables(request, problems)

    unread_problems = unknown_tables(tables.unknown)

    def read_labels(plates: set[str]) -> WellMetadata | None:
        if wells is not None:
            return wells
        labels, new_problems = read_platemaps(tables, request.mapping, plates=plates, missing=request.missing)
        unread_problems.extend(new_problems)
        return labels

    if tables.load_data:
        result = _from_load_data(
            request, [read_wells(path, request.mapping, missing=request.missing) for path in tables.load_data]
        )
        labels = read_labels({entry.plate for entry in result.entries})
        reading = resolve_names(
            result.entries, labels, shared=_shared_keys(result.key_columns, labels), request=request
        )
        result.entries, labels = reading.places, reading.labels
        result.problems += reading.problems
    else:
        result, labels = _from_file_names(request, read_labels)
    _check_mapping(request.mapping, result, labels)
    refusals = result.refusals
    warnings = [*problems, *unread_problems]
    result.problems = [*warnings, *result.problems]
    result.n_found += n_refused(warnings)
    if labels is not None:
        result.provenance["label_columns"] = dict(labels.columns)
        join_metadata(result, labels, refusals=refusals)
    apply_controls(result.entries, request.controls)
    return result


def _list_or_read_tables(request: IndexOptions, warnings: list[Problem]) -> tuple[GalleryTables, WellMetadata | None]:
    path = request.tables or request.source
    if not path.is_file():
        return list_tables(path, warnings), None
    table = read_wells(path, request.mapping, missing=request.missing)
    if written_channels(table):
        return GalleryTables(load_data=(path,)), None
    return GalleryTables(), metadata_of(
        table, _without_site(column_names(table, request.mapping, wanted=("well", "perturbation")))
    )


def _from_load_data(request: IndexOptions, tables: Sequence[SourceTable]) -> ReaderResult:
    with_images = [table for table in tables if written_channels(table)] or tables
    unread_problems = _no_channel_problems([table for table in tables if table not in with_images])
    n_rows = sum(table.n_rows for table in with_images) + n_refused(unread_problems)
    tables = with_images
    channels = channel_names(tables, request.channels)
    column_of = {table.path: column_names(table, request.mapping, wanted=("plate", "well")) for table in tables}
    extra = tuple(dict.fromkeys(name for table in tables for name in other_columns(table, column_of[table.path])))
    source = request.source.parent if request.source.is_file() else request.source
    locator = None if request.tables_only else ImageLocator(source)
    entries: list[SiteRecord] = []
    tables, problems = drop_repeats(tables, column_of)
    n_rows -= sum(problem.count for problem in problems)
    problems += unread_problems
    for table in tables:
        columns, batch = column_of[table.path], _batch_of_table(table)
        load_data = LoadData(table=table, column_of=columns, channels=channels, extra=extra, batch=batch)
        new_entries, refused = load_data.read(locator)
        entries += new_entries
        problems += refused
    if locator is not None:
        problems += unnamed_images(source, locator.requested_names)
        problems += [_matched_by_name_problem(source, len(locator.by_name))] if locator.by_name else []
    first_columns = column_of[tables[0].path]
    keys = {"plate"} | ({"experiment"} if "experiment" in first_columns or _batch_of_table(tables[0]) else set())
    return ReaderResult(
        source=source,
        channels=named_channels([name for name, _ in channels]),
        entries=entries,
        problems=problems,
        n_found=n_rows,
        extra_columns=extra,
        tables=tuple(table.path for table in tables),
        duplicate_fix=f"Column {first_columns['site']!r} must contain the site number."
        if "site" in first_columns
        else "Name the column with the site number: --map site=COLUMN.",
        provenance={"columns": dict(first_columns)},
        key_columns=frozenset(keys),
    )


def _no_channel_problems(tables: Sequence[SourceTable]) -> list[Problem]:
    return unread_tables(
        [table.path for table in tables],
        description="no column of images",
        expected="columns FileName_DNA and PathName_DNA, or URL_DNA, for every channel",
        fix="Rename its columns, or remove the table.",
    )


def _matched_by_name_problem(source: AnyPath, count: int) -> Problem:
    return Problem(
        severity="warning",
        kind="files matched by name only",
        file=".",
        found=f"{count} files in {source} itself",
        expected="the folder that the table names",
        fix="No action needed if they are of the plate in the table; files of another plate may have the same names.",
        count=count,
    )


def _shared_keys(keys: frozenset[str], labels: WellMetadata | None) -> frozenset[str]:
    return frozenset() if labels is None else keys & labels.keys


def _from_file_names(
    request: IndexOptions, read_labels: Callable[[set[str]], WellMetadata | None]
) -> tuple[ReaderResult, WellMetadata | None]:
    source = request.source
    if not source.is_dir() or request.tables_only:
        raise ScreenError(
            f"No load_data.csv below {request.tables or source}. Name the file or its folder with --tables."
        )
    pattern = parse_pattern(request.pattern or _HARMONY)
    image_list = list_images(source, pattern)
    if image_list.has_no_match:
        message = f"No load_data.csv and no image that matches {pattern.text!r} below {source}. Name the folder of the "
        message += "tables, --tables FOLDER, or the pattern of the file names, --pattern."
        raise ScreenError(message)
    images = image_list.images
    for image in images:
        image.experiment = _batch_of_path(image.path) or image.experiment
    keys = {"plate"} | ({"experiment"} if any(_batch_of_path(image.path) for image in images) else set())
    labels = read_labels({image.plate for image in images})
    reading = resolve_names(
        images,
        labels,
        shared=_shared_keys(frozenset(keys), labels),
        request=request,
        count=n_sites_of,
        base=pattern.base,
    )
    result = ReaderResult(
        source=source,
        problems=[*image_list.problems, *reading.problems],
        n_found=reading.n_refused,
        key_columns=frozenset(keys),
        duplicate_fix="Keep the images of each plate in one folder.",
        provenance={"pattern": pattern.text},
    )
    add_sites(result, request, image_list, pattern, readable=reading.places)
    return result, reading.labels


def _batch_of_path(path: str) -> str:
    """Return the batch of `images/BATCH/images/PLATE/...`; "" elsewhere."""
    parts = path.lower().split("/")
    for k in range(len(parts) - 3):
        if parts[k] == parts[k + 2] == "images":
            return path.split("/")[k + 1]
    return ""


def _batch_of_table(table: SourceTable) -> str:
    """Return the batch of `load_data_csv/BATCH[/PLATE]/load_data.csv`; "" elsewhere."""
    parts = table.path.as_posix().split("/")
    above = next((k for k in (-4, -3) if len(parts) > -k - 1 and parts[k] == "load_data_csv"), 0)
    return parts[above + 1] if above else ""


def _check_mapping(mapping: Mapping[str, str], result: ReaderResult, labels: WellMetadata | None) -> None:
    """Refuse a mapped column that no table has; each table may have only some."""
    columns = {*result.extra_columns, *result.provenance.get("columns", {}).values()}
    if labels is not None:
        columns |= {*labels.extra_columns, *labels.columns.values()}
    for field, column in mapping.items():
        if field not in FIELD_NAMES:
            raise ScreenError(f"--map {field}={column}: unknown field {field!r}. {did_you_mean(field, FIELD_NAMES)}")
        if column and column not in columns:
            raise ScreenError(
                f"--map {field}={column}: no table has a column {column!r}. {did_you_mean(column, columns)}"
            )


def _without_site(column_of: dict[str, str]) -> dict[str, str]:
    return {field: column for field, column in column_of.items() if field != "site"}


def _detect(source: AnyPath) -> str:
    if not source.is_dir():
        return ""
    items = dict(scan(source, "", []))
    for name, is_folder in items.items():
        if not is_folder and is_gallery_table(name):
            return name
    folders = ("workspace/load_data_csv", "workspace/metadata/platemaps")
    return next((folder for folder in folders if (source / folder).is_dir()), "")


LAYOUT = Reader(
    name="cellpainting",
    read=find_cellpainting,
    detect=_detect,
    options=FILE_NAME_OPTIONS,
)
