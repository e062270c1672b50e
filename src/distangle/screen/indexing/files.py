"""Probe every file of every site once; decode none."""

import dataclasses
import os
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distangle.core.io import sha256_of
from distangle.core.remote import AnyPath, RemotePath
from distangle.errors import ImageError, PixelTypeError, ScreenError
from distangle.screen.file_pages import ImageHeader
from distangle.screen.indexing.file_table import NOT_ZEROED, FileInfo, FileTable
from distangle.screen.indexing.hashing import is_array, sha256_of_stored, site_sha256, size_and_mtime
from distangle.screen.indexing.pages import file_warnings, pages_of_site
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.roles import Channel

Probe = Callable[[Path], ImageHeader | tuple[str, tuple[int, int], int]]
_ReadHeader = Callable[[Path], ImageHeader]
"""Reads the header of a file as the fields of `ImageHeader`; raises ImageError."""

FileReader = Callable[..., Iterator[tuple[str, FileInfo]]]
"""Is called as `read_files`."""

ZeroedRowsFinder = Callable[[Path], Mapping[int, tuple[int, int]]]
"""Returns, by page of a file, the first and last row of zeros at its end, from 1."""

ZEROED_TAIL = "zeroed tail"
"""Kind of the problem of an incomplete raw TIFF file."""
SAME_BYTES = "same bytes"
"""Kind of the warning about equal files; `found` is their paths, joined by ` = `."""

_FILES_PER_ROUND = 4096  # submitted to the threads together: bounds memory for a million files
_FILES_PER_TASK = 32
_N_THREADS = 8
_LARGE_FILE = 1 << 18  # bytes
_MAX_LISTED = 100  # equal files that are listed


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteFiles:
    """Files of one site.

    Attributes:
        size: Total size in bytes.
        mtime: Time of the newest change.
        sha256: Hash of all files; "" if they were not read.
        kind: Pixel type and shape of the first file.
    """

    size: int = 0
    mtime: float = 0.0
    sha256: str = ""
    kind: tuple[str, tuple[int, int]] | None = None


@dataclass(frozen=True, kw_only=True)
class InspectionResult:
    """Entries with readable files, information on the files, and problems.

    `n_resolved_pages` counts the entries whose pages come from the metadata of their files, not from the layout.
    """

    entries: list[SiteRecord]
    files: list[SiteFiles]
    dtype: str | None
    shape: tuple[int, int] | None
    problems: list[Problem]
    n_resolved_pages: int = 0


def inspect_files(
    entries: Sequence[SiteRecord],
    channels: Sequence[Channel],
    *,
    source: AnyPath,
    probe: Probe | None = None,
    find_zeroed_rows: ZeroedRowsFinder | None = None,
    hash_files: bool = True,
    read: FileReader | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> InspectionResult:
    """Probe every file of every entry; keep sites of the most frequent shape.

    Args:
        entries: Records with a path per channel.
        channels: Names for the messages.
        source: Base folder of the paths.
        probe: Reads headers; without it neither shape nor pages are known.
        find_zeroed_rows: Finds zeroed rows; sites with some are refused. Used only if files are hashed.
        hash_files: Read every byte for its SHA-256, downloading remote files. Otherwise nothing is downloaded and no
            remote header is read.
        read: Reads the files in their order; None for `read_files`.
        progress: Called with the number of files done and of all files.

    Raises:
        ScreenError: No shape and pixel type is shared by more than half of the sites.
    """
    paths = list(dict.fromkeys(path for entry in entries for path in entry.paths))
    if isinstance(source, RemotePath) and not hash_files:
        probe = None
    find_zeroed_rows = find_zeroed_rows if hash_files else None
    files_by_path = FileTable(paths)
    for _, file in (read or read_files)(paths, source, probe, find_zeroed_rows, hash_files=hash_files):
        files_by_path.append(file)
        if progress is not None:
            progress(len(files_by_path), len(paths))
    problems: list[Problem] = []
    readable: list[tuple[SiteRecord, SiteFiles]] = []
    n_resolved = 0
    names_of_channels = [channel.name for channel in channels]
    for entry in entries:
        files = [files_by_path[path] for path in entry.paths]
        problem = _file_problem(entry, channels, files)
        if problem is None and probe is not None:
            own = {path: f.header for path, f in zip(entry.paths, files, strict=True) if f.header is not None}
            pages, problem = pages_of_site(entry, names_of_channels, own)
            if pages != entry.pages:
                n_resolved += problem is None
                entry.pages = pages
        problem = problem or _pixel_problem(entry, channels, files)
        if problem is None:
            readable.append((entry, _site_files(entry, files, hash_files=hash_files)))
        else:
            problems.append(problem)
    accepted, site_files, majority, refused = _split_by_shape(readable)
    problems += [
        *refused,
        *file_warnings(accepted, dict(_unusual_headers(files_by_path))),
    ]
    if hash_files:
        problems += _duplicate_problems(accepted, files_by_path)
    dtype, shape = majority or (None, None)
    return InspectionResult(
        entries=accepted, files=site_files, dtype=dtype, shape=shape, problems=problems, n_resolved_pages=n_resolved
    )


def _unusual_headers(files: FileTable) -> Iterator[tuple[str, ImageHeader]]:
    """Yield headers that may need a warning; those of all files would be a second table of a million."""
    for path, header in files.headers():
        if header.is_inverted or header.n_pages > 1:
            yield path, header


def _image_header(probe: Probe, path: Path) -> ImageHeader:
    return ImageHeader(*probe(path))


def read_files(
    names: Sequence[str],
    source: AnyPath,
    probe: Probe | None,
    find_zeroed_rows: ZeroedRowsFinder | None,
    *,
    hash_files: bool,
) -> Iterator[tuple[str, FileInfo]]:
    """Read size, time, header and hash of files, and yield them in their order.

    Args:
        names: Paths of the files relative to the source.
        source: Folder or URL.
        probe: Reads the header of a file; None reads none.
        find_zeroed_rows: Finds zeroed rows; None looks for none.
        hash_files: Also compute the SHA-256.
    """
    read_header = None if probe is None else partial(_image_header, probe)

    def probe_part(part: Sequence[str]) -> list[FileInfo]:
        if isinstance(source, RemotePath):
            return [_probe_remote(source / name, read_header, find_zeroed_rows, hash_files=hash_files) for name in part]
        return [_probe_local(f"{source}/{name}", read_header, find_zeroed_rows, hash_files=hash_files) for name in part]

    yield from zip(names[:1], probe_part(names[:1]), strict=True)  # what is loaded on first use takes no part in a rate
    with ThreadPoolExecutor(max_workers=_N_THREADS) as threads:
        for start in range(1, len(names), _FILES_PER_ROUND):
            stop = min(start + _FILES_PER_ROUND, len(names))
            parts = [names[k : min(k + _FILES_PER_TASK, stop)] for k in range(start, stop, _FILES_PER_TASK)]
            wall, cpu = time.perf_counter(), time.thread_time()
            sample = probe_part(parts[0])
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            yield from zip(parts[0], sample, strict=True)
            run = threads.map if need_threads(sample, wall_s=wall, cpu_s=cpu) else map
            for part, files in zip(parts[1:], run(probe_part, parts[1:]), strict=True):
                yield from zip(part, files, strict=True)


def need_threads(sample: Sequence[FileInfo], *, wall_s: float, cpu_s: float) -> bool:
    """Return whether several threads read files sooner than one.

    They do if a file is waited for, as on a network, or is large. Small files at hand take threads twice as long as
    one, because they pass the interpreter to each other at every call.

    Args:
        sample: Files that one thread has read.
        wall_s: Seconds that it took.
        cpu_s: Seconds of CPU that it took.
    """
    return cpu_s < 0.5 * wall_s or sum(file.size for file in sample) >= _LARGE_FILE * len(sample)


def _probe_local(
    name: str, probe: _ReadHeader | None, find_zeroed_rows: ZeroedRowsFinder | None, *, hash_files: bool
) -> FileInfo:
    try:
        status = os.stat(name)  # noqa: PTH116 - pathlib is slower, a million times
        size, mtime, is_file = status.st_size, status.st_mtime, stat.S_ISREG(status.st_mode)
        if is_file and size and probe is None and find_zeroed_rows is None and not hash_files:
            return FileInfo(size=size, mtime=mtime)  # no Path: it takes time, a million times
        path = Path(name)
        if stat.S_ISDIR(status.st_mode) and is_array(path):
            size, mtime = size_and_mtime(path)
        elif not is_file:
            return FileInfo(error="not a regular file")
        if size == 0:
            return FileInfo(error="0 bytes")
        header = probe(path) if probe is not None else None
        sha256 = "" if not hash_files else sha256_of(path) if is_file else sha256_of_stored(path)
        zeroed = (find_zeroed_rows(path) if find_zeroed_rows is not None and is_file else {}) or NOT_ZEROED
    except (FileNotFoundError, NotADirectoryError):
        return FileInfo(error="no such file", is_missing=True)
    except OSError as error:
        return FileInfo(error=f"cannot be read: {error.strerror or error}")
    except PixelTypeError as error:
        return FileInfo(error=_error_text(name, error), fix="Export gray planes of 8 or 16 bit: a file per channel.")
    except ImageError as error:
        return FileInfo(error=_error_text(name, error))
    return FileInfo(size=size, mtime=mtime, header=header, sha256=sha256, zeroed_rows=zeroed)


def _error_text(name: str, error: ImageError) -> str:
    """Return the message of an error without the file name that precedes it."""
    return str(error).removeprefix(str(Path(name))).lstrip(": ")


def _probe_remote(
    path: RemotePath, probe: _ReadHeader | None, find_zeroed_rows: ZeroedRowsFinder | None, *, hash_files: bool
) -> FileInfo:
    try:
        if probe is not None or hash_files:
            return _probe_local(str(path.local_copy(fresh=True)), probe, find_zeroed_rows, hash_files=hash_files)
        return FileInfo(size=path.size(), mtime=path.mtime())
    except FileNotFoundError:
        return FileInfo(error="no such file", is_missing=True)
    except OSError as error:
        return FileInfo(error=f"cannot be read: {error}")


def _file_problem(entry: SiteRecord, channels: Sequence[Channel], files: Sequence[FileInfo]) -> Problem | None:
    missing = [k for k, file in enumerate(files) if file.is_missing]
    damaged = [k for k, file in enumerate(files) if file.error and not file.is_missing]
    errors = [f"{entry.paths[k]}: {files[k].error}" for k in damaged]
    if missing:
        return entry.problem(
            "no image" if len(missing) == len(files) else "missing channel",
            channel=", ".join(channels[k].name for k in sorted([*missing, *damaged])),
            found="; ".join([f"no file {entry.paths[missing[0]]}", *dict.fromkeys(errors)]),
            expected=f"a file for each of the {len(files)} channels",
            fix="Copy the files and index again, or index without images: --tables-only.",
        )
    if damaged:
        return entry.problem(
            "unreadable file",
            channel=", ".join(channels[k].name for k in damaged),
            found="; ".join(dict.fromkeys(errors)),
            expected="an image" if len(set(errors)) == 1 else f"an image of each of the {len(files)} channels",
            fix=files[damaged[0]].fix,
        )
    return None


def _pixel_problem(entry: SiteRecord, channels: Sequence[Channel], files: Sequence[FileInfo]) -> Problem | None:
    for channel, path, page, file in zip(channels, entry.paths, entry.pages, files, strict=True):
        if max(page, 0) in file.zeroed_rows:
            return _zeroed_tail(entry, channel, path, file.zeroed_rows[max(page, 0)])
    if len({file.kind for file in files}) > 1:
        pairs = zip(channels, files, strict=True)
        kinds = [f"{channel.name} {_format_kind(file.kind)}" for channel, file in pairs if file.kind]
        return entry.problem(
            "channels differ",
            found="; ".join(kinds),
            expected="one size and bit depth for all channels of a site",
            fix="Export the channels again with the same settings.",
        )
    return None


def _zeroed_tail(entry: SiteRecord, channel: Channel, path: str, rows: tuple[int, int]) -> Problem:
    return entry.problem(
        ZEROED_TAIL,
        channel=channel.name,
        found=f"{path}: rows {rows[0]} to {rows[1]}, the last ones, hold only zeros; the image above them does not",
        expected="pixels down to the last row: an incomplete copy looks like this, and raw TIFF has no checksum",
        fix="Copy the file again from its origin. If the images really end in zeros: --keep-zeroed-tails.",
    )


def _split_by_shape(
    readable: Sequence[tuple[SiteRecord, SiteFiles]],
) -> tuple[list[SiteRecord], list[SiteFiles], tuple[str, tuple[int, int]] | None, list[Problem]]:
    """Return the sites of the most frequent shape, their files, this shape, and the refusals of the others."""
    counts = Counter(files.kind for _, files in readable if files.kind is not None)
    majority, n_majority = counts.most_common(1)[0] if counts else (None, len(readable))
    if 2 * n_majority <= len(readable) and majority is not None:
        listed = ", ".join(f"{n} sites {_format_kind(kind)}" for kind, n in counts.most_common())
        message = f"No size and bit depth is shared by more than half of the sites: {listed}. "
        message += "A screen has one size and bit depth: index each as a separate screen."
        raise ScreenError(message)
    accepted = [entry for entry, files in readable if files.kind == majority]
    files_of_accepted = [files for _, files in readable if files.kind == majority]
    refused = [
        entry.problem(
            "size or bit depth",
            found=f"{entry.paths[0]}: {_format_kind(files.kind)}",
            expected=f"{_format_kind(majority)}, as in {n_majority} of {len(readable)} sites",
            fix="Export this site like the others, or index it as a separate screen.",
        )
        for entry, files in readable
        if majority is not None and files.kind is not None and files.kind != majority
    ]
    return accepted, files_of_accepted, majority, refused


def _format_kind(header: tuple[str, tuple[int, int]]) -> str:
    return f"{header[0]} {header[1][0]} x {header[1][1]}"


def _duplicate_problems(entries: Sequence[SiteRecord], files_by_path: FileTable) -> list[Problem]:
    """Return a warning for every group of equal files: copies under wrong names."""
    repeated = files_by_path.repeated_sha256()
    entries_of_hash: dict[str, dict[str, SiteRecord]] = defaultdict(dict)
    for entry in entries:
        for path in entry.paths:
            if repeated and (sha256 := files_by_path.sha256(path)) in repeated:
                entries_of_hash[sha256].setdefault(path, entry)
    problems: list[Problem] = []
    for entry_of_path in entries_of_hash.values():
        if len(entry_of_path) > 1:
            first, *others = entry_of_path
            problem = entry_of_path[first].problem(
                SAME_BYTES,
                found=" = ".join([first, *others[:_MAX_LISTED], *(["..."] if len(others) > _MAX_LISTED else [])]),
                expected="a different image in every file",
                fix="Check whether a file was copied under a wrong name; all were indexed.",
            )
            problems.append(dataclasses.replace(problem, severity="warning", count=len(entry_of_path)))
    return problems


def _site_files(entry: SiteRecord, files: Sequence[FileInfo], *, hash_files: bool) -> SiteFiles:
    separate = dict(zip(entry.paths, files, strict=True)).values()
    return SiteFiles(
        size=sum(file.size for file in separate),
        mtime=max(file.mtime for file in separate),
        sha256=site_sha256([file.sha256 for file in files], entry.pages) if hash_files else "",
        kind=files[0].kind,
    )
