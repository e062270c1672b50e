"""Tables in the shape of a plate, a cell per well, read as a row per well."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Line = tuple[int, list[str]]  # where it starts, and its fields

SHAPES = ((8, 12), (16, 24), (32, 48))
"""Rows and columns of the plates whose maps may come without heads."""

_NUMBER = re.compile(r"0*([0-9]{1,2})(\.0+)?")
_LETTERS = re.compile(r"[A-Z]|A[A-F]")
_MEASURED = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?")
_FEWEST = 2  # heads of columns that make a grid


@dataclass(frozen=True, kw_only=True)
class GridTable:
    """A map of a plate.

    Attributes:
        wells: Line, name of the well and what its cell says, row by row; blank cells are left out.
        first: Line of the heads, or of the first row.
        last: Line of the last row.
        is_measured: Whether all cells are numbers: doses perhaps, not names.
    """

    wells: tuple[tuple[int, str, str], ...]
    first: int
    last: int
    is_measured: bool


def plate_grids(lines: Sequence[Line]) -> list[GridTable]:
    """Find the maps of plates in a table; none where it is a table of rows.

    Heads are numbers above the columns and letters before the rows; of a whole plate also the other way round. A map
    without heads
    has the shape of a plate of 96, 384 or 1536 wells, and cells that recur, which names of columns do not.

    Args:
        lines: All lines that are no comments, blank ones too.
    """
    grids: list[GridTable] = []
    k = 0
    while k < len(lines):
        rows = _rows_below(lines, k)
        if rows:
            grids.append(_with_heads(lines[k], rows))
        k += 1 + len(rows)
    return grids or _without_heads(lines)


def has_shape(lines: Sequence[Line]) -> bool:
    """Return whether lines have the shape of a plate, or of one turned on its side."""
    n_columns = {len(_cut(fields)) for _, fields in lines if any(field.strip() for field in fields)}
    shape = (len(lines), max(n_columns, default=0))
    return shape in SHAPES or shape[::-1] in SHAPES


def _rows_below(lines: Sequence[Line], k: int) -> list[Line]:
    """Return the rows below a line of heads; none where it is no such line."""
    fields = lines[k][1]
    if len(fields) <= _FEWEST or (_number(fields[1]) is None and _letters(fields[1]) is None):
        return []  # most lines of most tables
    across = _cut(fields)[1:]
    is_turned = _climb([_letters(head) for head in across])
    down = _number if is_turned else _letters
    if len(across) < _FEWEST or down(fields[0]) is not None:
        return []  # a row: A, 1, 2
    if not (is_turned or _climb([_number(head) for head in across])):
        return []
    rows: list[Line] = []
    last = -1
    for line in lines[k + 1 :]:
        head = down(line[1][0]) if line[1] else None
        if head is None or head <= last or len(_cut(line[1])) > len(across) + 1:
            break
        rows.append(line)
        last = head
    # `id, A, B` are names of columns.
    return rows if not is_turned or (len(across), len(rows)) in SHAPES else []


def _with_heads(heads: Line, rows: Sequence[Line]) -> GridTable:
    across = _cut(heads[1])[1:]
    cells = [
        (line, _well(fields[0], head), cell.strip())
        for line, fields in rows
        for head, cell in zip(across, fields[1:], strict=False)
        if cell.strip()
    ]
    return _grid(cells, first=heads[0], last=rows[-1][0])


def _without_heads(lines: Sequence[Line]) -> list[GridTable]:
    widths = {len(fields) for _, fields in lines}
    if len(widths) != 1 or (len(lines), *widths) not in SHAPES:
        return []
    first, others = lines[0][1], [cell.strip() for _, fields in lines[1:] for cell in fields]
    names = [cell.strip() for cell in first if cell.strip()]
    if len(set(names)) == len(names) and not set(names) & set(others):
        return []  # as unlike each other as names of columns are
    cells = [
        (line, f"{_row_name(row)}{column:02d}", cell.strip())
        for row, (line, fields) in enumerate(lines)
        for column, cell in enumerate(fields, 1)
        if cell.strip()
    ]
    return [_grid(cells, first=lines[0][0], last=lines[-1][0])]


def _grid(cells: Sequence[tuple[int, str, str]], *, first: int, last: int) -> GridTable:
    measured = all(_MEASURED.fullmatch(cell) for _, _, cell in cells)
    return GridTable(wells=tuple(cells), first=first, last=last, is_measured=measured)


def _well(one: str, other: str) -> str:
    letters, number = (one, other) if _letters(one) is not None else (other, one)
    return f"{letters.strip().upper()}{_number(number):02d}"


def _cut(fields: Sequence[str]) -> list[str]:
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


def _climb(heads: Sequence[int | None]) -> bool:
    known = [head for head in heads if head is not None]
    return len(known) == len(heads) and all(a < b for a, b in zip(known, known[1:], strict=False))
