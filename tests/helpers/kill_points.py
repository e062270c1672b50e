"""Kill a training and the prediction after it with SIGKILL at many moments; resume each time; print the outcome.

    python tests/helpers/kill_points.py FOLDER N_POINTS SEED

A process of its own: it loads torch once and forks a child for every attempt, with no thread alive when it forks.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from distangle.cli import main
from tiny_run import fingerprints, tiny_screen, tiny_start

EPOCHS = 2
KILLS = 6  # of one run, at most
CHAINS = 2  # of kills, in parallel
ATTEMPT_S, CHAIN_S = 120, 480  # more than any needs on a busy machine; an alarm ends one that hangs
GOLDEN = 0.618034  # golden ratio: multiples of it modulo 1 leave no large gap
FIRST = "before the first save"
LATE = ("after training", "predict")


def attempt(run: Path) -> int:
    """Fork a child that goes on with a run to its end; return its process number."""
    child = os.fork()
    if child:
        return child
    status = 1
    signal.alarm(ATTEMPT_S)
    try:
        with (run.parent / f"{run.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        finish_run(run)
        status = 0
    finally:
        os._exit(status)


def finish_run(run: Path) -> None:
    """Train a run to its end and predict, by the verbs."""
    main(["train", "--resume", str(run)])
    main(["predict", str(run)])


def wait_for_end(child: int) -> bool:
    """Wait for a child; False when it was killed by SIGKILL."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        message = f"a child ended with status {status} instead of 0 or {-signal.SIGKILL} (SIGKILL)"
        raise RuntimeError(message)
    return status == 0


def stage_of(run: Path) -> str:
    """Return the stage that a killed run had reached, judged by its files."""
    if (run / "predictions").exists():
        return "predict"
    if (run / "checkpoints" / "model.safetensors").exists():
        return "after training"
    stages = sorted(path.stem for path in run.glob("checkpoints/epoch-*.json"))
    return stages[-1] if stages else FIRST


def cpu_seconds_of(child: int) -> float:
    """Return the CPU seconds of a process; wall time means little on a busy machine.

    For a process that has ended but was not waited for, it is the total.
    """
    return time.clock_gettime(~child << 3 | 2)  # what clock_getcpuclockid(3) gives


def time_stages(run: Path) -> tuple[float, dict[str, float]]:
    """Let a run finish; return its CPU time, and the CPU time at which each stage was first reached."""
    stage_times, cpu_time = {FIRST: 0.0}, 0.0
    child = attempt(run)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        cpu_time = cpu_seconds_of(child)
        stage_times.setdefault(stage_of(run), cpu_time)
        time.sleep(0.005)
    wait_for_end(child)
    return cpu_time, stage_times


def kill_after(child: int, work_s: float, *, late_s: float) -> None:
    """Kill a child after this CPU time and a short delay, in which it may wait for the disk.

    A child that ends earlier is not killed.
    """
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if cpu_seconds_of(child) >= work_s:
            time.sleep(late_s)
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(0.001)


def chain(fresh: Path, whole_run: Path, name: str, *, n_points: int, seed: int) -> dict[str, Any]:
    """Spread SIGKILLs over runs until there were enough; return how many, where, and what differs from the whole run.

    A run is killed `KILLS` times, each time at a moment drawn from the work that it would still have taken, and is then
    left to end. The first moments of the runs are spread evenly, so that every stage is met.
    """
    rng = random.Random(seed)
    offset = rng.random()
    total_time, stage_times = time_stages(Path(shutil.copytree(fresh, fresh.with_name(f"{name} timed"))))
    start_up = min((stage_time for stage, stage_time in stage_times.items() if stage != FIRST), default=total_time)
    expected = fingerprints(whole_run)
    n_kills, runs, differences = 0, 0, []
    stages: Counter[str] = Counter()
    while n_kills < n_points and runs < 2 * n_points:
        run = Path(shutil.copytree(fresh, fresh.with_name(f"{name} {runs}")))
        runs, of_run, is_finished = runs + 1, 0, False
        while not is_finished:
            child = attempt(run)
            if of_run < KILLS and n_kills < n_points:
                stage = stage_of(run)
                remaining = total_time - stage_times.get(stage, 0.0) + (start_up if stage != FIRST else 0.0)
                share = rng.random() if of_run else (offset + GOLDEN * runs) % 1
                kill_after(child, share * remaining, late_s=rng.uniform(0, 0.003))
            is_finished = wait_for_end(child)
            if not is_finished:
                stage = stage_of(run)
                # Each attempt starts the stages after training from scratch, so more kills there would be equal.
                n_kills, of_run = n_kills + 1, KILLS if stage in LATE else of_run + 1
                stages[stage] += 1
                stages["within a write"] += bool(list(run.rglob(".*tmp*")))
        result = fingerprints(run)
        differences += [
            f"{run.name}: {name}" for name in expected.keys() | result.keys() if expected.get(name) != result.get(name)
        ]
        shutil.rmtree(run)
    return {"killed": n_kills, "runs": runs, "wrong": differences, "stages": stages, "lasts_s": round(total_time, 3)}


def kill_and_resume(fresh: Path, folder: Path, *, n_points: int, seed: int) -> dict[str, Any]:
    """Run as many chains of kills as there are processors, and merge their results."""
    start = time.monotonic()
    whole_run = Path(shutil.copytree(fresh, folder / "whole"))
    finish_run(whole_run)  # loads once what every child would load
    if threading.active_count() > 1:
        message = f"{threading.enumerate()} would not be there after a fork"
        raise RuntimeError(message)
    children = []
    for number in range(CHAINS):
        child = os.fork()
        if child == 0:
            status = 1
            signal.alarm(CHAIN_S)
            try:
                share = n_points // CHAINS + (number < n_points % CHAINS)
                outcome = chain(fresh, whole_run, f"chain {number}", n_points=share, seed=seed * CHAINS + number)
                (folder / f"{number}.json").write_text(json.dumps(outcome))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    failures = [child for child in children if not wait_for_end(child)]
    if failures:
        message = f"{failures} were killed, and not by this script"
        raise RuntimeError(message)
    outcomes = [json.loads((folder / f"{number}.json").read_text()) for number in range(CHAINS)]
    return {
        "killed": sum(outcome["killed"] for outcome in outcomes),
        "runs": sum(outcome["runs"] for outcome in outcomes),
        "wrong": [name for outcome in outcomes for name in outcome["wrong"]],
        "files": sorted(fingerprints(whole_run)),
        "stages": sum((Counter(outcome["stages"]) for outcome in outcomes), Counter[str]()),
        "lasts_s": [outcome["lasts_s"] for outcome in outcomes],
        "seconds": round(time.monotonic() - start, 1),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    tiny_start(tiny_screen(out), out / "fresh", "checkpointing.every_steps=1", epochs=EPOCHS)
    stdout_copy = os.dup(1)
    os.dup2(2, 1)  # keep the output of the verbs apart from the result
    answer = json.dumps(kill_and_resume(out / "fresh", out, n_points=int(sys.argv[2]), seed=int(sys.argv[3])))
    os.write(stdout_copy, answer.encode())
