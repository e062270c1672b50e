"""A table of a source as text: its header, its rows, and where each stands.

Add columns to tables: computed ones, and those of other tables.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.problems import Problem

LARGEST = 1 << 30  # bytes of an unpacked table


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """A table of text.

    Attributes:
        path: Where it was read from.
        columns: The header.
        rows: The rows that have one field per column.
        lines: The line on which each of `rows` starts; the header is line 1. A Parquet file counts as if it were CSV.
        ragged: Line and number of fields of every other row.
        width: Fields of a whole row as written, with those of columns that were left out; 0: as many as `columns`.
        remarks: What was left out beside the rows, or taken for something.
        advice: Behind the error that a column is missing.
    """

    path: AnyPath
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    ragged: tuple[tuple[int, int], ...] = ()
    width: int = 0
    remarks: tuple[Problem, ...] = ()
    advice: str = ""

    @property
    def n_rows(self) -> int:
        """All rows that are not blank, ragged ones too."""
        return len(self.rows) + len(self.ragged)

    def position(self, column: str) -> int:
        """Return where a column stands.

        Raises:
            ScreenError: The table has no such column.
        """
        if column not in self.columns:
            raise ScreenError(f"{self.path} has no column {column!r}. {did_you_mean(column, self.columns)}")
        return self.columns.index(column)

    def ragged_problems(self) -> list[Problem]:
        """Return the remarks, and a refusal for every ragged row.

        Which columns its fields are of cannot be known.
        """
        return [
            *self.remarks,
            *self._ragged(),
        ]

    def _ragged(self) -> list[Problem]:
        return [
            Problem(
                kind="ragged row",
                file=self.path.name,
                row=str(line),
                found=f"{n_fields} fields",
                expected=f"{self.width or len(self.columns)} fields, as in the header",
                fix="Mend this line: a trailing delimiter, or one inside a value that is not in quotes.",
            )
            for line, n_fields in self.ragged
        ]


def checked_header(path: AnyPath, fields: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the columns without blanks around them.

    Raises:
        ScreenError: One is without a name, or two have the same.
    """
    columns = tuple(field.strip() for field in fields)
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice or "" in columns:
        what = f"the columns {', '.join(map(repr, twice))} twice"
        what = what if twice else f"a column without a name (number {columns.index('') + 1})"
        raise ScreenError(f"{path}: the header has {what}. Every column needs a name of its own.")
    return columns


def require_columns(table: SourceTable, needed: Iterable[str]) -> None:
    """Refuse a table that lacks columns.

    Raises:
        ScreenError: Names every missing column and the nearest one that is there.
    """
    missing = [name for name in needed if name not in table.columns]
    if missing:
        advice = did_you_mean(missing[0], table.columns)
        raise ScreenError(f"{table.path} lacks the columns {', '.join(map(repr, missing))}. {advice}")


def read_bytes(path: AnyPath) -> bytes:
    """Return what a file holds.

    Raises:
        ScreenError: It cannot be read, or is a pointer of Git LFS.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ScreenError(f"{path} cannot be read: {error.strerror or error}. Expected a table of wells.") from error
    if blob.startswith(b"version https://git-lfs"):
        raise ScreenError(f"{path} is a Git LFS pointer, not the table. Fetch it: `git lfs pull`.")
    return blob


def with_columns(
    table: SourceTable, columns: Sequence[str], more: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> SourceTable:
    """Add columns to a table; `more` returns their values from a row."""
    rows = tuple((*row, *more(row)) for row in table.rows)
    return dataclasses.replace(table, columns=(*table.columns, *columns), rows=rows)


def matching_columns(tables: list[SourceTable]) -> list[SourceTable]:
    """Give all tables the same columns, "" where one has none."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    found = []
    for table in tables:
        at = [table.columns.index(name) if name in table.columns else -1 for name in names]
        rows = tuple(tuple("" if k < 0 else row[k] for k in at) for row in table.rows)
        found.append(dataclasses.replace(table, columns=tuple(names), rows=rows))
    return found
