"""What no image of a microscope exceeds, and what no compressed stream may."""

import zlib

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
