"""Train a network: configuration, batches, loop, checkpoints and curves."""

import importlib
from typing import TYPE_CHECKING, Any

from distangle.stopping import Stop, stop_at_signals
from distangle.training.batches.cutmix import Box, kept_area, mix_images, mix_rows, random_box
from distangle.training.config import PRESETS, TrainingConfig
from distangle.training.repeat import folds_again, without_services
from distangle.training.resolve import read_config, resolve_config, settings, values_of, write_config

if TYPE_CHECKING:
    from distangle.training.cross_validate import start_cross_validation, train_cross_validation
    from distangle.training.keeping.keeper import alone_in
    from distangle.training.outlook import beginning, slow_here
    from distangle.training.rehearsal import Rehearsal, rehearse
    from distangle.training.run import start_run, train

__all__ = [
    "PRESETS",
    "Box",
    "Rehearsal",
    "Stop",
    "TrainingConfig",
    "alone_in",
    "beginning",
    "folds_again",
    "kept_area",
    "mix_images",
    "mix_rows",
    "random_box",
    "read_config",
    "rehearse",
    "resolve_config",
    "settings",
    "slow_here",
    "start_cross_validation",
    "start_run",
    "stop_at_signals",
    "train",
    "train_cross_validation",
    "values_of",
    "without_services",
    "write_config",
]

# These load torch, which takes seconds; the settings are listed and checked without it.
_LATE = {
    "Rehearsal": "rehearsal",
    "alone_in": "keeping.keeper",
    "beginning": "outlook",
    "rehearse": "rehearsal",
    "slow_here": "outlook",
    "start_cross_validation": "cross_validate",
    "start_run": "run",
    "train": "run",
    "train_cross_validation": "cross_validate",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
