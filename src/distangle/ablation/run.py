"""Train and predict the runs of an ablation, and continue after a stop."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from distangle.ablation.components import Condition, configure
from distangle.ablation.plan import AblationPlan
from distangle.errors import RunError
from distangle.inference import predict_run
from distangle.inference.predict import PREDICTION_PIECES
from distangle.results import RunFolder
from distangle.training import StopRequest, read_config, start_run, train, values_of

Say = Callable[[str], None]
PREDICTION_STEPS = 8  # of a run, beside its epochs


def run_folder(plan: AblationPlan, condition: Condition, seed: int) -> Path:
    """Return the folder of the run of a condition and seed."""
    return plan.root / "runs" / f"{condition.name}-{seed}"


def count_steps(plan: AblationPlan) -> int:
    """Return how often `run_ablation` will call `advance`."""
    return sum(plan.config.epochs + PREDICTION_STEPS for _ in _unfinished_runs(plan))


def run_ablation(
    plan: AblationPlan, *, command: str = "", advance: Say, say: Say, stop: StopRequest | None = None
) -> None:
    """Train and predict every unfinished run, seed by seed.

    Args:
        plan: From `plan_ablation`.
        command: Command line that the runs store, as typed.
        advance: Called with a message after every epoch and every view of a prediction.
        say: Called with messages for the user.
        stop: Polled as in `train`; None never stops.

    Raises:
        RunError: A run was made with other settings, or its training failed.
        StoppedError: A stop was requested; the same plan can be continued.
    """
    stop = stop or StopRequest()
    for condition, seed in _unfinished_runs(plan):
        stop.check()
        run = _open_run(plan, condition, seed, command=command, say=say)
        name = run.root.name

        def step(message: str, name: str = name) -> None:
            advance(f"{name}: {message}")

        def remark(message: str, name: str = name) -> None:
            say(f"{name}: {message}")

        if run.describe()["finished"]:
            for _ in range(plan.config.epochs):
                step("trained before")
        else:
            train(run, screen=plan.screen, advance=step, say=remark, stop=stop)
        predict_run(run, plan.screen, advance=_rarely(step))


def _rarely(step: Callable[[str], None]) -> Callable[[str], None]:
    """Return what a prediction calls, which calls `step` as often as it counts."""
    calls = itertools.count(1)

    def advance(_: str) -> None:
        n = next(calls)
        if n * PREDICTION_STEPS // PREDICTION_PIECES > (n - 1) * PREDICTION_STEPS // PREDICTION_PIECES:
            step(f"predicted {n * 100 // PREDICTION_PIECES} %")

    return advance


def _unfinished_runs(plan: AblationPlan) -> Iterator[tuple[Condition, int]]:
    for seed in plan.seeds:
        for condition in plan.conditions:
            # The scores are the last file of a prediction.
            if not RunFolder(run_folder(plan, condition, seed)).scores.exists():
                yield condition, seed


def _open_run(plan: AblationPlan, condition: Condition, seed: int, *, command: str, say: Say) -> RunFolder:
    root, config = run_folder(plan, condition, seed), configure(condition, plan.config, seed=seed)
    if not root.exists():
        # A new folder gets its final name last; an incomplete one is made again.
        new_root = root.with_name(f".{root.name}.begun")
        if new_root.exists():
            shutil.rmtree(new_root)
        new_run = start_run(plan.screen, plan.folds, config, new_root, say=say)
        if command:
            new_run.add_command(command)
        new_run.root.rename(root)
    run = RunFolder.open(root)
    before, now = values_of(read_config(run.config)), values_of(config)
    changed = [f"{name} is {before[name]}, not {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        raise RunError(
            f"{root} was made with other settings: {'; '.join(changed)}. Move it away, or choose another folder."
        )
    return run
