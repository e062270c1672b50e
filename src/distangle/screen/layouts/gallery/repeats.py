"""Drop `load_data` rows that another table repeats."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from distangle.remote import AnyPath
from distangle.screen.layouts.gallery.load_data import other_columns, written_channels, written_file
from distangle.screen.plate import split_well
from distangle.screen.problems import Problem
from distangle.screen.source_tables import SourceTable

Key = tuple[str, object, str]


def without_repeats(
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
