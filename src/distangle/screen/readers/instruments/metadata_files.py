"""Find instrument metadata files, and the record of each image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.plates import is_below_a_plate
from distangle.screen.readers.instruments.cellvoyager import read_cellvoyager, read_detail
from distangle.screen.readers.instruments.harmony import read_harmony
from distangle.screen.readers.instruments.metaxpress import read_htd
from distangle.screen.readers.instruments.plate_record import InstrumentRecord

_HARMONY = ("index.idx.xml", "index.xml")
_CELLVOYAGER = (".mes", ".mlf", ".mrf")
NOT_READ = "instrument file not read"


@dataclass(frozen=True, kw_only=True)
class InstrumentRecords:
    """Instrument records of a source.

    Attributes:
        by_folder: Records of each folder.
        problems: Warnings about unreadable files.
    """

    by_folder: Mapping[str, Sequence[InstrumentRecord]] = field(default_factory=dict)
    problems: Sequence[Problem] = ()

    def record_of(self, path: str) -> InstrumentRecord | None:
        """Return the record of an image, from its folder or a parent.

        Args:
            path: Path relative to the source.
        """
        folder, _, name = path.rpartition("/")
        while True:
            records = self.by_folder.get(folder, ())
            matching = [record for record in records if name.casefold().startswith(record.prefix)]
            if matching:
                return max(matching, key=lambda record: len(record.prefix))
            above, _, part = folder.rpartition("/")
            if records or not folder or not is_below_a_plate(part):
                return None  # above the folder of a plate a file may belong to another plate
            folder = above


def find_records(source: AnyPath, files: Mapping[str, Sequence[str]]) -> InstrumentRecords:
    """Read the instrument metadata in the folders of a source.

    Args:
        source: The folder.
        files: Names of the metadata files, by folder relative to the source.
    """
    problems: list[Problem] = []
    by_folder = {folder: _read_folder(source, folder, names, problems) for folder, names in files.items()}
    return InstrumentRecords(
        by_folder={folder: records for folder, records in by_folder.items() if records}, problems=problems
    )


def is_instrument_file(name: str) -> bool:
    """Test whether a file name is that of an instrument metadata file."""
    return name.lower() in _HARMONY or name.lower().endswith((*_CELLVOYAGER, ".htd"))


def _read_folder(source: AnyPath, folder: str, names: Sequence[str], problems: list[Problem]) -> list[InstrumentRecord]:
    readers: dict[str, Callable[[], InstrumentRecord]] = {}
    lowered = {name.lower(): name for name in names}
    for name in [lowered[name] for name in _HARMONY if name in lowered][:1]:
        file = _join_path(folder, name)
        readers[file] = partial(read_harmony, source / file, file=file)
    cellvoyager = _cellvoyager_files(source, folder, names, problems)
    if cellvoyager:
        readers[_join_path(folder, next(iter(cellvoyager.values())).name)] = partial(
            read_cellvoyager, cellvoyager, folder=folder
        )
    tables = [name for name in names if name.lower().endswith(".htd")]
    for name in tables:
        file, prefix = _join_path(folder, name), name[: -len(".htd")].casefold() if len(tables) > 1 else ""
        readers[file] = partial(read_htd, source / file, file=file, prefix=prefix)
    records: list[InstrumentRecord] = []
    for file, call in readers.items():
        try:
            records.append(call())
        except (ScreenError, OSError) as error:
            problems.append(_unread_warning(file, error))
    return records


def _cellvoyager_files(
    source: AnyPath, folder: str, names: Sequence[str], problems: list[Problem]
) -> dict[str, AnyPath]:
    """Return the files of one CellVoyager measurement, by extension."""
    by_ending = {end: [name for name in names if name.lower().endswith(end)] for end in _CELLVOYAGER}
    files: dict[str, AnyPath] = {}
    for ending in (".mlf", ".mrf", ".mes"):
        candidates = by_ending[ending]
        if ending == ".mes" and len(candidates) > 1 and "mrf" in files:
            try:
                setting = read_detail(files["mrf"])[1].casefold()
            except (ScreenError, OSError):
                setting = ""  # reading the record reports the error
            candidates = [name for name in candidates if name.casefold() == setting] or candidates
        if len(candidates) > 1:
            message = f"{len(candidates)} files end in {ending}: {', '.join(candidates[:3])}"
            problems.append(_unread_warning(_join_path(folder, candidates[0]), ScreenError(message)))
        elif candidates:
            files[ending[1:]] = source / _join_path(folder, candidates[0])
    return files


def _unread_warning(file: str, error: Exception) -> Problem:
    reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return Problem(
        severity="warning",
        kind=NOT_READ,
        file=file,
        found=reason,
        expected="instrument metadata: channels, pixel size, wells",
        fix="Copy it again from the instrument; without it the channel order is not checked.",
    )


def _join_path(folder: str, name: str) -> str:
    return f"{folder}/{name}".lstrip("/")
