"""Choose where a network computes: the processor, or a GPU."""

import contextvars
import re

import torch

from distangle.core.distributed import n_ranks
from distangle.errors import ConfigError, did_you_mean

KINDS = ("cpu", "cuda", "mps")

_named: contextvars.ContextVar[torch.device | None] = contextvars.ContextVar("device", default=None)


def name_device(name: str | None) -> None:
    """Compute on a device from now on, in this context.

    Args:
        name: `cpu`, `cuda`, `cuda:1` or `mps`; None leaves the choice to `training_device` and `named_device`.

    Raises:
        ConfigError: No such device is here, or several ranks run, each of which has its own.
    """
    _named.set(None if name is None else _device(name))


def training_device() -> torch.device:
    """Return the device of a training: named, else a CUDA GPU, else the processor."""
    return _named.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named_device() -> torch.device:
    """Return the named device, else the processor."""
    return _named.get() or torch.device("cpu")


def is_named() -> bool:
    """Whether a person named a device."""
    return _named.get() is not None


def device_name(device: torch.device) -> str:
    """Return such as `NVIDIA H200 (cuda:1)`, or `the processor`."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return "the processor" if device.type == "cpu" else str(device)


def _device(name: str) -> torch.device:
    kind, _, number = name.partition(":")
    if kind not in KINDS or re.fullmatch(r"cpu|mps|cuda(:\d+)?", name) is None:
        raise ConfigError(
            f"--device {name}: expected cpu, cuda, cuda:N (counted from 0) or mps. {did_you_mean(kind, KINDS)}"
        )
    if n_ranks() > 1:
        raise ConfigError(
            f"--device {name}: {n_ranks()} ranks run, and each takes a device of its own. Leave --device out."
        )
    if kind == "cuda":
        _check_cuda(name, int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            f"--device mps: no Apple GPU is here (torch {torch.__version__}). Use --device cpu, or leave it out."
        )
    return torch.device(name)


def _check_cuda(name: str, number: int) -> None:
    count = torch.cuda.device_count()
    if torch.cuda.is_available() and number < count:
        return
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is built without CUDA. Install a build with CUDA (pytorch.org says how)"
    elif not torch.cuda.is_available():
        why = f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU. Look at `nvidia-smi`"
    else:
        here = ", ".join(f"cuda:{k}" for k in range(count))
        raise ConfigError(f"--device {name}: there is no GPU of that number. Expected one of {here}.")
    raise ConfigError(f"--device {name}: {why}, or use --device cpu.")
