"""Cross-validation over whole plates or experiments, then one network that is trained on everything."""

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from distangle.commit import commit_json
from distangle.errors import FoldError, MemoryShortage, RunError, Stopped, StorageError
from distangle.model.device import is_named
from distangle.progress import no_progress
from distangle.ranks import is_first, n_ranks, wait_for_all
from distangle.results import RunFolder
from distangle.screen import Folds, Screen, hold_nothing_out, read_screen
from distangle.screen.expect import expected_groups
from distangle.screen.grouped import GROUPS, Group, by_group
from distangle.screen.unlabelled import hide_labels_by
from distangle.stopping import Stop
from distangle.training.config import TrainingConfig
from distangle.training.resolve import read_config
from distangle.training.run import start_run, train

Say = Callable[[str], None]
USUAL_FOLDS = 5


def start_cross_validation(
    screen: Screen,
    config: TrainingConfig,
    out: Path,
    *,
    n_folds: int | None = None,
    hidden: str | None = None,
    say: Say = no_progress,
) -> RunFolder:
    """Make the run of a network that is trained on everything, to be judged by cross-validation, without training yet.

    Args:
        screen: A screen that has been written.
        config: How to train; `expect` says whether plates or experiments stay whole.
        out: A new or empty folder.
        n_folds: How many folds; None is five, or as many as there are groups.
        hidden: Wells whose labels are hidden, for pseudo labels; None for nobody's.
        say: Told of a download.

    Raises:
        FoldError: Fewer groups than folds.
        RunError: The folder is in use, or the screen was never written.
        ConfigError: As of `start_run`.
    """
    expect, why = expected_groups(screen, config.expect, label=config.target)
    group: Group = "experiment" if expect == "experiments" else "plate"
    n_groups = len(screen.sites[GROUPS[group]].drop_duplicates())
    wanted = min(USUAL_FOLDS, n_groups) if n_folds is None else n_folds
    if not 2 <= wanted <= n_groups:
        other = "experiments" if expect == "plates" else "plates"
        message = (
            f"Cross-validation with {wanted} folds needs as many {expect}, at least two; the screen has {n_groups}. "
            f"Ask for fewer folds, expect {other} (`--expect {other}`), or hold nothing out (`--hold-out none`)."
        )
        raise FoldError(message)
    everything = hold_nothing_out(screen)
    if hidden is not None:
        everything = hide_labels_by(screen, everything, hidden)
    run = start_run(screen, everything, config, out, say=say)
    if is_first():
        plan = {"n_folds": wanted, "group": group, "expect": expect, "why": why, "hidden": hidden}
        held_out = f"cross-validation over {wanted} sets of whole {expect}"
        commit_json(run.run, {**run.describe(), "cross_validation": plan, "held_out": held_out})
        run.record(run.run)
    wait_for_all("the plan of the cross-validation")
    return run


def train_cross_validation(
    run: RunFolder, *, screen: Screen | None = None, advance: Say, say: Say, stop: Stop | None = None
) -> RunFolder:
    """Train the folds of a run, then its own network on everything; go on where an earlier call stopped.

    With several devices the folds are trained side by side, one on each.

    Args:
        run: From `start_cross_validation`.
        screen: Where it is when it has moved.
        advance: Called after every epoch with a few words.
        say: Called with sentences that a person should see.
        stop: Polled after every step; None never stops.

    Returns:
        The run.

    Raises:
        RunError: As of `train`; or a fold that was trained by a process of its own failed.
    """
    plan: Mapping[str, Any] = run.describe()["cross_validation"]
    screen = screen or read_screen(run.screen_folder())
    config, stop = read_config(run.config), stop or Stop()
    parts = [_fold_run(run, screen, config, plan, number=k) for k in range(plan["n_folds"])]
    devices = torch.cuda.device_count() if n_ranks() == 1 and not is_named() else 1
    if devices > 1:
        _train_side_by_side(
            [part for part in parts if not part.describe()["finished"]],
            list(range(devices)),
            images=_images_of(screen),
            say=say,
        )
    for k, part in enumerate(parts, start=1):
        if part.describe()["finished"]:
            continue

        def advance_fold(said: str, number: int = k) -> None:
            advance(f"fold {number} of {len(parts)}: {said}")

        def say_fold(said: str, number: int = k) -> None:
            say(f"fold {number}: {said}")

        with _named_after(run, part):
            train(part, screen=screen, advance=advance_fold, say=say_fold, stop=stop)
    return train(run, screen=screen, advance=advance, say=say, stop=stop)


def _images_of(screen: Screen) -> list[str]:
    """Say on a command line where the images are that this process reads: they may have been moved."""
    return ["--images", str(screen.source)] if isinstance(screen.source, Path) else []


@contextlib.contextmanager
def _named_after(run: RunFolder, part: RunFolder) -> Iterator[None]:
    """Let what ends the training of a fold name the run that goes on with it, and with all that is left."""
    try:
        yield
    except (Stopped, StorageError, MemoryShortage) as error:
        words = str(error).replace(f"--resume {part.root}", f"--resume {run.root}")
        raise type(error)(words) from error


def _fold_run(
    run: RunFolder, screen: Screen, config: TrainingConfig, plan: Mapping[str, Any], *, number: int
) -> RunFolder:
    """Return the run of one fold, begun now if it was not."""
    root = run.cross_validation / f"fold-{number + 1}"
    if (root / "run.json").exists():
        return RunFolder.open(root)
    folds = _folds(screen, config, plan, number=number)
    shared = None if config.preparation.transductive else Path(os.path.relpath(run.features, root))
    return start_run(screen, folds, config, root, features=shared)


def _folds(screen: Screen, config: TrainingConfig, plan: Mapping[str, Any], *, number: int) -> Folds:
    folds = by_group(
        screen, group=plan["group"], n_folds=plan["n_folds"], fold=number, seed=config.seed, label=config.target
    )
    if plan["hidden"] is None:
        return folds
    column, _, values = str(plan["hidden"]).partition("=")
    hidden = screen.sites[column.strip()].astype(str).isin([value.strip() for value in values.split(",")]).to_numpy()
    table = folds.table.copy()
    table.loc[hidden, "fold"] = "unlabelled"
    return dataclasses.replace(folds, table=table, unlabelled=str(plan["hidden"]))


def _train_side_by_side(
    parts: Sequence[RunFolder], devices: Sequence[int | str], *, images: Sequence[str] = (), say: Say
) -> None:
    """Train runs in processes of their own, each on one device at a time; what fails is left for its own error."""

    def one(job: tuple[int, RunFolder]) -> tuple[RunFolder, int, str]:
        position, part = job
        seen = {**os.environ, "CUDA_VISIBLE_DEVICES": str(devices[position % len(devices)])}
        command = [sys.executable, "-m", "distangle", "train", "--resume", str(part.root), *images]
        done = subprocess.run(command, env=seen, capture_output=True, text=True, check=False)
        return part, done.returncode, done.stderr.strip()

    with ThreadPoolExecutor(len(devices)) as pool:
        for part, code, errors in pool.map(one, enumerate(parts)):
            if code:
                message = f"{part.root} ended with status {code}: {errors.splitlines()[-1] if errors else 'no words'}"
                raise RunError(message)
            say(f"{part.root.name} is trained")
