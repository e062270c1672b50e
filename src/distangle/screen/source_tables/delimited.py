"""Tables delimited by comma, semicolon or tab."""

import csv
import gzip
import io
import zlib

from distangle.errors import ScreenError
from distangle.remote import AnyPath
from distangle.screen.source_tables.table import LARGEST, SourceTable, checked_header, read_bytes

_DELIMITERS = (",", ";", "\t")


def read_delimited(path: AnyPath) -> SourceTable:
    """Read a table delimited by comma, semicolon or tab, with a header; blank lines do not count.

    Args:
        path: UTF-8, with or without byte order mark; any line ends; packed by gzip if it ends in `.gz`.

    Raises:
        ScreenError: It cannot be read, is no text table, or its header is not usable.
    """
    text = _text(path)
    first = text.lstrip("\r\n").splitlines()[:1]
    if not first or not first[0].strip():
        message = f"{path} is empty. Expected a header and one row per well or site."
        raise ScreenError(message)
    delimiter = max(_DELIMITERS, key=lambda mark: len(next(csv.reader(first, delimiter=mark))))
    # Not str.splitlines: it also breaks lines at form feeds and U+2028, inside a value.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    ragged: list[tuple[int, int]] = []
    start = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                if not columns:
                    columns = checked_header(path, fields)
                elif len(fields) == len(columns):
                    rows.append(tuple(fields))
                    lines.append(start)
                else:
                    ragged.append((start, len(fields)))
            start = reader.line_num + 1
    except csv.Error as error:
        message = f"{path}, line {start}: {error}. Check the quotation marks from there on."
        raise ScreenError(message) from error
    return SourceTable(path=path, columns=columns, rows=tuple(rows), lines=tuple(lines), ragged=tuple(ragged))


def _text(path: AnyPath) -> str:
    blob = read_bytes(path)
    if path.suffix.lower() == ".gz":
        blob = _unpacked(path, blob)
    if blob.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = f"{path} is UTF-16 text. Save it as CSV in UTF-8 (Excel: 'CSV UTF-8')."
        raise ScreenError(message)
    if b"\0" in blob:
        line = blob.count(b"\n", 0, blob.index(b"\0")) + 1
        message = f"{path}, line {line}: a zero byte, which no text has. It is damaged, or UTF-16: "
        message += "fetch it again, or save it as CSV in UTF-8."
        raise ScreenError(message)
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        message = f"{path}, line {line}: not UTF-8 text (byte {blob[error.start]:#04x}). Save it as CSV in UTF-8."
        raise ScreenError(message) from error


def _unpacked(path: AnyPath, packed: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(packed)) as opened:
            blob = opened.read(LARGEST + 1)
    except (EOFError, OSError, zlib.error) as error:
        message = f"{path} is damaged ({error}). Fetch it again."
        raise ScreenError(message) from error
    if len(blob) > LARGEST:
        message = f"{path} unpacks to more than {LARGEST >> 20} MiB; no table of wells is so long. Unpack it to see."
        raise ScreenError(message)
    return blob
