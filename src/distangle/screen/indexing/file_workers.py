"""Read the files of a screen on workers of Ray, while it is indexed."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distangle.core.partitions import RayWorkers, in_order, map_on_ray
from distangle.core.remote import AnyPath
from distangle.errors import DistangleError, RunError
from distangle.screen.indexing.file_table import FileInfo
from distangle.screen.indexing.files import Probe, ZeroedRowsFinder, read_files

FILES_PER_PART = 4096
"""Files of one partition: some seconds of work."""
_MAX_LISTED = 5  # partitions that an error names


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What all workers need."""

    source: AnyPath
    probe: Probe | None
    find_zeroed_rows: ZeroedRowsFinder | None
    hash_files: bool


def read_files_on_ray(
    names: Sequence[str],
    source: AnyPath,
    probe: Probe | None,
    find_zeroed_rows: ZeroedRowsFinder | None,
    *,
    hash_files: bool,
    workers: RayWorkers,
) -> Iterator[tuple[str, FileInfo]]:
    """Read files on workers of Ray, and yield them in their order.

    It takes the place of `read_files`.

    Args:
        names: Paths of the files relative to the source.
        source: Folder or URL that all workers see.
        probe: Reads the header of a file; None reads none. Pickled for the workers, as is `find_zeroed_rows`.
        find_zeroed_rows: Finds zeroed rows; None looks for none.
        hash_files: Also compute the SHA-256.
        workers: How many workers.

    Raises:
        RunError: Some files were not read, because the work on them failed. A file that cannot be read is no failure:
            its information says so.
        ConfigError: Ray is not installed.
    """
    job = _Job(source=source.resolve(), probe=probe, find_zeroed_rows=find_zeroed_rows, hash_files=hash_files)
    parts = [names[start : start + FILES_PER_PART] for start in range(0, len(names), FILES_PER_PART)]
    failures: dict[int, DistangleError] = {}
    with contextlib.closing(map_on_ray(functools.partial(_open, job), enumerate(parts), workers=workers)) as outcomes:
        for number, files in in_order(outcomes, failures):
            yield from zip(parts[number], files, strict=True)
    if failures:
        listed = [
            f"{len(parts[k])} files from {parts[k][0]} on: {error}"
            for k, error in sorted(failures.items())[:_MAX_LISTED]
        ]
        more = f" And {len(failures) - _MAX_LISTED} more." if len(failures) > _MAX_LISTED else ""
        raise RunError(
            f"{len(failures)} of {len(parts)} partitions of files were not read. {' '.join(listed)}{more} No screen "
            "was written. Check the workers and their storage, then run the same command again."
        )


def _open(job: _Job) -> Callable[[Sequence[str]], list[FileInfo]]:
    """Return the function of a partition, in a worker."""
    return functools.partial(_read_part, job)


def _read_part(job: _Job, names: Sequence[str]) -> list[FileInfo]:
    """Read the files of a partition, in their order."""
    files = read_files(names, job.source, job.probe, job.find_zeroed_rows, hash_files=job.hash_files)
    return [dataclasses.replace(file, zeroed_rows=dict(file.zeroed_rows)) for _, file in files]
