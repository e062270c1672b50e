"""Running out of memory ends a training within seconds, with a clear error and no loss of state."""

import multiprocessing
import os
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.errors import OutOfMemoryError
from distangle.images import ImageCache, cache
from distangle.model import PerturbationClassifier
from distangle.results import RunFolder, verify_run
from distangle.screen import read_screen
from distangle.training.checkpointing.manager import ran_out_of_memory
from distangle.training.data.loader import BatchLoader
from tiny_run import fingerprints, finish_run, tiny_screen, whole_and_fresh

EPOCHS = 2
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_and_fresh(tmp_path_factory.mktemp("memory"), epochs=EPOCHS)


def said_by_a_child(work: Callable[[], None], folder: Path, *, within_s: float = 60) -> str:
    """Fork, work, and return what the error of the child said; kill it when it hangs."""
    message_file = folder / "said"
    child = os.fork()
    if child == 0:
        try:
            work()
        except OutOfMemoryError as error:
            message_file.write_text(str(error))
        finally:
            os._exit(0)
    start = time.monotonic()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() - start > within_s:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail(f"a child hung for {within_s} s")
        time.sleep(0.02)
    return message_file.read_text() if message_file.exists() else ""


def no_more_memory(spare: int) -> None:
    """Take away all address space but `spare` bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def decode_without_room(folder: Path) -> None:
    """Decode until memory runs out, and write the error to a file."""
    images = ImageCache(read_screen(folder / "screen"), memory=0)
    images.images([0, 1])  # starts its threads
    no_more_memory(8 << 20)
    arrays = []
    try:
        while len(arrays) < 20:
            arrays.append(images.images([0, 1, 2, 3, 4]))
    except OutOfMemoryError as error:
        (folder / "said").write_text(str(error))


def test_decoding_without_room_names_the_files_of_the_batch(tmp_path: Path) -> None:
    tiny_screen(tmp_path, n_wells=2, size=1024)  # 2 MB an image
    # A new process: the heap of this one may still have room that earlier tests gave back.
    child = multiprocessing.get_context("spawn").Process(target=decode_without_room, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    message = (tmp_path / "said").read_text()
    assert re.match(r"Memory ran out while Experiment E\d plate 1 well B0\d site 1 was decoded \(/", message), message
    assert "Its batch has 5 images: " in message
    for name in ("E1_0_0", "E1_0_1", "E1_1_0", "E2_0_0", "E2_1_1"):
        assert f"{name}.png" in message.partition("Its batch")[2]
    assert "End other programs, request more memory, or use smaller batches, then start again." in message


def test_a_shortage_says_nothing_against_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = tiny_screen(tmp_path, n_wells=2)
    real = cache.read_image

    def short(*args: object) -> np.ndarray:
        raise MemoryError

    images = ImageCache(screen, workers=5)
    monkeypatch.setattr(cache, "read_image", short)
    with pytest.raises(OutOfMemoryError, match="Experiment E1 plate 1 well B02 site 1 was decoded"):
        images.measure(range(6))
    assert images.reasons == {}
    monkeypatch.setattr(cache, "read_image", real)
    assert images.measure(range(6)) == [0, 1, 2, 3, 4, 5]


def fail_on(n: int, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: Exception) -> None:
    real, calls, lock = getattr(owner, name), 0, threading.Lock()

    def fail(*args: object, **options: object) -> object:
        nonlocal calls
        with lock:
            calls += 1
            number = calls
        if number == n:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(owner, name, fail)


# Owner, function, number of the call, error, and its message.
SHORTAGES: dict[str, tuple[object, str, int, Exception, str]] = {
    # The images of both folds are measured once; without room to keep them each is decoded anew for its batch.
    "a decoding thread": (cache, "read_image", 24 + 16 + 3, MemoryError(), "Memory ran out while Experiment E"),
    "the thread of the batches": (
        *(BatchLoader, "_draw_jitter", 4, MemoryError()),
        "Memory ran out (no details). End other programs",
    ),
    "the network": (
        *(PerturbationClassifier, "forward", 5),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 12 bytes."),
        "DefaultCPUAllocator: can't allocate memory: you tried 12 bytes.). End other programs",
    ),
    "the network on a GPU": (
        *(PerturbationClassifier, "forward", 5),
        torch.OutOfMemoryError("CUDA out of memory.\nTried"),
        "Memory ran out (CUDA out of memory.). End other programs",
    ),
}


@pytest.mark.parametrize("case", SHORTAGES)
def test_a_training_without_memory_keeps_its_last_state_and_goes_on_byte_for_byte(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, n, error, message = SHORTAGES[case]
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / "runs" / case)))
    init = ImageCache.__init__
    monkeypatch.setattr(
        ImageCache, "__init__", lambda self, *args, **options: init(self, *args, **options, memory=0, workers=5)
    )
    fail_on(n, monkeypatch, owner, name, error)
    start, threads = time.monotonic(), threading.active_count()
    with pytest.raises(OutOfMemoryError) as failure:
        finish_run(run)
    assert time.monotonic() - start < 10
    assert threading.active_count() == threads
    text = str(failure.value)
    assert message in text
    assert "The last good state is after step" in text
    assert text.endswith(f"go on with `distangle train --resume {run.root}`.")
    assert not (run.root / ".lock").exists()
    monkeypatch.undo()
    assert verify_run(run).differences == ()
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")


def test_another_error_of_the_program_is_not_called_a_shortage() -> None:
    assert not ran_out_of_memory(RuntimeError("shapes cannot be multiplied"))
