"""Describe a training before its first epoch: sites, folds, device."""

from collections.abc import Iterator

import numpy as np

from distangle.model.device import describe_device, training_device
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.training.config import TrainingConfig
from distangle.training.config_parser import read_config

GPU_PRESETS = ("seed", "rcic1st")  # presets


def preview(run: RunFolder, screen: Screen) -> str:
    """Return one paragraph that describes a training before it starts or resumes.

    Args:
        run: From `start_run` or `start_cross_validation`.
        screen: Its screen.
    """
    config, description = read_config(run.config), run.describe()
    fold = Folds.read(run.folds).of(screen)
    has_class = screen.sites[config.target].astype(str).isin(description["classes"]).to_numpy()
    return " ".join(
        _sentences(
            config,
            description,
            screen,
            is_training=has_class & (fold == TRAIN),
            n_held_out=int((fold == HELD_OUT).sum()),
        )
    )


def is_slow_here(run: RunFolder) -> str:
    """Return a warning if a preset for GPUs is trained on the CPU; else ""."""
    config = read_config(run.config)
    if config.preset not in GPU_PRESETS or training_device().type != "cpu":
        return ""
    return (
        f"Preset {config.preset} is made for a GPU, and this training uses the CPU: an epoch may take hours. "
        "`--preset small` is made for two cores. `distangle train SCREEN --dry-run 3` projects the time of the whole "
        "training, and writes nothing."
    )


def _sentences(
    config: TrainingConfig, description: dict[str, object], screen: Screen, *, is_training: np.ndarray, n_held_out: int
) -> Iterator[str]:
    sites = screen.sites[is_training]
    n_plates = len(sites.drop_duplicates(["experiment", "plate"]))
    n_classes, n_experiments = sites[config.target].nunique(), sites["experiment"].nunique()
    yield (
        f"Training on {_count(len(sites), 'site')} of {_count(n_plates, 'plate')} in "
        f"{_count(n_experiments, 'experiment')}, with {n_classes:,} values of {config.target}."
    )
    held_out = str(description["held_out"])
    if "cross_validation" in description:
        yield f"Before it, {held_out}: each fold is scored on its held-out sites."
    elif n_held_out:
        yield f"Held out: {held_out} ({_count(n_held_out, 'site')})."
    else:
        yield "No sites are held out, so there will be no scores."
    binning = f", images binned {config.preprocessing.binning} x" if config.preprocessing.binning > 1 else ""
    frozen = ", frozen" if config.network.freeze_backbone else ""
    yield (
        f"Preset {config.preset}: {config.network.backbone}{frozen}{binning}, {_count(config.epochs, 'epoch')}, on "
        f"{describe_device(training_device())}."
    )


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
