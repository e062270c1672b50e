"""Read source tables, CSV or Parquet, as text, without losing a row."""

import re
from collections.abc import Collection

from distangle.core.remote import AnyPath
from distangle.screen.source_tables.cells import MISSING, clean
from distangle.screen.source_tables.delimited_text import read_delimited
from distangle.screen.source_tables.parquet import read_parquet
from distangle.screen.source_tables.table import SourceTable, matching_columns, require_columns, with_columns

ENDING = r"\.(csv|tsv|csv\.gz|tsv\.gz|parquet)"  # of a name, in any case

_NAME = re.compile(f".+{ENDING}", re.IGNORECASE | re.DOTALL)


def is_table(name: str) -> bool:
    """Return whether a file is a table by its name."""
    return _NAME.fullmatch(name) is not None


def read_table(path: AnyPath, *, missing: Collection[str] = ()) -> SourceTable:
    """Read a table: Parquet by its name, else text with a detected delimiter.

    Args:
        path: The table.
        missing: Cells that mean a missing value: they are cleared, with a warning.

    Raises:
        ScreenError: The file is unreadable or not a table, or its header is invalid.
    """
    table = read_parquet(path) if path.suffix.lower() == ".parquet" else read_delimited(path)
    return clean(table, missing=missing)


__all__ = [
    "ENDING",
    "MISSING",
    "SourceTable",
    "matching_columns",
    "is_table",
    "read_table",
    "require_columns",
    "with_columns",
]
