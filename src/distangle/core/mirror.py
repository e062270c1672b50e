"""Exchange files between a folder behind a URL and its local copy.

The state of the last exchange lies in `mirrors/` of the cache. As long as the remote folder is as it was then, local
changes are work that was not published yet, and are kept; otherwise the remote folder counts.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from distangle.core.io import TEMPORARY, atomic_write, write_json
from distangle.core.lock import LOCK_NAME
from distangle.core.remote import RemotePath, cache_folder
from distangle.core.remote_writer import (
    RemoteFile,
    download_file,
    list_files,
    remove_remote,
    status_of,
    upload_file,
    write_remote,
)
from distangle.errors import RemoteError

N_TRANSFERS = 8  # files at a time
STATES = "mirrors"  # folder in the cache
SAVE_STATE_S = 10.0  # between two writes of the state during a fetch

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SyncedFile:
    """A file that was the same on both sides.

    Attributes:
        size: Bytes of the local file.
        mtime_ns: Its time of change.
        version: Of the remote file.
    """

    size: int
    mtime_ns: int
    version: str

    def is_unchanged(self, status: os.stat_result | None) -> bool:
        """Return whether a local file is still as it was."""
        return status is not None and (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


class Mirror:
    """The local copy of a folder, or of a file, behind a URL.

    Files appear under their names when they are complete (`core.io.atomic_write`), so whatever has a name is published.
    Temporary files and locks are not.

    Args:
        url: The remote folder or file.
        last: Names of files whose presence says that others are complete. They are published after all others, with
            the content they had before the others were listed.
        is_scratch: Returns whether a relative path names a file that is written in place and not published.
    """

    def __init__(
        self,
        url: RemotePath,
        *,
        last: Iterable[str] = (),
        is_scratch: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.url, self.folder = url, url.cache_path
        self._last, self._is_scratch = frozenset(last), is_scratch
        self._state_path = cache_folder() / STATES / f"{hashlib.sha256(str(url).encode()).hexdigest()}.json"
        self._synced: dict[str, SyncedFile] = {}

    def fetch(self, *, report: Callable[[int, int], None], say: Callable[[str], None]) -> None:
        """Bring the local copy to the state of the remote folder.

        Only files that differ are downloaded; files that vanished remotely vanish locally.

        Args:
            report: Called with the number of downloaded files and their total.
            say: Called with a message on local changes that are kept or replaced.

        Raises:
            RemoteError: The remote folder cannot be read.
        """
        remote = {name: file for name, file in list_files(self.url).items() if not self._is_private(name)}
        state = self._read_state()
        local = self._scan()
        versions = {name: file.version for name, file in remote.items()}
        is_as_left = (
            state is not None
            and "" not in versions.values()
            and versions == {name: file.version for name, file in state.items()}
        )
        self._synced = dict(state or {})
        changed = [
            name for name in local if name not in self._synced or not self._synced[name].is_unchanged(local[name])
        ]
        if is_as_left:
            missing = [name for name in remote if name not in local]
            if changed:
                say(
                    f"{len(changed)} files in the local copy of {self.url} are not published yet and are kept, such as "
                    f"{changed[0]}."
                )
        else:
            missing = [
                name
                for name, file in remote.items()
                if not file.version
                or name not in self._synced
                or self._synced[name].version != file.version
                or not self._synced[name].is_unchanged(local.get(name))
            ]
            gone = [name for name in local if name not in remote and (name in self._synced or state is not None)]
            lost = [name for name in changed if state is not None]
            if lost:
                say(
                    f"{self.url} was changed elsewhere since the last command here: {len(lost)} files that were not "
                    f"published are replaced by its state, such as {lost[0]}."
                )
            for name in gone:
                self._path(name).unlink(missing_ok=True)
            self._synced = {name: file for name, file in self._synced.items() if name in remote}
            self._remove_empty_folders(gone)
        self._download(missing, remote, report=report)
        if remote or state is not None:
            self._write_state()

    def use_as_it_is(self) -> None:
        """Take the local copy as another command on this machine left it."""
        self._synced = self._read_state() or {}

    def _download(
        self, names: list[str], remote: Mapping[str, RemoteFile], *, report: Callable[[int, int], None]
    ) -> None:
        saved_at = time.monotonic()
        report(0, len(names))
        for n, (name, synced) in enumerate(_in_parallel(lambda name: self._fetch_file(name, remote[name]), names), 1):
            self._synced[name] = synced
            report(n, len(names))
            if time.monotonic() - saved_at > SAVE_STATE_S:
                self._write_state()
                saved_at = time.monotonic()

    def _fetch_file(self, name: str, file: RemoteFile) -> SyncedFile:
        source = self._remote(name)
        with atomic_write(self._path(name), size=file.size) as temporary:
            download_file(source, temporary)
            received = temporary.stat().st_size
            if file.size is not None and received != file.size:
                raise RemoteError(
                    f"{source} arrived with {received} bytes, but the server reports {file.size}. Try again."
                )
        status = self._path(name).stat()
        return SyncedFile(status.st_size, status.st_mtime_ns, file.version)

    def publish(self, *, is_end: bool = False, check: Callable[[], None] = lambda: None) -> int:
        """Upload the complete files that changed, and remove those removed locally.

        Only files that were the same on both sides are removed remotely.

        Args:
            is_end: Whether the command has ended well. Before, no removal of most of the files is published: it is
                more likely that somebody clears the cache.
            check: Called before the first change of the remote folder; it raises an error to prevent it.

        Returns:
            Number of files uploaded or removed.

        Raises:
            RemoteError: A file cannot be written, or the local copy is gone.
        """
        finals = []
        for name, status in self._changes():
            if self._is_final(name) and (content := self._read(name)) is not None:
                finals.append((name, status, content))
        local = self._scan()
        if self._synced and not local and not self.folder.exists():
            raise RemoteError(
                f"The local copy of {self.url} is gone, so nothing is published or removed there. "
                "Start the command again: it fetches the folder first."
            )
        changes = [(name, status) for name, status in self._changes(local) if not self._is_final(name)]
        gone = [name for name in self._synced if name not in local and not self._path(name).exists()]
        if not is_end and 2 * len(gone) > len(self._synced):
            gone = []
        if not (changes or finals or gone):
            return 0
        check()
        n_done = 0
        try:
            for (name, _), synced in _in_parallel(lambda change: self._upload(*change), changes):
                if synced is not None:
                    self._synced[name] = synced
                    n_done += 1
            for name, status, content in finals:
                write_remote(self._remote(name), content)
                self._synced[name] = self._synced_file(name, status)
                n_done += 1
            for name, _ in _in_parallel(lambda name: remove_remote(self._remote(name)), gone):
                del self._synced[name]
                n_done += 1
        finally:
            if n_done:
                self._write_state()
        return n_done

    def n_pending(self) -> int:
        """Return the number of local files that are not published."""
        return len(self._changes())

    def _upload(self, name: str, status: os.stat_result) -> SyncedFile | None:
        """Upload a file; return None if it is gone."""
        try:
            upload_file(self._path(name), self._remote(name))
        except FileNotFoundError:
            return None
        return self._synced_file(name, status)

    def _synced_file(self, name: str, status: os.stat_result) -> SyncedFile:
        """Return the record of a file that was uploaded after it had a status."""
        remote = status_of(self._remote(name))
        synced = SyncedFile(status.st_size, status.st_mtime_ns, remote.version)
        with contextlib.suppress(FileNotFoundError):
            if remote.size not in (None, synced.size) and synced.is_unchanged(self._path(name).stat()):
                raise RemoteError(
                    f"{self._remote(name)} has {remote.size} bytes after {synced.size} were uploaded. Try again."
                )
        return synced

    def _changes(self, local: Mapping[str, os.stat_result] | None = None) -> list[tuple[str, os.stat_result]]:
        """Return the local files that are not published, in the order in which they were written."""
        files = self._scan() if local is None else local
        changed = [
            (name, status)
            for name, status in files.items()
            if name not in self._synced or not self._synced[name].is_unchanged(status)
        ]
        return sorted(changed, key=lambda change: (change[1].st_mtime_ns, change[0]))

    def _scan(self) -> dict[str, os.stat_result]:
        """Return every complete local file; links are left out."""
        if self.folder.is_file():
            return {"": self.folder.stat()}
        files: dict[str, os.stat_result] = {}
        folders = [""]
        while folders:
            inside = folders.pop()
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                os.scandir(self.folder / inside) as entries,
            ):
                for entry in entries:
                    name = f"{inside}/{entry.name}" if inside else entry.name
                    if self._is_private(entry.name) or self._is_scratch(name):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(name)
                        elif entry.is_file(follow_symlinks=False):
                            files[name] = entry.stat(follow_symlinks=False)
        return files

    def _is_private(self, name: str) -> bool:
        parts = name.split("/")
        return parts[-1] == LOCK_NAME or any(TEMPORARY.fullmatch(part) for part in parts)

    def _is_final(self, name: str) -> bool:
        return name.rpartition("/")[2] in self._last

    def _read(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, name: str) -> Path:
        return self.folder / name if name else self.folder

    def _remote(self, name: str) -> RemotePath:
        return self.url / name

    def _remove_empty_folders(self, names: Iterable[str]) -> None:
        for name in names:
            for folder in self._path(name).parents:
                if folder == self.folder or not folder.is_relative_to(self.folder):
                    break
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _read_state(self) -> dict[str, SyncedFile] | None:
        try:
            fields: dict[str, Any] = json.loads(self._state_path.read_bytes())
            return {name: SyncedFile(**entry) for name, entry in fields["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # absent or damaged: everything is compared again

    def _write_state(self) -> None:
        files = {name: asdict(file) for name, file in sorted(self._synced.items())}
        write_json(self._state_path, {"url": str(self.url), "files": files})


def _in_parallel(compute: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield every item with its result, in any order; after an error the rest is not begun."""
    with ThreadPoolExecutor(N_TRANSFERS) as pool:
        futures = {pool.submit(compute, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
