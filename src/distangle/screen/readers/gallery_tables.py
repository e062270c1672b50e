"""Drop `load_data` rows that another table repeats.

List the tables below a folder of the Cell Painting Gallery or of JUMP.
"""

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
from distangle.screen.screen import CARD
from distangle.screen.source_tables import ENDING, SourceTable, is_table, read_table

Key = tuple[str, object, str]


def drop_repeats(
    tables: Sequence[SourceTable], column_of: Mapping[AnyPath, Mapping[str, str]]
) -> tuple[list[SourceTable], list[Problem]]:
    """Drop rows that repeat site and files of a table in the same folder.

    Rows of one site with other files stay: they contradict each other, and are refused as such.

    Args:
        tables: Those of one folder behind each other; the first one with a row keeps it.
        column_of: Our column name to that of each table.

    Returns:
        The tables, and a remark for each that lost rows.
    """
    known: dict[str, dict[Key, tuple[str, dict[str, str]]]] = defaultdict(dict)
    kept: list[SourceTable] = []
    remarks: list[Problem] = []
    for table in tables:
        of_folder = known[str(table.path.parent)]
        ours = [table.position(column_of[table.path][name]) for name in ("plate", "well")]
        site = column_of[table.path].get("site")
        at_site = None if site is None else table.position(site)
        channels = written_channels(table)
        keep: list[int] = []
        new: dict[Key, tuple[str, dict[str, str]]] = {}
        repeated: Counter[str] = Counter()
        for k, fields in enumerate(table.rows):
            plate, well = (fields[at].strip() for at in ours)
            key: Key = (plate, split_well(well) or well, "" if at_site is None else fields[at_site].strip())
            row = dict(zip(table.columns, fields, strict=True))
            files = {channel: written_file(row, channel) for channel in channels}
            other, theirs = of_folder.get(key, ("", {}))
            shared = theirs.keys() & files.keys()
            if shared and all(theirs[channel] == files[channel] for channel in shared):
                repeated[other] += 1
            else:
                keep.append(k)
                new[key] = (table.path.name, files)
        for key, value in new.items():
            of_folder.setdefault(key, value)
        if repeated:
            others = other_columns(table, column_of[table.path])
            remarks.append(_repeat(table, repeated, _not_in(others, kept, repeated)))
            rows, lines = tuple(table.rows[k] for k in keep), tuple(table.lines[k] for k in keep)
            table = dataclasses.replace(table, rows=rows, lines=lines)  # noqa: PLW2901
        kept.append(table)
    return kept, remarks


def _not_in(columns: Sequence[str], tables: Sequence[SourceTable], names: Mapping[str, int]) -> list[str]:
    there = {column for table in tables if table.path.name in names for column in table.columns}
    return [column for column in columns if column not in there]


def _repeat(table: SourceTable, repeated: Counter[str], lost: Sequence[str]) -> Problem:
    n = repeated.total()
    fix = "Nothing: each row was taken once."
    if lost:
        columns = ", ".join(map(repr, lost[:5])) + (", ..." if len(lost) > 5 else "")
        fix = f"Nothing, if the columns {columns} are not needed; else keep this table alone in its folder."
    return Problem(
        severity="warning",
        kind="table that repeats another",
        file=f"{table.path.parent.name}/{table.path.name}".removeprefix("/"),
        found=f"{n} rows with the sites and files of {' and '.join(repeated)}",
        expected="every row in one table",
        fix=fix,
        count=n,
    )


_LOAD_DATA = re.compile(rf"(?:.*[\W_])?load_?data.*{ENDING}", re.IGNORECASE | re.DOTALL)
_BARCODES = re.compile(rf"(?:.*[\W_])?barcode_?platemaps?.*(?:{ENDING}|\.txt)", re.IGNORECASE | re.DOTALL)
_WELLS = re.compile(f"well{ENDING}", re.IGNORECASE)
_PERTURBATIONS = re.compile(f"(compound|orf|crispr|perturbation_control){ENDING}", re.IGNORECASE)
_IMAGES = frozenset(
    {"images", "illum", "profiles", "analysis", "backend", "segmentation", "quality_control", "assaydev"}
)
NOT_READ = "table not read"


@dataclass(frozen=True, kw_only=True)
class GalleryTables:
    """The tables below a folder, by what they are.

    Attributes:
        load_data: Those of images, CSV or Parquet; in every folder the one with the shortest name first.
        barcodes: Which plate has which map.
        maps: Folder above `platemap/` and name of a map to its file.
        wells: JUMP's table of all wells.
        perturbations: Tables with a row per perturbation.
        twins: Maps of a name that another file beside them has, but for the ending.
        others: Tables of no known name.
    """

    load_data: tuple[AnyPath, ...] = ()
    barcodes: tuple[AnyPath, ...] = ()
    maps: Mapping[tuple[str, str], AnyPath] = field(default_factory=dict)
    wells: tuple[AnyPath, ...] = ()
    perturbations: tuple[AnyPath, ...] = ()
    twins: tuple[AnyPath, ...] = ()
    others: tuple[AnyPath, ...] = ()


def list_tables(place: AnyPath, remarks: list[Problem]) -> GalleryTables:
    """List the tables below a folder; skip folders of images, profiles and screens."""
    load_data: list[AnyPath] = []
    barcodes: list[AnyPath] = []
    maps: dict[tuple[str, str], AnyPath] = {}
    wells: list[AnyPath] = []
    perturbations: list[AnyPath] = []
    twins: list[AnyPath] = []
    others: list[AnyPath] = []
    for folder, names in folders_below(place, remarks, closed=_IMAGES):
        if CARD in names:
            continue
        here = folder.rsplit("/", 1)[-1].lower()
        of_images = sorted((name for name in names if _LOAD_DATA.fullmatch(name)), key=lambda name: (len(name), name))
        load_data += [place / f"{folder}/{name}".lstrip("/") for name in of_images]
        for name in (name for name in names if name not in of_images):
            path = place / f"{folder}/{name}".lstrip("/")
            if _BARCODES.fullmatch(name):
                barcodes.append(path)
            elif here == "platemap" and _is_text(name):
                key = (str(path.parent.parent), name.rsplit(".", 1)[0])
                twins += [path] if key in maps else []
                maps.setdefault(key, path)
            elif _WELLS.fullmatch(name):
                wells.append(path)
            elif _PERTURBATIONS.fullmatch(name) or (here == "external_metadata" and _is_text(name)):
                perturbations.append(path)
            elif is_table(name):
                others.append(path)
    return GalleryTables(
        load_data=tuple(load_data),
        barcodes=tuple(barcodes),
        maps=maps,
        wells=tuple(wells),
        perturbations=tuple(perturbations),
        twins=tuple(twins),
        others=tuple(others),
    )


def is_known(name: str) -> bool:
    """Return whether a file name is that of a table of images or of barcodes."""
    return _LOAD_DATA.fullmatch(name) is not None or _BARCODES.fullmatch(name) is not None


def unread_tables(paths: Sequence[AnyPath], *, found: str, expected: str, fix: str) -> list[Problem]:
    """Return refusals of tables that were left out, with the number of their rows.

    Args:
        paths: The tables.
        found: What they are.
        expected: What they would have to be.
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
                found=f"{found} ({n_rows} rows)" if n_rows else found,
                expected=expected,
                fix=fix,
                count=max(n_rows, 1),
            )
        )
    return problems


def unknown_tables(paths: Sequence[AnyPath]) -> list[Problem]:
    """Return a warning for every folder with tables that no name says what they are."""
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
            fix="Nothing, if they say nothing of these wells; else name the table, --tables FILE, or rename it.",
            count=len(names),
        )
        for folder, names in by_folder.items()
    ]


def _is_text(name: str) -> bool:
    return is_table(name) or name.lower().endswith(".txt")
