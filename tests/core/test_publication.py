"""Publishing while a command works: within seconds, at its end, after its failures, and under two locks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from distangle.core import mirror as mirror_module
from distangle.core import publication, remote_lock
from distangle.core.mirror import Mirror
from distangle.core.publication import fetch_copy, publish_while
from distangle.core.remote import RemotePath
from distangle.errors import RemoteError, RunError

URL = RemotePath("memory:///lab/run")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "SETTLE_S", 0.0)
    monkeypatch.setattr(publication, "PUBLISH_EVERY_S", 0.05)
    monkeypatch.setattr(publication, "FAILURE_PAUSE_S", 0.05)


def publishing(messages: list[str] | None = None, *, is_alone: bool = True) -> AbstractContextManager[Path]:
    say = print if messages is None else messages.append
    return publish_while(Mirror(URL), is_alone=is_alone, report=lambda done, total: None, say=say)


def fetch(messages: list[str] | None = None) -> Path:
    say = print if messages is None else messages.append
    return fetch_copy(Mirror(URL), report=lambda done, total: None, say=say)


def write(folder: Path, name: str, text: str = "x") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def wait_for(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_files_are_published_during_the_work_and_the_lock_lasts_as_long(memory: Any) -> None:
    memory.pipe("/lab/run/earlier", b"1")
    with publishing() as folder:
        assert (folder / "earlier").read_bytes() == b"1"
        write(folder, "part-1")
        wait_for(lambda: memory.exists("/lab/run/part-1"))
        assert memory.exists("/lab/run/.lock")
        (folder / "part-1").unlink()
        wait_for(lambda: not memory.exists("/lab/run/part-1"))
        write(folder, "scores.json")
    assert sorted(memory.find("/lab")) == ["/lab/run/earlier", "/lab/run/scores.json"]
    assert not [thread for thread in threading.enumerate() if thread.name == "publisher"]


@pytest.mark.parametrize("error", [RunError("two of three parts failed."), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_complete_is_published_after_a_failure_too(memory: Any, error: BaseException) -> None:
    def work() -> None:
        with publishing() as folder:
            write(folder, "part-1")
            raise error

    with pytest.raises(type(error)):
        work()
    assert memory.find("/lab") == ["/lab/run/part-1"]


def test_a_storage_that_fails_for_a_while_delays_nothing_but_the_publication(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, is_down = mirror_module.upload_file, threading.Event()

    def uploading(path: Path, file: RemotePath) -> None:
        if is_down.is_set():
            raise RemoteError(f"{file} cannot be written (no route to the host).")
        upload(path, file)

    monkeypatch.setattr(mirror_module, "upload_file", uploading)
    messages: list[str] = []
    with publishing(messages) as folder:
        is_down.set()
        write(folder, "part-1")
        wait_for(lambda: bool(messages))
        time.sleep(0.3)
        is_down.clear()
        wait_for(lambda: memory.exists("/lab/run/part-1"))
    assert messages == [
        "Nothing was published just now; the work goes on. memory:///lab/run/part-1 cannot be written (no route to the "
        "host)."
    ]


def test_a_storage_that_fails_at_the_end_is_an_error_and_the_next_command_publishes(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, file: RemotePath) -> None:
        raise RemoteError(f"{file} cannot be written (full).")

    monkeypatch.setattr(publication, "N_TRIES", 1)
    message = (
        r"1 files are not published to memory:///lab/run: memory:///lab/run/scores.json cannot be written \(full\)\. "
        r"They stay in the local copy in the cache; the next command that writes there from this machine publishes them"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror_module, "upload_file", failing)
        with pytest.raises(RemoteError, match=message), publishing() as folder:
            write(folder, "scores.json")
        with pytest.raises(RemoteError, match=r"scores\.json cannot be written \(full\)"), publishing():
            raise AssertionError("no work begins while earlier files cannot be published")
    assert memory.find("/lab") == []
    with publishing() as folder:
        assert memory.exists("/lab/run/scores.json")
        assert (folder / "scores.json").exists()


def test_the_error_of_the_work_counts_when_the_publication_fails_too(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, file: RemotePath) -> None:
        raise RemoteError(f"{file} cannot be written (full).")

    def work() -> None:
        with publishing(messages) as folder:
            write(folder, "part-1")
            raise RunError("the work itself")

    monkeypatch.setattr(publication, "PUBLISH_EVERY_S", 60.0)
    monkeypatch.setattr(publication, "N_TRIES", 1)
    monkeypatch.setattr(mirror_module, "upload_file", failing)
    messages: list[str] = []
    with pytest.raises(RunError, match="the work itself"):
        work()
    (message,) = messages
    assert message.startswith("1 files are not published to memory:///lab/run: ")


def test_a_lost_lock_ends_the_publication_and_is_an_error(memory: Any) -> None:
    messages: list[str] = []

    def work() -> None:
        with publishing(messages) as folder:
            memory.rm_file("/lab/run/.lock")
            write(folder, "part-1")
            wait_for(lambda: bool(messages))

    with pytest.raises(RemoteError, match=r"1 files are not published .*/\.lock of this process was removed"):
        work()
    assert "of this process was removed, so nothing more is published there." in messages[0]
    assert memory.find("/lab") == []


def test_a_share_adds_its_files_beside_others_and_respects_the_lock(memory: Any) -> None:
    with publishing(is_alone=False) as folder:
        assert not memory.exists("/lab/run/.lock")
        write(folder, "part-1")
        memory.pipe("/lab/run/part-2", b"of another machine")
    assert memory.find("/lab") == ["/lab/run/part-1", "/lab/run/part-2"]
    memory.pipe("/lab/run/.lock", b'{"pid": 7, "host": "far"}')
    with pytest.raises(RunError, match="in use by process 7 on far"), publishing(is_alone=False):
        pass


HOLD = (
    "import sys; from distangle.core.publication import CopyLock; from distangle.core.remote import RemotePath\n"
    "lock = CopyLock(RemotePath('memory:///lab/run')); lock.take(); getattr(lock, sys.argv[1])()\n"
    "print('held', flush=True); sys.stdin.read()"
)


def test_a_copy_that_another_command_writes_is_read_as_it_is_and_written_by_one_alone(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "WAIT_S", 0.2)
    memory.pipe("/lab/run/a", b"1")
    folder = fetch()
    command = [sys.executable, "-c", HOLD, "share"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        memory.pipe("/lab/run/a", b"changed")
        write(folder, "part-of-the-other")
        assert fetch() == folder
        assert (folder / "a").read_bytes() == b"1"
        with pytest.raises(RunError, match="The local copy of memory:///lab/run is in use by another command on this"):
            with publishing():
                pass
        assert not memory.exists("/lab/run/.lock")
        with publishing(is_alone=False):
            write(folder, "part-1")
        assert memory.cat("/lab/run/part-1") == b"x"
        assert memory.cat("/lab/run/a") == b"changed", "a file that this command did not write is not published"
        other.communicate()
    fetch()
    assert (folder / "a").read_bytes() == b"changed"


def test_a_copy_that_another_command_fetches_is_waited_for(memory: Any) -> None:
    memory.pipe("/lab/run/a", b"1")
    folder = fetch()
    command = [sys.executable, "-c", HOLD, "take"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        done = threading.Event()
        thread = threading.Thread(target=lambda: (fetch(), done.set()))
        thread.start()
        assert not done.wait(0.5)
        other.communicate()
        thread.join(20)
        assert done.is_set()
    assert (folder / "a").exists()


def test_nothing_there_is_an_error_for_a_reader(memory: Any) -> None:
    with pytest.raises(RemoteError, match="memory:///lab/run does not exist, or is empty. Check the address."):
        fetch()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "https://host/run",
            r"https://host/run cannot be written: web servers are only read\. Name a local folder,",
        ),
        ("s3://bucket", r"s3://bucket is a whole bucket or container\. Name a folder in it, such as s3://bucket/runs"),
    ],
)
def test_a_place_that_cannot_be_an_output_is_refused_before_anything_else(url: str, message: str) -> None:
    mirror = Mirror(RemotePath(url))
    with (
        pytest.raises(RemoteError, match=message),
        publish_while(mirror, is_alone=True, report=lambda done, total: None, say=print),
    ):
        pass


@pytest.fixture
def no_handler() -> Iterator[None]:
    """SIGTERM as a process begins with it; Ray, for one, leaves a handler of its own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("no_handler")
def test_a_scheduler_that_ends_the_command_finds_the_lock_removed_and_the_files_published(memory: Any) -> None:
    def work() -> None:
        with publishing() as folder:
            write(folder, "part-1")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert memory.find("/lab") == ["/lab/run/part-1"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
