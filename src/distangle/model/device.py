"""Choose the device a network runs on: the CPU or a GPU."""

import contextvars
import re

import torch

from distangle.core.distributed import n_ranks
from distangle.errors import ConfigError, did_you_mean

DEVICE_TYPES = ("cpu", "cuda", "mps")

_current: contextvars.ContextVar[torch.device | None] = contextvars.ContextVar("device", default=None)


def set_device(name: str | None) -> None:
    """Set the device for all later computations in this context.

    Args:
        name: `cpu`, `cuda`, `cuda:1` or `mps`; None restores the defaults of `training_device` and `inference_device`.

    Raises:
        ConfigError: The device does not exist, or several ranks run, each of which has its own.
    """
    _current.set(None if name is None else parse_device(name))


def training_device() -> torch.device:
    """Return the device set by the user, else a CUDA GPU, else the CPU."""
    return _current.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def inference_device() -> torch.device:
    """Return the device set by the user, else the CPU."""
    return _current.get() or torch.device("cpu")


def is_device_set() -> bool:
    """Return whether the user set a device."""
    return _current.get() is not None


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions that multiply bfloat16.

    Without them, bfloat16 on a CPU is emulated and slower than float32.
    """
    if device.type != "cpu":
        return device.type == "cuda" and bool(torch.cuda.is_bf16_supported())
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(native is not None and native())


def describe_device(device: torch.device) -> str:
    """Return such as `NVIDIA H200 (cuda:1)`, or `the processor` for the CPU."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return "the processor" if device.type == "cpu" else str(device)


def parse_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ConfigError: The device does not exist, or several ranks run, each of which has its own.
    """
    device_type, _, number = name.partition(":")
    if device_type not in DEVICE_TYPES or re.fullmatch(r"cpu|mps|cuda(:\d+)?", name) is None:
        raise ConfigError(
            f"--device {name}: expected cpu, cuda, cuda:N (counted from 0) or mps. "
            f"{did_you_mean(device_type, DEVICE_TYPES)}"
        )
    if n_ranks() > 1:
        raise ConfigError(f"--device {name}: {n_ranks()} ranks run, and each uses its own device. Leave --device out.")
    if device_type == "cuda":
        _check_cuda(name, int(number or 0))
    if device_type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            f"--device mps: torch {torch.__version__} finds no Apple GPU. Use --device cpu, or leave it out."
        )
    return torch.device(name)


def _check_cuda(name: str, number: int) -> None:
    n_gpus = torch.cuda.device_count()
    if torch.cuda.is_available() and number < n_gpus:
        return
    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} is built without CUDA. Install a build with CUDA (see pytorch.org)"
    elif not torch.cuda.is_available():
        reason = f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU. Check `nvidia-smi`"
    else:
        choices = ", ".join(f"cuda:{k}" for k in range(n_gpus))
        raise ConfigError(f"--device {name}: there is no GPU of that number. Expected one of {choices}.")
    raise ConfigError(f"--device {name}: {reason}, or use --device cpu.")
