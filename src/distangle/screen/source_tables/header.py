"""Where the header of a table stands, and which of its columns are none."""

import re
from collections import Counter
from collections.abc import Sequence

from distangle.core.remote import AnyPath
from distangle.screen.problems import Problem
from distangle.screen.source_tables.table import SourceTable, checked_header

Line = tuple[int, list[str]]  # where it starts, and its fields

_HIGHEST = 10  # lines above a header
_WELL = re.compile(r"[A-Za-z]{1,2}[0-9]{1,3}")


def table_of(path: AnyPath, lines: Sequence[Line]) -> SourceTable:
    """Make a table of lines.

    Left out, each with a remark if it says anything: titles above the header, comments, a first column without a
    name that counts the rows. Columns without name and values are no columns.

    Args:
        path: Where they were read from.
        lines: None of them blank; the first one is no comment.

    Raises:
        ScreenError: The header has a name twice, or a column without a name that says something.
    """
    above = _n_above(lines)
    remarks = [_above(path, lines[:above])] if above else []
    names = [field.strip() for field in lines[above][1]]
    comments = [line for line in lines[above + 1 :] if _is_comment(line[1], len(names))]
    remarks += [_comments(path, comments)] if comments else []
    names, rows = _without_blank_ends(names, [line for line in lines[above + 1 :] if line not in comments])
    width = len(names) + _is_short(names, rows)
    whole = [line for line in rows if len(line[1]) == width]
    ragged = tuple((line, len(fields)) for line, fields in rows if len(fields) != width)
    names, whole, counted = _without_row_numbers(path, names, whole)
    keep = [k for k, name in enumerate(names) if name or any(fields[k].strip() for _, fields in whole)]
    return SourceTable(
        path=path,
        columns=checked_header(path, [names[k] for k in keep]),
        rows=tuple(tuple(fields[k] for k in keep) for _, fields in whole),
        lines=tuple(line for line, _ in whole),
        ragged=ragged,
        width=width,
        remarks=(*remarks, *counted),
    )


def _n_above(lines: Sequence[Line]) -> int:
    """Return how many lines stand above the header: titles, merged cells."""
    widths = Counter(len(_cut(fields)) for _, fields in lines)
    usual = max(widths, key=lambda width: (widths[width], width))
    for k, (_, fields) in enumerate(lines[: _HIGHEST + 1]):
        names = [field.strip() for field in _cut(fields)]
        is_title = len([name for name in names if name]) == 1 < usual
        inner = names[1:]
        is_merged = "" in inner or len(set(names)) < len(names) or len(names) < usual <= len(fields)
        if not (is_title or is_merged):
            return k if k == 0 or _is_header(names, lines[k + 1 :], usual) else 0
    return 0


def _is_header(names: Sequence[str], below: Sequence[Line], usual: int) -> bool:
    """Return whether names can be a header: no numbers, no wells, no repeats below."""
    if len(names) < usual or any(re.fullmatch(r"[\d.,+-]+", name) or _WELL.fullmatch(name) for name in names):
        return False
    return not any(
        name and len(fields) > k and fields[k].strip() == name for _, fields in below for k, name in enumerate(names)
    )


def _is_comment(fields: Sequence[str], n_columns: int) -> bool:
    is_alone = not any(field.strip() for field in fields[1:])
    return fields[0].lstrip().startswith("#") and (is_alone or len(fields) != n_columns) and n_columns > 1


def _without_blank_ends(names: list[str], lines: list[Line]) -> tuple[list[str], list[Line]]:
    """Drop delimiters that end every line; keep those that end single lines."""
    n, full = len(_cut(names)), len(names)
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


def _is_short(names: Sequence[str], lines: Sequence[Line]) -> bool:
    """Return whether lines have a row number that the header lacks, as R writes."""
    first = [fields[0].strip() for _, fields in lines if len(fields) == len(names) + 1]
    return bool(lines) and len(first) == len(lines) and _are_row_numbers(first)


def _without_row_numbers(
    path: AnyPath, names: list[str], lines: list[Line]
) -> tuple[list[str], list[Line], list[Problem]]:
    """Drop row numbers of pandas and R; name a first column without a name."""
    is_short = bool(lines) and len(lines[0][1]) > len(names)
    if len(names) < 2 or not lines or (names[0] and not is_short):
        return names, lines, []
    first = [fields[0].strip() for _, fields in lines]
    if is_short or _are_row_numbers(first):
        remark = _unnamed(path, f"row numbers, {first[0]} to {first[-1]}", "Nothing: the row numbers were left out.")
        return names if is_short else names[1:], [(line, fields[1:]) for line, fields in lines], [remark]
    if not any(first):
        return names, lines, []
    name = next(name for name in ("column 1", "first column", "column without a name") if name not in names)
    found = repr(first[0]) if len(set(first)) == 1 else f"{first[0]!r} and others"
    fix = f"Give it one. Here it is {name!r}, as in `--map 'well={name}'`."
    return [name, *names[1:]], lines, [_unnamed(path, found, fix)]


def _are_row_numbers(values: Sequence[str]) -> bool:
    return all(value.isascii() and value.isdigit() for value in values) and len(set(values)) == len(values)


def _cut(fields: Sequence[str]) -> list[str]:
    n = next((k for k in range(len(fields), 0, -1) if fields[k - 1].strip()), 0)
    return list(fields[:n])


def _above(path: AnyPath, lines: Sequence[Line]) -> Problem:
    said = " | ".join(", ".join(field.strip() for field in fields if field.strip()) for _, fields in lines[:3])
    return Problem(
        severity="warning",
        kind="lines above the header",
        file=path.name,
        row=str(lines[0][0]),
        found=said,
        expected="the header in the first line",
        fix="Nothing, if they are titles; else take them out or add what they lack.",
        count=len(lines),
    )


def _comments(path: AnyPath, lines: Sequence[Line]) -> Problem:
    return Problem(
        severity="warning",
        kind="comment line",
        file=path.name,
        row=str(lines[0][0]),
        found=", ".join(lines[0][1])[:80],
        expected="a row",
        fix="Nothing, if these lines, which begin with #, are no rows.",
        count=len(lines),
    )


def _unnamed(path: AnyPath, found: str, fix: str) -> Problem:
    return Problem(
        severity="warning",
        kind="column without a name",
        file=path.name,
        row="1",
        found=found,
        expected="a name for every column",
        fix=fix,
    )
