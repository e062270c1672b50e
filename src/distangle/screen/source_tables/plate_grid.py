"""Read plate maps, tables with a cell per well, as a row per well."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Line = tuple[int, list[str]]  # line number and fields

SHAPES = ((8, 12), (16, 24), (32, 48))
"""Rows and columns of the plates whose maps may lack row and column headers."""

_NUMBER = re.compile(r"0*([0-9]{1,2})(\.0+)?")
_LETTERS = re.compile(r"[A-Z]|A[A-F]")
_VALUE = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?")
_MIN_HEADERS = 2  # column headers of a plate map


@dataclass(frozen=True, kw_only=True)
class GridTable:
    """A plate map.

    Attributes:
        wells: Line, well name and cell, row by row, without blank cells.
        first: Line of the column headers, or of the first row.
        last: Line of the last row.
        is_measured: Whether all cells are numbers: doses perhaps, not names.
    """

    wells: tuple[tuple[int, str, str], ...]
    first: int
    last: int
    is_measured: bool


def plate_grids(lines: Sequence[Line]) -> list[GridTable]:
    """Find the plate maps in a table; none in a table with a row per well.

    Headers are numbers above the columns and letters before the rows, or the reverse for a whole plate. A map without
    headers has the shape of a plate of 96, 384 or 1536 wells, and repeated cells, unlike column names.

    Args:
        lines: All lines without comments, with blank lines.
    """
    grids: list[GridTable] = []
    k = 0
    while k < len(lines):
        rows = _rows_below(lines, k)
        if rows:
            grids.append(_grid_with_headers(lines[k], rows))
        k += 1 + len(rows)
    return grids or _grids_without_headers(lines)


def has_shape(lines: Sequence[Line]) -> bool:
    """Return whether lines have the shape of a plate or of a transposed plate."""
    n_columns = {len(strip_blank_end(fields)) for _, fields in lines if any(field.strip() for field in fields)}
    shape = (len(lines), max(n_columns, default=0))
    return shape in SHAPES or shape[::-1] in SHAPES


def _rows_below(lines: Sequence[Line], k: int) -> list[Line]:
    """Return the rows below a line of column headers; none if it is another line."""
    fields = lines[k][1]
    if len(fields) <= _MIN_HEADERS or (_number(fields[1]) is None and _letters(fields[1]) is None):
        return []  # most lines of most tables
    column_headers = strip_blank_end(fields)[1:]
    is_transposed = _increase([_letters(row) for row in column_headers])
    parse_row = _number if is_transposed else _letters
    if len(column_headers) < _MIN_HEADERS or parse_row(fields[0]) is not None:
        return []  # a row: A, 1, 2
    if not (is_transposed or _increase([_number(row) for row in column_headers])):
        return []
    rows: list[Line] = []
    last = -1
    for line in lines[k + 1 :]:
        row = parse_row(line[1][0]) if line[1] else None
        if row is None or row <= last or len(strip_blank_end(line[1])) > len(column_headers) + 1:
            break
        rows.append(line)
        last = row
    # `id, A, B` are column names.
    return rows if not is_transposed or (len(column_headers), len(rows)) in SHAPES else []


def _grid_with_headers(header_line: Line, rows: Sequence[Line]) -> GridTable:
    column_headers = strip_blank_end(header_line[1])[1:]
    cells = [
        (line, _well(fields[0], header), cell.strip())
        for line, fields in rows
        for header, cell in zip(column_headers, fields[1:], strict=False)
        if cell.strip()
    ]
    return _grid(cells, first=header_line[0], last=rows[-1][0])


def _grids_without_headers(lines: Sequence[Line]) -> list[GridTable]:
    widths = {len(fields) for _, fields in lines}
    if len(widths) != 1 or (len(lines), *widths) not in SHAPES:
        return []
    first, others = lines[0][1], [cell.strip() for _, fields in lines[1:] for cell in fields]
    names = [cell.strip() for cell in first if cell.strip()]
    if len(set(names)) == len(names) and not set(names) & set(others):
        return []  # all different, like column names
    cells = [
        (line, f"{_row_name(row)}{column:02d}", cell.strip())
        for row, (line, fields) in enumerate(lines)
        for column, cell in enumerate(fields, 1)
        if cell.strip()
    ]
    return [_grid(cells, first=lines[0][0], last=lines[-1][0])]


def _grid(cells: Sequence[tuple[int, str, str]], *, first: int, last: int) -> GridTable:
    are_numbers = all(_VALUE.fullmatch(cell) for _, _, cell in cells)
    return GridTable(wells=tuple(cells), first=first, last=last, is_measured=are_numbers)


def _well(first: str, other: str) -> str:
    letters, number = (first, other) if _letters(first) is not None else (other, first)
    return f"{letters.strip().upper()}{_number(number):02d}"


def strip_blank_end(fields: Sequence[str]) -> list[str]:
    """Return fields without the blank ones at the end."""
    n = next((k for k in range(len(fields), 0, -1) if fields[k - 1].strip()), 0)
    return list(fields[:n])


def _number(head: str) -> int | None:
    match = _NUMBER.fullmatch(head.strip())
    return int(match[1]) if match else None


def _letters(head: str) -> int | None:
    letters = head.strip().upper()
    if not _LETTERS.fullmatch(letters):
        return None
    return 26 * (len(letters) - 1) + ord(letters[-1]) - 64


def _row_name(row: int) -> str:
    return chr(65 + row) if row < 26 else f"A{chr(39 + row)}"


def _increase(heads: Sequence[int | None]) -> bool:
    numbers = [head for head in heads if head is not None]
    return len(numbers) == len(heads) and all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
