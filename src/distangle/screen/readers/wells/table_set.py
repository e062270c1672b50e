"""Read a folder of well tables; report other tables."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.core.unicode_names import normalize_name
from distangle.errors import ScreenError
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import folders_below, scan
from distangle.screen.readers.wells.join_metadata import WellMetadata, read_metadata
from distangle.screen.roles import natural_sort_key
from distangle.screen.screen import METADATA
from distangle.screen.source_tables import is_table

_NOT_READ = "table not read"
_MAX_DEPTH = 2  # folders below the source that are searched for tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataTables:
    """Well tables before concatenation.

    Attributes:
        parts: Metadata of each table.
        warnings: Warnings about tables that are not tables of wells.
    """

    parts: Sequence[WellMetadata]
    warnings: Sequence[Problem] = ()

    @property
    def named_plates(self) -> set[str]:
        """Plates in the rows."""
        return {row.plate for part in self.parts for row in part.rows} - {""}

    def concatenate(self, plates: Collection[str]) -> WellMetadata:
        """Concatenate the rows of all tables.

        Among several tables, one without a plate column belongs to the plate in its file name.

        Args:
            plates: Plates with images.

        Raises:
            ScreenError: The plate of a table is unknown.
        """
        parts = self.parts
        if len(parts) > 1:
            parts = [part if "plate" in part.keys else _add_plate_of_name(part, plates) for part in parts]
        return parts[0] if len(parts) == 1 and not self.warnings else _concatenate(parts, self.warnings)


def read_tables(location: AnyPath, mapping: Mapping[str, str], *, missing: Collection[str] = ()) -> MetadataTables:
    """Read a table with a row per well, or every one in a folder.

    Args:
        location: The table, or the folder.
        mapping: Column of each field.
        missing: Spellings of a missing value.

    Raises:
        ScreenError: There is no table of wells.
    """
    if not location.is_dir():
        return MetadataTables(parts=[read_metadata(location, mapping, missing=missing)])
    paths = [location / name for name, is_folder in scan(location, "", []) if not is_folder and is_table(name)]
    if not paths:
        raise ScreenError(
            f"{location} contains no .csv, .tsv or .parquet file. Name the table of wells with --tables FILE."
        )
    parts: list[WellMetadata] = []
    warnings: list[Problem] = []
    first: ScreenError | None = None
    for path in paths:
        try:
            parts.append(read_metadata(path, mapping, missing=missing))
        except ScreenError as error:
            first = first or error
            warnings.append(_not_wells_warning(path, str(error)))
    if not parts:
        raise first or ScreenError(str(location))
    return MetadataTables(parts=parts, warnings=warnings)


def read_all_metadata(
    location: AnyPath, mapping: Mapping[str, str], *, plates: Collection[str], missing: Collection[str] = ()
) -> WellMetadata:
    """Read and concatenate the well tables of a file or folder.

    Args:
        location: The table, or the folder.
        mapping: Column of each field.
        plates: Plates with images.
        missing: Spellings of a missing value.

    Raises:
        ScreenError: There is no table of wells, or the plate of a table is unknown.
    """
    return read_tables(location, mapping, missing=missing).concatenate(plates)


def sibling_tables(source: AnyPath) -> list[Problem]:
    """Return a warning about tables next to the images when no table is named."""
    if not isinstance(source, Path):
        return []
    paths: list[str] = []
    for folder, names in folders_below(source, [], max_depth=_MAX_DEPTH):
        if METADATA not in names:
            paths += [f"{folder}/{name}".lstrip("/") for name in names if is_table(name)]
    if not paths:
        return []
    return [
        Problem(
            severity="warning",
            kind=_NOT_READ,
            file=".",
            found=", ".join(paths[:5]) + (", ..." if len(paths) > 5 else ""),
            expected="--tables with the table of the wells, or with a folder of such tables",
            fix=f"No action needed if they do not describe these wells; otherwise use --tables {source / paths[0]}.",
            count=len(paths),
        )
    ]


def _not_wells_warning(path: AnyPath, reason: str) -> Problem:
    return Problem(
        severity="warning",
        kind=_NOT_READ,
        file=path.name,
        found=reason.removeprefix(f"{path} "),
        expected="a table of wells",
        fix="No action needed if it does not describe wells; otherwise correct it, or remove it from the folder.",
    )


def _add_plate_of_name(labels: WellMetadata, plates: Collection[str]) -> WellMetadata:
    (path,) = labels.tables
    stem = normalize_name(path.name.split(".")[0])
    mentioned = [
        plate for plate in plates if re.search(rf"(?<![^\W_]){re.escape(plate)}(?![^\W_])", stem, re.IGNORECASE)
    ]
    max_length = max(map(len, mentioned), default=0)
    longest_names = [plate for plate in mentioned if len(plate) == max_length]
    if len(longest_names) != 1:
        plates_text = ", ".join(sorted(plates, key=natural_sort_key)[:5])
        raise ScreenError(
            f"{path} has no plate column, and there are several tables: add a column 'plate', or put the name of one "
            f"plate with images ({plates_text}) into the file name."
        )
    rows = [dataclasses.replace(row, plate=longest_names[0]) for row in labels.rows]
    problems = [dataclasses.replace(problem, plate=problem.plate or longest_names[0]) for problem in labels.problems]
    return dataclasses.replace(labels, rows=rows, problems=problems, keys=labels.keys | {"plate"})


def _concatenate(parts: Sequence[WellMetadata], warnings: Sequence[Problem]) -> WellMetadata:
    extra = tuple(dict.fromkeys(name for part in parts for name in part.extra_columns))
    rows: list[SiteRecord] = []
    for part in parts:
        position = {name: column for column, name in enumerate(part.extra_columns)}
        columns = [position.get(name, -1) for name in extra]
        rows += [
            dataclasses.replace(row, extra=tuple("" if column < 0 else row.extra[column] for column in columns))
            for row in part.rows
        ]
    return WellMetadata(
        rows=rows,
        problems=[*(problem for part in parts for problem in part.problems), *warnings],
        n_rows=sum(part.n_rows for part in parts),
        keys=frozenset.intersection(*(part.keys for part in parts)),
        extra_columns=extra,
        tables=tuple(path for part in parts for path in part.tables),
        columns=parts[0].columns,
    )
