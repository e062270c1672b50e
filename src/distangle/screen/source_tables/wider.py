"""Add columns to tables: computed ones, and those of other tables."""

import dataclasses
from collections.abc import Callable, Sequence

from distangle.screen.source_tables.table import SourceTable


def with_columns(
    table: SourceTable, columns: Sequence[str], more: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> SourceTable:
    """Add columns to a table; `more` returns their values from a row."""
    rows = tuple((*row, *more(row)) for row in table.rows)
    return dataclasses.replace(table, columns=(*table.columns, *columns), rows=rows)


def alike(tables: list[SourceTable]) -> list[SourceTable]:
    """Give all tables the same columns, "" where one has none."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    found = []
    for table in tables:
        at = [table.columns.index(name) if name in table.columns else -1 for name in names]
        rows = tuple(tuple("" if k < 0 else row[k] for k in at) for row in table.rows)
        found.append(dataclasses.replace(table, columns=tuple(names), rows=rows))
    return found
