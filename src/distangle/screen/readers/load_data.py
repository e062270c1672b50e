"""Read CellProfiler's `load_data.csv`: a row per site, a file per channel."""

import dataclasses
import functools
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.core.unicode_names import normalize_name, path_on_disk
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.plates import NO_NAMES
from distangle.screen.readers.filenames.scan import scan
from distangle.screen.readers.wells.columns import RowParser
from distangle.screen.source_tables import SourceTable

_CHANNEL_COLUMN = re.compile(r"(?:Image_)?(FileName|URL)_(?!Illum)(.+)")
_FILE_COLUMN = re.compile(r"(?:Image_)?(FileName|PathName|URL|MD5Digest|Frame|Series|Width|Height|Scaling)_.+")


def written_channels(table: SourceTable) -> list[str]:
    """Return the channels of a table as written, such as `OrigDNA`, in its order.

    Illumination functions are not channels.
    """
    names = [match[2] for name in table.columns if (match := _CHANNEL_COLUMN.fullmatch(name))]
    return list(dict.fromkeys(names))


def channel_names(tables: Sequence[SourceTable], selection: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name and the spelling of every selected channel.

    Args:
        tables: Every `load_data.csv`.
        selection: `NAME` or `NAME=WRITTEN`, with or without the prefix `Orig`; empty for all.

    Raises:
        ScreenError: A table lacks a channel, or a channel is selected twice.
    """
    written = written_channels(tables[0])
    channels = [(name.removeprefix("Orig"), name) for name in written]
    if selection:
        spelling = {plain.lower(): name for plain, name in channels} | {name.lower(): name for name in written}
        channels = []
        for item in selection:
            name, _, key = item.partition("=")
            requested = (key or name).strip()
            if requested.lower() not in spelling:
                message = f"--channels {item}: {tables[0].path} has no channel {requested!r}. "
                raise ScreenError(message + did_you_mean(requested, written))
            channels.append((name.strip(), spelling[requested.lower()]))
    if (
        not channels
        or len({name for name, _ in channels}) < len(channels)
        or len({key for _, key in channels}) < len(channels)
    ):
        raise ScreenError(f"{tables[0].path}: every channel needs a unique name; found {', '.join(written) or 'none'}.")
    for table in tables[1:]:
        missing = [key for _, key in channels if key not in written_channels(table)]
        if missing:
            common = [name for name, key in channels if key not in missing]
            message = (
                f"{table.path} lacks the channels {', '.join(missing)} of {tables[0].path}. A screen has one list "
            )
            message += f"of channels: name those of all, --channels {','.join(common)}."
            raise ScreenError(message)
    return channels


def other_columns(table: SourceTable, column_of: Mapping[str, str]) -> list[str]:
    """Return the columns that are neither fields nor paths of files."""
    return [name for name in table.columns if name not in column_of.values() and not _FILE_COLUMN.fullmatch(name)]


class ImageLocator:
    """Map paths written on another machine to files below the source.

    A path below the source, or relative to it, is used unchanged. For any other path, the longest suffix of its folder
    that exists below the source is used: `/home/ubuntu/bucket/projects/X/images/P1` becomes `images/P1`. A generic
    suffix such as `Images` fits any plate, so it needs a source named like the folder above it. Files directly in the
    source are matched by name.

    Args:
        source: The folder of the files.

    Attributes:
        by_name: Files in the source that were matched by name only.
        requested_names: Names of the requested files, by folder below the source.
    """

    def __init__(self, source: AnyPath) -> None:
        self._source = source
        self._roots = {source.absolute().as_posix(), source.resolve().as_posix()}
        self._located: dict[str, str | None] = {}
        self._root_name = (source.absolute().as_posix() if isinstance(source, Path) else str(source)).rsplit("/", 1)[-1]
        self.by_name: set[str] = set()
        self.requested_names: dict[str, set[str]] = {}
        self._top_level = {normalize_name(name) for name, is_folder in scan(source, "", []) if not is_folder}

    def find(self, folder: str, name: str) -> str | None:
        """Return the path relative to the source; None if the file has no folder."""
        path = self._find(folder, name)
        if path is not None:
            parent, file_name = posixpath.split(path)
            self.requested_names.setdefault(parent, set()).add(file_name)
        return path

    def _find(self, folder: str, name: str) -> str | None:
        path = posixpath.normpath(posixpath.join(_normalize_path(folder), _normalize_path(name)))
        for root in self._roots:
            if path.startswith(f"{_normalize_path(root)}/"):
                return path.removeprefix(f"{_normalize_path(root)}/")
        folder, name = posixpath.split(path)
        if not name or name == ".." or "\0" in path:
            return None
        if folder not in self._located:
            self._located[folder] = self._existing_suffix(folder)
        located = self._located[folder]
        if located is None:
            is_relative = not folder.startswith("/") and ".." not in folder.split("/")
            if normalize_name(name) in self._top_level:
                self.by_name.add(name)
                return name
            return path if is_relative else None
        return posixpath.join(located, name)

    def _existing_suffix(self, folder: str) -> str | None:
        parts = [part for part in folder.split("/") if part]
        if ".." in parts:
            return None
        for start in range(len(parts)):
            suffix = "/".join(parts[start:])
            is_specific = any(part.lower() not in NO_NAMES for part in parts[start:])
            if isinstance(self._source, Path):
                suffix = path_on_disk(self._source, suffix)
            if (is_specific or parts[start - 1 : start] == [self._root_name]) and (self._source / suffix).is_dir():
                return suffix
        return None if parts else ""


@dataclass(frozen=True, kw_only=True)
class LoadData:
    """One `load_data` table with its columns.

    Attributes:
        table: The table.
        column_of: Column of each field.
        channels: Name and spelling of every channel.
        extra: Extra columns; values are "" for those that this table lacks.
        batch: Experiment of its rows, if no column contains it.
    """

    table: SourceTable
    column_of: Mapping[str, str]
    channels: Sequence[tuple[str, str]]
    extra: Sequence[str]
    batch: str = ""

    def read(self, locator: ImageLocator | None) -> tuple[list[SiteRecord], list[Problem]]:
        """Return the entries of the rows, and the refusals of invalid rows.

        Args:
            locator: Finds the files; None to look for no image.
        """
        table = self.table
        parser = RowParser(
            table, self.column_of, extra=self.extra, name=self._name, experiment=self.batch or "all", site=1
        )
        entries: list[SiteRecord] = []
        problems = [dataclasses.replace(problem, file=self._name) for problem in table.ragged_problems()]
        spellings = written_channels(table)
        for line, fields in zip(table.lines, table.rows, strict=True):
            if locator is not None:
                row = dict(zip(table.columns, fields, strict=True))
                for spelling in spellings:  # also for refused rows and for channels that are not selected
                    locator.find(*_read_path(row, spelling))
            entry = parser.parse(line, fields)
            problem = parser.validate(entry, fields)
            if problem is None and locator is not None:
                problem = self._add_paths(entry, dict(zip(table.columns, fields, strict=True)), locator)
            if problem is None:
                entries.append(entry)
            else:
                problems.append(problem)
        return entries, problems

    @property
    def _name(self) -> str:
        # Every plate has a `load_data.csv`: the folder distinguishes them.
        return f"{self.table.path.parent.name}/{self.table.path.name}".removeprefix("/")

    def _add_paths(self, entry: SiteRecord, row: Mapping[str, str], locator: ImageLocator) -> Problem | None:
        locations = [_read_path(row, key) for _, key in self.channels]
        missing = [name for (name, _), (_, file) in zip(self.channels, locations, strict=True) if not file]
        if missing:
            return entry.missing_paths_problem(missing, [name for name, _ in self.channels])
        paths: list[str] = []
        for (name, _), (folder, file) in zip(self.channels, locations, strict=True):
            path = locator.find(folder, file)
            if path is None:
                return entry.problem(
                    "path outside the source",
                    channel=name,
                    found=posixpath.join(folder, file),
                    expected="a folder below the source with the same last part of the path",
                    fix="Copy the images below the source, in a folder of this name, or name their folder as source.",
                )
            paths.append(path)
        entry.paths = tuple(paths)
        return self._add_frames(entry, row)

    def _add_frames(self, entry: SiteRecord, row: Mapping[str, str]) -> Problem | None:
        """Set the plane of each channel in its file from `Frame_` and `Series_`."""
        names, paths = [name for name, _ in self.channels], entry.paths
        cells_of = {kind: [_read_cell(row, kind, key) for _, key in self.channels] for kind in ("Frame", "Series")}
        numbers: dict[str, list[int]] = {}
        for kind, cells in cells_of.items():
            invalid = [k for k, cell in enumerate(cells) if cell and _as_number(cell) is None]
            if invalid:
                return entry.problem(
                    "invalid plane number",
                    channel=names[invalid[0]],
                    found=f"{kind}_{self.channels[invalid[0]][1]} {cells[invalid[0]]!r}",
                    expected="a whole number from 0, as CellProfiler counts",
                    fix=f"Correct the {kind}_ columns, or remove them.",
                )
            numbers[kind] = [-1 if (number := _as_number(cell)) is None else number for cell in cells]
        series = [max(number, 0) for number in numbers["Series"]]
        # CellProfiler also writes 0 for files with one plane: only other values select a plane.
        frames = numbers["Frame"] if self._names_planes else [-1] * len(paths)
        if len(set(zip(paths, series, frames, strict=True))) < len(paths):
            return entry.problem(
                "one file for two channels",
                channel=", ".join(name for name, path in zip(names, paths, strict=True) if paths.count(path) > 1),
                found=next(path for path in paths if paths.count(path) > 1),
                expected="a file per channel, or a different Frame_",
                fix="Correct the paths.",
            )
        entry.pages, entry.series, entry.numbering = tuple(frames), tuple(series), "frames"
        return None

    @functools.cached_property
    def _names_planes(self) -> bool:
        """Whether any row has a frame after the first."""
        columns = [
            self.table.position(name)
            for _, key in self.channels
            for name in (f"Frame_{key}", f"Image_Frame_{key}")
            if name in self.table.columns
        ]
        return any((_as_number(row[k].strip()) or 0) > 0 for row in self.table.rows for k in columns)


def _as_number(text: str) -> int | None:
    """Parse a whole number from 0, also written as `2.0`; None if it is not one."""
    digits = text.removesuffix(".0")
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _read_path(row: Mapping[str, str], key: str) -> tuple[str, str]:
    url = _read_cell(row, "URL", key)
    return posixpath.split(url) if url else (_read_cell(row, "PathName", key), _read_cell(row, "FileName", key))


def written_file(row: Mapping[str, str], key: str) -> str:
    """Return the file name of a channel in a row, without its folder."""
    return posixpath.basename(_normalize_path(_read_path(row, key)[1]))


def _read_cell(row: Mapping[str, str], kind: str, key: str) -> str:
    return (row.get(f"{kind}_{key}") or row.get(f"Image_{kind}_{key}") or "").strip()


def _normalize_path(path: str) -> str:
    """Return a path with `/` as separator and without URL scheme or drive."""
    text = path if "/" in path else path.replace("\\", "/")
    text = re.sub(r"^file:/+", "/", text)
    return re.sub(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]:/)", "/", text)
