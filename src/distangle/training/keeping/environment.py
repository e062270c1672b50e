"""Describe hardware and libraries: equal bits need equal environments."""

from collections.abc import Mapping

import numpy as np
import torch

from distangle import __version__
from distangle.model.device import training_device
from distangle.ranks import n_ranks

Environment = Mapping[str, str | int]


def environment() -> dict[str, str | int]:
    """Return versions, processor, and numbers of threads and ranks."""
    device = training_device()
    names = {"cpu": f"cpu ({torch.backends.cpu.get_cpu_capability()})"}
    if device.type == "cuda":
        names["cuda"] = torch.cuda.get_device_name(device)
    return {
        "distangle": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": names.get(device.type, device.type),
        "threads": torch.get_num_threads(),
        "ranks": n_ranks(),
    }


def differences(then: Environment, now: Environment) -> list[str]:
    """Return what is no longer as it was, such as `threads 2, now 1`."""
    return [f"{name} {then.get(name, 'unknown')}, now {now[name]}" for name in now if then.get(name) != now[name]]
