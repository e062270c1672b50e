"""Find the header of a table, and drop titles, comments and row numbers."""

import re
from collections import Counter
from collections.abc import Sequence

from distangle.core.remote import AnyPath
from distangle.screen.problems import Problem
from distangle.screen.source_tables.plate_grid import Line, strip_blank_end
from distangle.screen.source_tables.table import SourceTable, validate_header

_MAX_ABOVE = 10  # lines above a header
_WELL = re.compile(r"[A-Za-z]{1,2}[0-9]{1,3}")


def parse_lines(path: AnyPath, lines: Sequence[Line]) -> SourceTable:
    """Make a table from its lines.

    Titles above the header, comments and an unnamed first column of row numbers are dropped, each with a remark.
    Columns without name and values are dropped too.

    Args:
        path: Path of the file.
        lines: Lines that are not blank; the first is not a comment.

    Raises:
        ScreenError: The header repeats a name, or a column with values has no name.
    """
    above = _n_above(lines)
    remarks = [_title_problem(path, lines[:above])] if above else []
    names = [field.strip() for field in lines[above][1]]
    comments = [line for line in lines[above + 1 :] if _is_comment(line[1], len(names))]
    remarks += [_comment_problem(path, comments)] if comments else []
    names, rows = _drop_trailing_delimiters(names, [line for line in lines[above + 1 :] if line not in comments])
    width = len(names) + _lacks_row_number_header(names, rows)
    complete = [line for line in rows if len(line[1]) == width]
    ragged = tuple((line, len(fields)) for line, fields in rows if len(fields) != width)
    names, complete, row_number_remarks = _drop_row_numbers(path, names, complete)
    indices = [k for k, name in enumerate(names) if name or any(fields[k].strip() for _, fields in complete)]
    return SourceTable(
        path=path,
        columns=validate_header(path, [names[k] for k in indices]),
        rows=tuple(tuple(fields[k] for k in indices) for _, fields in complete),
        lines=tuple(line for line, _ in complete),
        ragged=ragged,
        width=width,
        remarks=(*remarks, *row_number_remarks),
    )


def _n_above(lines: Sequence[Line]) -> int:
    """Return the number of lines above the header: titles, merged cells."""
    widths = Counter(len(strip_blank_end(fields)) for _, fields in lines)
    common_width = max(widths, key=lambda width: (widths[width], width))
    for k, (_, fields) in enumerate(lines[: _MAX_ABOVE + 1]):
        names = [field.strip() for field in strip_blank_end(fields)]
        is_title = len([name for name in names if name]) == 1 < common_width
        inner = names[1:]
        is_merged = "" in inner or len(set(names)) < len(names) or len(names) < common_width <= len(fields)
        if not (is_title or is_merged):
            return k if k == 0 or _is_header(names, lines[k + 1 :], common_width) else 0
    return 0


def _is_header(names: Sequence[str], below: Sequence[Line], common_width: int) -> bool:
    """Return whether names can be a header: no numbers, no wells, no repeats below."""
    if len(names) < common_width or any(re.fullmatch(r"[\d.,+-]+", name) or _WELL.fullmatch(name) for name in names):
        return False
    return not any(
        name and len(fields) > k and fields[k].strip() == name for _, fields in below for k, name in enumerate(names)
    )


def _is_comment(fields: Sequence[str], n_columns: int) -> bool:
    is_alone = not any(field.strip() for field in fields[1:])
    return fields[0].lstrip().startswith("#") and (is_alone or len(fields) != n_columns) and n_columns > 1


def _drop_trailing_delimiters(names: list[str], lines: list[Line]) -> tuple[list[str], list[Line]]:
    """Drop delimiters at the end of every line, but not of single lines."""
    n, full = len(strip_blank_end(names)), len(names)
    if full > n and not any(field.strip() for _, fields in lines if len(fields) == full for field in fields[n:]):
        names, lines = names[:n], [(line, fields[:n] if len(fields) == full else fields) for line, fields in lines]
    n = len(names)
    lengths = {len(fields) for _, fields in lines}
    if (
        len(lengths) == 1
        and lengths.pop() > n
        and not any(field.strip() for _, fields in lines for field in fields[n:])
    ):
        lines = [(line, fields[:n]) for line, fields in lines]
    return names, lines


def _lacks_row_number_header(names: Sequence[str], lines: Sequence[Line]) -> bool:
    """Return whether lines start with a row number without header, as from R."""
    first = [fields[0].strip() for _, fields in lines if len(fields) == len(names) + 1]
    return bool(lines) and len(first) == len(lines) and _are_row_numbers(first)


def _drop_row_numbers(
    path: AnyPath, names: list[str], lines: list[Line]
) -> tuple[list[str], list[Line], list[Problem]]:
    """Drop row numbers of pandas and R; name a first column without a name."""
    lacks_header = bool(lines) and len(lines[0][1]) > len(names)
    if len(names) < 2 or not lines or (names[0] and not lacks_header):
        return names, lines, []
    first = [fields[0].strip() for _, fields in lines]
    if lacks_header or _are_row_numbers(first):
        remark = _unnamed_column_problem(
            path, f"row numbers, {first[0]} to {first[-1]}", "Nothing: the row numbers were dropped."
        )
        return names if lacks_header else names[1:], [(line, fields[1:]) for line, fields in lines], [remark]
    if not any(first):
        return names, lines, []
    name = next(name for name in ("column 1", "first column", "column without a name") if name not in names)
    found = repr(first[0]) if len(set(first)) == 1 else f"{first[0]!r} and others"
    fix = f"Name the column. Its name is now {name!r}, as in `--map 'well={name}'`."
    return [name, *names[1:]], lines, [_unnamed_column_problem(path, found, fix)]


def _are_row_numbers(values: Sequence[str]) -> bool:
    return all(value.isascii() and value.isdigit() for value in values) and len(set(values)) == len(values)


def _title_problem(path: AnyPath, lines: Sequence[Line]) -> Problem:
    titles = " | ".join(", ".join(field.strip() for field in fields if field.strip()) for _, fields in lines[:3])
    return Problem(
        severity="warning",
        kind="lines above the header",
        file=path.name,
        row=str(lines[0][0]),
        found=titles,
        expected="the header in the first line",
        fix="Nothing, if they are titles; otherwise remove or complete them.",
        count=len(lines),
    )


def _comment_problem(path: AnyPath, lines: Sequence[Line]) -> Problem:
    return Problem(
        severity="warning",
        kind="comment line",
        file=path.name,
        row=str(lines[0][0]),
        found=", ".join(lines[0][1])[:80],
        expected="a row",
        fix="Nothing, if these lines, which begin with #, are not rows.",
        count=len(lines),
    )


def _unnamed_column_problem(path: AnyPath, found: str, fix: str) -> Problem:
    return Problem(
        severity="warning",
        kind="column without a name",
        file=path.name,
        row="1",
        found=found,
        expected="a name for every column",
        fix=fix,
    )
