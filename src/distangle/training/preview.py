"""Describe a training before its first epoch: sites, folds, device."""

from collections.abc import Iterator

import numpy as np

from distangle.model.device import describe_device, training_device
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.training.config import TrainingConfig
from distangle.training.config_parser import read_config

FOR_A_GPU = ("seed", "rcic1st")  # presets


def preview(run: RunFolder, screen: Screen) -> str:
    """Return one paragraph on a training that is about to begin or to go on.

    Args:
        run: From `start_run` or `start_cross_validation`.
        screen: Its screen.
    """
    config, told = read_config(run.config), run.describe()
    fold = Folds.read(run.folds).of(screen)
    labelled = screen.sites[config.target].astype(str).isin(told["classes"]).to_numpy()
    return " ".join(
        _sentences(config, told, screen, trained=labelled & (fold == TRAIN), n=int((fold == HELD_OUT).sum()))
    )


def is_slow_here(run: RunFolder) -> str:
    """Warn where a network made for a GPU is trained on the processor; else ""."""
    config = read_config(run.config)
    if config.preset not in FOR_A_GPU or training_device().type != "cpu":
        return ""
    return (
        f"Preset {config.preset} is made for a GPU, and this trains on the processor: an epoch may take hours. "
        "`--preset small` is made for two cores. `distangle train SCREEN --dry-run 3` measures how long all of it "
        "takes, and writes nothing."
    )


def _sentences(
    config: TrainingConfig, told: dict[str, object], screen: Screen, *, trained: np.ndarray, n: int
) -> Iterator[str]:
    sites = screen.sites[trained]
    n_plates = len(sites.drop_duplicates(["experiment", "plate"]))
    n_classes, n_experiments = sites[config.target].nunique(), sites["experiment"].nunique()
    yield (
        f"Training on {_counted(len(sites), 'site')} of {_counted(n_plates, 'plate')} in "
        f"{_counted(n_experiments, 'experiment')}, with {n_classes:,} values of {config.target}."
    )
    what = str(told["held_out"])
    if "cross_validation" in told:
        yield f"Before it, {what}: each fold is judged on what it did not see."
    elif n:
        yield f"Held out: {what} ({_counted(n, 'site')})."
    else:
        yield "Nothing is held out, so nothing will be scored."
    binning = f", images binned {config.preprocessing.binning} x" if config.preprocessing.binning > 1 else ""
    frozen = ", its filters held still" if config.network.freeze_backbone else ""
    yield (
        f"Preset {config.preset}: {config.network.backbone}{frozen}{binning}, {_counted(config.epochs, 'epoch')}, on "
        f"{describe_device(training_device())}."
    )


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
