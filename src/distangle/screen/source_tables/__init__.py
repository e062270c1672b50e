"""Tables of a source, CSV or Parquet, as text: no type is guessed, no row is shifted, no row is lost."""

import re

from distangle.remote import AnyPath
from distangle.screen.source_tables.delimited import read_delimited
from distangle.screen.source_tables.parquet import read_parquet
from distangle.screen.source_tables.table import SourceTable, require_columns
from distangle.screen.source_tables.wider import alike, with_columns

ENDING = r"\.(csv|tsv|csv\.gz|tsv\.gz|parquet)"  # of a name, in any case

_NAME = re.compile(f".+{ENDING}", re.IGNORECASE | re.DOTALL)


def is_table(name: str) -> bool:
    """Whether a file is a table, by its name."""
    return _NAME.fullmatch(name) is not None


def read_table(path: AnyPath) -> SourceTable:
    """Read a table: Parquet if its name ends so, else text delimited by comma, semicolon or tab.

    Raises:
        ScreenError: It cannot be read, is no table, or its header is not usable.
    """
    return read_parquet(path) if path.suffix.lower() == ".parquet" else read_delimited(path)


__all__ = ["ENDING", "SourceTable", "alike", "is_table", "read_table", "require_columns", "with_columns"]
