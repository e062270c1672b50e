"""Parquet tables, as JUMP has them, read as the text that their CSV would hold."""

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.source_tables.table import LARGEST, SourceTable, checked_header, read_bytes


def read_parquet(path: AnyPath) -> SourceTable:
    """Read a Parquet table as text.

    Text stays what it is and a missing value becomes "". Numbers are written out; one that is whole, as `1.0` in a
    column that pandas made a float for the sake of a missing value, is written as whole, `1`.

    Args:
        path: A Parquet file of plain columns.

    Raises:
        ScreenError: It cannot be read, is damaged or too large, or has columns of lists or of tables.
    """
    blob = read_bytes(path)
    try:
        with pq.ParquetFile(io.BytesIO(blob), page_checksum_verification=True) as file:
            _refuse_large(path, file.metadata)
            nested = [field.name for field in file.schema_arrow if pa.types.is_nested(field.type)]
            table = None if nested else file.read()
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise ScreenError(
            f"{path} is no Parquet table, or damaged ({first}). Fetch it again, or save it as CSV."
        ) from error
    if table is None:
        raise ScreenError(
            f"{path}: the column {nested[0]!r} holds lists or tables. Expected one value per row: save it as CSV."
        )
    columns = checked_header(path, table.column_names)
    try:
        fields = [[_text_of(value) for value in values.to_pylist()] for values in table.columns]
    except UnicodeDecodeError as error:
        raise ScreenError(
            f"{path} has bytes that are no UTF-8 text ({error.object[:20]!r}). Save it as CSV in UTF-8."
        ) from error
    rows = [row for row in enumerate(zip(*fields, strict=True), start=2) if any(field.strip() for field in row[1])]
    if not columns:
        raise ScreenError(f"{path} is empty. Expected one row per well or site.")
    return SourceTable(
        path=path, columns=columns, rows=tuple(row for _, row in rows), lines=tuple(line for line, _ in rows)
    )


def _refuse_large(path: AnyPath, card: pq.FileMetaData) -> None:
    size = sum(card.row_group(k).total_byte_size for k in range(card.num_row_groups))
    # A column of one value repeated takes no bytes; in memory every row of it does.
    if max(size, card.num_rows * card.num_columns) > LARGEST:
        raise ScreenError(
            f"{path} says that it unpacks to more than {LARGEST >> 20} MiB; no table of wells is so long."
        )


def _text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
