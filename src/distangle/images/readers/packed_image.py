"""Read packed images of both formats, detected by their first bytes."""

from pathlib import Path

import numpy as np

from distangle.errors import ImageError
from distangle.images.packing import codec, ngff, records


def is_packed(head: bytes) -> bool:
    """Return whether a file with these first bytes is a packed image."""
    return head.startswith((records.MAGIC, codec.MAGIC))


def read_packed(path: Path) -> np.ndarray:
    """Return all channels of a packed image, uint8 or uint16 [channel, row, column].

    Raises:
        ImageError: The file is damaged or missing.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path} cannot be opened ({error.strerror}). Was it moved after packing? Name the folder of the images "
            "(`--images FOLDER`), or index again."
        ) from error
    if blob.startswith(records.MAGIC):
        return records.decode_record(blob, path=path)
    return ngff.read_chunk(blob, path=path)


def packed_header(path: Path) -> tuple[str, tuple[int, int], int]:
    """Return pixel type, (height, width) and number of channels from the header.

    Raises:
        ImageError: The header is damaged.
    """
    with path.open("rb") as file:
        head = file.read(records.MAX_HEADER_BYTES)
    if head.startswith(records.MAGIC):
        header, _ = records.record_header(head, path=path)
        (channels, height, width), dtype = header["shape"], header["dtype"]
    else:
        (channels, height, width), pixel_type = ngff.describe_array(path)
        dtype = str(pixel_type)
    return dtype, (height, width), channels
