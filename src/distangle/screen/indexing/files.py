"""Probe every file of every site once; decode none."""

import dataclasses
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from distangle.core.remote import AnyPath, RemotePath
from distangle.errors import ImageError, PixelTypeError, ScreenError
from distangle.screen.file_pages import ImageHeader
from distangle.screen.indexing.hashing import is_array, sha256_of_stored, site_sha256, size_and_mtime
from distangle.screen.indexing.pages import pages_of_site, remarks_on_files
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.roles import Channel

Probe = Callable[[Path], ImageHeader | tuple[str, tuple[int, int], int]]
"""Reads the header of a file: type of a pixel, (height, width) in px, number of pages, and maybe what these are.

Raises ImageError.
"""

ZeroedRowsFinder = Callable[[Path], Mapping[int, tuple[int, int]]]
"""Reads the ends of the pages of a file: by page, the first and last of the rows that were zeroed, from 1."""

ZEROED_TAIL = "zeroed tail"
"""Kind of the refusal."""
SAME_BYTES = "same bytes"
"""Kind of the remark; its `found` is the paths with ` = ` between them."""

_AT_ONCE = 4096  # files handed to the threads together: bounds memory on a screen of a million files
_IN_A_TASK = 32
_LISTED = 100  # files of one content that are named


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What is known of a file.

    Attributes:
        size: Bytes.
        mtime: When it was written.
        header: What it says of itself; None where no header was read.
        sha256: Of its bytes; "" where they were not read.
        error: "" or why it cannot be used.
        fix: What to do about that.
        is_missing: There is no such file.
        zeroed_rows: Page to its first and last zeroed row, of a raw TIFF that was half copied.
    """

    size: int = 0
    mtime: float = 0.0
    header: ImageHeader | None = None
    sha256: str = ""
    error: str = ""
    fix: str = "Copy the file again from where it came."
    is_missing: bool = False
    zeroed_rows: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[str, tuple[int, int]] | None:
        """Type of a pixel and (height, width)."""
        return None if self.header is None else (self.header.dtype, self.header.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteFiles:
    """Files of one site: `size` in bytes over all, `mtime` of the newest."""

    size: int = 0
    mtime: float = 0.0
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class InspectionResult:
    """Entries whose files are readable, what their files are, and refusals.

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
    progress: Callable[[int, int], None] | None = None,
) -> InspectionResult:
    """Probe every file of every entry; keep sites of the most frequent shape.

    Args:
        entries: With a path per channel each.
        channels: To name them in refusals.
        source: The folder that the paths start from.
        probe: Reads headers; without it neither shape nor pages are known.
        find_zeroed_rows: Finds rows that were zeroed; sites with some are refused. Asked only where files are hashed.
        hash_files: Read every byte for its SHA-256. What lies behind a URL is fetched for it; without, nothing is
            fetched and no header read.
        progress: Called with the number of files done and in all.

    Raises:
        ScreenError: No shape and type of pixel is that of more than half of the sites.
    """
    names = list(dict.fromkeys(path for entry in entries for path in entry.paths))
    if isinstance(source, RemotePath) and not hash_files:
        probe = None
    find_zeroed_rows = find_zeroed_rows if hash_files else None
    looked: dict[str, FileInfo] = {}
    for name, file in _look_at_all(names, source, probe, find_zeroed_rows, hash_files=hash_files):
        looked[name] = file
        if progress is not None:
            progress(len(looked), len(names))
    problems: list[Problem] = []
    whole: list[SiteRecord] = []
    told = 0
    names_of_channels = [channel.name for channel in channels]
    for entry in entries:
        problem = _unusable(entry, channels, looked)
        if problem is None and probe is not None:
            headers = {path: header for path in entry.paths if (header := looked[path].header) is not None}
            pages, problem = pages_of_site(entry, names_of_channels, headers)
            told += pages != entry.pages and problem is None
            entry.pages = pages
        problem = problem or _wrong_pixels(entry, channels, looked)
        if problem is None:
            whole.append(entry)
        else:
            problems.append(problem)
    kept, usual, refused = _majority(whole, looked)
    problems += [*refused, *remarks_on_files(kept, {path: file.header for path, file in looked.items() if file.header})]
    if hash_files:
        problems += _same_bytes(kept, looked)
    dtype, shape = usual or (None, None)
    files = [_site_files(entry, looked, hash_files=hash_files) for entry in kept]
    return InspectionResult(
        entries=kept, files=files, dtype=dtype, shape=shape, problems=problems, n_resolved_pages=told
    )


def _look_at_all(
    names: Sequence[str],
    source: AnyPath,
    probe: Probe | None,
    find_zeroed_rows: ZeroedRowsFinder | None,
    *,
    hash_files: bool,
) -> Iterator[tuple[str, FileInfo]]:
    def look(part: Sequence[str]) -> list[FileInfo]:
        if isinstance(source, RemotePath):
            return [_look_behind(source / name, probe, find_zeroed_rows, hash_files=hash_files) for name in part]
        return [_look_at(f"{source}/{name}", probe, find_zeroed_rows, hash_files=hash_files) for name in part]

    # Threads: most of the time goes by waiting for a network file system.
    with ThreadPoolExecutor(max_workers=8) as threads:
        for start in range(0, len(names), _AT_ONCE):
            parts = [names[k : k + _IN_A_TASK] for k in range(start, min(start + _AT_ONCE, len(names)), _IN_A_TASK)]
            for part, files in zip(parts, threads.map(look, parts), strict=True):
                yield from zip(part, files, strict=True)


def _look_at(
    name: str, probe: Probe | None, find_zeroed_rows: ZeroedRowsFinder | None, *, hash_files: bool
) -> FileInfo:
    try:
        found = os.stat(name)  # noqa: PTH116 - pathlib costs more than the call, a million times
        size, mtime = found.st_size, found.st_mtime
        if stat.S_ISDIR(found.st_mode) and is_array(Path(name)):
            size, mtime = size_and_mtime(Path(name))
        elif not stat.S_ISREG(found.st_mode):
            return FileInfo(error="not a regular file")
        if size == 0:
            return FileInfo(error="0 bytes")
        header = ImageHeader(*probe(Path(name))) if probe is not None else None
        sha256 = sha256_of_stored(Path(name)) if hash_files else ""
        zeroed = (
            find_zeroed_rows(Path(name)) if find_zeroed_rows is not None and not stat.S_ISDIR(found.st_mode) else {}
        )
    except (FileNotFoundError, NotADirectoryError):
        return FileInfo(error="no such file", is_missing=True)
    except OSError as error:
        return FileInfo(error=f"cannot be read: {error.strerror or error}")
    except PixelTypeError as error:
        return FileInfo(error=_without(name, error), fix="Export grey planes of 8 or 16 bit: a file per channel.")
    except ImageError as error:
        return FileInfo(error=_without(name, error))
    return FileInfo(size=size, mtime=mtime, header=header, sha256=sha256, zeroed_rows=zeroed)


def _without(name: str, error: ImageError) -> str:
    """Return what an error says of a file whose name is told beside it."""
    return str(error).removeprefix(str(Path(name))).lstrip(": ")


def _look_behind(
    path: RemotePath, probe: Probe | None, find_zeroed_rows: ZeroedRowsFinder | None, *, hash_files: bool
) -> FileInfo:
    try:
        if probe is not None or hash_files:
            return _look_at(str(path.local_copy(fresh=True)), probe, find_zeroed_rows, hash_files=hash_files)
        return FileInfo(size=path.size(), mtime=path.mtime())
    except FileNotFoundError:
        return FileInfo(error="no such file", is_missing=True)
    except OSError as error:
        return FileInfo(error=f"cannot be read: {error}")


def _unusable(entry: SiteRecord, channels: Sequence[Channel], looked: Mapping[str, FileInfo]) -> Problem | None:
    files = [looked[path] for path in entry.paths]
    absent = [k for k, file in enumerate(files) if file.is_missing]
    damaged = [k for k, file in enumerate(files) if file.error and not file.is_missing]
    troubles = [f"{entry.paths[k]}: {files[k].error}" for k in damaged]
    if absent:
        return entry.problem(
            "no image" if len(absent) == len(files) else "missing channel",
            channel=", ".join(channels[k].name for k in sorted([*absent, *damaged])),
            found="; ".join([f"no file {entry.paths[absent[0]]}", *dict.fromkeys(troubles)]),
            expected=f"a file for each of the {len(files)} channels",
            fix="Copy the files and index again; --tables-only looks for none.",
        )
    if damaged:
        return entry.problem(
            "unreadable file",
            channel=", ".join(channels[k].name for k in damaged),
            found="; ".join(dict.fromkeys(troubles)),
            expected="an image" if len(set(troubles)) == 1 else f"an image of each of the {len(files)} channels",
            fix=files[damaged[0]].fix,
        )
    return None


def _wrong_pixels(entry: SiteRecord, channels: Sequence[Channel], looked: Mapping[str, FileInfo]) -> Problem | None:
    files = [looked[path] for path in entry.paths]
    for channel, path, page, file in zip(channels, entry.paths, entry.pages, files, strict=True):
        if max(page, 0) in file.zeroed_rows:
            return _zeroed_tail(entry, channel, path, file.zeroed_rows[max(page, 0)])
    if len({file.kind for file in files}) > 1:
        pairs = zip(channels, files, strict=True)
        said = [f"{channel.name} {_say(file.kind)}" for channel, file in pairs if file.kind]
        return entry.problem(
            "channels differ",
            found="; ".join(said),
            expected="one size and bit depth for all channels of a site",
            fix="Export the channels again with the same settings.",
        )
    return None


def _zeroed_tail(entry: SiteRecord, channel: Channel, path: str, rows: tuple[int, int]) -> Problem:
    return entry.problem(
        ZEROED_TAIL,
        channel=channel.name,
        found=f"{path}: rows {rows[0]} to {rows[1]}, the last ones, hold only zeros; the image above them does not",
        expected="pixels down to the last row: a copy that stopped half way looks so, and raw TIFF has no checksum",
        fix="Copy the file again from where it came. If images are meant to end so: --keep-zeroed-tails.",
    )


def _majority(
    entries: list[SiteRecord], looked: dict[str, FileInfo]
) -> tuple[list[SiteRecord], tuple[str, tuple[int, int]] | None, list[Problem]]:
    headers = [looked[entry.paths[0]].kind for entry in entries]
    counts = Counter(header for header in headers if header is not None)
    if not counts:
        return entries, None, []
    usual, n_usual = counts.most_common(1)[0]
    if 2 * n_usual <= len(entries):
        listed = ", ".join(f"{n} sites {_say(header)}" for header, n in counts.most_common())
        message = f"No size and bit depth is that of more than half of the sites: {listed}. "
        message += "A screen has one: index each kind as a screen of its own."
        raise ScreenError(message)
    kept = [entry for entry, header in zip(entries, headers, strict=True) if header == usual]
    refused = [
        entry.problem(
            "size or bit depth",
            found=f"{entry.paths[0]}: {_say(header)}",
            expected=f"{_say(usual)}, as in {n_usual} of {len(entries)} sites",
            fix="Export this site as the others were, or index it in a screen of its own.",
        )
        for entry, header in zip(entries, headers, strict=True)
        if header is not None and header != usual
    ]
    return kept, usual, refused


def _say(header: tuple[str, tuple[int, int]]) -> str:
    return f"{header[0]} {header[1][0]} x {header[1][1]}"


def _same_bytes(entries: Sequence[SiteRecord], looked: dict[str, FileInfo]) -> list[Problem]:
    """Return a warning for every content in several files: copies under wrong names."""
    holders: dict[str, dict[str, SiteRecord]] = defaultdict(dict)
    for entry in entries:
        for path in entry.paths:
            holders[looked[path].sha256].setdefault(path, entry)
    problems: list[Problem] = []
    for by_path in holders.values():
        if len(by_path) > 1:
            first, *others = by_path
            problem = by_path[first].problem(
                SAME_BYTES,
                found=" = ".join([first, *others[:_LISTED], *(["..."] if len(others) > _LISTED else [])]),
                expected="another picture in every file",
                fix="Check whether a file was copied under another name; both were kept.",
            )
            problems.append(dataclasses.replace(problem, severity="warning", count=len(by_path)))
    return problems


def _site_files(entry: SiteRecord, looked: dict[str, FileInfo], *, hash_files: bool) -> SiteFiles:
    files = [looked[path] for path in dict.fromkeys(entry.paths)]
    digests = [looked[path].sha256 for path in entry.paths]
    return SiteFiles(
        size=sum(file.size for file in files),
        mtime=max(file.mtime for file in files),
        sha256=site_sha256(digests, entry.pages) if hash_files else "",
    )
