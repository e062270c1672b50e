"""Lock a folder behind a URL by an object that names process, host and time."""

import contextlib
import datetime
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distangle.core.lock import LOCK_NAME, describe_holder, is_dead, kill_hint, process_identity
from distangle.core.remote import RemotePath
from distangle.core.remote_writer import create_remote, remove_remote, write_remote
from distangle.errors import RemoteError, RunError

RENEW_S = 60.0  # between two signs of life
SETTLE_S = 0.5  # until another writer of the same moment has written too
_REMOVE = {"s3": "aws s3 rm", "gs": "gcloud storage rm", "gcs": "gcloud storage rm"}


class RemoteLock:
    """The lock of a folder, held by this process.

    Args:
        folder: The folder.
        token: Random text in the lock object, which identifies it.
        since: When it was taken, ISO 8601.
    """

    def __init__(self, folder: RemotePath, *, token: str, since: str) -> None:
        self._folder, self._token, self._since = folder, token, since
        self._renewed_at = time.monotonic()

    def content(self) -> bytes:
        """Return the lock object, with the present time as a sign of life."""
        fields = {
            **process_identity(),
            "boot": _boot(),
            "since": self._since,
            "renewed": _now(),
            "token": self._token,
        }
        return (json.dumps(fields, indent=2) + "\n").encode()

    def check(self) -> None:
        """Check that the lock is still this one.

        Raises:
            RunError: It was removed or taken by another process.
        """
        holder = _read(self._folder)
        if holder is None or holder.get("token") != self._token:
            state = "was removed" if holder is None else f"was taken by {describe_holder(holder)}"
            raise RunError(
                f"The lock {self._folder / LOCK_NAME} of this process {state}, so nothing more is published there. "
                "Make sure that one command alone writes there, then start it again."
            )

    def renew(self) -> None:
        """Give a sign of life when one is due.

        Raises:
            RunError: The lock was removed or taken by another process.
        """
        if time.monotonic() - self._renewed_at > RENEW_S:
            self.check()
            write_remote(self._folder / LOCK_NAME, self.content())
            self._renewed_at = time.monotonic()

    def release(self) -> None:
        """Remove the lock if it is this one, and the storage answers."""
        with contextlib.suppress(RemoteError):
            holder = _read(self._folder)
            if holder is not None and holder.get("token") == self._token:
                remove_remote(self._folder / LOCK_NAME)


@contextlib.contextmanager
def remote_lock(folder: RemotePath, *, say: Callable[[str], None]) -> Iterator[RemoteLock]:
    """Hold the lock of a folder behind a URL for the length of a `with`.

    On a storage without conditional writes, two processes that begin within half a second may both hold it.

    Args:
        folder: The folder; it need not exist.
        say: Called with a message when the lock of a dead process is removed.

    Raises:
        RunError: Another process holds the lock, or may hold it; the message names process, host and age.
        RemoteError: The folder cannot be written.
    """
    lock = RemoteLock(folder, token=secrets.token_hex(16), since=_now())
    while not create_remote(folder / LOCK_NAME, lock.content()):
        holder = _read(folder)
        if holder is None:
            continue  # released in the meantime
        if holder.get("boot") != _boot() or not is_dead(holder):
            raise RunError(_refusal(folder, holder))
        say(f"cleared the lock of {describe_holder(holder)} on {folder}: it is dead.")
        remove_remote(folder / LOCK_NAME)
    time.sleep(SETTLE_S)
    try:
        lock.check()
    except RemoteError:  # written, but not to be read
        with contextlib.suppress(RemoteError):
            remove_remote(folder / LOCK_NAME)
        raise
    try:
        yield lock
    finally:
        lock.release()


def refuse_remote_lock(folder: RemotePath) -> None:
    """Check that no process holds the lock of a folder.

    Raises:
        RunError: One does, or may.
    """
    holder = _read(folder)
    if holder is not None and (holder.get("boot") != _boot() or not is_dead(holder)):
        raise RunError(_refusal(folder, holder))


def _refusal(folder: RemotePath, holder: Mapping[str, Any]) -> str:
    lock = folder / LOCK_NAME
    command = f" (`{_REMOVE[folder.scheme]} {lock}`)" if folder.scheme in _REMOVE else ""
    return (
        f"{folder} is in use by {describe_holder(holder)}{_sign_of_life(holder)}. Wait for it{kill_hint(holder)}. If "
        f"it no longer exists, remove {lock}{command}."
    )


def _sign_of_life(holder: Mapping[str, Any]) -> str:
    with contextlib.suppress(KeyError, ValueError, TypeError):
        silence = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(holder["renewed"])
        return f", which gave its last sign of life {max(0, round(silence.total_seconds() / 60))} min ago"
    return ""


def _read(folder: RemotePath) -> dict[str, Any] | None:
    file = folder / LOCK_NAME
    try:
        holder = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _boot() -> str:
    """Return a name of this start of this machine; hosts in a cloud may share their host name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
