"""Decide when numba kernels pay for their start."""

import functools
import importlib
from types import ModuleType


class JitThreshold:
    """Count the pixels read without numba, whose start takes a second.

    Args:
        pixels: Number of pixels after which the start pays: ten images of six channels, 512 x 512.
    """

    def __init__(self, pixels: int = 15 << 20) -> None:
        self._n_left = pixels

    @property
    def is_reached(self) -> bool:
        """Whether numba pays from now on."""
        return self._n_left <= 0

    def count(self, pixels: int) -> None:
        """Count pixels that were read without numba."""
        self._n_left -= pixels


JIT_THRESHOLD = JitThreshold()  # of this process; a lost count between threads does no harm


def pixel_kernels() -> ModuleType | None:
    """Return the compiled loops over pixels; None without numba, and before they pay."""
    return load_kernels("distangle.images.numba_kernels") if JIT_THRESHOLD.is_reached else None


@functools.cache
def load_kernels(module: str) -> ModuleType | None:
    """Return a module of compiled loops; None without numba or memory for it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
