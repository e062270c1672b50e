"""When loops that must be compiled, or loaded compiled, begin to pay."""

import functools
import importlib
from types import ModuleType


class JitThreshold:
    """Count the pixels read without numba, whose start takes a second.

    Args:
        pixels: After so many the start is worth it: ten images of six stains, 512 x 512.
    """

    def __init__(self, pixels: int = 15 << 20) -> None:
        self._left = pixels

    @property
    def over(self) -> bool:
        """Whether it is time for numba."""
        return self._left <= 0

    def count(self, pixels: int) -> None:
        """Count pixels that were read without it."""
        self._left -= pixels


JIT_THRESHOLD = JitThreshold()  # of this process: threads may count past each other, which harms nothing


def pixel_kernels() -> ModuleType | None:
    """Return the compiled loops over pixels; None without numba, and before they pay."""
    return load_kernels("distangle.images.numba_kernels") if JIT_THRESHOLD.over else None


@functools.cache
def load_kernels(module: str) -> ModuleType | None:
    """Return a module of compiled loops; None without numba or memory for it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
