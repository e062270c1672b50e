"""Pack a screen: every image read, written in one file, read back and compared, and a screen of the result."""

import concurrent.futures
import hashlib
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from distangle import __version__
from distangle.commit import check_room, commit_bytes, make_folder, sha256_of
from distangle.errors import ImageError, ScreenError
from distangle.images.packed import ngff, records
from distangle.images.packed.read import read_packed
from distangle.images.site import SiteReader
from distangle.progress import Advance, no_progress
from distangle.screen import Problem, Screen, site_sha256, well_name, write_screen
from distangle.screen.asked import moved
from distangle.screen.problems import n_refused, problems_table
from distangle.screen.table import path_columns

Format = Literal["ome-zarr", "records"]
DEFAULT_LEVEL: dict[Format, int] = {"ome-zarr": 12, "records": 1}
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What packing did.

    Attributes:
        screen: The packed screen, as it was written.
        n_packed: Images packed now.
        n_kept: Images that were packed and whole already.
        bytes_before: Of the files of the images as they were.
        bytes_after: Of the packed images.
    """

    screen: Screen
    n_packed: int
    n_kept: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class _Done:
    row: int
    path: PurePosixPath
    size: int
    mtime: float
    sha256: str
    kept: bool


def pack_screen(
    screen: Screen,
    folder: Path,
    *,
    format: Format = "ome-zarr",
    level: int | None = None,
    workers: int = 2,
    advance: Advance = no_progress,
) -> Packed:
    """Write the images of a screen into `folder`, and there a screen that finds them.

    Every image is read as it always is, written, read back from the disk and compared. One that cannot be read is
    refused by name in the new screen, so found = indexed + refused still holds. A run that was cut short goes on
    where it stopped: an image that is there, and was made from the same bytes, is kept.

    Args:
        screen: As it was indexed, with the hashes of its files.
        folder: Of the new screen; the one of an earlier, unfinished packing is gone on with.
        format: `ome-zarr`: plates of OME-NGFF 0.5 that any reader of zarr 3 opens. `records`: smaller and faster,
            for this program alone.
        level: Of zstd, 1 to 22; None takes 12 for ome-zarr and 1 for records.
        workers: Threads.
        advance: Called after every image.

    Raises:
        ConfigError: No such level, or zstd is not installed.
        ScreenError: The screen has no images or no hashes, or the folder holds another screen.
        StorageError: The disk is full; what was packed stays.
    """
    _check(screen, folder)
    chosen = DEFAULT_LEVEL[format] if level is None else level
    packer = _Packer(screen, folder, format=format, level=chosen)
    before = int(screen.sites["size"].sum())
    make_folder(folder)
    check_room(folder, needed=before, what="packed images, about")
    done: list[_Done] = []
    problems: list[Problem] = []
    with concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="pack") as threads:
        for outcome in _in_windows(threads, packer.pack, range(len(screen.sites)), window=8 * workers):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                done.append(outcome)
            advance(f"{len(done) + len(problems)} images")
    if not done:
        message = f"No image of the screen can be read. First: {problems[0].describe()}"
        raise ScreenError(message)
    if format == "ome-zarr":
        packer.describe_plates([one.row for one in done])
    packed = _screen_of(screen, done, problems, folder=folder, said={"format": format, "level": chosen})
    write_screen(packed, folder)
    n_kept = sum(one.kept for one in done)
    return Packed(
        screen=replace(packed, folder=folder),
        n_packed=len(done) - n_kept,
        n_kept=n_kept,
        bytes_before=before,
        bytes_after=sum(one.size for one in done),
    )


class _Packer:
    def __init__(self, screen: Screen, folder: Path, *, format: Format, level: int) -> None:
        self._screen, self._folder, self._format, self._level = screen, folder, format, level
        self._reader = SiteReader(screen)
        sites = screen.sites
        plates = sites[["experiment", "plate"]].astype(str).apply(tuple, axis=1)
        self._plates: dict[tuple[str, str], str] = {}
        for plate in dict.fromkeys(plates):
            name = _PLAIN.sub("-", "_".join(plate)).strip("-.") or "plate"
            taken = set(self._plates.values())
            names = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
            self._plates[plate] = next(one for one in names if one not in taken)
        self._plate_of = list(plates)
        # Fields of a well are numbered from 0 in the order of their sites.
        self._field = sites.groupby(["experiment", "plate", "well"]).cumcount().tolist()

    def pack(self, row: int) -> "_Done | Problem":
        site = self._screen.sites.iloc[row]
        about = {
            "experiment": str(site.experiment),
            "plate": str(site.plate),
            "well": str(site.well),
            "site": int(site.site),
            "source_sha256": str(site.sha256),
        }
        path = self._path(row)
        whole = self._folder / path
        kept = self._kept(whole, about)
        if kept is None:
            try:
                image = self._reader.read(row)
            except ImageError as error:
                return Problem(
                    kind="unreadable file",
                    experiment=str(site.experiment),
                    plate=str(site.plate),
                    well=str(site.well),
                    site=str(site.site),
                    found=str(error).replace(f"{self._screen.source}/", ""),
                    expected="an image",
                    fix="Copy the file again from where it came, index and pack again.",
                )
            if self._format == "records":
                commit_bytes(whole, records.encode_record(image, level=self._level, about=about))
            else:
                field = whole.parents[len(ngff.CHUNK) - 1]
                ngff.write_image(field, image, level=self._level, channels=self._screen.card.channels, about=about)
            if not np.array_equal(read_packed(whole), image):
                message = (
                    f"{whole} does not read back as it was written. Check the memory and the disk of this machine."
                )
                raise ScreenError(message)
        found = whole.stat()
        return _Done(row, path, found.st_size, found.st_mtime, kept or sha256_of(whole), kept is not None)

    def describe_plates(self, rows: list[int]) -> None:
        """Write the metadata of plates and wells, for the fields that are there."""
        card = self._screen.card
        wells: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            parts = self._path(row).parts
            wells[parts[0]]["/".join(parts[1:3])].append(parts[3])
        letters = [_row_and_column(well_name(row, 0))[0] for row in range(card.plate_rows)]
        numbers = [_row_and_column(well_name(0, column))[1] for column in range(card.plate_columns)]
        for plate, fields in wells.items():
            name = plate.removesuffix(".zarr")
            ngff.write_plate(self._folder / plate, name=name, wells=fields, rows=letters, columns=numbers)

    def _path(self, row: int) -> PurePosixPath:
        site = self._screen.sites.iloc[row]
        plate = self._plates[self._plate_of[row]]
        if self._format == "records":
            return PurePosixPath(plate, f"{site.well}_s{int(site.site)}{records.SUFFIX}")
        letters, number = _row_and_column(str(site.well))
        return PurePosixPath(f"{plate}.zarr", letters, number, str(self._field[row]), *ngff.CHUNK)

    def _kept(self, path: Path, about: dict[str, object]) -> str | None:
        """Return the hash of an image that is there, whole, and made from the same bytes; None otherwise."""
        if not path.exists():
            return None
        try:
            blob = path.read_bytes()
            if self._format == "records":
                header, _ = records.record_header(blob, path=path)
                said = {name: header.get(name) for name in about}
                records.decode_record(blob, path=path)
            else:
                said = ngff.about_of(path)
                ngff.read_chunk(blob, path=path)
        except (ImageError, OSError):
            return None
        return hashlib.sha256(blob).hexdigest() if said == about else None


def _row_and_column(well: str) -> tuple[str, str]:
    letters = well.rstrip("0123456789")
    return letters, well[len(letters) :]


def _check(screen: Screen, folder: Path) -> None:
    if screen.card.tables_only:
        message = "This screen was indexed with --tables-only, so it has no images. Index it again where they are."
        raise ScreenError(message)
    if (screen.sites["sha256"].astype(str) == "").any():
        message = (
            "This screen was indexed without hashing its files, so a packed image cannot be told from a stale one. "
        )
        message += "Index it again without --no-hash-files."
        raise ScreenError(message)
    if screen.folder is not None and folder.resolve() == screen.folder.resolve():
        message = f"{folder} is the screen itself. Name another folder for the packed one."
        raise ScreenError(message)


def _in_windows(
    threads: concurrent.futures.Executor, call: Callable[[int], "_Done | Problem"], rows: range, *, window: int
) -> Iterator["_Done | Problem"]:
    """Give the results in order, with at most `window` images under way: memory does not grow with the screen."""
    waiting: list[concurrent.futures.Future[_Done | Problem]] = []
    for row in rows:
        waiting.append(threads.submit(call, row))
        if len(waiting) >= window:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def _screen_of(
    screen: Screen, done: list[_Done], problems: list[Problem], *, folder: Path, said: dict[str, object]
) -> Screen:
    card = screen.card
    sites = screen.sites.iloc[[one.row for one in done]].reset_index(drop=True)
    n_channels = len(card.channels)
    for k, (path, page) in enumerate(zip(*[iter(path_columns(n_channels))] * 2, strict=True)):
        sites[path] = pd.Series([one.path.as_posix() for one in done], dtype="str")
        sites[page] = pd.Series([k] * len(done), dtype="int64")
    sites["size"] = pd.Series([one.size for one in done], dtype="int64")
    sites["mtime"] = pd.Series([one.mtime for one in done], dtype="float64")
    pages = list(range(n_channels))
    sites["sha256"] = pd.Series([site_sha256([one.sha256] * n_channels, pages) for one in done], dtype="str")
    table = pd.concat([screen.problems, problems_table(problems)], ignore_index=True) if problems else screen.problems
    packed = {**said, "distangle": __version__, "sites_sha256_before": card.sites_sha256, "layout_before": card.layout}
    changed = {
        "source": str(folder.resolve()),
        "indexed": len(sites),
        "refused": card.refused + n_refused(problems),
        "provenance": {**card.provenance, **_tables(screen, folder), "packed": packed},
        "sites_sha256": "",
    }
    return Screen(card=card.model_copy(update=changed), sites=sites, problems=table, folder=None)


def _tables(screen: Screen, folder: Path) -> dict[str, object]:
    """Return the tables that were indexed and where they were looked for, named from the new folder."""
    listed = screen.card.provenance.get("tables", [])
    if not isinstance(screen.source, Path) or not listed:
        return {}
    paths = [os.path.relpath((screen.source / str(table["path"])).resolve(), folder.resolve()) for table in listed]
    tables = [{**table, "path": Path(path).as_posix()} for table, path in zip(listed, paths, strict=True)]
    asked = screen.card.provenance.get("asked")
    return {"tables": tables} if asked is None else {"tables": tables, "asked": moved(asked, screen.source, folder)}
