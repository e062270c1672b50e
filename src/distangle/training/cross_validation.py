"""Cross-validate over whole plates or experiments, then train on everything."""

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distangle.core.distributed import is_first, n_ranks, wait_for_all
from distangle.core.io import write_json
from distangle.core.progress import no_progress
from distangle.core.signals import StopRequest
from distangle.errors import FoldError, OutOfMemoryError, RunError, StoppedError, StorageError
from distangle.images import ImageCache
from distangle.model.device import is_named
from distangle.results import RunFolder
from distangle.results.run_screen import own_screen
from distangle.screen import TRAIN, Folds, Screen, hold_nothing_out
from distangle.screen.folds.expectation import expected_groups
from distangle.screen.folds.hidden_labels import hide_labels_by
from distangle.screen.folds.make import GROUPS, Group, stratified_group_folds
from distangle.training.config import TrainingConfig
from distangle.training.config_parser import read_config
from distangle.training.frozen_features import open_features
from distangle.training.initial_state import resolve_auto_settings
from distangle.training.loggers import allowed_services
from distangle.training.run import start_run, train

Say = Callable[[str], None]
USUAL_FOLDS = 5
STEPS_WORTH_A_PROCESS = 500  # of a fold: a process takes some seconds to start
POLL_S = 0.2


def start_cross_validation(
    screen: Screen,
    config: TrainingConfig,
    out: Path,
    *,
    n_folds: int | None = None,
    hidden: str | None = None,
    say: Say = no_progress,
) -> RunFolder:
    """Make the run folder of a cross-validation, without training yet.

    Its own network is trained on everything, and judged by the folds.

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
        raise FoldError(
            f"Cross-validation with {wanted} folds needs as many {expect}, at least two; the screen has {n_groups}. "
            f"Ask for fewer folds, expect {other} (`--expect {other}`), or hold nothing out (`--hold-out none`)."
        )
    everything = hold_nothing_out(screen)
    if hidden is not None:
        everything = hide_labels_by(screen, everything, hidden)
    run = start_run(screen, everything, config, out, say=say)
    if is_first():
        plan = {"n_folds": wanted, "group": group, "expect": expect, "why": why, "hidden": hidden}
        held_out = f"cross-validation over {wanted} sets of whole {expect}"
        write_json(run.run, {**run.describe(), "cross_validation": plan, "held_out": held_out})
        run.record(run.run)
    wait_for_all("the plan of the cross-validation")
    return run


def train_cross_validation(
    run: RunFolder, *, screen: Screen | None = None, advance: Say, say: Say, stop: StopRequest | None = None
) -> RunFolder:
    """Train the folds of a run, then its own network on everything.

    A second call goes on where the first one stopped.

    With several GPUs the folds are trained side by side, one on each; so are heads on features, one on each core.

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
    screen = screen or own_screen(run, same=False)
    config, stop = read_config(run.config), stop or StopRequest()
    config = config.model_copy(update={"loggers": allowed_services(run, config.loggers, say=say)})
    parts = [_fold_run(run, screen, config, plan, number=k) for k in range(plan["n_folds"])]
    left = [part for part in parts if not part.describe()["finished"]]
    devices = _devices(config, screen, n_folds=len(left))
    if len(devices) > 1:
        _measure_features(run, screen, config, stop=stop, say=say)
        _train_side_by_side(
            left,
            devices,
            epochs=config.epochs,
            whole=run,
            images=_images_of(screen),
            advance=advance,
            say=say,
            stop=stop,
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
    except (StoppedError, StorageError, OutOfMemoryError) as error:
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
    # What images are standardised by is estimated from the training wells of the fold, not from those it holds out.
    own = config.model_copy(update={"preparation": config.preparation.model_copy(update={"fixed": None})})
    own = resolve_auto_settings(own, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())
    alike = own.preparation == config.preparation and not own.preparation.transductive
    return start_run(screen, folds, own, root, features=Path(os.path.relpath(run.features, root)) if alike else None)


def _folds(screen: Screen, config: TrainingConfig, plan: Mapping[str, Any], *, number: int) -> Folds:
    folds = stratified_group_folds(
        screen, group=plan["group"], n_folds=plan["n_folds"], fold=number, seed=config.seed, label=config.target
    )
    if plan["hidden"] is None:
        return folds
    column, _, values = str(plan["hidden"]).partition("=")
    hidden = screen.sites[column.strip()].astype(str).isin([value.strip() for value in values.split(",")]).to_numpy()
    table = folds.table.copy()
    table.loc[hidden, "fold"] = "unlabelled"
    return dataclasses.replace(folds, table=table, unlabelled=str(plan["hidden"]))


def _devices(config: TrainingConfig, screen: Screen, *, n_folds: int) -> list[str]:
    """Return `CUDA_VISIBLE_DEVICES` of each process that trains folds beside others; of one or none, nobody does.

    Without a GPU the heads of a frozen backbone are trained one on each core: a head is too small for two.
    """
    if n_ranks() > 1 or is_named():
        return []
    if torch.cuda.is_available():
        return [str(device) for device in range(torch.cuda.device_count())]
    steps = config.epochs * len(screen.sites) / config.batch_size
    if not config.uses_features or steps < STEPS_WORTH_A_PROCESS:
        return []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [""] * min(cores, n_folds)


def _measure_features(run: RunFolder, screen: Screen, config: TrainingConfig, *, stop: StopRequest, say: Say) -> None:
    """Measure what the folds share before they start, so that no two of them do."""
    store = ImageCache(screen, config.preparation, fold=Folds.read(run.folds).of(screen))
    try:
        open_features(run, store, config, look=stop.check, say=say)
    finally:
        store.close()


def _train_side_by_side(
    parts: Sequence[RunFolder],
    devices: Sequence[str],
    *,
    epochs: int,
    whole: RunFolder,
    images: Sequence[str] = (),
    advance: Say,
    say: Say,
    stop: StopRequest,
) -> None:
    """Train runs in processes of their own, each on one device at a time.

    Args:
        parts: The runs of the folds that are left.
        devices: As of `_devices`.
        epochs: Of each.
        whole: The run that goes on with them after a stop.
        images: The option that names the folder of moved images, where they were moved.
        advance: Called for every epoch of a fold when it is trained.
        say: Told of every fold that is trained.
        stop: When it is asked for, the processes are asked too, and end with their states saved.
    """
    say(f"{len(parts)} folds are trained side by side, {min(len(devices), len(parts))} at a time")
    free, waiting, running = list(devices), list(parts), dict[str, tuple[RunFolder, str, subprocess.Popen[str]]]()
    threads = {} if devices[0] else {"OMP_NUM_THREADS": "1"}
    try:
        while waiting or running:
            while waiting and free and not stop.by:
                part, device = waiting.pop(0), free.pop()
                command = [sys.executable, "-m", "distangle", "train", "--resume", str(part.root), *images]
                seen = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": device}
                process = subprocess.Popen(
                    command, env=seen, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
                running[part.root.name] = part, device, process
            for name, (part, device, process) in list(running.items()):
                try:
                    _, errors = process.communicate(timeout=POLL_S / len(running))
                except subprocess.TimeoutExpired:
                    continue
                del running[name]
                free.append(device)
                _check_ended(part, process.returncode, errors, whole=whole, stop=stop)
                say(f"{name} of the cross-validation is trained")
                for done in range(epochs):
                    advance(f"{name}: epoch {done + 1}")
            stop.check()
    finally:
        for _, _, process in running.values():
            process.terminate()
        for _, _, process in running.values():
            process.communicate()


def _check_ended(part: RunFolder, status: int, errors: str, *, whole: RunFolder, stop: StopRequest) -> None:
    """Hand on what ended the process that trained a fold, unless it is trained.

    Raises:
        Stopped: It was stopped.
        RunError: It failed.
    """
    if status == 0:
        return
    if status == StoppedError.status or stop.by:
        raise StoppedError(f"Stopped by {stop.by or 'a signal'}; go on with `distangle train --resume {whole.root}`.")
    last = errors.strip().splitlines()[-1] if errors.strip() else "without a word"
    raise RunError(
        f"{part.root} ended with status {status}: {last} Try `distangle train --resume {part.root}` to see all of it."
    )
