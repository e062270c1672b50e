"""Publish the local copy of a remote folder while a command writes it."""

import contextlib
import contextvars
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from distangle.core.io import make_folder
from distangle.core.mirror import STATES, Mirror
from distangle.core.remote import RemotePath, cache_folder
from distangle.core.remote_lock import RemoteLock, refuse_remote_lock, remote_lock
from distangle.core.remote_writer import check_writable_scheme, remove_remote, write_remote
from distangle.errors import DistangleError, RemoteError, RunError

PUBLISH_EVERY_S = 5.0  # between two looks for complete files
FAILURE_PAUSE_S = 30.0  # after a failure
LOOK_SHARE = 0.05  # of the time that looking may take
N_TRIES = 3  # of the last publication
WAIT_S = 10.0  # of a writer for other commands on this machine

Say = Callable[[str], None]
Report = Callable[[int, int], None]


class CopyLock:
    """A lock on a local copy, against other commands on this machine.

    Args:
        url: The remote folder of the copy.
    """

    def __init__(self, url: RemotePath) -> None:
        path = cache_folder() / STATES / f"{hashlib.sha256(str(url).encode()).hexdigest()}.in-use"
        make_folder(path.parent)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def take(self) -> bool:
        """Take the lock alone, to fetch; return False if another command uses the copy."""
        return self._flock("LOCK_EX", "LOCK_NB")

    def share(self) -> None:
        """Hold the lock with others; wait for one that fetches."""
        self._flock("LOCK_SH")

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)

    def _flock(self, *names: str) -> bool:
        try:
            import fcntl
        except ImportError:  # a system without flock
            return True
        operation = 0
        for name in names:
            operation |= int(getattr(fcntl, name))
        try:
            fcntl.flock(self._file, operation)
        except BlockingIOError:
            return False
        except OSError:  # a file system without flock
            return True
        return True


def fetch_copy(mirror: Mirror, *, report: Report, say: Say) -> Path:
    """Fetch a folder or file to read.

    A copy that another command on this machine writes is used as it is.

    Args:
        mirror: The local copy.
        report: Called with the number of downloaded files and their total.
        say: Called with messages for the user.

    Returns:
        The local path.

    Raises:
        RemoteError: The folder does not exist or cannot be read.
    """
    with contextlib.closing(CopyLock(mirror.url)) as lock:
        if lock.take():
            mirror.fetch(report=report, say=say)
        else:
            lock.share()
    if not mirror.folder.exists():
        raise RemoteError(f"{mirror.url} does not exist, or is empty. Check the address.")
    return mirror.folder


@contextlib.contextmanager
def publish_while(mirror: Mirror, *, is_alone: bool, report: Report, say: Say) -> Iterator[Path]:
    """Fetch a folder, and publish what is written to its copy during a `with`.

    A complete file is published within seconds. At the end of the `with` all of them are, also after an error.

    Args:
        mirror: The local copy.
        is_alone: Whether this command is the only writer, and locks the folder; otherwise others may add files.
        report: Called with the number of downloaded files and their total.
        say: Called with messages for the user.

    Yields:
        The local path.

    Raises:
        RunError: Another command writes to the folder, here or elsewhere.
        RemoteError: The folder cannot be read or written; before anything is fetched, where that can be known.
    """
    url = mirror.url
    check_writable_scheme(url)
    if url.parent.bucket == "" and url.scheme != "memory":
        raise RemoteError(f"{url} is a whole bucket or container. Name a folder in it, such as {url}/runs/first.")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_interrupt_at_termination())
        lock: RemoteLock | None = None
        if is_alone:
            lock = stack.enter_context(remote_lock(url, say=say))
        else:
            refuse_remote_lock(url)
            _try_writing(url)
        copy = stack.enter_context(contextlib.closing(CopyLock(url)))
        end = time.monotonic() + WAIT_S
        while not (is_free := copy.take()) and is_alone and time.monotonic() < end:
            time.sleep(0.1)
        if not is_free and is_alone:
            raise RunError(f"The local copy of {url} is in use by another command on this machine. Wait for it.")
        if is_free:
            mirror.fetch(report=report, say=say)
        copy.share()
        if not is_free:
            mirror.use_as_it_is()
        publisher = _Publisher(mirror, lock, say=say)
        publisher.publish()  # what an earlier command here could not
        with publisher:
            yield mirror.folder


class _Publisher:
    """Publishes complete files from a thread."""

    def __init__(self, mirror: Mirror, lock: RemoteLock | None, *, say: Say) -> None:
        self._mirror, self._lock, self._say = mirror, lock, say
        self._ended = threading.Event()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._watch,), name="publisher", daemon=True)
        self._problem = ""

    def publish(self, *, is_end: bool = False) -> int:
        """Publish once; return the number of files."""
        return self._mirror.publish(is_end=is_end, check=self._lock.check if self._lock else lambda: None)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        has_ended_well = error is None or isinstance(error, SystemExit)
        for n in range(1, N_TRIES + 1):
            try:
                self.publish(is_end=has_ended_well)
                return
            except RunError as problem:  # the lock is another's: trying again would not help
                self._fail(problem, error)
                return
            except (DistangleError, OSError) as problem:
                if n == N_TRIES:
                    self._fail(problem, error)
                time.sleep(n)

    def _fail(self, problem: Exception, error: BaseException | None) -> None:
        """Raise a problem, or print it if the command fails for another reason."""
        message = (
            f"{self._mirror.n_pending()} files are not published to {self._mirror.url}: {problem} They stay in the "
            "local copy in the cache; the next command that writes there from this machine publishes them."
        )
        if error is None:
            raise RemoteError(message) from problem
        self._say(message)

    def _watch(self) -> None:
        look_s = 0.0
        while not self._ended.wait(FAILURE_PAUSE_S if self._problem else max(PUBLISH_EVERY_S, look_s / LOOK_SHARE)):
            start = time.monotonic()
            try:
                if not self.publish():
                    look_s = time.monotonic() - start
                if self._lock:
                    self._lock.renew()
                self._problem = ""
            except (DistangleError, OSError) as problem:
                if str(problem) != self._problem:
                    self._say(f"Nothing was published just now; the work goes on. {problem}")
                self._problem = str(problem)


def _try_writing(url: RemotePath) -> None:
    """Write and remove a small object.

    Raises:
        RemoteError: It cannot be written.
    """
    probe = url / f".probe.tmp-{os.getpid()}"  # not fetched: it has the name of a temporary file
    write_remote(probe, b"")
    remove_remote(probe)


@contextlib.contextmanager
def _interrupt_at_termination() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that what is complete is published and the lock removed."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    try:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
