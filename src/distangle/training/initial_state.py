"""Build the network and optimiser of a configuration.

What the configuration leaves open is decided by the screen and the machine.
"""

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
from distangle.model.device import training_device
from distangle.network_settings import NETWORK_FIELDS
from distangle.screen import Screen
from distangle.training.adversary import DomainClassifier
from distangle.training.config import Network, TrainingConfig
from distangle.training.data.sites import uses_cell_type
from distangle.training.loop import make_optimizer
from distangle.training.state import TrainingState

Say = Callable[[str], None]


def resolve_auto_settings(config: TrainingConfig, screen: Screen, rows: Sequence[int]) -> TrainingConfig:
    """Decide what the configuration leaves to the screen and the machine.

    So a resume decides nothing.

    Args:
        config: As it was asked for.
        screen: To be trained on.
        rows: Sites of the training fold.

    Raises:
        ImageError: Images are to be standardised by those of the training, and none of them can be read.
    """
    preprocessing, precision = config.preprocessing, config.precision
    if preprocessing.binning == 0:
        height, width = screen.card.shape or (1, 1)
        preprocessing = preprocessing.model_copy(update={"binning": binning_for(height, width)})
    if preprocessing.standardize == "training" and preprocessing.fixed is None:
        store = ImageCache(screen, preprocessing)
        try:
            preprocessing = fix_statistics(store, rows)
        finally:
            store.close()
    if precision == "auto":
        # A head on features computes in float32 whatever the precision: to switch would only cost conversions.
        precision = "bf16" if _multiplies_bf16() and not config.uses_features else "fp32"
    return config.model_copy(update={"preprocessing": preprocessing, "precision": precision})


def _multiplies_bf16() -> bool:
    if training_device().type != "cpu":
        return training_device().type == "cuda" and bool(torch.cuda.is_bf16_supported())
    # Without the instruction, bfloat16 on a CPU is emulated and slower than float32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(native is not None and native())


def pretrained_path(network: Network, *, say: Say) -> Path | None:
    """Return the file of pretrained weights; download a published one.

    Args:
        network: Its `weights` is None, a path, or `imagenet`.
        say: Told of a download.

    Raises:
        WeightsError: The file is not there and cannot be had.
    """
    if network.weights != "imagenet":
        return network.weights
    return published_weights(network.backbone, say=say)


LEAST_PX = 32  # that a DenseNet as published halves five times


def check_size(screen: Screen, config: TrainingConfig) -> None:
    """Check that the images are large enough for the backbone.

    Args:
        screen: Says how large they are.
        config: From `resolved`.

    Raises:
        ConfigError: They are not.
    """
    backbone, binning = config.network.backbone, config.preprocessing.binning
    if screen.card.shape is None or not re.fullmatch(r"densenet\d+", backbone):
        return
    side = min(screen.card.shape) // max(1, binning)
    if side < LEAST_PX:
        raise ConfigError(
            f"network.backbone={backbone} needs images of {LEAST_PX} px, and these have {side} px"
            f"{f' after binning by {binning}' if binning > 1 else ''}. Choose a preset for small images "
            f"(`--preset scratch`), or another backbone (`--set network.backbone=resnet_small`)."
        )


def check_weights(screen: Screen, config: TrainingConfig, *, n_classes: int, say: Say) -> None:
    """Check that the pretrained weights are there and fit the network.

    This is done before a folder is made for the run.

    Args:
        screen: Says how many channels and cell types there are.
        config: From `resolved`.
        n_classes: Templates of each head.
        say: Told of a download.

    Raises:
        ConfigError: The images are too small for the backbone.
        WeightsError: They are not there, or are of another network.
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
    """Build the network and its optimiser as they are before the first step.

    Args:
        screen: Says how many channels and cell types there are.
        config: From `resolved`.
        n_classes: Templates of each head.
        correction: What is done to the features of a group.
        pretrained: Whether to load `network.weights`; a resume has better ones and needs no file.
        say: Told what was loaded.

    Raises:
        WeightsError: The weights are not there, or are of another network.
    """
    model = build_network(screen, config, n_classes=n_classes, correction=correction, pretrained=pretrained, say=say)
    if config.compile:
        model.compile()  # in place: names and files stay those of the plain network
    device = next(model.parameters()).device.type
    scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
    reader = _reader(screen, config)
    trained = nn.ModuleList([model] if reader is None else [model, reader.to(device)])
    return TrainingState(
        epochs_done=0, model=model, optimiser=make_optimizer(trained, config), scaler=scaler, reader=reader
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
    """Build the network alone; arguments and errors as of `fresh_state`."""
    network = config.network
    model = build_classifier(
        ModelConfig(
            n_channels=len(screen.card.channels),
            n_perturbations=n_classes,
            n_cell_types=len(screen.card.cell_types) if uses_cell_type(screen, config) else 0,
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


def _reader(screen: Screen, config: TrainingConfig) -> DomainClassifier | None:
    if config.adversary.weight == 0:
        return None
    n_experiments = screen.sites["experiment"].nunique()  # also held-out ones: nobody is ever told to name those
    return DomainClassifier(
        config.network.embedding_size, n_experiments, hidden=config.adversary.hidden, seed=config.seed
    )
