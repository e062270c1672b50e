"""Which column of a table is which of ours, by its name or as told."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from distangle.errors import ScreenError, nearest
from distangle.screen.source_tables import SourceTable

OURS = ("experiment", "plate", "well", "site", "cell_type", "perturbation", "role", "split")


def resolve_columns(
    table: SourceTable, mapping: Mapping[str, str], *, wanted: Sequence[str] = ("plate", "well", "perturbation")
) -> dict[str, str]:
    """Return which of the table's columns is which of ours.

    Args:
        table: With the columns to choose from.
        mapping: Our column name to the table's; to "" for one that the table does not have.
        wanted: Ours that it must have.

    Raises:
        ScreenError: A name that neither we nor the table knows, two candidates, or a wanted one missing.
    """
    for ours, theirs in mapping.items():
        if ours not in OURS:
            message = f"--map {ours}={theirs}: we have no column {ours!r}. {nearest(ours, OURS)}"
            raise ScreenError(message)
        if theirs and theirs not in table.columns:
            message = f"--map {ours}={theirs}: {table.path} has no column {theirs!r}. "
            message += nearest(theirs, table.columns)
            raise ScreenError(message)
    column_of: dict[str, str] = {}
    free = [name for name in table.columns if name not in mapping.values()]
    for ours in OURS:
        theirs = mapping[ours] if ours in mapping else _by_itself(ours, free, table)
        if theirs:
            column_of[ours] = theirs
    none = [name for name in wanted if name == "perturbation" and mapping.get(name) == ""]
    missing = [name for name in wanted if name not in column_of and name not in none]
    if missing:
        example = " ".join(f"--map {name}=COLUMN" for name in missing)
        message = f"{table.path} has no column {' and no column '.join(map(repr, missing))}. "
        message += f"{nearest(missing[0], table.columns)} Say which it is: {example}"
        message += " (--map perturbation= says that there is none)." if "perturbation" in missing else "."
        message = f"{message} {table.advice}".rstrip()
        raise ScreenError(message)
    return column_of


def with_wells(table: SourceTable, mapping: Mapping[str, str], *, usual: Sequence[str] = ("well",)) -> SourceTable:
    """Add a column with the names of the wells to a table that says row and column apart.

    They are joined where `mapping` says so, `well` to `ROW+COLUMN`, and where the table has no column for the well
    but one named `row` and one named `column` or `col`, with or without `Metadata_` before it. Rows are letters or
    numbers from 1; what is neither is refused with the well.

    Args:
        table: With or without wells.
        mapping: Our column name to the table's.
        usual: What a column of wells is called.
    """
    name = mapping.get("well", "")
    parts = name.split("+")
    if name in table.columns:
        return table
    if len(parts) != 2 or not set(parts) <= set(table.columns):
        name, parts = "well", [_first_of(words, table.columns) for words in (("row",), ("column", "col"))]
        if _first_of(usual, table.columns) or "" in parts:
            return table
    row, column = (table.position(part) for part in parts)
    rows = tuple((*fields, _well_of(fields[row].strip(), fields[column].strip())) for fields in table.rows)
    return dataclasses.replace(table, columns=(*table.columns, name), rows=rows)


def _well_of(row: str, column: str) -> str:
    row, column = (re.sub(r"^([0-9]+)\.0+$", r"\1", figure) for figure in (row, column))  # as pandas writes beside gaps
    return f"r{row}c{column}" if row.isdigit() else f"{row}{column}"


def _first_of(words: Sequence[str], columns: Sequence[str]) -> str:
    wanted = [_plain(f"{before}{word}") for word in words for before in ("", "Metadata_")]
    return next((name for word in wanted for name in columns if _plain(name) == word), "")


def _by_itself(ours: str, columns: Sequence[str], table: SourceTable) -> str:
    for wanted in (ours, f"Metadata_{ours}"):
        exact = [name for name in columns if name == wanted]
        close = exact or [name for name in columns if _plain(name) == _plain(wanted)]
        if len(close) > 1:
            message = f"{table.path}: {' and '.join(map(repr, close))} may both be {ours!r}. "
            message += f"Say which: --map {ours}=COLUMN."
            raise ScreenError(message)
        if close:
            return close[0]
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[_\s-]", "", name.lower())
