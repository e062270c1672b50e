"""Represent a source table as text: header, rows and line numbers."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.problems import Problem

MAX_BYTES = 1 << 30  # of an unpacked table


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """A table of text.

    Attributes:
        path: Path of the file.
        columns: The header.
        rows: The rows with one field per column.
        lines: First line of each of `rows`; the header is line 1. Rows of a Parquet file are numbered like CSV.
        ragged: Line and number of fields of every other row.
        width: Number of fields of a row in the file, including dropped columns; 0 for as many as `columns`.
        remarks: Warnings about dropped or interpreted content.
        advice: Hint for the error that a column is missing.
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
        """Number of rows that are not blank, including ragged rows."""
        return len(self.rows) + len(self.ragged)

    def position(self, column: str) -> int:
        """Return the index of a column.

        Raises:
            ScreenError: The table has no such column.
        """
        if column not in self.columns:
            raise ScreenError(f"{self.path} has no column {column!r}. {did_you_mean(column, self.columns)}")
        return self.columns.index(column)

    def ragged_problems(self) -> list[Problem]:
        """Return the remarks, and a refusal for every ragged row.

        The columns of the fields of a ragged row are unknown.
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
                fix="Correct this line: remove a trailing delimiter, or quote a value that contains the delimiter.",
            )
            for line, n_fields in self.ragged
        ]


def validate_header(path: AnyPath, fields: Iterable[str]) -> tuple[str, ...]:
    """Return the stripped column names.

    Raises:
        ScreenError: A column has no name, or two columns have the same name.
    """
    columns = tuple(field.strip() for field in fields)
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated or "" in columns:
        problem = f"the columns {', '.join(map(repr, repeated))} twice"
        problem = problem if repeated else f"a column without a name (number {columns.index('') + 1})"
        raise ScreenError(f"{path}: the header has {problem}. Every column needs a unique name.")
    return columns


def require_columns(table: SourceTable, needed: Iterable[str]) -> None:
    """Refuse a table that lacks columns.

    Raises:
        ScreenError: A column is missing; the message suggests the most similar name.
    """
    missing = [name for name in needed if name not in table.columns]
    if missing:
        advice = did_you_mean(missing[0], table.columns)
        raise ScreenError(f"{table.path} lacks the columns {', '.join(map(repr, missing))}. {advice}")


def read_bytes(path: AnyPath) -> bytes:
    """Return the bytes of a file.

    Raises:
        ScreenError: The file cannot be read, or is a Git LFS pointer.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ScreenError(f"{path} cannot be read: {error.strerror or error}. Expected a table of wells.") from error
    if blob.startswith(b"version https://git-lfs"):
        raise ScreenError(f"{path} is a Git LFS pointer, not the table. Fetch it: `git lfs pull`.")
    return blob


def with_columns(
    table: SourceTable, columns: Sequence[str], compute: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> SourceTable:
    """Add columns to a table; `compute` returns their values from a row."""
    rows = tuple((*row, *compute(row)) for row in table.rows)
    return dataclasses.replace(table, columns=(*table.columns, *columns), rows=rows)


def matching_columns(tables: list[SourceTable]) -> list[SourceTable]:
    """Give all tables the same columns, filled with ""."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    extended = []
    for table in tables:
        indices = [table.columns.index(name) if name in table.columns else -1 for name in names]
        rows = tuple(tuple("" if k < 0 else row[k] for k in indices) for row in table.rows)
        extended.append(dataclasses.replace(table, columns=tuple(names), rows=rows))
    return extended
