"""Pack a screen: each image is written to one file, read back and compared."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from distangle import __version__
from distangle.core.io import check_free_space
from distangle.core.progress import Advance, no_progress
from distangle.errors import ScreenError
from distangle.images.packing.writer import Format, PackedImage, PackWriter, hold_folder, owner_mark
from distangle.screen import Problem, Screen, site_sha256, write_screen
from distangle.screen.indexing.provenance import rebase_paths
from distangle.screen.problems import n_refused, problems_table
from distangle.screen.screen import path_columns

DEFAULT_LEVEL: dict[Format, int] = {"ome-zarr": 12, "records": 1}
_GROWTH: dict[Format, float] = {"ome-zarr": 1.3, "records": 1.0}  # of PNG files, with room to spare


@dataclass(frozen=True, kw_only=True)
class PackResult:
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


def pack_screen(
    screen: Screen,
    folder: Path,
    *,
    format: Format = "ome-zarr",
    level: int | None = None,
    workers: int = 2,
    advance: Advance = no_progress,
    say: Callable[[str], None] = no_progress,
) -> PackResult:
    """Write the images of a screen into `folder`, and there a screen that finds them.

    Every image is read as it always is, written, read back from the disk and compared. One that cannot be read is
    refused by name in the new screen, so found = indexed + refused still holds. A packing that was cut short goes on
    where it stopped: an image that is there, made from the same bytes, for the same site, channels and level, is kept.

    Args:
        screen: As it was indexed, with the hashes of its files.
        folder: Of the new screen; the one of an earlier packing of the same screen is gone on with.
        format: `ome-zarr`: plates of OME-NGFF 0.5 that any reader of zarr 3 opens. `records`: smaller and faster,
            for this program alone.
        level: Of zstd, 1 to 22; None takes 12 for ome-zarr and 1 for records.
        workers: Threads.
        advance: Called after every image.
        say: Told when the lock of a dead process is cleared.

    Raises:
        ConfigError: No such level, or zstd is not installed.
        RunError: Another process packs into the folder.
        ScreenError: The screen has no images or no hashes, or the folder holds these images or another screen.
        StorageError: The disk is full; what was packed stays.
    """
    _check(screen)
    chosen = DEFAULT_LEVEL[format] if level is None else level
    packer = PackWriter(screen, folder, format=format, level=chosen)
    with hold_folder(screen, folder, format=format, say=say):
        return _pack(packer, screen, folder, format=format, level=chosen, workers=workers, advance=advance)


def _pack(
    packer: PackWriter, screen: Screen, folder: Path, *, format: Format, level: int, workers: int, advance: Advance
) -> PackResult:
    before = int(screen.sites["size"].sum())
    check_free_space(folder, needed=int(before * _GROWTH[format]), what="packed images, about")
    packer.sweep()
    done: list[PackedImage] = []
    problems: list[Problem] = []
    with concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="pack") as threads:
        for outcome in _in_windows(threads, packer.pack, range(len(screen.sites)), window=8 * workers):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                done.append(outcome)
            advance(f"{len(done) + len(problems)} images")
    if not done:
        raise ScreenError(f"No image of the screen can be read. First: {problems[0].describe()}")
    if format == "ome-zarr":
        packer.describe_plates([one.row for one in done])
    packed = _screen_of(screen, done, problems, folder=folder, said={"format": format, "level": level})
    write_screen(packed, folder)
    n_kept = sum(one.kept for one in done)
    return PackResult(
        screen=replace(packed, folder=folder),
        n_packed=len(done) - n_kept,
        n_kept=n_kept,
        bytes_before=before,
        bytes_after=sum(one.size for one in done),
    )


def _check(screen: Screen) -> None:
    if screen.card.tables_only:
        raise ScreenError(
            "This screen was indexed with --tables-only, so it has no images. Index it again where they are."
        )
    if (screen.sites["sha256"].astype(str) == "").any():
        message = (
            "This screen was indexed without hashing its files, so a packed image cannot be told from a stale one. "
        )
        message += "Index it again without --no-hash-files."
        raise ScreenError(message)


def _in_windows(
    threads: concurrent.futures.Executor, call: Callable[[int], PackedImage | Problem], rows: range, *, window: int
) -> Iterator[PackedImage | Problem]:
    """Give the results in order, with at most `window` images under way."""
    waiting: list[concurrent.futures.Future[PackedImage | Problem]] = []
    for row in rows:
        waiting.append(threads.submit(call, row))
        if len(waiting) >= window:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def _screen_of(
    screen: Screen, done: list[PackedImage], problems: list[Problem], *, folder: Path, said: dict[str, object]
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
    mark = owner_mark(screen, folder, format=str(said["format"]))
    packed = {**mark, **said, "distangle": __version__, "layout_before": card.layout}
    changed = {
        "source": str(folder.resolve()),
        "indexed": len(sites),
        "refused": card.refused + n_refused(problems),
        "provenance": {**card.provenance, **_tables(screen, folder), "packed": packed},
        "sites_sha256": "",
    }
    return Screen(card=card.model_copy(update=changed), sites=sites, problems=table, folder=None)


def _tables(screen: Screen, folder: Path) -> dict[str, object]:
    """Return the indexed tables and their source folder, relative to the new one."""
    listed = screen.card.provenance.get("tables", [])
    if not isinstance(screen.source, Path) or not listed:
        return {}
    paths = [os.path.relpath((screen.source / str(table["path"])).resolve(), folder.resolve()) for table in listed]
    tables = [{**table, "path": Path(path).as_posix()} for table, path in zip(listed, paths, strict=True)]
    asked = screen.card.provenance.get("asked")
    return (
        {"tables": tables} if asked is None else {"tables": tables, "asked": rebase_paths(asked, screen.source, folder)}
    )
