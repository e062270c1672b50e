"""Retry transient read errors, and bound the size of images and streams."""

import errno
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from distangle.errors import ImageError

T = TypeVar("T")
TRANSIENT_ERRNOS = {
    errno.ESTALE,
    errno.EIO,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EINTR,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
}
RETRY_PAUSES = (0.1, 0.5, 2.0)  # seconds before each retry
MAX_PIXELS = 64 * 1024 * 1024  # per plane; checked in the header before decoding
_RETRIES: deque[float] = deque()  # the pause of every retry; `append` is atomic among threads


def n_retries() -> int:
    """Return the number of reads of this process that were retried."""
    return len(_RETRIES)


def retry_summary(since: int = 0) -> list[str]:
    """Return a sentence on the number of retried reads; empty without retries.

    Args:
        since: Earlier value of `n_retries`.
    """
    n = n_retries() - since
    return [f"Retried reads: {n}, after transient storage errors. Check the network file system."] if n else []


def retry_io(read: Callable[[], T], *, pauses: Sequence[float] = RETRY_PAUSES) -> T:
    """Return the result of `read`; retry after each pause on a transient error.

    Args:
        read: Raises `ImageError` from the causing `OSError`.
        pauses: Seconds to wait before each retry.

    Raises:
        ImageError: As from `read`; after the last retry it states their number.
    """
    for pause in pauses:
        try:
            return read()
        except ImageError as error:
            if not _is_transient(error):
                raise
            _RETRIES.append(pause)
            logging.getLogger(__name__).warning("%s Retrying in %s s.", error, pause)
            time.sleep(pause)
    try:
        return read()
    except ImageError as error:
        if not _is_transient(error):
            raise
        raise ImageError(
            f"{error} The storage failed {len(pauses) + 1} times; check the network file system, then start again."
        ) from error.__cause__


def inflated_length(packed: bytes, limit: int) -> tuple[int, bool]:
    """Inflate a zlib stream up to a limit; return its length and whether it ends.

    Args:
        packed: The stream; bytes after its end are ignored.
        limit: Expected number of bytes. A longer stream counts as one byte longer, so a bomb is not inflated.

    Raises:
        zlib.error: The stream is damaged, or its checksum is wrong.
    """
    stream = zlib.decompressobj()
    n = len(stream.decompress(packed, limit + 1))
    # The checksum after the last byte is only read when more output is requested.
    return n, n <= limit and (stream.eof or stream.decompress(stream.unconsumed_tail, 1) == b"" and stream.eof)


def _is_transient(error: ImageError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in TRANSIENT_ERRNOS
