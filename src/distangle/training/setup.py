"""Set up a training: its sites, its network, and the inputs of the loop."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distangle.core.distributed import assert_same_on_all_ranks, is_first, n_ranks, wait_for_all
from distangle.core.io import write_json
from distangle.core.progress import show_action
from distangle.core.shrinkage import Correction, GroupPrior
from distangle.core.signals import StopRequest
from distangle.errors import FoldError, RunError
from distangle.images import ImageCache, fit_normalization
from distangle.model import (
    PerturbationClassifier,
    ReferenceWells,
    measure_features_of_controls,
    reference_wells,
    set_prior,
)
from distangle.results import RunFolder
from distangle.results.backbone_features import Features
from distangle.results.run_screen import own_metadata, own_screen
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.training.checkpointing.checkpoints import has_checkpoint
from distangle.training.checkpointing.manager import CheckpointManager
from distangle.training.config import TrainingConfig
from distangle.training.config_parser import read_config, write_config
from distangle.training.correction import choose_correction
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import TrainingSites, control_sites, labelled_sites, shuffle_labels
from distangle.training.frozen_features import open_features
from distangle.training.initial_state import initial_state
from distangle.training.loop import BeforeEpoch, no_pseudo_labels
from distangle.training.pseudo_labels.unlabelled_wells import join_unlabelled
from distangle.training.state import TrainingState
from distangle.training.validate import SiteEvaluation

Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOutSites:
    """Labelled sites of the held-out fold.

    Attributes:
        sites: The sites.
        statistics: float32 [site of the screen, 2, channel]; empty with features of a frozen backbone.
    """

    sites: TrainingSites
    statistics: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Data that a run learns from and is evaluated on.

    Attributes:
        run: Folder of the run.
        config: Configuration with all automatic settings resolved.
        screen: The screen.
        folds: Held-out sites and sites with hidden labels.
        classes: Names of the network outputs.
        store: The images.
        features: Features of a frozen backbone; None if images are read in every epoch.
        training_rows: All sites of the training fold.
        sites: Training sites with a label that can be read.
        held_out: Sites for the curves; None if none has a label.
    """

    run: RunFolder
    config: TrainingConfig
    screen: Screen
    folds: Folds
    classes: tuple[str, ...]
    store: ImageCache
    features: Features | None
    training_rows: Sequence[int]
    sites: TrainingSites
    held_out: HeldOutSites | None


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """Inputs of the training loop.

    Attributes:
        data: Data of the training.
        state: Network and optimizer, filled from the last checkpoint.
        checkpoints: Saves the state.
        loader: Makes the batches.
        sites: The labelled sites of the batches, followed by those that get pseudo labels.
        evaluation: How the network is evaluated on other sites.
        before_epoch: Returns the pseudo labels of an epoch.
        fingerprint: Hash of configuration, folds and classes.
    """

    data: TrainingData
    state: TrainingState
    checkpoints: CheckpointManager
    loader: BatchLoader
    sites: TrainingSites
    evaluation: SiteEvaluation
    before_epoch: BeforeEpoch
    fingerprint: str


def open_data(run: RunFolder, screen: Screen | None, *, stop: StopRequest, say: Say) -> TrainingData:
    """Open the screen, folds and images of a run, and measure what its sites need.

    Args:
        run: From `start_run`; locked.
        screen: The screen, if it has moved; None for the screen of the run.
        stop: Polled while features are measured.
        say: Called with messages for the user.

    Raises:
        RunError: The screen or the folds differ from those of the run.
        FoldError: The training fold has fewer than two classes that can be read.
    """
    config, description = read_config(run.config), run.describe()
    screen = screen or own_screen(run, same=False)
    folds = Folds.read(run.folds)
    _check_unchanged(run, screen, folds, description)
    fold = folds.of(screen)
    store = ImageCache(screen, config.preprocessing, fold=fold)
    classes = tuple(description["classes"])
    training_rows = np.flatnonzero(fold == TRAIN).tolist()
    features = open_features(run, store, config, before_batch=_stop_check(stop), say=say)
    if features is not None:
        torch.set_num_threads(1)  # a head is small: two threads would mostly wait for each other
    sites, n_unlabelled = labelled_sites(store, np.asarray(training_rows), classes, config, features)
    if config.shuffle_labels:
        sites = shuffle_labels(sites, screen.sites, seed=config.seed)
        say("labels: permuted within each plate (shuffle_labels=true): a null, not a result.")
    held_out = _held_out_sites(store, np.flatnonzero(fold == HELD_OUT), classes, config, features)
    for row, reason in sorted((store.reasons if features is None else features.reasons).items()):
        say(f"not used, site {row}: {reason}")
    if n_unlabelled and config.pseudo_labels.strategy == "none":
        say(f"{n_unlabelled} sites of the training fold have no known {config.target} and are not used.")
    return TrainingData(
        run=run,
        config=config,
        screen=screen,
        folds=folds,
        classes=classes,
        store=store,
        features=features,
        training_rows=training_rows,
        sites=sites,
        held_out=held_out,
    )


def set_up(data: TrainingData, *, stop: StopRequest, say: Say) -> TrainingSetup:
    """Build the network, load the last checkpoint, and prepare the batches.

    Args:
        data: From `open_data`.
        stop: Polled while corrections are compared.
        say: Called with messages for the user.

    Raises:
        RunError: The checkpoints belong to another configuration or network, or all are damaged.
        StorageError: The disk has no space for the checkpoints.
        WeightsError: Pretrained weights are missing, or belong to another network.
        FoldError: Pseudo labels have no unlabelled site, or there are no controls for the batches.
    """
    run, config, store, features = data.run, data.config, data.store, data.features
    resumes = has_checkpoint(run.checkpoints)
    correction = _choose_correction(data, stop=stop, say=say)
    show_action("building the network")
    n_classes = len(data.classes)
    state = initial_state(
        data.screen, config, n_classes=n_classes, correction=correction, pretrained=not resumes, say=say
    )
    fingerprint = _fingerprint(write_config(config), data.folds.sha256, "\x1f".join(data.classes))
    checkpoints = CheckpointManager(run, config.checkpointing, fingerprint=fingerprint, stop=stop)
    checkpoints.restore(state, say=say)
    checkpoints.check_disk_space(state, ema=config.ema_decay > 0)
    wells = _reference_wells(state.classifier, data, resumes=resumes)
    evaluation = SiteEvaluation(
        store=store,
        references=None if wells is None else wells.of(np.arange(len(data.screen.sites))),
        features=features,
        batch_norm=config.batch_norm,
        training_rows=data.training_rows,
        before_batch=checkpoints.stop_between_batches,
    )
    sites, before_epoch = data.sites, no_pseudo_labels
    if config.pseudo_labels.strategy != "none":
        sites, labeller = join_unlabelled(data.folds, data.sites, data.classes, config, evaluation, say=say)
        before_epoch = labeller.before_epoch
    loader = BatchLoader(
        store,
        sites,
        config,
        n_perturbations=n_classes,
        wells=wells,
        features=features,
        controls=control_sites(store, data.folds, config, say=say),
        standardize_on_device=next(state.model.parameters()).device.type != "cpu",
    )
    return TrainingSetup(
        data=data,
        state=state,
        checkpoints=checkpoints,
        loader=loader,
        sites=sites,
        evaluation=evaluation,
        before_epoch=before_epoch,
        fingerprint=fingerprint,
    )


def check_ranks(setup: TrainingSetup) -> None:
    """Wait for all ranks, and check that all train the same.

    Args:
        setup: Setup of this rank.

    Raises:
        RunError: Another rank has other sites, labels or another checkpoint.
    """
    wait_for_all("the first step")
    signature = [setup.fingerprint, setup.state.position, *setup.sites.names, *map(str, setup.sites.labels)]
    assert_same_on_all_ranks(
        "\x1f".join(signature).encode(), name="training fold or checkpoint", where="the first step"
    )


def _choose_correction(data: TrainingData, *, stop: StopRequest, say: Say) -> Correction:
    """Return the correction of a run: configured, saved, or chosen now and saved."""
    run, config = data.run, data.config
    if config.correction.method != "auto" or data.features is None:
        return config.correction.fixed
    if not run.correction.exists():
        show_action("comparing corrections of batches")
        if is_first():
            choice = choose_correction(
                data.store, data.features, data.sites, config, n_classes=len(data.classes), check_stop=_stop_check(stop)
            )
            write_json(run.correction, choice.as_json())
            run.record(run.correction)
        wait_for_all("the choice of a correction")
    saved = json.loads(run.correction.read_text(encoding="utf-8"))
    correction = Correction.model_validate(saved["chosen"])
    say(f"correction: {correction}. {saved['reason']}")
    return correction


def _reference_wells(network: PerturbationClassifier, data: TrainingData, *, resumes: bool) -> ReferenceWells | None:
    """Return the reference wells of a correction; None without one.

    A new network also gets the prior: how much its training groups differ.
    """
    if network.prior is None:
        return None
    store, features, correction = data.store, data.features, network.config.correction

    def numbers_of(rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        return (
            measure_features_of_controls(network, store, rows) if features is None else features.of_whole_images(rows)
        )

    all_rows = range(len(data.screen.sites))
    if not resumes:
        wells = reference_wells(
            data.screen, all_rows, correction, numbers_of, fold=store.fold, training_rows=data.sites.rows
        )
        set_prior(network, wells)
    prior = GroupPrior.from_rows(network.prior.detach().cpu().numpy())
    return reference_wells(data.screen, all_rows, correction, numbers_of, fold=store.fold, prior=prior)


def _stop_check(stop: StopRequest) -> Callable[[], None]:
    """Return the function that ends work between batches; several ranks go on."""
    return stop.check if n_ranks() == 1 else lambda: None


def _held_out_sites(
    store: ImageCache, rows: np.ndarray, classes: tuple[str, ...], config: TrainingConfig, features: Features | None
) -> HeldOutSites | None:
    try:
        sites, _ = labelled_sites(store, rows, classes, config, features)
    except FoldError:
        return None  # a held-out fold without labels has no curve
    statistics = np.empty(0) if features is not None else fit_normalization(store, sites.rows.tolist())[1]
    return HeldOutSites(sites, statistics)


def _check_unchanged(run: RunFolder, screen: Screen, folds: Folds, description: dict[str, Any]) -> None:
    if own_metadata(run)["perturbations_sha256"] != screen.metadata.perturbations_sha256:
        raise RunError(
            f"{screen.folder} has another class list than the screen of {run.root}. Index the original tables "
            f"again, or train a new run on this screen."
        )
    if folds.sha256 != description["folds_sha256"]:
        raise RunError(f"{run.folds} was changed after the run was started. Restore it, or train into a new folder.")


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()
