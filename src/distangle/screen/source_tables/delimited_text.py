"""Read tables delimited by comma, semicolon or tab."""

import codecs
import csv
import dataclasses
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Sequence

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.problems import Problem
from distangle.screen.source_tables.header import parse_lines
from distangle.screen.source_tables.plate_grid import GridTable, Line, has_shape, plate_grids
from distangle.screen.source_tables.table import MAX_BYTES, SourceTable, read_bytes

_ADD_HEADERS = "If it is a plate map, write 1, 2, 3, ... above its columns and A, B, C, ... before its rows."
_DELIMITERS = (",", ";", "\t")
_SEP = re.compile(r"\"?sep=(.)\"?[,;\t]*", re.IGNORECASE)  # of Excel, in the first line
_SAMPLE_LINES = 50  # used to detect the delimiter
_MAX_GRID_LINES = 500  # a longer table is not a plate map


def read_delimited(path: AnyPath) -> SourceTable:
    """Read a delimited table with a header, or a plate map.

    Blank lines, Excel's `sep=;` and comments above the header are skipped.

    Args:
        path: UTF-8 or UTF-16, with or without byte order mark; any line ends; gzip if it ends in `.gz`.

    Raises:
        ScreenError: The file is unreadable or not a text table, or its header is invalid.
    """
    text = _text(path)
    first, _, rest = text.partition("\n")
    sep_line = _SEP.fullmatch(first.strip(" \r\ufeff"))
    if not (rest if sep_line else text).strip():
        raise ScreenError(f"{path} is empty. Expected a header and one row per well or site.")
    lines = _lines(path, text, sep_line[1] if sep_line else _delimiter(text))[1 if sep_line else 0 :]
    while lines and (_is_blank(lines[0]) or lines[0][1][0].lstrip().startswith("#")):
        del lines[0]
    if not lines:
        raise ScreenError(f"{path} holds only comments. Expected a header and one row per well or site.")
    if len(lines) <= _MAX_GRID_LINES:
        plain = [line for line in lines if line[1] and not line[1][0].startswith("#")]
        if grids := plate_grids(plain):
            return _table_from_grid(path, grids, plain)
    table = parse_lines(path, [line for line in lines if not _is_blank(line)])
    return dataclasses.replace(table, advice=_ADD_HEADERS) if has_shape([line for line in lines if line[1]]) else table


def _table_from_grid(path: AnyPath, grids: Sequence[GridTable], lines: Sequence[Line]) -> SourceTable:
    if len(grids) > 1:
        listed = ", ".join(str(grid.first) for grid in grids[:5])
        raise ScreenError(f"{path} holds {len(grids)} plate maps (lines {listed}). Save each as a separate table.")
    (grid,) = grids
    if any(well.endswith("00") for _, well, _ in grid.wells):
        raise ScreenError(
            f"{path}: the columns of this map count from 0. Number them from 1, like the wells of a plate."
        )
    after = [line for line in lines if line[0] > grid.last and len([field for field in line[1] if field.strip()]) > 1]
    if after:
        message = f"{path}, line {after[0][0]}: this line follows the plate map, but is not a row of it. "
        message += "Remove it, or write its row letter; each letter once and in order."
        raise ScreenError(message)
    column = "value" if grid.is_measured else "perturbation"
    remark = Problem(
        severity="warning",
        kind="map of a plate",
        file=path.name,
        row=str(grid.first),
        found=f"a map of {len(grid.wells)} wells",
        expected="a row per well",
        fix=f"Nothing: its cells become the column {column!r}, without blank cells.",
    )
    return SourceTable(
        path=path,
        columns=("well", column),
        rows=tuple((well, cell) for _, well, cell in grid.wells),
        lines=tuple(line for line, _, _ in grid.wells),
        remarks=(remark,),
    )


def _lines(path: AnyPath, text: str, delimiter: str) -> list[Line]:
    # Not str.splitlines: it also splits at form feeds and U+2028 inside a value.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[Line] = []
    start = 1
    try:
        for fields in reader:
            lines.append((start, fields))
            start = reader.line_num + 1
    except csv.Error as error:
        raise ScreenError(f"{path}, line {start}: {error}. Check the quotation marks from there on.") from error
    return lines


def _delimiter(text: str) -> str:
    """Return the delimiter that splits most lines into the same number of fields."""
    start = io.StringIO(text, newline="")
    sample = [
        line for line in itertools.islice(start, _SAMPLE_LINES) if line.strip() and not line.lstrip().startswith("#")
    ]

    def agreement(delimiter: str) -> tuple[int, int]:
        try:
            widths = Counter(len(next(csv.reader([line], delimiter=delimiter))) for line in sample)
        except csv.Error:
            return 0, 0  # parsing the lines reports the error
        del widths[1]
        return max(((n, width) for width, n in widths.items()), default=(0, 0))

    return max(_DELIMITERS, key=agreement)


def _is_blank(line: Line) -> bool:
    return not any(field.strip() for field in line[1])


def _text(path: AnyPath) -> str:
    blob = read_bytes(path)
    if path.suffix.lower() == ".gz":
        blob = _unpack(path, blob)
    coding = _detect_encoding(blob)
    if coding == "utf-8-sig" and b"\0" in blob:
        line = blob.count(b"\n", 0, blob.index(b"\0")) + 1
        message = (
            f"{path}, line {line}: a zero byte, which is not text. The file is damaged: download it again, or save it "
        )
        message += "as CSV in UTF-8."
        raise ScreenError(message)
    try:
        return blob.decode(coding)
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        message = f"{path}, line {line}: not {'UTF-8' if coding == 'utf-8-sig' else coding.upper()} text (byte "
        message += f"{blob[error.start]:#04x}). Save it as CSV in UTF-8."
        raise ScreenError(message) from error


def _detect_encoding(blob: bytes) -> str:
    """Return the encoding of a text, UTF-16 by its mark or by zeros in its header."""
    if blob.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if blob.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    end = blob.find(b"\n")
    head = blob[: end - end % 2][:64]
    for coding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        if len(head) > 8 and not any(head[first::2]) and all(head[1 - first :: 2]):
            return coding
    return "utf-8-sig"


def _unpack(path: AnyPath, packed: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(packed)) as opened:
            blob = opened.read(MAX_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ScreenError(f"{path} is damaged ({error}). Download it again.") from error
    if len(blob) > MAX_BYTES:
        raise ScreenError(
            f"{path} unpacks to more than {MAX_BYTES >> 20} MiB; expected a table of wells. Unpack it to inspect it."
        )
    return blob
