"""Train and predict the runs of an ablation; go on where it was stopped."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from distangle.ablation.components import Condition, configure
from distangle.ablation.plan import AblationPlan
from distangle.errors import RunError
from distangle.images import N_VIEWS
from distangle.inference import predict_run
from distangle.results import RunFolder
from distangle.training import StopRequest, read_config, start_run, train, values_of

Say = Callable[[str], None]


def run_folder(plan: AblationPlan, condition: Condition, seed: int) -> Path:
    """Return where the run of a condition and seed lies."""
    return plan.root / "runs" / f"{condition.name}-{seed}"


def count_steps(plan: AblationPlan) -> int:
    """Return how often `run_ablation` will call `advance`."""
    return sum(plan.config.epochs + N_VIEWS for _ in _unfinished(plan))


def run_ablation(
    plan: AblationPlan, *, command: str = "", advance: Say, say: Say, stop: StopRequest | None = None
) -> None:
    """Train and predict every unfinished run, seed by seed.

    Args:
        plan: From `plan_ablation`.
        command: Kept in the runs, as typed.
        advance: Called after every epoch and every pass of a prediction.
        say: Called with sentences that a person should see.
        stop: Polled as in `train`; None never stops.

    Raises:
        RunError: A run was made with other settings, or as in `train`.
        Stopped: `stop` asked for it; the same plan goes on.
    """
    stop = stop or StopRequest()
    for condition, seed in _unfinished(plan):
        stop.check()
        run = _opened(plan, condition, seed, command=command, say=say)
        name = run.root.name

        def step(said: str, name: str = name) -> None:
            advance(f"{name}: {said}")

        def remark(said: str, name: str = name) -> None:
            say(f"{name}: {said}")

        if run.describe()["finished"]:
            for _ in range(plan.config.epochs):
                step("trained before")
        else:
            train(run, screen=plan.screen, advance=step, say=remark, stop=stop)
        predict_run(run, plan.screen, advance=step)


def _unfinished(plan: AblationPlan) -> Iterator[tuple[Condition, int]]:
    for seed in plan.seeds:
        for condition in plan.conditions:
            # The scores are the last file that a prediction writes.
            if not RunFolder(run_folder(plan, condition, seed)).scores.exists():
                yield condition, seed


def _opened(plan: AblationPlan, condition: Condition, seed: int, *, command: str, say: Say) -> RunFolder:
    root, wanted = run_folder(plan, condition, seed), configure(condition, plan.config, seed=seed)
    if not root.exists():
        # A folder that was begun and not finished beginning has another name, and is begun again.
        beside = root.with_name(f".{root.name}.begun")
        if beside.exists():
            shutil.rmtree(beside)
        begun = start_run(plan.screen, plan.folds, wanted, beside, say=say)
        if command:
            begun.add_command(command)
        begun.root.rename(root)
    run = RunFolder.open(root)
    before, now = values_of(read_config(run.config)), values_of(wanted)
    changed = [f"{name} is {before[name]}, not {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        raise RunError(
            f"{root} was made with other settings: {'; '.join(changed)}. Move it away, or name another folder."
        )
    return run
