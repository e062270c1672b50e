"""Readers of images that hang, crash or fail at the files whose names say so; other processes import them."""

import errno
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distangle.errors import ImageError
from distangle.images.readers.common import retry_io
from distangle.images.readers.read import read_image


def crash_or_read(paths: Sequence[Path], pages: Sequence[int | None]) -> np.ndarray:
    for path in paths:
        if "sleep" in path.name:
            time.sleep(300)
        if "abort" in path.name:
            os.abort()
        if "segv" in path.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "oom" in path.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "exit" in path.name:
            os._exit(3)
        if "raise" in path.name:
            raise KeyError(path.name)
        if "shortage" in path.name:
            raise MemoryError(path.name)
        if "chatty" in path.name:
            os.write(1, b'{"sites": []}\n')
    return read_image(paths, pages)


def fail_twice(paths: Sequence[Path], pages: Sequence[int | None]) -> np.ndarray:
    """Fail at the first two tries of every image, like a network file system."""
    tries: list[int] = []

    def fail() -> np.ndarray:
        tries.append(1)
        if len(tries) < 3:
            message = f"{paths[0]} cannot be opened."
            raise ImageError(message) from OSError(errno.ESTALE, "Stale file handle")
        return read_image(paths, pages)

    return retry_io(fail, pauses=(0.0, 0.0, 0.0))


def hang(paths: Sequence[Path], pages: Sequence[int | None]) -> np.ndarray:
    time.sleep(300)
    return read_image(paths, pages)
