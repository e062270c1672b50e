"""Clean table cells: normalize names and recognize missing values."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from distangle.core.unicode_names import normalize_name
from distangle.screen.problems import Problem
from distangle.screen.source_tables.table import SourceTable

MISSING = (
    *("nan", "-nan", "NA", "N/A", "n.a.", "<NA>", "#NA", "#N/A", "#N/A N/A", "NaT", "None", "null", "(null)", "NULL"),
    *("-", "--", "\u2013", "\u2014", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"),
)
"""Missing values as written by pandas, R, Excel and databases."""

_EXCEPTIONS = frozenset({"Na"})  # sodium, which no program writes for a missing value
_FILE_COLUMN = re.compile(r"(Image_)?(FileName|PathName|URL)_.+", re.IGNORECASE | re.DOTALL)
_FILE_NAME = re.compile(r".*\.(tiff?|png|zarr|jp2|jpe?g|bmp)", re.IGNORECASE | re.DOTALL)
_MAX_LISTED = 5
_MAX_LENGTH = 1 + max(map(len, MISSING)) + 20  # longer cells are not compared


def clean(table: SourceTable, *, missing: Collection[str] = ()) -> SourceTable:
    """Normalize names and clear missing values; report both.

    File names are not changed.

    Args:
        table: The table as read.
        missing: Values that mean a missing value; case is ignored.
    """
    missing_values = frozenset(value.strip().casefold() for value in missing)
    blanked: dict[str, Counter[str]] = defaultdict(Counter)
    changed: set[str] = set()
    columns = tuple(normalize_name(name) for name in table.columns)
    is_file_column = [_FILE_COLUMN.fullmatch(name) is not None for name in columns]
    rows = tuple(
        tuple(
            _cell(cell, name, missing_values, blanked, changed) if not (is_file or _is_file_name(cell)) else cell
            for name, is_file, cell in zip(columns, is_file_column, row, strict=True)
        )
        for row in table.rows
    )
    remarks = [*_missing_value_problems(table, blanked), *_spelling_problems(table, columns, changed)]
    return dataclasses.replace(table, columns=columns, rows=rows, remarks=(*table.remarks, *remarks))


def is_missing(text: str, missing: Collection[str] = MISSING) -> bool:
    """Return whether a cell is empty or a missing value."""
    plain = text.strip()
    return not plain or (plain not in _EXCEPTIONS and plain.casefold() in {value.casefold() for value in missing})


def _is_file_name(cell: str) -> bool:
    return not cell.isascii() and _FILE_NAME.fullmatch(cell.strip()) is not None


def _cell(
    cell: str,
    column: str,
    missing_values: Collection[str],
    blanked: dict[str, Counter[str]],
    changed: set[str],
) -> str:
    plain = normalize_name(cell)
    if len(plain) < _MAX_LENGTH and plain.casefold() in missing_values and plain not in _EXCEPTIONS:
        blanked[column][plain] += 1
        return ""
    if plain != cell and not cell.isascii():
        changed.add(column)
    return plain


def _missing_value_problems(table: SourceTable, blanked: dict[str, Counter[str]]) -> list[Problem]:
    if not blanked:
        return []
    listed = [
        f"{name}: {', '.join(f'{value!r} {n}' for value, n in counts.items())}" for name, counts in blanked.items()
    ]
    return [
        Problem(
            severity="warning",
            kind="missing values",
            file=table.path.name,
            found="; ".join(listed[:_MAX_LISTED]) + ("; ..." if len(listed) > _MAX_LISTED else ""),
            expected="empty cells",
            fix="Nothing, if these are missing values: the cells count as empty, and are not a class. If one of them "
            "is a name, list the real missing values: --missing nan,NA (--missing= for none).",
            count=sum(counts.total() for counts in blanked.values()),
        )
    ]


def _spelling_problems(table: SourceTable, columns: Sequence[str], changed: Collection[str]) -> list[Problem]:
    spellings_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for k, column in enumerate(columns):
        if column in changed:
            for row in table.rows:
                spellings_of[column, normalize_name(row[k])].add(row[k].strip())
    variants = [(column, sorted(spellings)) for (column, _), spellings in spellings_of.items() if len(spellings) > 1]
    if not variants:
        return []
    listed = [f"{column}: {' and '.join(map(ascii, spellings))}" for column, spellings in variants]
    return [
        Problem(
            severity="warning",
            kind="one name in several forms",
            file=table.path.name,
            found="; ".join(listed[:_MAX_LISTED]) + ("; ..." if len(listed) > _MAX_LISTED else ""),
            expected="one spelling in Unicode",
            fix="Nothing: they look the same, and count as one name.",
            count=len(variants),
        )
    ]
