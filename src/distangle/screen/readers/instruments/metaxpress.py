"""Read `PLATE.HTD` of MetaXpress (ImageXpress)."""

import csv

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.readers.instruments.plate_record import InstrumentRecord, number_of
from distangle.screen.readers.instruments.xml import open_regular

_MAX_BYTES = 4 << 20  # bytes; a plate of 1536 wells needs about 20 kB


def read_htd(path: AnyPath, *, file: str, prefix: str = "") -> InstrumentRecord:
    """Read the wavelength names and the measured wells.

    Args:
        path: The file.
        file: Path for warnings, relative to the source.
        prefix: Prefix of its image names, if several plates share a folder.

    Raises:
        ScreenError: The file is not a valid HTD.
        OSError: The file is unreadable.
    """
    with open_regular(path, max_bytes=_MAX_BYTES) as stream:
        blob = stream.read(_MAX_BYTES + 1)
    encoding = "utf-16" if blob[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = blob.decode(encoding)
    except UnicodeDecodeError:
        text = blob.decode("latin-1")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    except csv.Error as error:
        raise ScreenError(f"it is not a table of keys and values ({error})") from error
    values = {row[0].lower(): row[1:] for row in rows}
    if not rows or "nwavelengths" not in values or "xwells" not in values:
        raise ScreenError("it lacks NWavelengths or XWells, which every HTD contains")
    if "endfile" not in values:
        raise ScreenError("it is truncated: EndFile is missing")
    n_waves = min(number_of(_first_value(values, "nwavelengths")) or 0, 64)
    channels = {k: name for k in range(1, n_waves + 1) if (name := _first_value(values, f"wavename{k}"))}
    n_rows = min(number_of(_first_value(values, "ywells")) or 0, 64)
    wells = {
        (row, column)
        for row in range(n_rows)
        for column, cell in enumerate(values.get(f"wellsselection{row + 1}", []))
        if cell.upper() == "TRUE"
    }
    return InstrumentRecord(file=file, channels=channels, wells=frozenset(wells), prefix=prefix)


def _first_value(values: dict[str, list[str]], key: str) -> str:
    return next(iter(values.get(key, [])), "")
