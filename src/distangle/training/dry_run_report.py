"""Do a few steps of a training, write nothing, and project time and memory."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from distangle.core.distributed import n_ranks
from distangle.core.progress import no_progress
from distangle.core.shrinkage import Correction
from distangle.errors import ConfigError
from distangle.images import ImageCache
from distangle.model import PerturbationClassifier, ReferenceWells, reference_wells
from distangle.model.features import FixedViews, measure_features
from distangle.results.backbone_features import Features
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.training.config import TrainingConfig
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import TrainingSites, labelled_sites, output_names
from distangle.training.initial_state import build_network, check_size, initial_state, resolve_auto_settings
from distangle.training.loop import Callbacks, run_epochs
from distangle.training.state import TrainingState
from distangle.training.validate import SiteEvaluation, validate

IMAGES_IN_MEMORY = 4 << 30  # bytes, as in a training
MAX_STALL = 0.05  # share of a step that the network may wait for images


@dataclass(frozen=True, kw_only=True)
class DryRunReport:
    """Measurements of a few steps, and the projection for the whole training.

    Attributes:
        device: Device of the network.
        steps: Number of measured steps.
        step_s: Median seconds of a step, without the first.
        stall: Share of the time that the network waited for images, in [0, 1].
        steps_per_epoch: Steps per epoch of the whole training.
        epochs: Epochs of the whole training.
        validation_s: Seconds of one validation of the whole held-out fold.
        reading_s: Seconds to read every image once before the first step.
        memory: Peak memory in bytes, of the GPU, or of this process with all the images that it would keep.
        not_included: Parts of the training that the projection leaves out; empty for none.
    """

    device: str
    steps: int
    step_s: float
    stall: float
    steps_per_epoch: int
    epochs: int
    validation_s: float
    reading_s: float
    memory: int
    not_included: str = ""

    @property
    def hours(self) -> float:
        """Projected hours of the whole training."""
        epoch = self.steps_per_epoch * self.step_s + self.validation_s
        return (self.reading_s + self.epochs * epoch) / 3600

    def sentences(self) -> list[str]:
        """Return the report as sentences."""
        lines = [
            f"{self.steps} step(s) on {self.device}: {self.step_s:.3g} s each, {self.stall:.1%} waiting for images",
            f"whole training: {self.epochs} epochs of {self.steps_per_epoch} steps, {_format_duration(self.hours)} "
            f"(reading {_format_duration(self.reading_s / 3600)}, validation {self.validation_s:.3g} s an epoch)",
            f"peak memory: {self.memory / 2**30:.2f} GiB",
            "nothing was written",
        ]
        if self.not_included:
            lines.insert(2, f"not included: {self.not_included}")
        if self.stall > MAX_STALL:
            lines.insert(1, "the network waits for images: use a faster disk, more cores, or preprocessing.binning")
        return lines


def dry_run(screen: Screen, folds: Folds, config: TrainingConfig, *, limit: int) -> DryRunReport:
    """Do a few steps and a part of a validation as `train` would; write nothing.

    The time for work done once per image (reading, validation) is scaled up from the images of these steps. They were
    just read, so the files come from the cache of the system; a cold disk is slower.

    Args:
        screen: The screen.
        folds: Training and held-out sites.
        config: Configuration of the whole training.
        limit: Number of steps, at least 2; the first one is a warm-up and does not count.

    Raises:
        ConfigError: `limit` is below 2, the images are too small for the backbone, or an extra output has the name of
            a class.
        FoldError: The training fold has fewer than two classes that can be read.
    """
    if limit < 2:
        raise ConfigError(
            f"--dry-run is {limit}. Expected 2 steps or more: the first one is a warm-up and does not count."
        )
    fold = folds.of(screen)
    config = resolve_auto_settings(config, screen, np.flatnonzero(fold == TRAIN).tolist())
    check_size(screen, config)
    classes = output_names(screen, config)
    rows = _rows_with_label(screen, fold == TRAIN, classes, config)
    per_step = config.batch_size * config.gradient_accumulation * n_ranks()
    selected = rows[: limit * per_step] if len(rows) > limit * per_step else rows
    n_bytes = _image_bytes(screen, config, n=int(np.isin(fold, (TRAIN, HELD_OUT)).sum()))
    # Images that a training would read again in every epoch are not cached here either.
    memory = IMAGES_IN_MEMORY if n_bytes <= IMAGES_IN_MEMORY else 0
    if config.uses_features:  # measured once per site: here for the selected sites
        table = screen.sites.iloc[selected].reset_index(drop=True)
        store = ImageCache(replace(screen, sites=table), config.preprocessing, memory=memory)
        selected = np.arange(len(table))
    else:
        store = ImageCache(screen, config.preprocessing, fold=fold, memory=memory)
    try:
        start = time.perf_counter()
        features = _measure_features(store, config) if config.uses_features else None
        sites, _ = labelled_sites(store, selected, classes, config, features)
        n_read = int(np.isfinite(store.statistics).all(axis=(1, 2)).sum())
        reading_s = (time.perf_counter() - start) / n_read * int(np.isin(fold, (TRAIN, HELD_OUT)).sum())
        correction = config.correction.fixed
        state = initial_state(
            screen, config, n_classes=len(classes), correction=correction, pretrained=False, say=no_progress
        )
        model = state.classifier
        # A correction takes the same time with zeros, and needs no other site.
        wells = _zero_references(model, store.screen, correction)
        references = None if wells is None else wells.of(np.arange(len(store.screen.sites)))
        is_on_device = next(model.parameters()).device.type != "cpu"
        loader = BatchLoader(
            store,
            sites,
            config,
            n_perturbations=len(classes),
            wells=wells,
            features=features,
            standardize_on_device=is_on_device,
        )
        try:
            step_s, stall = _timed_steps(state, loader, sites, config)
        finally:
            loader.close()
        start = time.perf_counter()
        statistics_of = np.full((len(store.screen.sites), 2, len(screen.metadata.channels)), np.nan, dtype=np.float32)
        statistics_of[sites.rows] = store.statistics[sites.rows] if sites.statistics is None else sites.statistics
        validate(model, sites, statistics_of, SiteEvaluation(store=store, references=references, features=features))
        n_held_out = len(_rows_with_label(screen, fold == HELD_OUT, classes, config))
        validation_s = (time.perf_counter() - start) / len(sites.rows) * n_held_out
        cached_bytes = store.cached_bytes
    finally:
        store.close()
    device = next(state.model.parameters()).device
    return DryRunReport(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor",
        steps=len(step_s),
        step_s=statistics.median(step_s[1:] or step_s),
        stall=stall,
        steps_per_epoch=max(1, len(rows) // per_step),
        epochs=config.epochs,
        validation_s=validation_s,
        reading_s=reading_s,
        not_included=_not_included(config),
        memory=_peak_memory(device) + (0 if device.type == "cuda" else min(n_bytes, IMAGES_IN_MEMORY) - cached_bytes),
    )


def _measure_features(store: ImageCache, config: TrainingConfig) -> Features:
    model = build_network(store.screen, config, n_classes=2, correction=Correction(), pretrained=False, say=no_progress)
    views = FixedViews(
        config.network.n_fixed_views, config.augmentation.min_crop, config.augmentation.gain, config.augmentation.offset
    )
    with tempfile.TemporaryDirectory() as folder:
        return measure_features(model, store, views, Path(folder) / "features")


def _zero_references(model: PerturbationClassifier, screen: Screen, correction: Correction) -> ReferenceWells | None:
    """Return references that have one well of zeros for every group."""
    if model.prior is None:
        return None

    def zeros(rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        return list(rows), np.zeros((len(rows), model.n_features), dtype=np.float32)

    all_rows = np.arange(len(screen.sites))
    return reference_wells(screen, all_rows, correction, zeros, fold=None, training_rows=all_rows)


def _not_included(config: TrainingConfig) -> str:
    items = {
        "pseudo labels, and the steps that they add": config.pseudo_labels.strategy != "none",
        f"the {config.batch_norm.n_controls} controls of each batch": config.batch_norm.n_controls > 0,
        "the choice of a correction": config.correction.method == "auto",
        "norm statistics of each plate in the validation": config.batch_norm.statistics != "running",
    }
    return "; ".join(item for item, applies in items.items() if applies)


def _timed_steps(
    state: TrainingState, loader: BatchLoader, sites: TrainingSites, config: TrainingConfig
) -> tuple[list[float], float]:
    """Return the seconds of every step, and the share of waiting without the first."""
    clock = _StepClock(loader)
    callbacks = Callbacks(validate=lambda model: {}, after_epoch=lambda now: None, after_step=clock.after_step)
    run_epochs(state, loader, sites.labels, config.model_copy(update={"epochs": 1}), callbacks=callbacks)
    times, waits = clock.times_s, clock.waits_s
    start = 1 if len(times) > 2 else 0
    return np.diff(times).tolist(), (waits[-1] - waits[start]) / (times[-1] - times[start])


class _StepClock:
    """Records the end of each step and the waiting time of the network."""

    def __init__(self, loader: BatchLoader) -> None:
        self._loader = loader
        self.times_s, self.waits_s = [time.perf_counter()], [0.0]

    def after_step(self, state: TrainingState) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times_s.append(time.perf_counter())
        self.waits_s.append(self._loader.wait_s)


def _rows_with_label(
    screen: Screen, is_selected: np.ndarray, classes: tuple[str, ...], config: TrainingConfig
) -> np.ndarray:
    return np.flatnonzero(is_selected & screen.sites[config.target].astype(str).isin(classes).to_numpy())


def _image_bytes(screen: Screen, config: TrainingConfig, *, n: int) -> int:
    height, width = screen.metadata.shape or (0, 0)
    pixels = (height // config.preprocessing.binning) * (width // config.preprocessing.binning)
    return n * len(screen.metadata.channels) * pixels * np.dtype(screen.metadata.dtype or "uint16").itemsize


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _format_duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.0f} s"
