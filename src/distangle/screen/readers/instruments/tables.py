"""Compare table rows with the instrument metadata of their images."""

from collections.abc import Sequence
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.plates import split_well, well_name
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import scan
from distangle.screen.readers.instruments.agreement import pixel_size_of
from distangle.screen.readers.instruments.channels import is_same_name
from distangle.screen.readers.instruments.metadata_files import InstrumentRecords, find_records, is_instrument_file
from distangle.screen.readers.instruments.plate_record import key_of
from distangle.screen.roles import natural_sort_key


def compare_with_records(result: ReaderResult) -> None:
    """Refuse sites whose row names an image of another well or channel.

    Planes and times are not compared, because a table may choose one per channel. Sources behind a URL are skipped.

    Args:
        result: Result of a reader of tables; its entries and problems are updated.
    """
    if not isinstance(result.source, Path):
        return
    records = _read_records(result.source, result.entries)
    if not records.by_folder:
        result.problems += records.problems
        return
    names = [channel.name for channel in result.channels]
    consistent: list[SiteRecord] = []
    refused: list[Problem] = []
    for entry in result.entries:
        problem = _find_contradiction(entry, names, records)
        if problem is None:
            consistent.append(entry)
        else:
            refused.append(problem)
    by_file = {
        record.file: record
        for entry in consistent
        for path in entry.paths[:1]
        if (record := records.record_of(path)) is not None
    }
    size, size_problems = pixel_size_of([by_file[file] for file in sorted(by_file, key=natural_sort_key)])
    result.entries = consistent
    result.problems += [*records.problems, *size_problems, *refused]
    result.pixel_size_um = result.pixel_size_um or size


def _read_records(source: AnyPath, entries: Sequence[SiteRecord]) -> InstrumentRecords:
    """Read instrument metadata in the folders of images and their parents."""
    folders: set[str] = set()
    for folder in {path.rpartition("/")[0] for entry in entries for path in entry.paths}:
        parts = folder.split("/") if folder else []
        folders |= {"/".join(parts[:k]) for k in range(len(parts) + 1)}
    files = {
        folder: instrument_names
        for folder in sorted(folders, key=natural_sort_key)
        if (
            instrument_names := [
                name for name, is_folder in scan(source, folder, []) if not is_folder and is_instrument_file(name)
            ]
        )
    }
    return find_records(source, files)


def _find_contradiction(entry: SiteRecord, names: Sequence[str], records: InstrumentRecords) -> Problem | None:
    well = split_well(entry.well)
    for name, path in zip(names, entry.paths, strict=len(entry.paths) == len(names)):
        record = records.record_of(path)
        instrument_image = record.images.get(key_of(path)) if record is not None else None
        if record is None or instrument_image is None:
            continue
        fix = "Check which is correct: the row, or the instrument file, which may belong to another plate."
        if instrument_image.well is not None and well is not None and instrument_image.well != well:
            return entry.problem(
                "instrument contradicts table",
                channel=name,
                found=f"{record.file} lists {path} as well {well_name(*instrument_image.well)}",
                expected=f"well {entry.well}, as in the row",
                fix=fix,
            )
        label = record.channels.get(instrument_image.channel, "") if instrument_image.channel is not None else ""
        matching = [k for k, other in record.channels.items() if is_same_name(name, other)]
        if label and not is_same_name(name, label) and len(matching) == 1:
            return entry.problem(
                "instrument contradicts table",
                channel=name,
                found=f"{record.file} lists {path} as channel {instrument_image.channel}, {label}",
                expected=f"channel {matching[0]}, {record.channels[matching[0]]}, for {name}",
                fix=fix,
            )
    return None
