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

NAME = ".lock"
_held: set[tuple[int, Path]] = set()  # by this process; a fork inherits the list, not the locks


@contextlib.contextmanager
def run_lock(folder: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder for the length of a `with`; reentrant.

    Args:
        folder: Of a run, or of a pack.
        say: Told when the lock of a dead process is cleared.

    Raises:
        RunError: Another process holds it, or may hold it; names process, host and age.
        StorageError: The folder cannot be written to.
    """
    lock = folder.resolve() / NAME
    if (os.getpid(), lock) in _held:
        yield
        return
    while not _take(lock):
        _clear(lock, say=say)
    _held.add((os.getpid(), lock))
    try:
        yield
    finally:
        _held.discard((os.getpid(), lock))
        lock.unlink(missing_ok=True)


def lock_holder(folder: Path) -> str | None:
    """Return who writes the folder, in words; None when nobody does."""
    held = _read(folder / NAME)
    return None if held is None or _is_dead(held) else _words(held)


def _take(lock: Path) -> bool:
    """Create the lock of this process at once; False when there is one already."""
    own = _own(lock)
    write_json(own, {**_self(), "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})
    try:
        os.link(own, lock)
    except (FileExistsError, FileNotFoundError):  # not found: the holder has swept the folder
        return False
    except OSError:  # a storage without hard links
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        own.replace(lock)
    finally:
        own.unlink(missing_ok=True)
    return True


def _own(lock: Path) -> Path:
    return lock.with_name(f"{NAME}.tmp-{os.getpid()}")  # a name that is swept


def _clear(lock: Path, *, say: Callable[[str], None]) -> None:
    """Remove a lock whose holder is dead.

    Raises:
        RunError: It is alive, or nobody here can know.
    """
    held = _read(lock)
    if held is None:
        return  # let go in the meantime
    if not _is_dead(held) and not _is_own(held):
        raise RunError(
            f"{lock.parent} is in use by {_words(held)}. Wait for it{_stop(held)}. If you know that it is gone, "
            f"remove {lock}."
        )
    aside = _own(lock)
    with contextlib.suppress(FileNotFoundError):
        lock.rename(aside)
        if _read(aside) != held:  # another process was faster, and this is its lock
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        else:
            say(f"cleared the lock of {_words(held)}: {'it is this process' if _is_own(held) else 'it is dead'}.")
        aside.unlink()


def _read(lock: Path) -> dict[str, Any] | None:
    try:
        held = json.loads(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _self() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}


def _is_dead(held: Mapping[str, Any]) -> bool:
    """Whether a holder ran on this host and no longer exists (number and start)."""
    if held.get("host") != socket.gethostname() or not isinstance(held.get("pid"), int):
        return False
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # The number may have gone to another process since.
    now = _started(held["pid"])
    return None not in (held.get("started"), now) and held["started"] != now


def _is_own(held: Mapping[str, Any]) -> bool:
    """Whether this process wrote a lock that it no longer holds (a moved folder)."""
    return {name: held.get(name) for name in _self()} == _self()


def _started(pid: int) -> str | None:
    """Return the start of a process in clock ticks of the kernel; None if unknown."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return said.rpartition(")")[2].split()[19]


def _stop(held: Mapping[str, Any]) -> str:
    pid = held.get("pid")
    return f" or stop it (`kill {pid}`; what it has done is kept)" if isinstance(pid, int) and pid > 1 else ""


def _words(held: Mapping[str, Any]) -> str:
    if not isinstance(held.get("pid"), int):
        return "a process that left no readable name"
    age = ""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        since = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(held["since"])
        minutes = round(since.total_seconds() / 60)
        age = f", since {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f", since {minutes} min"
    host = re.fullmatch(r"[\w.-]{1,253}", str(held.get("host")))  # the file may come from anybody
    return f"process {held['pid']} on {host[0] if host else 'another host'}{age}"
