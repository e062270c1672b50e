import json
import os
import socket
import tempfile
from pathlib import Path

import pytest

from distangle.core.lock import lock_holder, run_lock
from distangle.errors import RunError, StorageError


def silent(message: str) -> None:
    raise AssertionError(message)


def write_lock(folder: Path, **changes: object) -> Path:
    """Write a lock as another process would have left it."""
    lock = folder / ".lock"
    with run_lock(folder, say=silent):
        content = json.loads(lock.read_text())
    lock.write_text(json.dumps({**content, **changes}))
    return lock


def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_a_lock_is_held_during_a_with_and_is_reentrant(tmp_path: Path) -> None:
    with run_lock(tmp_path, say=silent):
        content = json.loads((tmp_path / ".lock").read_text())
        assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
        assert lock_holder(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}, since 0 min"
        with run_lock(tmp_path, say=silent):
            pass
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    assert lock_holder(tmp_path) is None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_second_process_is_refused_with_process_host_and_age(tmp_path: Path) -> None:
    with run_lock(tmp_path, say=silent):
        content = json.loads((tmp_path / ".lock").read_text())
        (tmp_path / ".lock").write_text(json.dumps({**content, "since": "2026-01-01T00:00:00+00:00"}))
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with run_lock(tmp_path, say=silent):
                    os.write(writing, b"taken")
            except RunError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        message = os.read(reading, 4000).decode()
    assert f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}, since " in message
    assert " h " in message
    assert f"`kill {os.getpid()}`; its work so far is kept" in message
    assert f"remove {tmp_path / '.lock'}" in message


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_lock_of_a_dead_process_is_removed_with_a_message(tmp_path: Path) -> None:
    pid = dead_pid()
    write_lock(tmp_path, pid=pid)
    messages: list[str] = []
    with run_lock(tmp_path, say=messages.append):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert messages == [f"cleared the lock of process {pid} on {socket.gethostname()}, since 0 min: it is dead."]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this kernel does not tell when a process started")
def test_a_reused_process_id_does_not_hold_the_lock(tmp_path: Path) -> None:
    write_lock(tmp_path, pid=os.getppid(), started="1")
    messages: list[str] = []
    with run_lock(tmp_path, say=messages.append):
        pass
    assert len(messages) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("changes", [{"host": "node17"}, {"host": "node17", "started": "1"}])
def test_the_lock_of_another_host_is_never_removed(tmp_path: Path, changes: dict[str, object]) -> None:
    lock = write_lock(tmp_path, pid=dead_pid(), **changes)
    before = lock.read_bytes()
    with pytest.raises(RunError, match=r"is in use by process \d+ on node17"), run_lock(tmp_path, say=silent):
        pass
    assert lock.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x"}'])
def test_an_unreadable_lock_is_not_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    with pytest.raises(RunError, match="is in use by"), run_lock(tmp_path, say=silent):
        pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")
def test_a_folder_that_may_not_be_written_to_is_refused_with_the_reason() -> None:
    with tempfile.TemporaryDirectory(prefix="distangle-") as folder:
        Path(folder).chmod(0o555)
        os.seteuid(65534)
        try:
            with (
                pytest.raises(StorageError, match=r"permission denied.*make .* writable, or name another folder"),
                run_lock(Path(folder), say=silent),
            ):
                pass
        finally:
            os.seteuid(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_many_at_once_and_only_one_at_a_time(tmp_path: Path) -> None:
    """Four processes compete for the lock of a dead one; only one at a time holds it."""
    write_lock(tmp_path, pid=dead_pid())
    marker_file = tmp_path / "inside"
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 3
            try:
                for _ in range(6):
                    try:
                        with run_lock(tmp_path, say=lambda _: None):
                            descriptor = os.open(
                                marker_file, os.O_CREAT | os.O_EXCL
                            )  # fails if another process holds the lock
                            os.close(descriptor)
                            marker_file.unlink()
                    except RunError:
                        pass
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert not (tmp_path / ".lock").exists()
