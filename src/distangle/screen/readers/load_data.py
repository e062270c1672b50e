"""Read CellProfiler's `load_data.csv`: a row per site, files of each channel.

They are `FileName_` and `PathName_`, or `URL_`.
"""

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

_CHANNEL = re.compile(r"(?:Image_)?(FileName|URL)_(?!Illum)(.+)")
_TECHNICAL = re.compile(r"(?:Image_)?(FileName|PathName|URL|MD5Digest|Frame|Series|Width|Height|Scaling)_.+")


def written_channels(table: SourceTable) -> list[str]:
    """Return the channels of a table as written, such as `OrigDNA`, in its order.

    Illumination functions are no channels.
    """
    found = [match[2] for name in table.columns if (match := _CHANNEL.fullmatch(name))]
    return list(dict.fromkeys(found))


def channel_names(tables: Sequence[SourceTable], asked: Sequence[str]) -> list[tuple[str, str]]:
    """Return name and spelling of every channel of a screen.

    Args:
        tables: Every `load_data.csv`.
        asked: `NAME` or `NAME=WRITTEN`, with or without `Orig` before it; none for all.

    Raises:
        ScreenError: A channel that a table lacks, or one that is asked for twice.
    """
    first = written_channels(tables[0])
    chosen = [(name.removeprefix("Orig"), name) for name in first]
    if asked:
        spelling = {plain.lower(): name for plain, name in chosen} | {name.lower(): name for name in first}
        chosen = []
        for item in asked:
            name, _, key = item.partition("=")
            wanted = (key or name).strip()
            if wanted.lower() not in spelling:
                raise ScreenError(
                    f"--channels {item}: {tables[0].path} has no channel {wanted!r}. {did_you_mean(wanted, first)}"
                )
            chosen.append((name.strip(), spelling[wanted.lower()]))
    if not chosen or len({name for name, _ in chosen}) < len(chosen) or len({key for _, key in chosen}) < len(chosen):
        raise ScreenError(
            f"{tables[0].path}: every channel needs a name of its own; found {', '.join(first) or 'none'}."
        )
    for table in tables[1:]:
        missing = [key for _, key in chosen if key not in written_channels(table)]
        if missing:
            common = [name for name, key in chosen if key not in missing]
            message = (
                f"{table.path} lacks the channels {', '.join(missing)} of {tables[0].path}. A screen has one list "
            )
            message += f"of channels: name those of all, --channels {','.join(common)}."
            raise ScreenError(message)
    return chosen


def other_columns(table: SourceTable, column_of: Mapping[str, str]) -> list[str]:
    """Return the columns that are neither ours nor say where files lie."""
    return [name for name in table.columns if name not in column_of.values() and not _TECHNICAL.fullmatch(name)]


class ImageLocator:
    """Finds files below a source whose folders a table wrote down on another machine.

    A path below the source, or relative to it, is itself. Of any other, the longest ending of its folder that is
    a folder below the source is taken: `/home/ubuntu/bucket/projects/X/images/P1` is `images/P1` here. An ending that
    names nothing, such as `Images`, may be of any plate: it counts below a source of the name before it only. Files
    that lie in the source itself are found by their names.

    Args:
        source: The folder that files are looked for in.

    Attributes:
        by_name: Files that were found in the source by their names alone.
        named: Folder to the names of all files that were asked for and have a folder here.
    """

    def __init__(self, source: AnyPath) -> None:
        self._source = source
        self._roots = {source.absolute().as_posix(), source.resolve().as_posix()}
        self._known: dict[str, str | None] = {}
        self._name = (source.absolute().as_posix() if isinstance(source, Path) else str(source)).rsplit("/", 1)[-1]
        self.by_name: set[str] = set()
        self.named: dict[str, set[str]] = {}
        self._top = {normalize_name(name) for name, is_folder in scan(source, "", []) if not is_folder}

    def find(self, folder: str, name: str) -> str | None:
        """Return a path relative to the source; None if the file cannot be located."""
        path = self._find(folder, name)
        if path is not None:
            above, last = posixpath.split(path)
            self.named.setdefault(above, set()).add(last)
        return path

    def _find(self, folder: str, name: str) -> str | None:
        whole = posixpath.normpath(posixpath.join(_plain(folder), _plain(name)))
        for root in self._roots:
            if whole.startswith(f"{_plain(root)}/"):
                return whole.removeprefix(f"{_plain(root)}/")
        folder, name = posixpath.split(whole)
        if not name or name == ".." or "\0" in whole:
            return None
        if folder not in self._known:
            self._known[folder] = self._ending(folder)
        known = self._known[folder]
        if known is None:
            is_relative = not folder.startswith("/") and ".." not in folder.split("/")
            if normalize_name(name) in self._top:
                self.by_name.add(name)
                return name
            return whole if is_relative else None
        return posixpath.join(known, name)

    def _ending(self, folder: str) -> str | None:
        parts = [part for part in folder.split("/") if part]
        if ".." in parts:
            return None
        for first in range(len(parts)):
            ending = "/".join(parts[first:])
            names_a_place = any(part.lower() not in NO_NAMES for part in parts[first:])
            if isinstance(self._source, Path):
                ending = path_on_disk(self._source, ending)
            if (names_a_place or parts[first - 1 : first] == [self._name]) and (self._source / ending).is_dir():
                return ending
        return None if parts else ""


@dataclass(frozen=True, kw_only=True)
class LoadData:
    """One table and what its columns are.

    Attributes:
        table: The table.
        column_of: Our column name to the table's.
        channels: Name and spelling of every channel.
        extra: Columns that are kept, "" for those that this table does not have.
        batch: Experiment of its rows, where no column says it.
    """

    table: SourceTable
    column_of: Mapping[str, str]
    channels: Sequence[tuple[str, str]]
    extra: Sequence[str]
    batch: str = ""

    def read(self, places: ImageLocator | None) -> tuple[list[SiteRecord], list[Problem]]:
        """Return an entry for every row, and refusals of those that cannot be one.

        Args:
            places: Finds the files; None when no image is looked for.
        """
        table = self.table
        parser = RowParser(
            table, self.column_of, extra=self.extra, name=self._name, experiment=self.batch or "all", site=1
        )
        entries: list[SiteRecord] = []
        problems = [dataclasses.replace(problem, file=self._name) for problem in table.ragged_problems()]
        keys = written_channels(table)
        for line, fields in zip(table.lines, table.rows, strict=True):
            if places is not None:
                row = dict(zip(table.columns, fields, strict=True))
                for key in keys:  # also of rows that are refused, and of channels that are not wanted
                    places.find(*_written(row, key))
            entry = parser.entry(line, fields)
            problem = parser.problem(entry, fields)
            if problem is None and places is not None:
                problem = self._add_paths(entry, dict(zip(table.columns, fields, strict=True)), places)
            if problem is None:
                entries.append(entry)
            else:
                problems.append(problem)
        return entries, problems

    @property
    def _name(self) -> str:
        # Every plate has a `load_data.csv`: the folder tells them apart.
        return f"{self.table.path.parent.name}/{self.table.path.name}".removeprefix("/")

    def _add_paths(self, entry: SiteRecord, row: Mapping[str, str], places: ImageLocator) -> Problem | None:
        written = [_written(row, key) for _, key in self.channels]
        missing = [name for (name, _), (_, file) in zip(self.channels, written, strict=True) if not file]
        if missing:
            return entry.missing_paths_problem(missing, [name for name, _ in self.channels])
        paths: list[str] = []
        for (name, _), (folder, file) in zip(self.channels, written, strict=True):
            path = places.find(folder, file)
            if path is None:
                return entry.problem(
                    "path outside the source",
                    channel=name,
                    found=posixpath.join(folder, file),
                    expected="a file in a folder below the source that ends like it",
                    fix="Copy the images below the source, in a folder named so, or name their folder as source.",
                )
            paths.append(path)
        entry.paths = tuple(paths)
        return self._add_frames(entry, row)

    def _add_frames(self, entry: SiteRecord, row: Mapping[str, str]) -> Problem | None:
        """Add the plane of each channel in its file, by `Frame_` and `Series_`."""
        names, paths = [name for name, _ in self.channels], entry.paths
        said = {kind: [_cell(row, kind, key) for _, key in self.channels] for kind in ("Frame", "Series")}
        numbers: dict[str, list[int]] = {}
        for kind, cells in said.items():
            wrong = [k for k, cell in enumerate(cells) if cell and _number(cell) is None]
            if wrong:
                return entry.problem(
                    "no number of a plane",
                    channel=names[wrong[0]],
                    found=f"{kind}_{self.channels[wrong[0]][1]} {cells[wrong[0]]!r}",
                    expected="a whole number from 0, as CellProfiler counts",
                    fix=f"Correct the {kind}_ columns, or leave them away.",
                )
            numbers[kind] = [-1 if (number := _number(cell)) is None else number for cell in cells]
        series = [max(number, 0) for number in numbers["Series"]]
        # CellProfiler writes 0 for files of one plane too: only what differs from it names a plane.
        frames = numbers["Frame"] if self._names_planes else [-1] * len(paths)
        if len(set(zip(paths, series, frames, strict=True))) < len(paths):
            return entry.problem(
                "one file for two channels",
                channel=", ".join(name for name, path in zip(names, paths, strict=True) if paths.count(path) > 1),
                found=next(path for path in paths if paths.count(path) > 1),
                expected="a file per channel, or another Frame_ of it",
                fix="Correct the paths.",
            )
        entry.pages, entry.series, entry.numbering = tuple(frames), tuple(series), "frames"
        return None

    @functools.cached_property
    def _names_planes(self) -> bool:
        """Whether any row names another frame than the first."""
        columns = [
            self.table.position(name)
            for _, key in self.channels
            for name in (f"Frame_{key}", f"Image_Frame_{key}")
            if name in self.table.columns
        ]
        return any((_number(row[k].strip()) or 0) > 0 for row in self.table.rows for k in columns)


def _number(text: str) -> int | None:
    """Return a whole number from 0, also written as `2.0`; None for anything else."""
    whole = text.removesuffix(".0")
    return int(whole) if whole.isascii() and whole.isdigit() else None


def _written(row: Mapping[str, str], key: str) -> tuple[str, str]:
    url = _cell(row, "URL", key)
    return posixpath.split(url) if url else (_cell(row, "PathName", key), _cell(row, "FileName", key))


def written_file(row: Mapping[str, str], key: str) -> str:
    """Return the file name that a row gives for a channel, without its folder."""
    return posixpath.basename(_plain(_written(row, key)[1]))


def _cell(row: Mapping[str, str], kind: str, key: str) -> str:
    return (row.get(f"{kind}_{key}") or row.get(f"Image_{kind}_{key}") or "").strip()


def _plain(path: str) -> str:
    """Return a path with `/` between folders and without URL scheme or drive."""
    text = path if "/" in path else path.replace("\\", "/")
    text = re.sub(r"^file:/+", "/", text)
    return re.sub(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]:/)", "/", text)
