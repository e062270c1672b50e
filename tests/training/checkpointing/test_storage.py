"""A disk that is full, gone or read-only: the error names path, needed and free space; the last state stays."""

import contextlib
import errno
import os
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_kill import state_after, steps_of

from distangle.core import io
from distangle.core.io import atomic_write, format_bytes, remove_stale_temporaries, write_bytes, write_text
from distangle.core.signals import StopRequest
from distangle.errors import StorageError
from distangle.results import RunFolder, verify_run
from distangle.training.checkpointing import checkpoints, manager
from distangle.training.checkpointing.checkpoints import save_state
from distangle.training.checkpointing.manager import CheckpointManager
from distangle.training.config import CheckpointConfig
from tiny_run import fingerprints, finish_run, tiny_screen, tiny_start

EPOCHS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/whole (trained without a fault) and runs/fresh (not trained)."""
    root = tmp_path_factory.mktemp("storage")
    screen = tiny_screen(root)
    for name in ("whole", "fresh"):
        tiny_start(screen, root / "runs" / name, epochs=EPOCHS)
    finish_run(RunFolder.open(root / "runs/whole"))
    return root


def new(folder: Path, name: str) -> RunFolder:
    return RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / "runs" / name)))


def fail_at(monkeypatch: pytest.MonkeyPatch, n: int, number: int) -> None:
    """Fail from the n-th operation that needs space on: the disk stays full."""
    count = 0
    for name in ("open", "write", "fsync", "mkdir", "replace"):
        real = getattr(os, name)

        def call(*args: Any, real: Callable[..., Any] = real, name: str = name, **options: Any) -> Any:
            nonlocal count
            is_read = name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR)
            if not is_read:
                count += 1
            if count >= n and not is_read:
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_fault_at_any_operation_of_a_save_keeps_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    n_failed = 0
    for n in range(1, 100):
        folder = tmp_path / str(n)
        for steps in (1, 2):
            save_state(state_after(steps), folder, fingerprint="f")
        with monkeypatch.context() as patch:
            fail_at(patch, n, number)
            try:
                save_state(state_after(3), folder, fingerprint="f")
            except StorageError as error:
                n_failed += 1
                message = str(error)
                assert re.search(r"epoch-0003\.(safetensors|json) was not written: ", message), message
                assert os.strerror(number).lower() in message
                assert "The earlier file is untouched" in message
                if number in (errno.ENOSPC, errno.EDQUOT):
                    assert re.search(r"Needed: [\d.]+ (bytes|kB); free: [\d.]+ [kMGT]?B", message), message
            else:
                break
        # If only the last operation fails, the new state is already complete.
        assert steps_of(folder) in (2, 3)
        assert remove_stale_temporaries(folder) == []
    assert n_failed >= 8


def test_a_file_larger_than_allowed_stops_the_run_with_what_there_is_to_go_on_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real limit of the kernel, from the second epoch on."""
    run = new(folder, "limited")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = checkpoints.save

    def save(tensors: Any) -> bytes:
        if (run.checkpoints / "epoch-0001.json").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        return real(tensors)

    monkeypatch.setattr(checkpoints, "save", save)
    try:
        with pytest.raises(StorageError) as error:
            finish_run(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = str(error.value)
    assert "epoch-0002.safetensors was not written: file too large. Needed: " in message
    assert "`ulimit -f`" in message
    assert f"The last good state is after epoch 1; go on with `distangle train --resume {run.root}`." in message
    assert [path.stem for path in sorted(run.checkpoints.glob("*.json"))] == ["epoch-0001"]
    monkeypatch.undo()
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")


def test_a_run_that_will_not_fit_is_refused_before_its_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new(folder, "no room")
    usage = shutil.disk_usage(run.root)
    monkeypatch.setattr(io.shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    with pytest.raises(
        StorageError, match=r"has no room for the checkpoints of this training: about (\d\.\d) MB are"
    ) as error:
        finish_run(run)
    assert "3.0 MB are free. Make room, or name a folder on another disk." in str(error.value)
    assert not run.checkpoints.exists()
    n_bytes = sum(path.stat().st_size for path in (folder / "runs/whole/checkpoints").iterdir())
    size_match = re.search(r"about ([\d.]+) MB", str(error.value))
    assert size_match is not None
    assert n_bytes / 1e6 < float(size_match[1]) < 3 * n_bytes / 1e6 + 2, "an estimate, not a guess"


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(folder: Path) -> None:
    (folder / "file").touch()
    screen = tiny_screen(folder / "other", n_wells=4)
    with pytest.raises(StorageError, match=r"file/run cannot be created: Not a directory. Name a folder that you may"):
        tiny_start(screen, folder / "file" / "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_read_only_run_is_refused_at_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new(folder, "read only")
    fail_at(monkeypatch, 1, errno.EROFS)
    with pytest.raises(StorageError, match=r"was not written: read-only file system. The earlier file is untouch"):
        finish_run(run)


def test_a_folder_that_vanishes_is_not_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new(folder, "vanishing")
    monkeypatch.setattr(manager, "wait_for_folder", lambda path, **_: None)  # as if three minutes had passed
    new_place = folder / "elsewhere"
    real = RunFolder.record

    def record(self: RunFolder, *paths: Path) -> None:
        real(self, *paths)
        if any(path.name == "epoch-0001.json" for path in paths):
            run.root.rename(new_place)

    monkeypatch.setattr(RunFolder, "record", record)
    message = r"vanishing is gone: it was moved or removed.*last good state is after epoch 1"
    with pytest.raises(StorageError, match=message):
        finish_run(run)
    monkeypatch.undo()
    assert not run.root.exists()
    new_place.rename(run.root)
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")


def test_a_folder_that_comes_back_is_waited_for_and_the_run_ends_to_the_last_byte(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new(folder, "dropping out")
    new_place = folder / "dropped out"
    real = RunFolder.record
    messages: list[str] = []
    back = threading.Timer(1.2, lambda: new_place.rename(run.root))

    def record(self: RunFolder, *paths: Path) -> None:
        real(self, *paths)
        if any(path.name == "epoch-0001.json" for path in paths):
            run.root.rename(new_place)
            back.start()

    monkeypatch.setattr(RunFolder, "record", record)
    finish_run(run, say=messages.append)
    back.join()
    waits = [line for line in messages if "dropping out" in line]
    assert waits[0].endswith("Waiting up to 3 min for it; the state is kept in memory.")
    assert re.search(r"dropping out is back after [12] s\.$", waits[1])
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")


def test_somebody_who_wants_the_end_does_not_wait_for_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new(folder, "given up")
    stop = StopRequest()
    stop.by = "SIGTERM"
    run.root.rename(folder / "given up elsewhere")
    start = time.monotonic()
    with pytest.raises(StorageError, match="given up is gone"):
        CheckpointManager(run, CheckpointConfig(), fingerprint="", stop=stop).check_folder()
    assert time.monotonic() - start < 5


def test_what_a_killed_process_left_is_swept_and_not_in_the_manifest(folder: Path) -> None:
    run = new(folder, "swept")
    run.checkpoints.mkdir()
    temporaries = [
        run.root / ".metrics.csv.tmp-4711",
        run.root / ".tmpDx1uif",  # of safetensors
        run.checkpoints / ".epoch-0001.json.tmp-4711",
        run.checkpoints / "epoch-0001.safetensors",  # its JSON was not written yet
    ]
    for path in temporaries:
        path.write_bytes(b"part")
    finish_run(run)
    assert not any(path.exists() and path.read_bytes() == b"part" for path in temporaries)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
    assert verify_run(run).differences == ()


def test_an_end_between_a_file_and_its_entry_in_the_manifest_is_put_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new(folder, "unlisted")
    real = RunFolder.record

    def record(self: RunFolder, *paths: Path) -> None:
        if any(path.name == f"epoch-{EPOCHS:04d}.json" for path in paths):
            raise KeyboardInterrupt
        real(self, *paths)

    monkeypatch.setattr(RunFolder, "record", record)
    with pytest.raises(KeyboardInterrupt):
        finish_run(run)
    monkeypatch.undo()
    assert {difference.kind for difference in verify_run(run).differences} == {"changed", "extra", "missing"}
    finish_run(run)
    assert verify_run(run).differences == ()


def test_bytes_that_come_back_changed_are_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    write_bytes(path, b"old")
    real = os.write

    def write(descriptor: int, content: bytes) -> int:
        return real(descriptor, bytes(content).replace(b"w", b"v"))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match="the bytes read back differ from the bytes written"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_writer_is_not_taken_for_one_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "x") as temporary:
        temporary.write_text((tmp_path / "elsewhere").read_text())
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "x"):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_says_its_error_in_words_only_is_understood(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    def write() -> None:
        with atomic_write(tmp_path / "x") as temporary:
            temporary.write_bytes(b"123")
            raise SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageError, match="x was not written: no space left on device. Needed: more than 3 bytes"):
        write()


def test_too_many_open_files_names_the_limit(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors: list[int] = []
    numbers = Path("/proc/self/fd")
    n_open = len(list(numbers.iterdir())) if numbers.exists() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                descriptors.append(os.open(tmp_path, os.O_RDONLY))
        with pytest.raises(
            StorageError, match=rf"x was not written: too many open files. The limit is {n_open + 8} open"
        ):
            write_text(tmp_path / "x", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in descriptors:
            os.close(number)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_340_000_000, "2.3 GB"), (5e12, "5.0 TB")],
)
def test_bytes_in_words(count: float, text: str) -> None:
    assert format_bytes(int(count)) == text
