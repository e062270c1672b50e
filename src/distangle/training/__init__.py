"""The loop and what only training needs: configuration, views of an epoch, schedule, state, curves."""

from distangle.training.config import PRESETS, TrainingConfig, read_config, resolve_config, write_config
from distangle.training.cutmix import Box, kept_area, mix_images, mix_rows, random_box
from distangle.training.run import start_run, train

__all__ = [
    "PRESETS",
    "Box",
    "TrainingConfig",
    "kept_area",
    "mix_images",
    "mix_rows",
    "random_box",
    "read_config",
    "resolve_config",
    "start_run",
    "train",
    "write_config",
]
