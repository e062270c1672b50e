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
from distangle.model.device import is_device_set
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
DEFAULT_FOLDS = 5
MIN_STEPS_PER_PROCESS = 500  # of a fold: a process takes some seconds to start
POLL_S = 0.2


def start_cross_validation(
    screen: Screen,
    config: TrainingConfig,
    out: Path,
    *,
    n_folds: int | None = None,
    hidden_labels: str | None = None,
    say: Say = no_progress,
) -> RunFolder:
    """Make the run folder of a cross-validation, without training yet.

    The network of the run is trained on all sites; the folds give its scores.

    Args:
        screen: A screen that has been written.
        config: Configuration; `expect` says whether plates or experiments stay whole.
        out: A new or empty folder.
        n_folds: Number of folds; None for five, or the number of groups if smaller.
        hidden_labels: Wells with hidden labels, for pseudo labels, such as `experiment=E3`; None hides none.
        say: Called with messages, as on a download.

    Raises:
        FoldError: The screen has fewer groups than folds.
        RunError: The folder is in use, or the screen was never written.
        ConfigError: The configuration is refused by `start_run`.
    """
    expect, origin = expected_groups(screen, config.expect, label=config.target)
    group: Group = "experiment" if expect == "experiments" else "plate"
    n_groups = len(screen.sites[GROUPS[group]].drop_duplicates())
    n_sets = min(DEFAULT_FOLDS, n_groups) if n_folds is None else n_folds
    if not 2 <= n_sets <= n_groups:
        other = "experiments" if expect == "plates" else "plates"
        raise FoldError(
            f"Cross-validation with {n_sets} folds needs at least two {expect} and one per fold; the screen "
            f"has {n_groups}. Use fewer folds, expect {other} (`--expect {other}`), or hold nothing out "
            f"(`--hold-out none`)."
        )
    folds = hold_nothing_out(screen)
    if hidden_labels is not None:
        folds = hide_labels_by(screen, folds, hidden_labels)
    run = start_run(screen, folds, config, out, say=say)
    if is_first():
        plan = {"n_folds": n_sets, "group": group, "expect": expect, "why": origin, "hidden": hidden_labels}
        held_out = f"cross-validation over {n_sets} sets of whole {expect}"
        write_json(run.run, {**run.describe(), "cross_validation": plan, "held_out": held_out})
        run.record(run.run)
    wait_for_all("the plan of the cross-validation")
    return run


def train_cross_validation(
    run: RunFolder, *, screen: Screen | None = None, advance: Say, say: Say, stop: StopRequest | None = None
) -> RunFolder:
    """Train the folds of a run, then its own network on all sites.

    A second call resumes where the first one stopped. With several GPUs the folds are trained in parallel, one on each;
    heads on features are trained in parallel on CPU cores.

    Args:
        run: From `start_cross_validation`.
        screen: The screen, if it has moved.
        advance: Called with a message after every epoch.
        say: Called with messages for the user.
        stop: Polled after every step; None never stops.

    Returns:
        The run.

    Raises:
        RunError: The training of a fold or of the whole run failed.
    """
    plan: Mapping[str, Any] = run.describe()["cross_validation"]
    screen = screen or own_screen(run, same=False)
    config, stop = read_config(run.config), stop or StopRequest()
    config = config.model_copy(update={"loggers": allowed_services(run, config.loggers, say=say)})
    fold_runs = [_fold_run(run, screen, config, plan, number=k) for k in range(plan["n_folds"])]
    unfinished = [fold_run for fold_run in fold_runs if not fold_run.describe()["finished"]]
    devices = _devices(config, screen, n_folds=len(unfinished))
    if len(devices) > 1:
        _measure_features(run, screen, config, stop=stop, say=say)
        _train_in_parallel(
            unfinished,
            devices,
            epochs=config.epochs,
            whole_run=run,
            images=_image_options(screen),
            advance=advance,
            say=say,
            stop=stop,
        )
    for k, fold_run in enumerate(fold_runs, start=1):
        if fold_run.describe()["finished"]:
            continue

        def advance_fold(message: str, number: int = k) -> None:
            advance(f"fold {number} of {len(fold_runs)}: {message}")

        def say_fold(message: str, number: int = k) -> None:
            say(f"fold {number}: {message}")

        with _name_whole_run(run, fold_run):
            train(fold_run, screen=screen, advance=advance_fold, say=say_fold, stop=stop)
    return train(run, screen=screen, advance=advance, say=say, stop=stop)


def _image_options(screen: Screen) -> list[str]:
    """Return the command line option for images that were moved."""
    return ["--images", str(screen.source)] if isinstance(screen.source, Path) else []


@contextlib.contextmanager
def _name_whole_run(run: RunFolder, fold_run: RunFolder) -> Iterator[None]:
    """Replace the fold by the whole run in errors that say how to resume."""
    try:
        yield
    except (StoppedError, StorageError, OutOfMemoryError) as error:
        message = str(error).replace(f"--resume {fold_run.root}", f"--resume {run.root}")
        raise type(error)(message) from error


def _fold_run(
    run: RunFolder, screen: Screen, config: TrainingConfig, plan: Mapping[str, Any], *, number: int
) -> RunFolder:
    """Return the run of one fold; start it if needed."""
    root = run.cross_validation / f"fold-{number + 1}"
    if (root / "run.json").exists():
        return RunFolder.open(root)
    folds = _folds(screen, config, plan, number=number)
    # The statistics of standardization come from the training wells of the fold, not from the held-out ones.
    fold_config = config.model_copy(update={"preprocessing": config.preprocessing.model_copy(update={"fixed": None})})
    fold_config = resolve_auto_settings(fold_config, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())
    shares_features = fold_config.preprocessing == config.preprocessing and not fold_config.preprocessing.transductive
    return start_run(
        screen,
        folds,
        fold_config,
        root,
        features=Path(os.path.relpath(run.features, root)) if shares_features else None,
    )


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
    """Return `CUDA_VISIBLE_DEVICES` of each parallel process.

    With one or none the folds are trained in sequence. Without a GPU the heads of a frozen backbone are trained one
    per core, because a head is too small for two.
    """
    if n_ranks() > 1 or is_device_set():
        return []
    if torch.cuda.is_available():
        return [str(device) for device in range(torch.cuda.device_count())]
    steps = config.epochs * len(screen.sites) / config.batch_size
    if not config.uses_features or steps < MIN_STEPS_PER_PROCESS:
        return []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [""] * min(cores, n_folds)


def _measure_features(run: RunFolder, screen: Screen, config: TrainingConfig, *, stop: StopRequest, say: Say) -> None:
    """Measure the features of the folds before the parallel processes start."""
    store = ImageCache(screen, config.preprocessing, fold=Folds.read(run.folds).of(screen))
    try:
        open_features(run, store, config, before_batch=stop.check, say=say)
    finally:
        store.close()


def _train_in_parallel(
    fold_runs: Sequence[RunFolder],
    devices: Sequence[str],
    *,
    epochs: int,
    whole_run: RunFolder,
    images: Sequence[str] = (),
    advance: Say,
    say: Say,
    stop: StopRequest,
) -> None:
    """Train runs in parallel processes, one per device.

    Args:
        fold_runs: The unfinished runs of the folds.
        devices: From `_devices`.
        epochs: Epochs of each run.
        whole_run: The run that resumes all of them after a stop.
        images: Command line option for images that were moved.
        advance: Called for every epoch of a fold once the fold is trained.
        say: Called with messages for the user.
        stop: When it is requested, the processes are terminated and save their states.
    """
    say(f"{len(fold_runs)} folds are trained in parallel, {min(len(devices), len(fold_runs))} at a time")
    free, waiting, running = list(devices), list(fold_runs), dict[str, tuple[RunFolder, str, subprocess.Popen[str]]]()
    threads = {} if devices[0] else {"OMP_NUM_THREADS": "1"}
    try:
        while waiting or running:
            while waiting and free and not stop.by:
                fold_run, device = waiting.pop(0), free.pop()
                command = [sys.executable, "-m", "distangle", "train", "--resume", str(fold_run.root), *images]
                environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": device}
                process = subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
                running[fold_run.root.name] = fold_run, device, process
            for name, (fold_run, device, process) in list(running.items()):
                try:
                    _, errors = process.communicate(timeout=POLL_S / len(running))
                except subprocess.TimeoutExpired:
                    continue
                del running[name]
                free.append(device)
                _check_exit(fold_run, process.returncode, errors, whole_run=whole_run, stop=stop)
                say(f"{name} of the cross-validation is trained")
                for epoch in range(epochs):
                    advance(f"{name}: epoch {epoch + 1}")
            stop.check()
    finally:
        for _, _, process in running.values():
            process.terminate()
        for _, _, process in running.values():
            process.communicate()


def _check_exit(fold_run: RunFolder, status: int, errors: str, *, whole_run: RunFolder, stop: StopRequest) -> None:
    """Raise the error that ended the process of a fold.

    Raises:
        StoppedError: The process was stopped.
        RunError: The process failed.
    """
    if status == 0:
        return
    if status == StoppedError.status or stop.by:
        raise StoppedError(
            f"Stopped by {stop.by or 'a signal'}; go on with `distangle train --resume {whole_run.root}`."
        )
    last_line = errors.strip().splitlines()[-1] if errors.strip() else "no error message."
    raise RunError(
        f"{fold_run.root} ended with status {status}: {last_line} "
        f"`distangle train --resume {fold_run.root}` shows the whole message."
    )
