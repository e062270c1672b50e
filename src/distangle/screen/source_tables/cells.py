"""Clean cells: normalise names, and recognise missing values."""

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
"""What pandas, R, Excel and databases write where nothing is known."""

_NAMES = frozenset({"Na"})  # sodium, which no program writes for a missing value
_OF_FILES = re.compile(r"(Image_)?(FileName|PathName|URL)_.+", re.IGNORECASE | re.DOTALL)
_FILE = re.compile(r".*\.(tiff?|png|zarr|jp2|jpe?g|bmp)", re.IGNORECASE | re.DOTALL)
_LISTED = 5


def clean(table: SourceTable, *, missing: Collection[str] = ()) -> SourceTable:
    """Normalise names and empty missing values; report both.

    Names of files stay as they are written.

    Args:
        table: As it was read.
        missing: Words that stand for a missing value; case does not matter.
    """
    words = frozenset(word.strip().casefold() for word in missing)
    blanked: dict[str, Counter[str]] = defaultdict(Counter)
    changed: set[str] = set()
    columns = tuple(normalize_name(name) for name in table.columns)
    of_files = [_OF_FILES.fullmatch(name) is not None for name in columns]
    rows = tuple(
        tuple(
            _cell(cell, name, words, blanked, changed) if not (is_file or _is_file(cell)) else cell
            for name, is_file, cell in zip(columns, of_files, row, strict=True)
        )
        for row in table.rows
    )
    remarks = [*_blanks(table, blanked), *_forms(table, columns, changed)]
    return dataclasses.replace(table, columns=columns, rows=rows, remarks=(*table.remarks, *remarks))


def is_missing(text: str, missing: Collection[str] = MISSING) -> bool:
    """Return whether a cell is missing: empty, or one of the words."""
    plain = text.strip()
    return not plain or (plain not in _NAMES and plain.casefold() in {word.casefold() for word in missing})


def _is_file(cell: str) -> bool:
    return not cell.isascii() and _FILE.fullmatch(cell.strip()) is not None


def _cell(
    cell: str,
    column: str,
    words: Collection[str],
    blanked: dict[str, Counter[str]],
    changed: set[str],
) -> str:
    plain = normalize_name(cell)
    if len(plain) < _LONGEST and plain.casefold() in words and plain not in _NAMES:
        blanked[column][plain] += 1
        return ""
    if plain != cell and not cell.isascii():
        changed.add(column)
    return plain


_LONGEST = 1 + max(map(len, MISSING)) + 20  # no text of a page is folded


def _blanks(table: SourceTable, blanked: dict[str, Counter[str]]) -> list[Problem]:
    if not blanked:
        return []
    said = [f"{name}: {', '.join(f'{word!r} {n}' for word, n in words.items())}" for name, words in blanked.items()]
    return [
        Problem(
            severity="warning",
            kind="missing values",
            file=table.path.name,
            found="; ".join(said[:_LISTED]) + ("; ..." if len(said) > _LISTED else ""),
            expected="empty cells",
            fix="Nothing, if these words stand for nothing: the cells count as empty, and are no class. If one of them "
            "is a name, list the words that are none: --missing nan,NA (--missing= for none).",
            count=sum(words.total() for words in blanked.values()),
        )
    ]


def _forms(table: SourceTable, columns: Sequence[str], changed: Collection[str]) -> list[Problem]:
    forms: dict[tuple[str, str], set[str]] = defaultdict(set)
    for k, column in enumerate(columns):
        if column in changed:
            for row in table.rows:
                forms[column, normalize_name(row[k])].add(row[k].strip())
    several = [(column, sorted(written)) for (column, _), written in forms.items() if len(written) > 1]
    if not several:
        return []
    said = [f"{column}: {' and '.join(map(ascii, written))}" for column, written in several]
    return [
        Problem(
            severity="warning",
            kind="one name in several forms",
            file=table.path.name,
            found="; ".join(said[:_LISTED]) + ("; ..." if len(said) > _LISTED else ""),
            expected="one spelling in Unicode",
            fix="Nothing: they look alike, and are one name.",
            count=len(several),
        )
    ]
