"""List the tables of a Cell Painting Gallery or JUMP folder; drop repeated rows."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import folders_below
from distangle.screen.readers.load_data import other_columns, written_channels, written_file
from distangle.screen.screen import METADATA
from distangle.screen.source_tables import ENDING, SourceTable, is_table, read_table

Key = tuple[str, object, str]


def drop_repeats(
    tables: Sequence[SourceTable], column_of: Mapping[AnyPath, Mapping[str, str]]
) -> tuple[list[SourceTable], list[Problem]]:
    """Drop rows that repeat site and files of a table in the same folder.

    Rows of one site with other files stay; they are refused later as contradictory.

    Args:
        tables: The tables, folder by folder; the first table with a row keeps it.
        column_of: Column of each field, by table.

    Returns:
        The tables, and a warning for each that lost rows.
    """
    seen_rows: dict[str, dict[Key, tuple[str, dict[str, str]]]] = defaultdict(dict)
    unique_tables: list[SourceTable] = []
    warnings: list[Problem] = []
    for table in tables:
        folder_rows = seen_rows[str(table.path.parent)]
        key_columns = [table.position(column_of[table.path][name]) for name in ("plate", "well")]
        site = column_of[table.path].get("site")
        site_column = None if site is None else table.position(site)
        channels = written_channels(table)
        kept_rows: list[int] = []
        new_rows: dict[Key, tuple[str, dict[str, str]]] = {}
        n_repeated: Counter[str] = Counter()
        for index, fields in enumerate(table.rows):
            plate, well = (fields[column].strip() for column in key_columns)
            key: Key = (plate, split_well(well) or well, "" if site_column is None else fields[site_column].strip())
            row = dict(zip(table.columns, fields, strict=True))
            files = {channel: written_file(row, channel) for channel in channels}
            other_name, other_files = folder_rows.get(key, ("", {}))
            shared = other_files.keys() & files.keys()
            if shared and all(other_files[channel] == files[channel] for channel in shared):
                n_repeated[other_name] += 1
            else:
                kept_rows.append(index)
                new_rows[key] = (table.path.name, files)
        for key, value in new_rows.items():
            folder_rows.setdefault(key, value)
        if n_repeated:
            others = other_columns(table, column_of[table.path])
            warnings.append(_repeat_warning(table, n_repeated, _columns_not_in(others, unique_tables, n_repeated)))
            rows, lines = (
                tuple(table.rows[index] for index in kept_rows),
                tuple(table.lines[index] for index in kept_rows),
            )
            table = dataclasses.replace(table, rows=rows, lines=lines)  # noqa: PLW2901
        unique_tables.append(table)
    return unique_tables, warnings


def _columns_not_in(columns: Sequence[str], tables: Sequence[SourceTable], names: Mapping[str, int]) -> list[str]:
    present = {column for table in tables if table.path.name in names for column in table.columns}
    return [column for column in columns if column not in present]


def _repeat_warning(table: SourceTable, n_repeated: Counter[str], lost_columns: Sequence[str]) -> Problem:
    count = n_repeated.total()
    fix = "No action needed: each row is used once."
    if lost_columns:
        columns = ", ".join(map(repr, lost_columns[:5])) + (", ..." if len(lost_columns) > 5 else "")
        fix = f"No action needed without the columns {columns}; otherwise keep only this table in its folder."
    return Problem(
        severity="warning",
        kind="repeated table rows",
        file=f"{table.path.parent.name}/{table.path.name}".removeprefix("/"),
        found=f"{count} rows with the sites and files of {' and '.join(n_repeated)}",
        expected="every row in one table",
        fix=fix,
        count=count,
    )


_LOAD_DATA = re.compile(rf"(?:.*[\W_])?load_?data.*{ENDING}", re.IGNORECASE | re.DOTALL)
_BARCODES = re.compile(rf"(?:.*[\W_])?barcode_?platemaps?.*(?:{ENDING}|\.txt)", re.IGNORECASE | re.DOTALL)
_WELLS = re.compile(f"well{ENDING}", re.IGNORECASE)
_PERTURBATIONS = re.compile(f"(compound|orf|crispr|perturbation_control){ENDING}", re.IGNORECASE)
_SKIPPED_FOLDERS = frozenset(
    {"images", "illum", "profiles", "analysis", "backend", "segmentation", "quality_control", "assaydev"}
)
NOT_READ = "table not read"


@dataclass(frozen=True, kw_only=True)
class GalleryTables:
    """The tables below a folder, by kind.

    Attributes:
        load_data: Image tables, CSV or Parquet; in every folder the shortest name first.
        barcodes: Tables that assign plate maps to plates.
        maps: File of each plate map, by the folder above `platemap/` and the name.
        wells: JUMP's table of all wells.
        perturbations: Tables with a row per perturbation.
        duplicate_maps: Plate maps whose name differs from another only in the extension.
        unknown: Tables with an unknown name.
    """

    load_data: tuple[AnyPath, ...] = ()
    barcodes: tuple[AnyPath, ...] = ()
    maps: Mapping[tuple[str, str], AnyPath] = field(default_factory=dict)
    wells: tuple[AnyPath, ...] = ()
    perturbations: tuple[AnyPath, ...] = ()
    duplicate_maps: tuple[AnyPath, ...] = ()
    unknown: tuple[AnyPath, ...] = ()


def list_tables(root: AnyPath, warnings: list[Problem]) -> GalleryTables:
    """List the tables below a folder; skip folders of images, profiles and screens."""
    load_data: list[AnyPath] = []
    barcodes: list[AnyPath] = []
    maps: dict[tuple[str, str], AnyPath] = {}
    wells: list[AnyPath] = []
    perturbations: list[AnyPath] = []
    duplicate_maps: list[AnyPath] = []
    unknown: list[AnyPath] = []
    for folder, names in folders_below(root, warnings, skip=_SKIPPED_FOLDERS):
        if METADATA in names:
            continue
        folder_name = folder.rsplit("/", 1)[-1].lower()
        load_data_names = sorted(
            (name for name in names if _LOAD_DATA.fullmatch(name)), key=lambda name: (len(name), name)
        )
        load_data += [root / f"{folder}/{name}".lstrip("/") for name in load_data_names]
        for name in (name for name in names if name not in load_data_names):
            path = root / f"{folder}/{name}".lstrip("/")
            if _BARCODES.fullmatch(name):
                barcodes.append(path)
            elif folder_name == "platemap" and _is_text_table(name):
                key = (str(path.parent.parent), name.rsplit(".", 1)[0])
                duplicate_maps += [path] if key in maps else []
                maps.setdefault(key, path)
            elif _WELLS.fullmatch(name):
                wells.append(path)
            elif _PERTURBATIONS.fullmatch(name) or (folder_name == "external_metadata" and _is_text_table(name)):
                perturbations.append(path)
            elif is_table(name):
                unknown.append(path)
    return GalleryTables(
        load_data=tuple(load_data),
        barcodes=tuple(barcodes),
        maps=maps,
        wells=tuple(wells),
        perturbations=tuple(perturbations),
        duplicate_maps=tuple(duplicate_maps),
        unknown=tuple(unknown),
    )


def is_gallery_table(name: str) -> bool:
    """Test whether a file name belongs to a table of images or barcodes."""
    return _LOAD_DATA.fullmatch(name) is not None or _BARCODES.fullmatch(name) is not None


def unread_tables(paths: Sequence[AnyPath], *, description: str, expected: str, fix: str) -> list[Problem]:
    """Return refusals of unread tables, with the number of their rows.

    Args:
        paths: The tables.
        description: What the tables contain.
        expected: What was expected.
        fix: The next step.
    """
    problems = []
    for path in paths:
        try:
            n_rows = read_table(path).n_rows
        except ScreenError:
            n_rows = 0
        problems.append(
            Problem(
                severity="refused" if n_rows else "warning",
                kind=NOT_READ,
                file=f"{path.parent.name}/{path.name}".removeprefix("/"),
                found=f"{description} ({n_rows} rows)" if n_rows else description,
                expected=expected,
                fix=fix,
                count=max(n_rows, 1),
            )
        )
    return problems


def unknown_tables(paths: Sequence[AnyPath]) -> list[Problem]:
    """Return a warning for every folder with tables of unknown name."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.parent.name, []).append(path.name)
    return [
        Problem(
            severity="warning",
            kind=NOT_READ,
            file=folder,
            found=", ".join(names[:5]) + (", ..." if len(names) > 5 else ""),
            expected="load_data*.csv, barcode_platemap.csv, platemap/*, well.csv, compound.csv, external_metadata/*",
            fix="No action needed if they do not describe these wells; otherwise use --tables FILE, or rename them.",
            count=len(names),
        )
        for folder, names in by_folder.items()
    ]


def _is_text_table(name: str) -> bool:
    return is_table(name) or name.lower().endswith(".txt")
