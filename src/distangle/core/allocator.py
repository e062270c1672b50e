"""Keep freed memory in the process instead of returning it to the system."""

import ctypes
import os
from collections.abc import Mapping

# Of malloc.h. The values are C ints.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_BYTES = 2**31 - 1  # free memory at the end of the heap that is kept
MMAP_BYTES = 2**30  # blocks from this size on come from the system and go back to it
OLDER_MMAP_BYTES = 2**25  # the most that older versions of glibc accept


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let glibc keep freed memory of large arrays for the next array of that size.

    Otherwise each array of more than some MiB is asked of the system, page by page zeroed by it, and given back, in
    every batch anew, which takes up to half of the processor's time (docs/benchmarks.md). Nothing is done elsewhere
    than under Linux with glibc, nor where the environment sets the allocator (MALLOC_..., GLIBC_TUNABLES).

    Args:
        environment: Variables of the process.

    Returns:
        Whether anything was set.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment):
        return False
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    # Either call ends glibc's own adjustment of both. Where the first is refused, the second alone would do harm.
    if not (mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) or mallopt(M_MMAP_THRESHOLD, OLDER_MMAP_BYTES)):
        return False
    mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
    return True


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; macOS and musl, which do not know the name
        return False
