"""Read any table with a row per site."""

import posixpath
import re
from collections.abc import Mapping, Sequence

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult, SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import scan, unnamed_images
from distangle.screen.readers.wells.columns import RowParser, add_well_column, apply_controls, resolve_columns
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import named_channels
from distangle.screen.source_tables import SourceTable, is_table, matching_columns, read_table

_IMAGE_NAME = re.compile(r"[^.].*\.(png|tiff?)", re.IGNORECASE | re.DOTALL)


def find_table(request: IndexOptions) -> ReaderResult:
    """Find the sites in the rows of a table.

    The source is the table, or the folder of its relative paths, with the table in it or in `tables`. Several tables
    with the same columns are read as one. Columns are matched by name, ignoring case and the prefix `Metadata_`;
    `mapping` assigns others. A mapping to "" states that the table has no such column.

    Raises:
        ScreenError: There is no single table, or an option names an unknown column, role or perturbation.
    """
    source, paths = _locate(request)
    tables = [add_well_column(read_table(path, missing=request.missing), request.mapping) for path in paths]
    if any(set(table.columns) != set(tables[0].columns) for table in tables):
        raise _several_tables_error(request.tables or source, paths)
    tables = matching_columns(tables)
    table = tables[0]
    column_of = resolve_columns(table, request.mapping)
    names, path_columns = _channels(table, request)
    used = {*column_of.values(), *path_columns}
    extra = tuple(name for name in table.columns if name not in used)
    problems = [problem for part in tables for problem in part.ragged_problems()]
    rows: list[tuple[SiteRecord, Problem | None]] = []
    for part in tables:
        reader = _RowReader(
            part, column_of=column_of, path_columns=path_columns, extra=extra, request=request, source=source
        )
        rows += [reader.read(line, fields) for line, fields in zip(part.lines, part.rows, strict=True)]
    problems += [problem for _, problem in rows if problem is not None]
    valid = [entry for entry, problem in rows if problem is None]
    reading = resolve_names(valid, None, shared=frozenset(), request=request, side="tables")
    problems += reading.problems
    apply_controls(reading.places, request.controls)
    if not request.tables_only:
        problems += unnamed_images(source, _named_files([entry for entry, _ in rows]))
    if "site" in column_of:
        hint = f"Column {column_of['site']!r} must contain the site number."
    else:
        hint = "If they are sites of one well, name the column with the site number: --map site=COLUMN."
    return ReaderResult(
        source=source,
        channels=named_channels(names),
        entries=reading.places,
        problems=problems,
        n_found=sum(part.n_rows for part in tables),
        extra_columns=extra,
        tables=tuple(paths),
        duplicate_fix=hint,
        provenance={"columns": dict(column_of), "path_columns": list(path_columns)},
    )


def _locate(request: IndexOptions) -> tuple[AnyPath, list[AnyPath]]:
    source, tables = request.source, request.tables
    if not source.exists():
        raise ScreenError(f"{source} does not exist. Expected a table, or the folder of its relative paths.")
    if source.is_file():
        if tables is not None:
            raise ScreenError(f"{source} is a table, and --tables names {tables}. Name the folder as source.")
        return source.parent, [source]
    folder = tables or source
    if folder.is_file():
        return source, [folder]
    if not folder.is_dir():
        raise ScreenError(f"{folder} does not exist. Expected a table, or a folder with one.")
    candidates = _tables_in(folder)
    if not candidates:
        raise ScreenError(f"{folder} contains no .csv, .tsv or .parquet file. Name the table with --tables FILE.")
    if len({_first_line(path) for path in candidates}) > 1:
        raise _several_tables_error(folder, candidates)
    return source, candidates


def _several_tables_error(folder: AnyPath, paths: Sequence[AnyPath]) -> ScreenError:
    names = ", ".join(path.name for path in paths)
    return ScreenError(
        f"{folder} contains several tables: {names}. Name the table with --tables FILE. Tables with the same header "
        "are read as one."
    )


def _channels(table: SourceTable, request: IndexOptions) -> tuple[list[str], list[str]]:
    """Return the channels and the columns of their paths (one for `--pages`)."""
    parts = [item.split("=", 1) for item in request.channels]
    names = [part[0].strip() for part in parts]
    columns = [part[-1].strip() for part in parts]
    if "" in names or len(set(names)) < len(names):
        raise ScreenError(f"--channels {','.join(request.channels)}: every channel needs a unique name.")
    if request.tables_only:
        return names, [name for name in (request.pages, *columns) if name in table.columns]
    if not names:
        sample = dict(zip(table.columns, table.rows[0], strict=True)) if table.rows else {}
        likely = [name for name, value in sample.items() if _IMAGE_NAME.fullmatch(value)]
        message = f"The image columns of {table.path} are unknown. Name them: --channels "
        message += f"{','.join(likely) or 'COLUMN,COLUMN'} (or NAME=COLUMN), --pages COLUMN for files with a page per "
        message += "channel, or use --tables-only to look for no image."
        raise ScreenError(message)
    if request.pages is not None:
        columns = [request.pages]
    for column in columns:
        if column not in table.columns:
            raise ScreenError(
                f"{table.path} has no column {column!r} with paths of images. {did_you_mean(column, table.columns)}"
            )
    return names, columns


class _RowReader:
    """Converts the rows of one table to entries."""

    def __init__(
        self,
        table: SourceTable,
        *,
        column_of: Mapping[str, str],
        path_columns: Sequence[str],
        extra: Sequence[str],
        request: IndexOptions,
        source: AnyPath,
    ) -> None:
        site = 0 if request.tables_only else 1
        self._parser = RowParser(table, column_of, extra=extra, name=table.path.name, experiment="all", site=site)
        self._paths = [] if request.tables_only else [table.position(name) for name in path_columns]
        self._names = [item.split("=", 1)[0].strip() for item in request.channels]
        self._has_pages = request.pages is not None
        self._roots = {source.absolute().as_posix(), source.resolve().as_posix()}

    def read(self, line: int, fields: tuple[str, ...]) -> tuple[SiteRecord, Problem | None]:
        """Return the entry of a row, and its refusal or None."""
        entry = self._parser.parse(line, fields)
        wrong_paths = self._add_paths(entry, fields)
        return entry, self._parser.validate(entry, fields) or wrong_paths

    def _add_paths(self, entry: SiteRecord, fields: tuple[str, ...]) -> Problem | None:
        if not self._paths:
            return None
        written = [fields[k].strip() for k in self._paths]
        if self._has_pages:
            written = written * len(self._names)
            entry.pages = tuple(range(len(self._names)))
            entry.numbering = "channels"
        else:
            entry.pages = (-1,) * len(self._names)
        missing = [name for name, value in zip(self._names, written, strict=True) if not value]
        if missing:
            return entry.missing_paths_problem(missing, self._names)
        paths = [self._relative_path(value) for value in written]
        for name, value, path in zip(self._names, written, paths, strict=True):
            if path is None:
                return entry.problem(
                    "path outside the source",
                    channel=name,
                    found=value,
                    expected="a path below the source folder",
                    fix="Write paths relative to the source, and name a folder that contains all images as source.",
                )
        entry.paths = tuple(path for path in paths if path is not None)
        if not self._has_pages and len(set(entry.paths)) < len(entry.paths):
            duplicates = [name for name, path in zip(self._names, paths, strict=True) if paths.count(path) > 1]
            return entry.problem(
                "one file for two channels",
                channel=", ".join(duplicates),
                found=entry.paths[self._names.index(duplicates[0])],
                expected="a file per channel",
                fix="Correct the paths; files with a page per channel need --pages COLUMN.",
            )
        return None

    def _relative_path(self, written: str) -> str | None:
        # Tables from Windows use \ as separator.
        text = written if "/" in written else written.replace("\\", "/")
        if re.match(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", text) or "\0" in text:
            return None
        path = posixpath.normpath(text)
        if path.startswith("/"):
            relative = [path.removeprefix(f"{root}/") for root in self._roots if path.startswith(f"{root}/")]
            return relative[0] if relative else None
        return None if path == ".." or path.startswith("../") or path == "." else path


def _named_files(entries: Sequence[SiteRecord]) -> dict[str, set[str]]:
    files: dict[str, set[str]] = {}
    for entry in entries:
        for path in entry.paths:
            folder, name = posixpath.split(path)
            files.setdefault(folder, set()).add(name)
    return files


def _detect(source: AnyPath) -> str:
    if source.is_file():
        return source.name if is_table(source.name) else ""
    candidates = _tables_in(source)
    return candidates[0].name if len(candidates) == 1 else ""


def _first_line(path: AnyPath) -> bytes:
    with path.open("rb") as stream:
        return bytes(stream.read(4096)).partition(b"\n")[0].strip()


def _tables_in(folder: AnyPath) -> list[AnyPath]:
    return [folder / name for name, is_folder in scan(folder, "", []) if not is_folder and is_table(name)]


LAYOUT = Reader(
    name="table",
    read=find_table,
    detect=_detect,
    options=frozenset({"mapping", "channels", "pages", "controls", "well_base", "well_order"}),
)
