"""The lock object of a folder behind a URL: whom it names, when it is cleared, and what a lost one stops."""

import json
import subprocess
import sys
from typing import Any

import pytest

from distangle.core import remote_lock as lock_module
from distangle.core.remote import RemotePath
from distangle.core.remote_lock import refuse_remote_lock, remote_lock
from distangle.errors import RunError

URL = RemotePath("memory:///lab/run")
LOCK = "/lab/run/.lock"


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "SETTLE_S", 0.0)


def change(memory: Any, **fields: object) -> None:
    memory.pipe(LOCK, json.dumps({**json.loads(memory.cat(LOCK)), **fields}).encode())


def test_a_second_driver_is_refused_with_the_name_of_the_first(memory: Any) -> None:
    with remote_lock(URL, say=print) as lock:
        change(memory, host="far", pid=4711, since="2026-01-01T00:00:00+00:00", renewed="2026-01-01T01:00:00+00:00")
        held = memory.cat(LOCK)
        message = (
            r"memory:///lab/run is in use by process 4711 on far, since \d+ h \d+ min, which gave its last sign of "
            r"life \d+ min ago\. Wait for it or stop it \(`kill 4711`; its work so far is kept\)\. If it no longer "
            r"exists, remove memory:///lab/run/\.lock\."
        )
        with pytest.raises(RunError, match=message), remote_lock(URL, say=print):
            pass
        with pytest.raises(RunError, match="is in use by process 4711 on far"):
            refuse_remote_lock(URL)
        assert memory.cat(LOCK) == held
        lock.check()
    assert not memory.exists(LOCK)
    refuse_remote_lock(URL)


def test_the_command_that_removes_the_lock_is_named_where_there_is_one() -> None:
    said = lock_module._refusal(RemotePath("s3://bucket/run"), {"pid": 1, "host": "far"})
    assert said.endswith("remove s3://bucket/run/.lock (`aws s3 rm s3://bucket/run/.lock`).")


@pytest.mark.parametrize(("boot", "is_cleared"), [(None, True), ("of another machine", False)])
def test_the_lock_of_a_dead_process_is_cleared_on_its_machine_only(
    memory: Any, boot: str | None, is_cleared: bool
) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    with remote_lock(URL, say=print):
        content = memory.cat(LOCK)
    memory.pipe(LOCK, content)
    change(memory, pid=int(dead.stdout), started="1", **({} if boot is None else {"boot": boot}))
    messages: list[str] = []
    if is_cleared:
        refuse_remote_lock(URL)
        with remote_lock(URL, say=messages.append):
            assert json.loads(memory.cat(LOCK))["pid"] != int(dead.stdout)
        (message,) = messages
        assert f"cleared the lock of process {int(dead.stdout)} on" in message
        return
    with pytest.raises(RunError, match=f"is in use by process {int(dead.stdout)}"), remote_lock(URL, say=print):
        pass
    assert memory.exists(LOCK)


def test_a_lock_that_was_removed_or_taken_stops_its_former_holder(memory: Any) -> None:
    with remote_lock(URL, say=print) as lock:
        own = memory.cat(LOCK)
        memory.rm_file(LOCK)
        with pytest.raises(RunError, match=r"The lock memory:///lab/run/\.lock of this process was removed, so"):
            lock.check()
        memory.pipe(LOCK, own)
        change(memory, token="another", host="far", pid=7)
        with pytest.raises(RunError, match="was taken by process 7 on far"):
            lock.check()
    assert json.loads(memory.cat(LOCK))["token"] == "another", "the lock of another process is not released"


def test_signs_of_life_are_given_when_due(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with remote_lock(URL, say=print) as lock:
        change(memory, renewed="then")
        lock.renew()
        assert json.loads(memory.cat(LOCK))["renewed"] == "then"
        monkeypatch.setattr(lock_module, "RENEW_S", -1.0)
        lock.renew()
        assert json.loads(memory.cat(LOCK))["renewed"] != "then"


def test_a_damaged_lock_is_a_lock(memory: Any) -> None:
    memory.pipe(LOCK, b"{")
    with pytest.raises(RunError, match="by a process that cannot be identified"), remote_lock(URL, say=print):
        pass
