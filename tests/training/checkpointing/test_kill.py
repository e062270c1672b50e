"""A run that is killed at any moment, by SIGKILL or within one write, ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distangle.training.checkpointing.checkpoints import ResumeReport, load_state, save_state, sweep_checkpoints
from distangle.training.state import TrainingState

ROOT = Path(__file__).resolve().parents[3]


HUNG_S = 540


def kill_runs(folder: Path, n_points: int, seed: int) -> dict[str, Any]:
    """Run `kill_points.py`; end it and its children if it hangs."""
    script = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/helpers/kill_points.py"), str(folder), str(n_points), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
        start_new_session=True,
    )
    try:
        out, errors = script.communicate(timeout=HUNG_S)
    finally:
        if script.poll() is None:
            os.killpg(script.pid, signal.SIGKILL)
            script.communicate()
    assert script.returncode == 0, errors[-2000:]
    outcome: dict[str, Any] = json.loads(out)
    return outcome


def test_runs_killed_at_100_moments_end_byte_for_byte_as_if_they_had_not(tmp_path: Path) -> None:
    outcome = kill_runs(tmp_path, 100, 1)
    assert outcome["killed"] == 100
    assert outcome["wrong"] == []
    assert {"checkpoints/model.safetensors", "metrics.csv", "predictions/sites.parquet"} <= set(outcome["files"])
    stages = set(outcome["stages"])
    assert "before the first save" in stages, outcome["stages"]
    assert any(stage.startswith("epoch-0001") for stage in stages), outcome["stages"]
    assert stages & {"after training", "predict"}, outcome["stages"]


OPERATIONS = ("open", "write", "fsync", "replace", "unlink", "close", "mkdir", "link")


def in_a_child(work: Callable[[], None]) -> int:
    """Fork, work, and return the status of the child."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crash_at(n: int, *, half: bool) -> None:
    """Crash at the n-th file operation; with `half`, write half of its bytes first."""
    count = 0

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count < n:
                return real(*args, **options)
            if half and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            elif half:
                real(*args, **options)
            os._exit(9)

        return call

    for name in OPERATIONS:
        setattr(os, name, wrap(name))


def state_after(steps: int) -> TrainingState:
    """Return a state in which every number encodes the number of steps done."""
    model = nn.Linear(2, 3)
    state = TrainingState(epochs_done=steps, model=model, optimizer=torch.optim.Adam(model.parameters()))
    for parameter in model.parameters():
        parameter.data.fill_(steps)
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    for slot in state.optimizer.state.values():
        slot["exp_avg"].fill_(steps)
    state.ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state.metrics = [{"epoch": steps}]
    return state


def steps_of(folder: Path) -> int:
    """Load the checkpoint of a resume, check that all its numbers agree, and return its number of steps."""
    state = state_after(0)
    sweep_checkpoints(folder)
    assert load_state(state, folder, fingerprint="f") == ResumeReport(skipped=[], environment_changes=[])
    steps = state.epochs_done
    numbers = [*state.model.parameters(), *state.ema.values()]
    numbers += [slot["exp_avg"] for slot in state.optimizer.state.values()]
    assert all(bool((number == steps).all()) for number in numbers)
    assert state.metrics == [{"epoch": steps}]
    names = {path.name for path in folder.iterdir()}
    assert {name.partition(".")[0] for name in names} <= {f"epoch-{k:04d}" for k in range(1, steps + 1)}
    assert len(names) % 2 == 0, "weights and JSON come in pairs"
    assert len(names) <= 4
    return steps


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("half", [False, True], ids=["before the operation", "within or after it"])
def test_a_crash_at_any_operation_of_a_save_leaves_the_old_state_or_the_new(tmp_path: Path, half: bool) -> None:
    outcomes = []
    for n in range(1, 200):
        folder = tmp_path / str(n)
        for steps in (1, 2, 3):
            save_state(state_after(steps), folder, fingerprint="f")
        state = state_after(4)

        def save(n: int = n, folder: Path = folder, state: TrainingState = state) -> None:
            crash_at(n, half=half)
            save_state(state, folder, fingerprint="f")

        status = in_a_child(save)
        outcomes.append(steps_of(folder))
        if status == 0:
            break
        assert status == 9
    assert outcomes == sorted(outcomes), "once the new state is there, it stays"
    assert set(outcomes) == {3, 4}
    assert len(outcomes) > 20, "open, write, fsync, replace and unlink of three files"
