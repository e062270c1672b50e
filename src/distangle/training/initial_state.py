"""Resolve automatic settings, and build network and optimizer of a configuration."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from distangle.core.progress import no_progress
from distangle.core.shrinkage import Correction
from distangle.errors import ConfigError
from distangle.images import ImageCache, binning_for, fix_statistics
from distangle.model import (
    ModelConfig,
    PerturbationClassifier,
    build_classifier,
    load_published_weights,
    published_weights,
)
from distangle.model.device import multiplies_bf16, training_device
from distangle.network_settings import NETWORK_FIELDS
from distangle.screen import Screen
from distangle.training.adversary import DomainClassifier
from distangle.training.config import Network, TrainingConfig
from distangle.training.data.sites import uses_cell_type
from distangle.training.loop import make_optimizer
from distangle.training.state import TrainingState

Say = Callable[[str], None]


def resolve_auto_settings(config: TrainingConfig, screen: Screen, rows: Sequence[int]) -> TrainingConfig:
    """Resolve the automatic settings from the screen and the machine.

    A resume then decides nothing.

    Args:
        config: The configuration.
        screen: The screen to train on.
        rows: Sites of the training fold.

    Raises:
        ImageError: Images are standardized by those of the training fold, and none of them can be read.
    """
    preprocessing, precision = config.preprocessing, config.precision
    if preprocessing.binning == 0:
        height, width = screen.metadata.shape or (1, 1)
        preprocessing = preprocessing.model_copy(update={"binning": binning_for(height, width)})
    if preprocessing.standardize == "training" and preprocessing.fixed is None:
        store = ImageCache(screen, preprocessing)
        try:
            preprocessing = fix_statistics(store, rows)
        finally:
            store.close()
    if precision == "auto":
        # A head on features computes in float32 at any precision, so autocast would only add conversions.
        precision = "bf16" if multiplies_bf16(training_device()) and not config.uses_features else "fp32"
    return config.model_copy(update={"preprocessing": preprocessing, "precision": precision})


def pretrained_path(network: Network, *, say: Say) -> Path | None:
    """Return the path of pretrained weights, or None; download published ones.

    Args:
        network: Settings with `weights`: None, a path, or `imagenet`.
        say: Called with messages, as on a download.

    Raises:
        WeightsError: The file is missing and cannot be downloaded.
    """
    if network.weights != "imagenet":
        return network.weights
    return published_weights(network.backbone, say=say)


MIN_SIDE_PX = 32  # a published DenseNet halves the image five times


def check_size(screen: Screen, config: TrainingConfig) -> None:
    """Check that the images are large enough for the backbone.

    Args:
        screen: Gives the size of the images.
        config: Resolved configuration.

    Raises:
        ConfigError: The images are too small.
    """
    backbone, binning = config.network.backbone, config.preprocessing.binning
    if screen.metadata.shape is None or not re.fullmatch(r"densenet\d+", backbone):
        return
    side = min(screen.metadata.shape) // max(1, binning)
    if side < MIN_SIDE_PX:
        raise ConfigError(
            f"network.backbone={backbone} needs images of {MIN_SIDE_PX} px or more, and these have {side} px"
            f"{f' after binning by {binning}' if binning > 1 else ''}. Choose a preset for small images "
            f"(`--preset scratch`), or another backbone (`--set network.backbone=resnet_small`)."
        )


def check_weights(screen: Screen, config: TrainingConfig, *, n_classes: int, say: Say) -> None:
    """Check that pretrained weights are available and fit the network.

    Call it before the run folder is made.

    Args:
        screen: Gives the numbers of channels and cell types.
        config: Resolved configuration.
        n_classes: Templates (class weight vectors) of each head.
        say: Called with messages, as on a download.

    Raises:
        ConfigError: The images are too small for the backbone.
        WeightsError: The weights are missing, or belong to another network.
    """
    check_size(screen, config)
    if isinstance(config.network.weights, Path):
        build_network(screen, config, n_classes=n_classes, correction=Correction(), pretrained=True, say=no_progress)
    else:
        pretrained_path(config.network, say=say)


def initial_state(
    screen: Screen,
    config: TrainingConfig,
    *,
    n_classes: int,
    correction: Correction,
    pretrained: bool,
    say: Say,
) -> TrainingState:
    """Build the network and its optimizer as they are before the first step.

    Args:
        screen: Gives the numbers of channels and cell types.
        config: Resolved configuration.
        n_classes: Templates (class weight vectors) of each head.
        correction: Correction of batch effects in the features.
        pretrained: Whether to load `network.weights`; a resume loads a checkpoint instead.
        say: Called with a message on the loaded weights.

    Raises:
        WeightsError: The weights are missing, or belong to another network.
    """
    model = build_network(screen, config, n_classes=n_classes, correction=correction, pretrained=pretrained, say=say)
    if config.compile:
        model.compile()  # in place, so the names of tensors do not change
    device = next(model.parameters()).device.type
    scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
    domain_classifier = _domain_classifier(screen, config)
    modules = nn.ModuleList([model] if domain_classifier is None else [model, domain_classifier.to(device)])
    return TrainingState(
        epochs_done=0,
        model=model,
        optimizer=make_optimizer(modules, config),
        scaler=scaler,
        domain_classifier=domain_classifier,
    )


def build_network(
    screen: Screen,
    config: TrainingConfig,
    *,
    n_classes: int,
    correction: Correction,
    pretrained: bool,
    say: Say,
) -> PerturbationClassifier:
    """Build the network alone; arguments and errors as of `initial_state`."""
    network = config.network
    model = build_classifier(
        ModelConfig(
            n_channels=len(screen.metadata.channels),
            n_perturbations=n_classes,
            n_cell_types=len(screen.metadata.cell_types) if uses_cell_type(screen, config) else 0,
            correction=correction,
            **network.model_dump(include=set(NETWORK_FIELDS)),
        ),
        seed=config.seed,
    )
    weights = pretrained_path(network, say=say) if pretrained else None
    if weights is not None:
        say(str(load_published_weights(model, weights, first_convolution=network.first_convolution)))
    model = model.to(training_device())
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _domain_classifier(screen: Screen, config: TrainingConfig) -> DomainClassifier | None:
    if config.adversary.weight == 0:
        return None
    n_experiments = screen.sites["experiment"].nunique()  # held-out ones too: they are never a label
    return DomainClassifier(
        config.network.embedding_size, n_experiments, hidden=config.adversary.hidden, seed=config.seed
    )
