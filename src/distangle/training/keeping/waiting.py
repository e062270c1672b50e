"""Wait for a folder that is gone: a disk that drops out comes back."""

import time
from collections.abc import Callable
from pathlib import Path

POLL_S = 0.5  # between two looks


def is_there(path: Path) -> bool:
    """Tell whether a path can be seen.

    A stale handle of a file server counts as a disk that is not there.
    """
    try:
        return path.exists()
    except OSError:
        return False


def comes_back(path: Path, *, wait_s: float, given_up: Callable[[], bool]) -> float | None:
    """Wait until a path is there again.

    Args:
        path: What is looked for.
        wait_s: Seconds, at most.
        given_up: Whether somebody wants the end meanwhile.

    Returns:
        Seconds that it took; None when it did not come back.
    """
    began = time.monotonic()
    while time.monotonic() - began < wait_s and not given_up():
        time.sleep(min(POLL_S, wait_s))
        if is_there(path):
            return time.monotonic() - began
    return None
