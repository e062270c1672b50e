"""Tables delimited by comma, semicolon or tab."""

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
from distangle.screen.source_tables.header import table_of
from distangle.screen.source_tables.plate_grid import GridTable, Line, has_shape, plate_grids
from distangle.screen.source_tables.table import LARGEST, SourceTable, read_bytes

_ADD_HEADS = "If it is a map of the plate, write 1, 2, 3, ... above its columns and A, B, C, ... before its rows."
_DELIMITERS = (",", ";", "\t")
_SEP = re.compile(r"\"?sep=(.)\"?[,;\t]*", re.IGNORECASE)  # of Excel, in the first line
_SAMPLE = 50  # lines by which the delimiter is told
_LONGEST_GRID = 500  # lines; a longer table is no map of a plate


def read_delimited(path: AnyPath) -> SourceTable:
    """Read a delimited table, with a header or in the shape of a plate.

    Blank lines do not count, nor do Excel's `sep=;` and comments above the header.

    Args:
        path: UTF-8 or UTF-16, with or without byte order mark; any line ends; packed by gzip if it ends in `.gz`.

    Raises:
        ScreenError: It cannot be read, is no text table, or its header is not usable.
    """
    text = _text(path)
    first, _, rest = text.partition("\n")
    told = _SEP.fullmatch(first.strip(" \r\ufeff"))
    if not (rest if told else text).strip():
        raise ScreenError(f"{path} is empty. Expected a header and one row per well or site.")
    lines = _lines(path, text, told[1] if told else _delimiter(text))[1 if told else 0 :]
    while lines and (_is_blank(lines[0]) or lines[0][1][0].lstrip().startswith("#")):
        del lines[0]
    if not lines:
        raise ScreenError(f"{path} holds comments alone. Expected a header and one row per well or site.")
    if len(lines) <= _LONGEST_GRID:
        plain = [line for line in lines if line[1] and not line[1][0].startswith("#")]
        if grids := plate_grids(plain):
            return _of_grid(path, grids, plain)
    table = table_of(path, [line for line in lines if not _is_blank(line)])
    return dataclasses.replace(table, advice=_ADD_HEADS) if has_shape([line for line in lines if line[1]]) else table


def _of_grid(path: AnyPath, grids: Sequence[GridTable], lines: Sequence[Line]) -> SourceTable:
    if len(grids) > 1:
        listed = ", ".join(str(grid.first) for grid in grids[:5])
        raise ScreenError(
            f"{path} holds {len(grids)} maps of a plate (lines {listed}). Save each as a table of its own."
        )
    (grid,) = grids
    if any(well.endswith("00") for _, well, _ in grid.wells):
        raise ScreenError(
            f"{path}: the columns of this map count from 0. Number them from 1, as the wells of a plate are."
        )
    after = [line for line in lines if line[0] > grid.last and len([field for field in line[1] if field.strip()]) > 1]
    if after:
        message = f"{path}, line {after[0][0]}: it stands below the map of a plate and is no row of it. "
        message += "Take it out, or give it its row letter, each once and in order."
        raise ScreenError(message)
    column = "value" if grid.is_measured else "perturbation"
    said = f"{len(grid.wells)} wells"
    remark = Problem(
        severity="warning",
        kind="map of a plate",
        file=path.name,
        row=str(grid.first),
        found=f"a map of {said}",
        expected="a row per well",
        fix=f"Nothing: its cells are the column {column!r}, and blank ones no rows.",
    )
    return SourceTable(
        path=path,
        columns=("well", column),
        rows=tuple((well, cell) for _, well, cell in grid.wells),
        lines=tuple(line for line, _, _ in grid.wells),
        remarks=(remark,),
    )


def _lines(path: AnyPath, text: str, delimiter: str) -> list[Line]:
    # Not str.splitlines: it also breaks lines at form feeds and U+2028, inside a value.
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
    """Return the delimiter that splits most lines alike, into the most fields."""
    start = io.StringIO(text, newline="")
    sample = [line for line in itertools.islice(start, _SAMPLE) if line.strip() and not line.lstrip().startswith("#")]

    def likeness(mark: str) -> tuple[int, int]:
        try:
            widths = Counter(len(next(csv.reader([line], delimiter=mark))) for line in sample)
        except csv.Error:
            return 0, 0  # reading the lines says why
        del widths[1]
        return max(((n, width) for width, n in widths.items()), default=(0, 0))

    return max(_DELIMITERS, key=likeness)


def _is_blank(line: Line) -> bool:
    return not any(field.strip() for field in line[1])


def _text(path: AnyPath) -> str:
    blob = read_bytes(path)
    if path.suffix.lower() == ".gz":
        blob = _unpacked(path, blob)
    coding = _coding(blob)
    if coding == "utf-8-sig" and b"\0" in blob:
        line = blob.count(b"\n", 0, blob.index(b"\0")) + 1
        message = f"{path}, line {line}: a zero byte, which no text has. It is damaged: fetch it again, or save it as "
        message += "CSV in UTF-8."
        raise ScreenError(message)
    try:
        return blob.decode(coding)
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        message = f"{path}, line {line}: not {'UTF-8' if coding == 'utf-8-sig' else coding.upper()} text (byte "
        message += f"{blob[error.start]:#04x}). Save it as CSV in UTF-8."
        raise ScreenError(message) from error


def _coding(blob: bytes) -> str:
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


def _unpacked(path: AnyPath, packed: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(packed)) as opened:
            blob = opened.read(LARGEST + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ScreenError(f"{path} is damaged ({error}). Fetch it again.") from error
    if len(blob) > LARGEST:
        raise ScreenError(
            f"{path} unpacks to more than {LARGEST >> 20} MiB; no table of wells is so long. Unpack it to see."
        )
    return blob
