"""Kill a training, and the prediction after it, with SIGKILL at many moments; go on each time, and print what came.

    python tests/training/keeping/kill_points.py FOLDER N_POINTS SEED

A process of its own: it loads torch once and forks a child for every attempt, with no thread alive when it forks.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from distangle.cli import main
from tiny_run import fingerprints, tiny_screen, tiny_start

EPOCHS = 2


def attempt(run: Path) -> int:
    """Fork a child that goes on with a run to its end; return its process number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with (run.parent / f"{run.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        go_on(run)
        status = 0
    finally:
        os._exit(status)


def go_on(run: Path) -> None:
    """Train a run to its end and predict, by the verbs."""
    main(["train", "--resume", str(run)])
    main(["predict", str(run)])


def finished(child: int) -> bool:
    """Wait for a child; False when it was killed by SIGKILL."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status != 0:
        message = f"a child ended with status {status}"
        raise RuntimeError(message)
    return True


def stage_of(run: Path) -> str:
    """Return how far a killed run had come: what it has that tells the stages apart."""
    if list(run.rglob(".*.tmp-*")):
        return "within a write"
    if (run / "predictions").exists():
        return "predict"
    if (run / "checkpoints" / "model.safetensors").exists():
        return "after training"
    found = sorted(path.stem for path in run.glob("checkpoints/epoch-*.json"))
    return found[-1] if found else "before the first save"


def kill_and_go_on(fresh: Path, folder: Path, *, n_points: int, seed: int) -> dict[str, object]:
    """Spread SIGKILLs over runs until there were enough; return how many, where, and the hashes of every run."""
    rng = random.Random(seed)
    started = time.monotonic()
    go_on(Path(shutil.copytree(fresh, folder / "warm")))  # loads here what every child would load
    if threading.active_count() > 1:
        message = f"{threading.enumerate()} would not be there after a fork"
        raise RuntimeError(message)
    whole = Path(shutil.copytree(fresh, folder / "whole"))
    begun = time.monotonic()
    finished(attempt(whole))
    lasts = time.monotonic() - begun
    expected = fingerprints(whole)
    killed, runs, wrong = 0, 0, []
    stages: dict[str, int] = {}
    while killed < n_points:
        run = Path(shutil.copytree(fresh, folder / f"run{runs}"))
        runs += 1
        done = False
        while not done:
            child = attempt(run)
            if killed < n_points:
                time.sleep(rng.uniform(0, lasts))
                os.kill(child, signal.SIGKILL)
            done = finished(child)
            if not done:
                killed += 1
                stages[stage_of(run)] = stages.get(stage_of(run), 0) + 1
        found = fingerprints(run)
        wrong += [
            f"{run.name}: {name}" for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        ]
        shutil.rmtree(run)
    return {
        "killed": killed,
        "runs": runs,
        "wrong": wrong,
        "files": sorted(expected),
        "stages": dict(sorted(stages.items())),
        "lasts_s": round(lasts, 3),
        "seconds": round(time.monotonic() - started, 1),
        "sha256": hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    tiny_start(tiny_screen(out), out / "fresh", "saving.every_steps=1", epochs=EPOCHS)
    said = os.dup(1)
    os.dup2(2, 1)  # what the verbs say is not the answer
    answer = json.dumps(kill_and_go_on(out / "fresh", out, n_points=int(sys.argv[2]), seed=int(sys.argv[3])))
    os.write(said, answer.encode())
