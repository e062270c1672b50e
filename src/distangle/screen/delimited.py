"""Delimited tables read as text: no type is guessed, no row is shifted, no row is lost."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from distangle.errors import ScreenError, nearest
from distangle.remote import AnyPath
from distangle.screen.problems import Problem

_DELIMITERS = (",", ";", "\t")
_LARGEST = 1 << 30  # bytes of an unpacked table


@dataclass(frozen=True, kw_only=True)
class Delimited:
    """A table of text.

    Attributes:
        path: Where it was read from.
        columns: The header.
        rows: The rows that have one field per column.
        lines: The line on which each of `rows` starts; the header is line 1.
        ragged: Line and number of fields of every other row.
    """

    path: AnyPath
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    ragged: tuple[tuple[int, int], ...]

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
            message = f"{self.path} has no column {column!r}. {nearest(column, self.columns)}"
            raise ScreenError(message)
        return self.columns.index(column)

    def ragged_problems(self) -> list[Problem]:
        """Return a refusal for every ragged row: which column its fields belong to cannot be known."""
        return [
            Problem(
                kind="ragged row",
                file=self.path.name,
                row=str(line),
                found=f"{n_fields} fields",
                expected=f"{len(self.columns)} fields, as in the header",
                fix="Mend this line: a trailing delimiter, or one inside a value that is not in quotes.",
            )
            for line, n_fields in self.ragged
        ]


def read_delimited(path: AnyPath) -> Delimited:
    """Read a table delimited by comma, semicolon or tab, with a header; blank lines do not count.

    Args:
        path: UTF-8, with or without byte order mark; any line ends; packed by gzip if it ends in `.gz`.

    Raises:
        ScreenError: It cannot be read, is no text table, or its header is not usable.
    """
    text = _text(path)
    first = text.lstrip("\r\n").splitlines()[:1]
    if not first or not first[0].strip():
        message = f"{path} is empty. Expected a header and one row per well or site."
        raise ScreenError(message)
    if first[0].startswith("version https://git-lfs"):
        message = f"{path} is a Git LFS pointer, not the table. Fetch it: `git lfs pull`."
        raise ScreenError(message)
    delimiter = max(_DELIMITERS, key=lambda mark: len(next(csv.reader(first, delimiter=mark))))
    # Not str.splitlines: it also breaks lines at form feeds and U+2028, inside a value.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    ragged: list[tuple[int, int]] = []
    start = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                if not columns:
                    columns = _header(path, fields)
                elif len(fields) == len(columns):
                    rows.append(tuple(fields))
                    lines.append(start)
                else:
                    ragged.append((start, len(fields)))
            start = reader.line_num + 1
    except csv.Error as error:
        message = f"{path}, line {start}: {error}. Check the quotation marks from there on."
        raise ScreenError(message) from error
    return Delimited(path=path, columns=columns, rows=tuple(rows), lines=tuple(lines), ragged=tuple(ragged))


def _text(path: AnyPath) -> str:
    try:
        blob = path.read_bytes()
        if path.suffix.lower() == ".gz":
            blob = _unpacked(path, blob)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}. Expected a table of wells."
        raise ScreenError(message) from error
    if blob.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = f"{path} is UTF-16 text. Save it as CSV in UTF-8 (Excel: 'CSV UTF-8')."
        raise ScreenError(message)
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        message = f"{path}, line {line}: not UTF-8 text (byte {blob[error.start]:#04x}). Save it as CSV in UTF-8."
        raise ScreenError(message) from error


def _unpacked(path: AnyPath, packed: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(packed)) as opened:
            blob = opened.read(_LARGEST + 1)
    except (EOFError, zlib.error) as error:
        message = f"{path} is damaged ({error}). Fetch it again."
        raise ScreenError(message) from error
    if len(blob) > _LARGEST:
        message = f"{path} unpacks to more than {_LARGEST >> 20} MiB; no table of wells is so long. Unpack it to see."
        raise ScreenError(message)
    return blob


def _header(path: AnyPath, fields: list[str]) -> tuple[str, ...]:
    columns = tuple(field.strip() for field in fields)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice or "" in columns:
        what = f"the columns {', '.join(map(repr, twice))} twice" if twice else "a column without a name"
        message = f"{path}: the header has {what}. Every column needs a name of its own."
        raise ScreenError(message)
    return columns


def require_columns(table: Delimited, needed: Iterable[str]) -> None:
    """Refuse a table that lacks columns.

    Raises:
        ScreenError: Names every missing column and the nearest one that is there.
    """
    missing = [name for name in needed if name not in table.columns]
    if missing:
        advice = nearest(missing[0], table.columns)
        message = f"{table.path} lacks the columns {', '.join(map(repr, missing))}. {advice}"
        raise ScreenError(message)
