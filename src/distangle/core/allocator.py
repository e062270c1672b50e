"""Choose whether freed memory stays in the process or returns to the system."""

import ctypes
import os
from collections.abc import Callable, Mapping

# Constants of malloc.h; the values are C ints.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
TRIM_BYTES = 2**31 - 1  # free memory at the end of the heap that the process keeps
MMAP_BYTES = 2**30  # larger blocks come from the system and return to it
OLDER_MMAP_BYTES = 2**25  # the maximum that older versions of glibc accept
SMALL_BYTES = 2**20  # with `return_freed_memory`, larger blocks return to the system
N_ARENAS = 2  # heaps that the threads of a server share


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Make glibc keep freed memory of large arrays for the next array of that size.

    By default each array above a few MiB is requested from the system, zeroed page by page, and returned in every
    batch, which takes up to half of the CPU time (docs/benchmarks.md). This function does nothing outside Linux with
    glibc, or where the environment configures the allocator (MALLOC_..., GLIBC_TUNABLES).

    Args:
        environment: Variables of the process.

    Returns:
        Whether a threshold was changed.
    """
    mallopt = _allocator_option(environment)
    if mallopt is None:
        return False
    # Each call ends the automatic adjustment of both thresholds. If the first fails, the second alone would harm.
    if not (mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) or mallopt(M_MMAP_THRESHOLD, OLDER_MMAP_BYTES)):
        return False
    mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
    return True


def return_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Make glibc return freed memory of large arrays, for a process that waits.

    By default each thread keeps a heap of its own, and freed arrays below 32 MiB stay in it. This function does nothing
    where `keep_freed_memory` does nothing.

    Args:
        environment: Variables of the process.

    Returns:
        Whether a threshold was changed.
    """
    mallopt = _allocator_option(environment)
    if mallopt is None or not mallopt(M_MMAP_THRESHOLD, SMALL_BYTES):
        return False
    mallopt(M_TRIM_THRESHOLD, SMALL_BYTES)
    mallopt(M_ARENA_MAX, N_ARENAS)
    return True


def _allocator_option(environment: Mapping[str, str]) -> Callable[[int, int], int] | None:
    """Return `mallopt` of glibc; None without glibc, or if the environment configures the allocator."""
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment) or not _is_glibc():
        return None
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return mallopt


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; macOS and musl do not know the name
        return False
