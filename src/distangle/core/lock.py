"""Lock a folder for one process; remove the lock of a process that is dead."""

import contextlib
import datetime
import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distangle.core.io import write_json
from distangle.errors import RunError

LOCK_NAME = ".lock"
_own_locks: set[tuple[int, Path]] = set()  # of this process; a fork inherits the set, not the locks


@contextlib.contextmanager
def run_lock(folder: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder for the length of a `with`; reentrant.

    Args:
        folder: Folder of a run or of a packed screen.
        say: Called with a message when the lock of a dead process is removed.

    Raises:
        RunError: Another process holds the lock, or may hold it; the message names process, host and age.
        StorageError: The folder is not writable.
    """
    lock = folder.resolve() / LOCK_NAME
    if (os.getpid(), lock) in _own_locks:
        yield
        return
    while not _take(lock):
        _clear(lock, say=say)
    _own_locks.add((os.getpid(), lock))
    try:
        yield
    finally:
        _own_locks.discard((os.getpid(), lock))
        lock.unlink(missing_ok=True)


def lock_holder(folder: Path) -> str | None:
    """Return a description of the process that writes to a folder; None if none does."""
    holder = _read(folder / LOCK_NAME)
    return None if holder is None or is_dead(holder) else describe_holder(holder)


def _take(lock: Path) -> bool:
    """Create the lock of this process; return False when there is one already."""
    temporary = _temporary_name(lock)
    write_json(
        temporary, {**process_identity(), "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    )
    try:
        os.link(temporary, lock)
    except (FileExistsError, FileNotFoundError):  # not found: the holder removed stale temporaries
        return False
    except OSError:  # a storage without hard links
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        temporary.replace(lock)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _temporary_name(lock: Path) -> Path:
    return lock.with_name(f"{LOCK_NAME}.tmp-{os.getpid()}")  # removed as a stale temporary


def _clear(lock: Path, *, say: Callable[[str], None]) -> None:
    """Remove a lock whose holder is dead.

    Raises:
        RunError: The holder is alive, or runs on another host.
    """
    holder = _read(lock)
    if holder is None:
        return  # released in the meantime
    if not is_dead(holder) and not is_own(holder):
        raise RunError(
            f"{lock.parent} is in use by {describe_holder(holder)}. Wait for it{kill_hint(holder)}. If it no longer "
            f"exists, remove {lock}."
        )
    aside = _temporary_name(lock)
    with contextlib.suppress(FileNotFoundError):
        lock.rename(aside)
        if _read(aside) != holder:  # another process was faster: this is its lock
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        else:
            state = "it is this process" if is_own(holder) else "it is dead"
            say(f"cleared the lock of {describe_holder(holder)}: {state}.")
        aside.unlink()


def _read(lock: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def process_identity() -> dict[str, Any]:
    """Return what a lock says of this process."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _start_time(os.getpid())}


def is_dead(holder: Mapping[str, Any]) -> bool:
    """Return whether a holder ran on this host and no longer exists."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # The process ID may have been reused since.
    start = _start_time(holder["pid"])
    return None not in (holder.get("started"), start) and holder["started"] != start


def is_own(holder: Mapping[str, Any]) -> bool:
    """Return whether this process wrote a lock it no longer holds (a moved folder)."""
    return {name: holder.get(name) for name in process_identity()} == process_identity()


def _start_time(pid: int) -> str | None:
    """Return the start of a process in clock ticks of the kernel; None if unknown."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return status.rpartition(")")[2].split()[19]


def kill_hint(holder: Mapping[str, Any]) -> str:
    """Return how to stop the holder of a lock, as the end of a sentence."""
    pid = holder.get("pid")
    return f" or stop it (`kill {pid}`; its work so far is kept)" if isinstance(pid, int) and pid > 1 else ""


def describe_holder(holder: Mapping[str, Any]) -> str:
    """Return process, host and age of the holder of a lock."""
    if not isinstance(holder.get("pid"), int):
        return "a process that cannot be identified"
    age = ""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        since = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(holder["since"])
        minutes = round(since.total_seconds() / 60)
        age = f", since {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f", since {minutes} min"
    host = re.fullmatch(r"[\w.-]{1,253}", str(holder.get("host")))  # the file may come from anybody
    return f"process {holder['pid']} on {host[0] if host else 'another host'}{age}"
