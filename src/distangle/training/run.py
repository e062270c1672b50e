"""A run from its beginning, or from its last checkpoint: folder, folds, network, loop, final weights."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distangle import __version__
from distangle.commit import commit_json, commit_text
from distangle.errors import FoldError, RunError
from distangle.images import ImageStore, binning_for, measure_sites
from distangle.model import ModelConfig, build_classifier, load_published_weights, save_model
from distangle.results import RunFolder
from distangle.results.run import relative_path
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen, read_screen
from distangle.training.batches import BatchMaker
from distangle.training.config import TrainingConfig, read_config, write_config
from distangle.training.loggers import loggers_for
from distangle.training.loop import Moments, averaged_weights, make_optimiser, run_epochs
from distangle.training.sites import TrainingSites, class_names, labelled_sites, uses_cell_type
from distangle.training.state import TrainingState, load_state, save_state
from distangle.training.validate import validate

Say = Callable[[str], None]


def start_run(screen: Screen, folds: Folds, config: TrainingConfig, out: Path) -> RunFolder:
    """Make a run folder that holds everything the training needs, without training yet.

    Args:
        screen: A screen that has been written.
        folds: Which sites are held out.
        config: How to train.
        out: A new or empty folder.

    Raises:
        RunError: The folder is in use, or the screen was never written.
        FoldError: The target has fewer than two classes.
    """
    if screen.folder is None:
        message = "The screen lies in no folder yet. Write it first: `distangle index SOURCE --out SCREEN`."
        raise RunError(message)
    classes = class_names(screen, config.target)
    config = _resolved(config, screen)
    run = RunFolder.create(out)
    commit_text(run.config, write_config(config))
    commit_text(run.screen, (screen.folder / "screen.json").read_text(encoding="utf-8"))
    folds.write(run.folds)
    commit_json(
        run.run,
        {
            "distangle": __version__,
            "screen": relative_path(screen.folder, run.root),
            "target": config.target,
            "classes": list(classes),
            "held_out": folds.description,
            "forced": folds.forced,
            "folds_sha256": folds.sha256,
            "finished": False,
        },
    )
    run.record(run.config, run.screen, run.folds, run.run)
    return run


def train(run: RunFolder, *, screen: Screen | None = None, advance: Say, say: Say) -> RunFolder:
    """Train a run to its last epoch, from the beginning or from its last checkpoint.

    Args:
        run: From `start_run`, or one that was stopped.
        screen: Where it is when it has moved.
        advance: Called after every epoch with a few words.
        say: Called with sentences that a person should see.

    Returns:
        The run, with `checkpoints/model.safetensors`.

    Raises:
        RunError: The screen or the folds are no longer those of the run, or a value is not finite.
    """
    config, told = read_config(run.config), run.describe()
    screen = screen or read_screen(run.screen_folder())
    folds = Folds.read(run.folds)
    _check_same(run, screen, folds, told)
    store = ImageStore(screen, config.preparation)
    classes = tuple(told["classes"])
    sites, n_unlabelled = labelled_sites(store, np.flatnonzero(folds.of(screen) == TRAIN), classes, config)
    held_out, held_out_statistics = _held_out_sites(store, folds, classes, config)
    for row, reason in sorted(store.reasons.items()):
        say(f"not used, site {row}: {reason}")
    if n_unlabelled:
        say(f"{n_unlabelled} sites of the training fold have no known {config.target} and are not used.")
    state = _fresh_state(screen, sites, config, n_classes=len(classes), say=say)
    fingerprint = _fingerprint(write_config(config), told["folds_sha256"], "\x1f".join(classes))
    if any(run.checkpoints.glob("epoch-*.json")):
        for sentence in load_state(state, run.checkpoints, fingerprint=fingerprint):
            say(sentence)
        say(f"resumed after epoch {state.epochs_done} of {config.epochs}")
    n_cell_types = len(screen.card.cell_types) if uses_cell_type(screen, config) else 0
    maker = BatchMaker(store, sites, config, n_perturbations=len(classes), n_cell_types=n_cell_types)
    loggers = loggers_for(run.metrics, resumed_at=state.epochs_done)

    def after_epoch(now: TrainingState) -> None:
        written = save_state(now, run.checkpoints, fingerprint=fingerprint)
        for logger in loggers:
            logger.epoch(now.metrics)
        run.record(*written, run.metrics)
        row = now.metrics[-1]
        held = f", held out {row['held_out_accuracy']:.3f}" if "held_out_accuracy" in row else ""
        advance(f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}{held}")

    def measure(model: Any) -> dict[str, float]:
        if held_out is None:
            return {}
        return validate(model, store, held_out, held_out_statistics, n_cell_types=n_cell_types)

    try:
        for done in state.metrics:
            advance(f"loss {done['train_loss']:.3f} (before the resume)")
        run_epochs(state, maker, sites.labels, config, moments=Moments(validate=measure, after_epoch=after_epoch))
    finally:
        maker.close()
        store.close()
        for logger in loggers:
            logger.close()
    _finish(run, state, screen=screen, config=config, sites=sites)
    return run


def _finish(
    run: RunFolder, state: TrainingState, *, screen: Screen, config: TrainingConfig, sites: TrainingSites
) -> None:
    told = run.describe()
    counts = np.bincount(sites.labels, minlength=len(told["classes"]))
    about = {
        "target": config.target,
        "classes": told["classes"],
        "class_sites": counts.tolist(),  # 0: never trained, a junk class
        "channels": [channel.name for channel in screen.card.channels],
        "cell_types": list(screen.card.cell_types) if uses_cell_type(screen, config) else [],
        "preparation": config.preparation.model_dump(mode="json"),
        "shape": list(screen.card.shape) if screen.card.shape else None,
        "epochs": state.epochs_done,
        "precision": config.precision,
    }
    with averaged_weights(state.model, state.average):
        written = save_model(state.model, run.checkpoints / "model.safetensors", about=about)  # type: ignore[arg-type]
    commit_json(run.run, {**told, "finished": True})
    run.record(run.run, *written)


def _fresh_state(
    screen: Screen, sites: TrainingSites, config: TrainingConfig, *, n_classes: int, say: Say
) -> TrainingState:
    network = config.network
    model = build_classifier(
        ModelConfig(
            backbone=network.backbone,
            n_channels=len(screen.card.channels),
            n_perturbations=n_classes,
            n_cell_types=0 if sites.cell_types is None else len(screen.card.cell_types),
            embedding_size=network.embedding_size,
            final_relu=network.final_relu,
            norm_momentum=network.norm_momentum,
            recompute=network.recompute,
            neck_dropout=network.neck_dropout,
            measurements=network.measurements,
        ),
        seed=config.seed,
    )
    if network.weights is not None:
        report = load_published_weights(model, network.weights, first_convolution=network.first_convolution)
        say(str(report))
    if torch.cuda.is_available():
        model = model.cuda()
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainingState(epochs_done=0, model=model, optimiser=make_optimiser(model, config))


def _held_out_sites(
    store: ImageStore, folds: Folds, classes: tuple[str, ...], config: TrainingConfig
) -> tuple[TrainingSites | None, np.ndarray]:
    rows = np.flatnonzero(folds.of(store.screen) == HELD_OUT)
    try:
        held_out, _ = labelled_sites(store, rows, classes, config)
    except FoldError:
        return None, np.empty(0)  # an unlabelled test fold has no curve
    _, statistics = measure_sites(store, held_out.rows.tolist())
    return held_out, statistics


def _resolved(config: TrainingConfig, screen: Screen) -> TrainingConfig:
    """Decide what the configuration leaves to the screen and the machine, so that a resume decides nothing."""
    preparation, precision = config.preparation, config.precision
    if preparation.binning == 0:
        height, width = screen.card.shape or (1, 1)
        preparation = preparation.model_copy(update={"binning": binning_for(height, width)})
    if precision == "auto":
        precision = "bf16" if _multiplies_bf16() else "fp32"
    return config.model_copy(update={"preparation": preparation, "precision": precision})


def _multiplies_bf16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # Without the instruction, bfloat16 on a CPU is emulated and slower than float32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(native is not None and native())


def _check_same(run: RunFolder, screen: Screen, folds: Folds, told: dict[str, Any]) -> None:
    trained = json.loads(run.screen.read_text(encoding="utf-8"))
    if trained["perturbations_sha256"] != screen.card.perturbations_sha256:
        message = (
            f"{screen.folder} has another class list than the screen that {run.root} was started on. Index the "
            f"original tables again, or train a new run on this screen."
        )
        raise RunError(message)
    if folds.sha256 != told["folds_sha256"]:
        message = f"{run.folds} was changed since the run was started. Restore it, or train into a new folder."
        raise RunError(message)


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()
