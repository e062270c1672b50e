"""A signal makes a training finish its step, save and exit with 75; the resumed result is the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distangle.cli import main
from distangle.core import io
from distangle.errors import StoppedError
from distangle.model import PerturbationClassifier
from distangle.results import RunFolder, verify_run
from distangle.training import stop_at_signals
from distangle.training.checkpointing import manager
from tiny_run import fingerprints, finish_run, tiny_screen, tiny_start

EPOCHS = 2
Hook = Callable[[Callable[[], None], pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/whole (trained without a stop) and runs/fresh (not trained): two epochs of two steps."""
    root = tmp_path_factory.mktemp("signals")
    screen = tiny_screen(root)
    for name in ("whole", "fresh"):
        tiny_start(screen, root / "runs" / name, epochs=EPOCHS)
    finish_run(RunFolder.open(root / "runs/whole"))
    return root


def nth(n: int, act: Callable[[], None]) -> Callable[[], None]:
    """Act on the n-th call."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == n:
            act()

    return call


def in_batch(n: int) -> Hook:
    """Within the n-th batch of the training; two batches are a step."""
    return lambda act, patch: _in_forward(act, patch, n=n, training=True)


def in_validation(n: int) -> Hook:
    """Within the n-th validation."""
    return lambda act, patch: _in_forward(act, patch, n=n, training=False)


def _in_forward(act: Callable[[], None], patch: pytest.MonkeyPatch, *, n: int, training: bool) -> None:
    real, hit = PerturbationClassifier.forward, nth(n, act)

    def forward(self: PerturbationClassifier, *args: Any) -> Any:
        if self.training == training:
            hit()
        return real(self, *args)

    patch.setattr(PerturbationClassifier, "forward", forward)


def before_validation(act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Act before a batch of the validation, when no step is in progress."""
    real = manager.CheckpointManager.stop_between_batches

    def between(self: manager.CheckpointManager) -> None:
        act()
        real(self)

    patch.setattr(manager.CheckpointManager, "stop_between_batches", between)


def in_save(name: str) -> Hook:
    """Between the writing and the naming of a file."""

    def hook(act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
        real = io._sync

        def sync(path: Path) -> None:
            if f".{name}.tmp-" in path.name:
                act()
            real(path)

        patch.setattr(io, "_sync", sync)

    return hook


MOMENTS = {
    "the first batch": (in_batch(1), "step 1 of epoch 1"),
    "the second batch of the first step": (in_batch(2), "step 1 of epoch 1"),
    "the last batch of an epoch": (in_batch(4), "step 2 of epoch 1"),
    "a batch after the first epoch": (in_batch(5), "step 1 of epoch 2"),
    "the last batch of all": (in_batch(8), "step 2 of epoch 2"),
    "the first validation": (in_validation(1), "epoch 1"),
    "before a batch of the validation": (before_validation, "step 2 of epoch 1"),
    "the save of the first epoch": (in_save("epoch-0001.safetensors"), "epoch 1"),
}


@pytest.mark.parametrize(
    ("name", "number"), [*((name, signal.SIGTERM) for name in MOMENTS), ("the first batch", signal.SIGUSR1)]
)
def test_at_any_moment_it_saves_ends_with_75_and_goes_on_byte_for_byte(
    folder: Path,
    name: str,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hook, place = MOMENTS[name]
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/{name} {number.name}")))
    hook(lambda: os.kill(os.getpid(), number), monkeypatch)
    with pytest.raises(SystemExit) as exit_info:
        main(["train", "--resume", str(run.root)])
    monkeypatch.undo()
    assert exit_info.value.code == 75
    message = " ".join(capsys.readouterr().err.split())
    assert f"Stopped by {number.name}. Saved after {place}" in message
    assert f"go on with `distangle train --resume {run.root}`" in message
    report = verify_run(run)
    assert report.differences == ()
    main(["train", "--resume", str(run.root)])
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_closed_terminal_and_ctrl_c_are_such_signals_too(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/{number.name}"))
    in_batch(3)(lambda: os.kill(os.getpid(), number), monkeypatch)
    # Background shells ignore this signal, and children inherit that.
    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as exit_info:
            main(["train", "--resume", str(run)])
    finally:
        signal.signal(number, before)
    assert exit_info.value.code == 75
    assert (run / "checkpoints" / "epoch-0000-step-000002.json").exists()


def test_before_the_first_step_there_is_nothing_to_save(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(folder / "runs/fresh", folder / "runs/early"))
    restore = manager.CheckpointManager.restore

    def signalled(self: manager.CheckpointManager, *args: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        restore(self, *args, **options)

    monkeypatch.setattr(manager.CheckpointManager, "restore", signalled)
    with pytest.raises(SystemExit) as exit_info:
        main(["train", "--resume", str(run)])
    assert exit_info.value.code == 75
    message = " ".join(capsys.readouterr().err.split())
    assert f"Stopped by SIGTERM. To continue, run `distangle train --resume {run}`." in message
    assert not (run / "checkpoints").exists()
    assert not (run / ".lock").exists()


def test_a_signal_after_the_last_epoch_is_too_late_to_stop_anything(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(folder / "runs/fresh", folder / "runs/late"))
    in_validation(2)(lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    main(["train", "--resume", str(run)])
    monkeypatch.undo()
    assert fingerprints(run) == fingerprints(folder / "runs/whole")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_second_signal_ends_at_once_and_nothing_is_lost_but_the_step(folder: Path) -> None:
    run = Path(shutil.copytree(folder / "runs/fresh", folder / "runs/twice"))
    child = os.fork()
    if child == 0:
        patch = pytest.MonkeyPatch()
        in_batch(5)(lambda: twice(), patch)
        main(["train", "--resume", str(run)])
        os._exit(1)
    start = time.monotonic()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 75
    assert time.monotonic() - start < 20
    assert not (run / "checkpoints" / "epoch-0001-step-000001.json").exists()
    messages: list[str] = []
    finish_run(RunFolder.open(run), say=messages.append)
    assert f"cleared the lock of process {child}" in messages[0]
    assert messages[1] == "resumed after epoch 1"
    assert fingerprints(run) == fingerprints(folder / "runs/whole")


def twice() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def test_what_was_ignored_stays_ignored_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with stop_at_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)  # as under nohup
            assert stop.by == ""
            stop.can_wait = True
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.by == "SIGTERM"
            with pytest.raises(StoppedError, match="Stopped by SIGTERM"):
                stop.check()
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_real_process_saves_within_ten_seconds(folder: Path) -> None:
    out = folder / "runs/process"
    arguments = ["train", str(folder / "screen"), "--from", str(folder / "runs/fresh"), "--epochs", "4000"]
    with subprocess.Popen(
        [sys.executable, "-m", "distangle", *arguments, "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not (out / "metrics.csv").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        signal_time = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 75, message
    assert time.monotonic() - signal_time < 10
    assert "SIGTERM: finishing this step, then saving." in message
    assert "Stopped by SIGTERM. Saved after" in " ".join(message.split())
    assert verify_run(RunFolder.open(out)).differences == ()
    assert not (out / ".lock").exists()


def catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Return whether a process already handles a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("verb", "number", "after_s"),
    [("train", signal.SIGTERM, 0.0), ("train", signal.SIGUSR1, 0.3), ("ablate", signal.SIGUSR1, 0.6)],
)
def test_a_signal_while_the_program_is_still_being_read_ends_with_75_too(
    folder: Path, verb: str, number: signal.Signals, after_s: float
) -> None:
    out = folder / f"runs/read {verb} {number.name}"
    arguments = [verb, str(folder / "screen"), "--out", str(out), "--preset", "scratch", "--epochs", "9"]
    with subprocess.Popen(
        [sys.executable, "-m", "distangle", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not catches(process, number) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(after_s)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 75, message
    assert f"error: Stopped by {number.name}. Run the same command again" in " ".join(message.split())
    assert not (out / ".lock").exists()
    assert not (out / "checkpoints").exists()


def test_of_two_nested_stops_the_inner_one_knows_what_the_outer_one_was_asked() -> None:
    with stop_at_signals("Outer.") as outer:
        with pytest.raises(StoppedError, match=r"Stopped by SIGTERM\. Outer\."):
            os.kill(os.getpid(), signal.SIGTERM)  # a library may swallow this
        with stop_at_signals("Inner.") as inner:
            assert inner is outer
            with pytest.raises(StoppedError, match=r"Stopped by SIGTERM\. Inner\."):
                inner.check()
        with pytest.raises(StoppedError, match=r"Outer\."):
            outer.check()
    with stop_at_signals() as later:
        later.check()
