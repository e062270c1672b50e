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
from distangle.model.features import Features, FixedViews, measure_features
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.training.config import TrainingConfig
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import TrainingSites, labelled_sites, output_names
from distangle.training.initial_state import build_network, check_size, initial_state, resolve_auto_settings
from distangle.training.loop import Callbacks, run_epochs
from distangle.training.state import TrainingState
from distangle.training.validate import SiteEvaluation, validate

IMAGES_IN_MEMORY = 4 << 30  # bytes, as in a training
LARGEST_STALL = 0.05  # share of a step that a network should at most wait for its images


@dataclass(frozen=True, kw_only=True)
class DryRunReport:
    """What was measured, and what it makes of the whole.

    Attributes:
        device: Where the network ran.
        steps: Steps that were done.
        step_s: Seconds of a step in the middle of them, after the first.
        stall: Share of the steps' time that the network waited for images, in [0, 1].
        steps_per_epoch: Of the whole training.
        epochs: Of the whole training.
        validation_s: Seconds of one validation of the whole held-out fold.
        reading_s: Seconds to read every image once before the first step.
        left_out: What the whole training does beside these steps and is not in the projection; empty for nothing.
        memory: Bytes at the peak: of the accelerator, or of this process with the images it would keep.
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
    left_out: str = ""

    @property
    def hours(self) -> float:
        """Projected hours of the whole training."""
        epoch = self.steps_per_epoch * self.step_s + self.validation_s
        return (self.reading_s + self.epochs * epoch) / 3600

    def sentences(self) -> list[str]:
        """Say it to a person."""
        found = [
            f"{self.steps} step(s) on {self.device}: {self.step_s:.3g} s each, {self.stall:.1%} waiting for images",
            f"all of it: {self.epochs} epochs of {self.steps_per_epoch} steps, {_span(self.hours)} "
            f"(reading {_span(self.reading_s / 3600)}, validation {self.validation_s:.3g} s an epoch)",
            f"memory at the peak: {self.memory / 2**30:.2f} GiB",
            "nothing was written",
        ]
        if self.left_out:
            found.insert(2, f"not in it: {self.left_out}")
        if self.stall > LARGEST_STALL:
            found.insert(1, "the network waits for images: give them a faster disk, more cores, or preparation.binning")
        return found


def dry_run(screen: Screen, folds: Folds, config: TrainingConfig, *, limit: int) -> DryRunReport:
    """Do a few steps and one part of a validation as `train` would; write nothing.

    The time of what is done once for all images (reading, validating) is scaled from the images of these steps. They
    have just been read, so the files come from the system's cache: a cold disk is slower.

    Args:
        screen: A screen that has been indexed.
        folds: Which sites are held out.
        config: Of the whole training.
        limit: Steps, at least 2: the first one warms up and does not count.

    Raises:
        ConfigError: `limit` is below 2, the images are too small for the backbone, or an extra output would have the
            name of a class.
        FoldError: As in `start_run` and `train`.
    """
    if limit < 2:
        raise ConfigError(f"--limit is {limit}. Expected 2 steps or more: the first one warms up and does not count.")
    fold = folds.of(screen)
    config = resolve_auto_settings(config, screen, np.flatnonzero(fold == TRAIN).tolist())
    check_size(screen, config)
    classes = output_names(screen, config)
    rows = _labelled_rows(screen, fold == TRAIN, classes, config)
    per_step = config.batch_size * config.accumulate * n_ranks()
    chosen = rows[: limit * per_step] if len(rows) > limit * per_step else rows
    everything = _bytes_of_all(screen, config, n=int(np.isin(fold, (TRAIN, HELD_OUT)).sum()))
    # Images that a training would have to read again in every epoch are not kept here either.
    memory = IMAGES_IN_MEMORY if everything <= IMAGES_IN_MEMORY else 0
    if config.uses_features:  # measured once for each site: here for the chosen ones
        part = screen.sites.iloc[chosen].reset_index(drop=True)
        store = ImageCache(replace(screen, sites=part), config.preparation, memory=memory)
        chosen = np.arange(len(part))
    else:
        store = ImageCache(screen, config.preparation, fold=fold, memory=memory)
    try:
        began = time.perf_counter()
        features = _features(store, config) if config.uses_features else None
        sites, _ = labelled_sites(store, chosen, classes, config, features)
        n_read = int(np.isfinite(store.statistics).all(axis=(1, 2)).sum())
        reading_s = (time.perf_counter() - began) / n_read * int(np.isin(fold, (TRAIN, HELD_OUT)).sum())
        correction = config.correction.fixed
        state = initial_state(
            screen, config, n_classes=len(classes), correction=correction, pretrained=False, say=no_progress
        )
        model = state.classifier
        # What is corrected costs the same whatever it is, and no other site need be read for it.
        wells = _no_wells(model, store.screen, correction)
        references = None if wells is None else wells.of(np.arange(len(store.screen.sites)))
        on_device = next(model.parameters()).device.type != "cpu"
        maker = BatchLoader(
            store, sites, config, n_perturbations=len(classes), wells=wells, features=features, whole=on_device
        )
        try:
            step_s, stall = _timed_steps(state, maker, sites, config)
        finally:
            maker.close()
        began = time.perf_counter()
        statistics_of = np.full((len(store.screen.sites), 2, len(screen.card.channels)), np.nan, dtype=np.float32)
        statistics_of[sites.rows] = store.statistics[sites.rows] if sites.statistics is None else sites.statistics
        validate(model, sites, statistics_of, SiteEvaluation(store=store, references=references, features=features))
        n_held_out = len(_labelled_rows(screen, fold == HELD_OUT, classes, config))
        validation_s = (time.perf_counter() - began) / len(sites.rows) * n_held_out
        kept = store.cached_bytes
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
        left_out=_left_out(config),
        memory=_peak_memory(device) + (0 if device.type == "cuda" else min(everything, IMAGES_IN_MEMORY) - kept),
    )


def _features(store: ImageCache, config: TrainingConfig) -> Features:
    model = build_network(store.screen, config, n_classes=2, correction=Correction(), pretrained=False, say=no_progress)
    views = FixedViews(config.network.views, config.views.smallest_crop, config.views.gain, config.views.offset)
    with tempfile.TemporaryDirectory() as folder:
        return measure_features(model, store, views, Path(folder) / "features")


def _no_wells(model: PerturbationClassifier, screen: Screen, correction: Correction) -> ReferenceWells | None:
    """Return references that rest on one well of zeros for every group."""
    if model.prior is None:
        return None

    def zeros(rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        return list(rows), np.zeros((len(rows), model.n_numbers), dtype=np.float32)

    everybody = np.arange(len(screen.sites))
    return reference_wells(screen, everybody, correction, zeros, fold=None, training_rows=everybody)


def _left_out(config: TrainingConfig) -> str:
    left_out = {
        "giving pseudo labels, and the steps they add": config.pseudo_labels.strategy != "none",
        f"the {config.norms.controls} controls beside each batch": config.norms.controls > 0,
        "choosing a correction": config.correction.method == "auto",
        "norm statistics of each plate in the validation": config.norms.at_test != "running",
    }
    return "; ".join(words for words, is_so in left_out.items() if is_so)


def _timed_steps(
    state: TrainingState, maker: BatchLoader, sites: TrainingSites, config: TrainingConfig
) -> tuple[list[float], float]:
    """Return the seconds of every step, and the share of them, the first left out, that was waiting."""
    clock = _StepClock(maker)
    moments = Callbacks(validate=lambda model: {}, after_epoch=lambda now: None, after_step=clock.after_step)
    run_epochs(state, maker, sites.labels, config.model_copy(update={"epochs": 1}), moments=moments)
    times, waited = clock.times_s, clock.waited_s
    first = 1 if len(times) > 2 else 0
    return np.diff(times).tolist(), (waited[-1] - waited[first]) / (times[-1] - times[first])


class _StepClock:
    """Notes when each step ended, and how long the network had waited for images until then."""

    def __init__(self, maker: BatchLoader) -> None:
        self._maker = maker
        self.times_s, self.waited_s = [time.perf_counter()], [0.0]

    def after_step(self, state: TrainingState) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times_s.append(time.perf_counter())
        self.waited_s.append(self._maker.waited_s)


def _labelled_rows(screen: Screen, chosen: np.ndarray, classes: tuple[str, ...], config: TrainingConfig) -> np.ndarray:
    return np.flatnonzero(chosen & screen.sites[config.target].astype(str).isin(classes).to_numpy())


def _bytes_of_all(screen: Screen, config: TrainingConfig, *, n: int) -> int:
    height, width = screen.card.shape or (0, 0)
    pixels = (height // config.preparation.binning) * (width // config.preparation.binning)
    return n * len(screen.card.channels) * pixels * np.dtype(screen.card.dtype or "uint16").itemsize


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _span(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.0f} s"
