"""Read Parquet tables, as in JUMP, as the text of the equivalent CSV."""

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.source_tables.table import MAX_BYTES, SourceTable, read_bytes, validate_header


def read_parquet(path: AnyPath) -> SourceTable:
    """Read a Parquet table as text.

    Text is unchanged, and a missing value becomes "". Whole floats such as `1.0` are written as integers, `1`: pandas
    turns integer columns with missing values into floats.

    Args:
        path: A Parquet file without nested columns.

    Raises:
        ScreenError: The file is unreadable, damaged or too large, or has nested columns.
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
            f"{path} is not a Parquet table, or is damaged ({first}). Download it again, or save it as CSV."
        ) from error
    if table is None:
        raise ScreenError(
            f"{path}: the column {nested[0]!r} holds lists or tables. Expected one value per row: save it as CSV."
        )
    columns = validate_header(path, table.column_names)
    try:
        fields = [[_text_of(value) for value in values.to_pylist()] for values in table.columns]
    except UnicodeDecodeError as error:
        raise ScreenError(
            f"{path} has bytes that are not UTF-8 text ({error.object[:20]!r}). Save it as CSV in UTF-8."
        ) from error
    rows = [row for row in enumerate(zip(*fields, strict=True), start=2) if any(field.strip() for field in row[1])]
    if not columns:
        raise ScreenError(f"{path} is empty. Expected one row per well or site.")
    return SourceTable(
        path=path, columns=columns, rows=tuple(row for _, row in rows), lines=tuple(line for line, _ in rows)
    )


def _refuse_large(path: AnyPath, metadata: pq.FileMetaData) -> None:
    size = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
    # A column of one repeated value takes no bytes in the file, but all its rows take memory.
    if max(size, metadata.num_rows * metadata.num_columns) > MAX_BYTES:
        raise ScreenError(
            f"{path} unpacks to more than {MAX_BYTES >> 20} MiB by its metadata; expected a table of wells."
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
