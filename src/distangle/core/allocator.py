"""Keep freed memory in the process instead of returning it to the system."""

import ctypes
import os
from collections.abc import Mapping

# Constants of malloc.h; the values are C ints.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_BYTES = 2**31 - 1  # free memory at the end of the heap that the process keeps
MMAP_BYTES = 2**30  # larger blocks come from the system and return to it
OLDER_MMAP_BYTES = 2**25  # the maximum that older versions of glibc accept


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
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment):
        return False
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    # Each call ends the automatic adjustment of both thresholds. If the first fails, the second alone would harm.
    if not (mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) or mallopt(M_MMAP_THRESHOLD, OLDER_MMAP_BYTES)):
        return False
    mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
    return True


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; macOS and musl do not know the name
        return False
