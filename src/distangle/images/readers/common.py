"""Retry reads that fail for a moment on a network file system.

What no image of a microscope exceeds, and what no compressed stream may.
"""

import errno
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from distangle.errors import ImageError

T = TypeVar("T")
PASSING = {errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ECONNRESET, errno.EHOSTDOWN}
PAUSES = (0.1, 0.5, 2.0)  # seconds before another try


_AGAIN: deque[float] = deque()  # a pause for every read that was tried once more; append is atomic among threads


def n_retries() -> int:
    """Return how many reads of this process were retried after a storage error."""
    return len(_AGAIN)


def retry_summary(since: int = 0) -> list[str]:
    """Return a sentence on how many reads were retried; empty when none was.

    Args:
        since: What `n_tried_again` said before.
    """
    n = n_retries() - since
    return [f"Reads tried again: {n}. The storage failed for a moment so often: look at its mount."] if n else []


def retry_io(read: Callable[[], T], *, pauses: Sequence[float] = PAUSES) -> T:
    """Return what `read` does; retry after each pause on a transient error.

    Args:
        read: Raises `ImageError` from the `OSError` that is behind it.
        pauses: Seconds to wait; as many tries follow the first.

    Raises:
        ImageError: As `read`; after the last try it says how many there were.
    """
    for pause in pauses:
        try:
            return read()
        except ImageError as error:
            if not _passes(error):
                raise
            _AGAIN.append(pause)
            logging.getLogger(__name__).warning("%s Trying again in %s s.", error, pause)
            time.sleep(pause)
    try:
        return read()
    except ImageError as error:
        if not _passes(error):
            raise
        raise ImageError(
            f"{error} The storage failed {len(pauses) + 1} times; look at its mount, then start again."
        ) from error.__cause__


def _passes(error: ImageError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in PASSING


MAX_PIXELS = 64 * 1024 * 1024  # per plane, read from the header before anything is decoded


def inflated_length(packed: bytes, limit: int) -> tuple[int, bool]:
    """Inflate a zlib stream up to a limit; return its length, and if it ends there.

    Args:
        packed: The stream; bytes after its end are left out.
        limit: Bytes that are expected. A longer stream counts as one byte longer: a bomb is not inflated.

    Raises:
        zlib.error: The stream is damaged, or its checksum is wrong.
    """
    stream = zlib.decompressobj()
    n = len(stream.decompress(packed, limit + 1))
    # The checksum behind the last byte is only read when more is asked for.
    return n, n <= limit and (stream.eof or stream.decompress(stream.unconsumed_tail, 1) == b"" and stream.eof)
