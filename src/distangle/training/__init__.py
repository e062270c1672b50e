"""Train a network: configuration, batches, loop, checkpoints and curves."""

import importlib
from typing import TYPE_CHECKING, Any

from distangle.core.signals import StopRequest, stop_at_signals
from distangle.training.config import PRESETS, TrainingConfig
from distangle.training.config_parser import read_config, resolve_config, settings, values_of, write_config
from distangle.training.data.cutmix import Box, mix_images, mix_rows, random_box, remaining_area

if TYPE_CHECKING:
    from distangle.training.checkpointing.manager import single_writer
    from distangle.training.cross_validation import start_cross_validation, train_cross_validation
    from distangle.training.dry_run_report import DryRunReport, dry_run
    from distangle.training.run import load_previous_folds, start_run, train, without_services
    from distangle.training.run_description import is_slow_here, preview

__all__ = [
    "PRESETS",
    "Box",
    "DryRunReport",
    "StopRequest",
    "TrainingConfig",
    "single_writer",
    "preview",
    "load_previous_folds",
    "remaining_area",
    "mix_images",
    "mix_rows",
    "random_box",
    "read_config",
    "dry_run",
    "resolve_config",
    "settings",
    "is_slow_here",
    "start_cross_validation",
    "start_run",
    "stop_at_signals",
    "train",
    "train_cross_validation",
    "values_of",
    "without_services",
    "write_config",
]

# These load torch, which takes seconds; settings are listed and checked without it.
# No module has the name of one of these: the import system would put the module in its place.
_LATE = {
    "DryRunReport": "dry_run_report",
    "single_writer": "checkpointing.manager",
    "preview": "run_description",
    "dry_run": "dry_run_report",
    "load_previous_folds": "run",
    "without_services": "run",
    "is_slow_here": "run_description",
    "start_cross_validation": "cross_validation",
    "start_run": "run",
    "train": "run",
    "train_cross_validation": "cross_validation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LATE[name]}")
    # The import binds the modules `dry_run` and `preview` under the names of their functions.
    globals().update({other: getattr(module, other) for other, home in _LATE.items() if home == _LATE[name]})
    return globals()[name]
