"""Pack a screen: write each image to one file, read it back and compare it."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from distangle import __version__
from distangle.core.io import check_free_space
from distangle.core.partitions import RayWorkers
from distangle.core.progress import Advance, no_progress
from distangle.errors import ScreenError
from distangle.images.packing.pack_workers import pack_on_ray
from distangle.images.packing.writer import Format, PackedImage, PackWriter, lock_folder, pack_identity
from distangle.screen import Problem, Screen, site_sha256, write_screen
from distangle.screen.indexing.provenance import rebase_paths
from distangle.screen.problems import n_refused, problems_table
from distangle.screen.screen import path_columns

DEFAULT_LEVEL: dict[Format, int] = {"ome-zarr": 12, "records": 1}
_SIZE_FACTOR: dict[Format, float] = {"ome-zarr": 1.3, "records": 1.0}  # packed size over PNG size, with a margin


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """Result of packing a screen.

    Attributes:
        screen: The packed screen, as written.
        n_packed: Images packed by this call.
        n_reused: Images of an earlier call that are intact.
        bytes_before: Size of the original image files.
        bytes_after: Size of the packed images.
    """

    screen: Screen
    n_packed: int
    n_reused: int
    bytes_before: int
    bytes_after: int


def pack_screen(
    screen: Screen,
    folder: Path,
    *,
    format: Format = "ome-zarr",
    level: int | None = None,
    workers: int = 2,
    ray: RayWorkers | None = None,
    advance: Advance = no_progress,
    say: Callable[[str], None] = no_progress,
) -> PackResult:
    """Write the images of a screen into `folder`, with a screen that refers to them.

    Every image is read and verified as usual, written, read back from disk and compared. The new screen lists an
    unreadable image as refused, so found = indexed + refused still holds. A repeated call resumes: a packed image from
    the same bytes, with the same site, channels and level, is kept.

    Args:
        screen: The screen, indexed with file hashes.
        folder: Folder of the new screen; may hold an earlier packing of the same screen.
        format: `ome-zarr`: plates of OME-NGFF 0.5, readable by any reader of zarr 3. `records`: smaller and faster, but
            only distangle reads it.
        level: Level of zstd, 1 to 22; None for 12 with ome-zarr and 1 with records.
        workers: Threads, without `ray`.
        ray: Workers that pack the plates; None for this process.
        advance: Called after every image.
        say: Called with a message when the lock of a dead process is removed.

    Raises:
        ConfigError: The level is invalid, or zstd is not installed.
        RunError: Another process packs into the folder, or some plates failed; the others are packed.
        ScreenError: The screen has no images or no hashes, or the folder holds these images or another screen.
        StorageError: The disk is full; packed images stay.
    """
    _check_screen(screen)
    zstd_level = DEFAULT_LEVEL[format] if level is None else level
    writer = PackWriter(screen, folder, format=format, level=zstd_level)
    with lock_folder(screen, folder, format=format, say=say):
        return _pack(writer, screen, folder, format=format, level=zstd_level, workers=ray or workers, advance=advance)


def _pack(
    writer: PackWriter,
    screen: Screen,
    folder: Path,
    *,
    format: Format,
    level: int,
    workers: int | RayWorkers,
    advance: Advance,
) -> PackResult:
    bytes_before = int(screen.sites["size"].sum())
    check_free_space(folder, needed=int(bytes_before * _SIZE_FACTOR[format]), content="packed images, about")
    writer.sweep()
    done: list[PackedImage] = []
    problems: list[Problem] = []
    if isinstance(workers, int):
        outcomes = _pack_in_threads(writer, len(screen.sites), workers, advance)
    else:  # a worker has a current folder of its own
        source = replace(screen, folder=None if screen.folder is None else screen.folder.resolve())
        open_writer = functools.partial(PackWriter, source, folder.resolve(), format=format, level=level)
        outcomes = pack_on_ray(open_writer, screen, workers, advance)
    for outcome in outcomes:
        if isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            done.append(outcome)
    if not done:
        raise ScreenError(f"No image of the screen can be read. First: {problems[0].describe()}")
    if format == "ome-zarr":
        writer.describe_plates([image.row for image in done])
    packed = _packed_screen(screen, done, problems, folder=folder, settings={"format": format, "level": level})
    write_screen(packed, folder)
    n_reused = sum(image.was_present for image in done)
    return PackResult(
        screen=replace(packed, folder=folder),
        n_packed=len(done) - n_reused,
        n_reused=n_reused,
        bytes_before=bytes_before,
        bytes_after=sum(image.size for image in done),
    )


def _pack_in_threads(
    writer: PackWriter, n_sites: int, n_threads: int, advance: Advance
) -> Iterator[PackedImage | Problem]:
    """Pack all images in threads of this process, and yield them in order."""
    with concurrent.futures.ThreadPoolExecutor(n_threads, thread_name_prefix="pack") as threads:
        images = _map_in_order(threads, writer.pack, range(n_sites), window=8 * n_threads)
        for n_done, outcome in enumerate(images, start=1):
            yield outcome
            advance(f"{n_done} images")


def _check_screen(screen: Screen) -> None:
    if screen.metadata.tables_only:
        raise ScreenError(
            "This screen was indexed with --tables-only, so it has no images. Index it again without --tables-only."
        )
    if (screen.sites["sha256"].astype(str) == "").any():
        raise ScreenError(
            "This screen was indexed without hashing its files, so stale packed images could not be detected. "
            "Index it again without --no-hash-files."
        )


def _map_in_order(
    threads: concurrent.futures.Executor, call: Callable[[int], PackedImage | Problem], rows: range, *, window: int
) -> Iterator[PackedImage | Problem]:
    """Yield the results in order, with at most `window` images in progress."""
    pending: list[concurrent.futures.Future[PackedImage | Problem]] = []
    for row in rows:
        pending.append(threads.submit(call, row))
        if len(pending) >= window:
            yield pending.pop(0).result()
    while pending:
        yield pending.pop(0).result()


def _packed_screen(
    screen: Screen, done: list[PackedImage], problems: list[Problem], *, folder: Path, settings: dict[str, object]
) -> Screen:
    metadata = screen.metadata
    sites = screen.sites.iloc[[image.row for image in done]].reset_index(drop=True)
    n_channels = len(metadata.channels)
    for k, (path, page) in enumerate(zip(*[iter(path_columns(n_channels))] * 2, strict=True)):
        sites[path] = pd.Series([image.path.as_posix() for image in done], dtype="str")
        sites[page] = pd.Series([k] * len(done), dtype="int64")
    sites["size"] = pd.Series([image.size for image in done], dtype="int64")
    sites["mtime"] = pd.Series([image.mtime for image in done], dtype="float64")
    pages = list(range(n_channels))
    sites["sha256"] = pd.Series([site_sha256([image.sha256] * n_channels, pages) for image in done], dtype="str")
    table = pd.concat([screen.problems, problems_table(problems)], ignore_index=True) if problems else screen.problems
    identity = pack_identity(screen, folder, format=str(settings["format"]))
    packed = {**identity, **settings, "distangle": __version__, "layout_before": metadata.layout}
    changes = {
        "source": str(folder.resolve()),
        "indexed": len(sites),
        "refused": metadata.refused + n_refused(problems),
        "provenance": {**metadata.provenance, **_relative_tables(screen, folder), "packed": packed},
        "sites_sha256": "",
    }
    return Screen(metadata=metadata.model_copy(update=changes), sites=sites, problems=table, folder=None)


def _relative_tables(screen: Screen, folder: Path) -> dict[str, object]:
    """Return the tables of the index and their options, relative to the new folder."""
    tables_before = screen.metadata.provenance.get("tables", [])
    if not isinstance(screen.source, Path) or not tables_before:
        return {}
    paths = [
        os.path.relpath((screen.source / str(table["path"])).resolve(), folder.resolve()) for table in tables_before
    ]
    tables = [{**table, "path": Path(path).as_posix()} for table, path in zip(tables_before, paths, strict=True)]
    options = screen.metadata.provenance.get("options")
    return (
        {"tables": tables}
        if options is None
        else {"tables": tables, "options": rebase_paths(options, screen.source, folder)}
    )
