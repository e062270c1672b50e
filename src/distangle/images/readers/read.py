"""Read images [channel, height, width]; refuse any file that may be damaged."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from distangle.errors import ImageError, PixelTypeError
from distangle.images.jit_threshold import JIT_THRESHOLD
from distangle.images.readers.common import MAX_PIXELS, retry_io
from distangle.images.readers.packed_image import is_packed, packed_header, read_packed
from distangle.images.readers.png import SIGNATURE, check_single, check_stream, png_header, read_pngs
from distangle.images.readers.tiff import probe_tiff, read_tiff, tiff_header
from distangle.images.readers.zarr import is_packed_array, probe_array, read_planes
from distangle.screen.file_pages import ImageHeader
from distangle.screen.indexing.hashing import is_array

_START_BYTES = 4096
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def probe_image(path: Path) -> ImageHeader:
    """Read the header and page descriptions of an image file, without pixels.

    Args:
        path: A PNG or TIFF file or a packed image, detected by its first bytes, not by its name; or the folder of a
            Zarr array.

    Returns:
        Data type (`"uint8"` or `"uint16"`), (height, width) in pixels, number of pages, and their descriptions.

    Raises:
        ImageError: The file is absent, empty, damaged or not an image.
        PixelTypeError: The file is intact, but larger than 64 megapixels, or not gray with 8 to 16 bit.
    """
    return _checked_header(path, _probe)


def _probe(path: Path) -> ImageHeader:
    format, start = _read_start(path)
    if format == "tiff":
        return probe_tiff(path)
    if format == "png":
        check_single(path, start)
        return _png_header(path, start)
    return _header(path)


def _header(path: Path, page: int | None = None) -> ImageHeader:
    """Return only what reading a plane needs.

    It is called for every image of every epoch.
    """
    format, start = _read_start(path)
    if format == "png":
        return _png_header(path, start)
    if format == "packed":
        return ImageHeader(*packed_header(path))
    if format == "array":
        return ImageHeader(*probe_array(path))
    return ImageHeader(*tiff_header(path, page or 0))


def _png_header(path: Path, start: bytes) -> ImageHeader:
    header = png_header(start, path=path)
    return ImageHeader(header.dtype, (header.height, header.width), 1)


def _checked_header(path: Path, read: Callable[[Path], ImageHeader]) -> ImageHeader:
    try:
        header = read(path)
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{path} has a damaged header ({error}). Copy it again from the microscope, then index again."
        ) from error
    if header.dtype not in ("uint8", "uint16"):
        raise PixelTypeError(f"{path} holds {header.dtype} pixels; expected uint8 or uint16 (8, 12 or 16 bit).")
    if header.shape[0] * header.shape[1] > MAX_PIXELS:
        raise PixelTypeError(
            f"{path} claims {header.shape[0]} x {header.shape[1]} pixels; the limit is {MAX_PIXELS} per plane."
        )
    return header


def has_checksum(path: Path) -> bool:
    """Return whether reading a file detects any changed byte of its pixels.

    PNG files and files of `distangle pack` do. TIFF files do not: among its compressions only deflate has a checksum.

    Raises:
        ImageError: The file is absent, empty or of another format.
    """
    format = _file_format(path)
    return is_packed_array(path) if format == "array" else format != "tiff"


def read_image(paths: Sequence[Path], pages: Sequence[int | None]) -> np.ndarray:
    """Read one image: every channel of one site.

    Args:
        paths: One file per channel; several channels may share a file.
        pages: The page in a multi-page file, or None for a file of a single plane.

    Returns:
        uint8 or uint16 [channel, height, width].

    Raises:
        ImageError: A file is damaged, the channels differ in shape or bit depth, or a network file system failed
            repeatedly.
        MemoryError: Memory is too small for the pixels.
    """
    return retry_io(lambda: _read_image(paths, pages))


def _read_image(paths: Sequence[Path], pages: Sequence[int | None]) -> np.ndarray:
    packed = _read_packed(paths, pages)
    if packed is not None:
        return packed
    pngs = read_pngs(paths) if JIT_THRESHOLD.is_reached and not any(pages) else None
    if pngs is not None:
        return pngs
    planes = [_read_plane(path, page) for path, page in zip(paths, pages, strict=True)]
    first = planes[0]
    for path, plane in zip(paths, planes, strict=True):
        if plane.shape != first.shape or plane.dtype != first.dtype:
            raise ImageError(
                f"{path} is {plane.dtype} {plane.shape}, but {paths[0]} of the same site is {first.dtype} "
                f"{first.shape}. All channels of a site must agree; index the screen again to find such sites."
            )
    image = np.stack(planes)
    JIT_THRESHOLD.count(image.size)
    return image


def _read_packed(paths: Sequence[Path], pages: Sequence[int | None]) -> np.ndarray | None:
    """Return the channels of a packed image or of one array; None for other files."""
    channels = [page for page in pages if page is not None]
    if len(set(paths)) > 1 or len(channels) < len(pages):
        return None
    format = _file_format(paths[0])
    if format == "array":
        _checked_header(paths[0], _header)
        return read_planes(paths[0], channels)
    if format != "packed":
        return None
    image = read_packed(paths[0])
    if channels == list(range(len(image))):
        return image
    if max(channels) >= len(image):
        raise ImageError(
            f"{paths[0]} has {len(image)} channels, but {channels} were requested. Index or pack the screen again."
        )
    return np.ascontiguousarray(image[channels])


def _file_format(path: Path) -> str:
    return _read_start(path)[0]


def _read_start(path: Path) -> tuple[str, bytes]:
    """Return the format of a file and its first bytes: opening a small file takes longer than reading it."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is slower, a million times
            start = file.read(_START_BYTES)
    except OSError as error:
        if isinstance(error, IsADirectoryError) and is_array(path):
            return "array", b""
        raise ImageError(
            f"{path} cannot be opened ({error.strerror}). Was it moved after indexing? Name the folder of the images "
            "(`--images FOLDER`), or index again."
        ) from error
    if start.startswith(SIGNATURE):
        return "png", start
    if start.startswith(_TIFF):
        return "tiff", start
    head = start[:16]
    if is_packed(head):
        return "packed", start
    # The content is not quoted: a link may lead to a private file.
    problem = "is empty (0 bytes)" if not head else f"does not start like an image, {_resemblance(head)}"
    raise ImageError(f"{path} {problem}; expected a PNG or TIFF file, or a packed image.")


def _resemblance(head: bytes) -> str:
    """Return which format an unsupported file starts like."""
    for name, start in (
        ("JPEG", b"\xff\xd8\xff"),
        ("BMP", b"BM"),
        ("GIF", b"GIF8"),
        ("HDF5", b"\x89HDF"),
        ("zip", b"PK"),
    ):
        if head.startswith(start):
            return f"but like {name}"
    if not any(head):
        return "but with zeros"
    return "but with text" if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) else "but with other bytes"


def _read_plane(path: Path, page: int | None) -> np.ndarray:
    header = _checked_header(path, lambda file: _header(file, page))
    dtype, n_pages = header.dtype, header.n_pages
    if page is None and n_pages > 1:
        raise ImageError(
            f"{path} has {n_pages} pages; expected one plane. Name the pages when indexing: `--pages COLUMN`."
        )
    if page is not None and page >= n_pages:
        raise ImageError(f"{path} has {n_pages} pages, but page {page} was requested.")
    try:
        format = _file_format(path)
        if format == "packed":
            return np.asarray(read_packed(path)[page or 0])
        if format == "array":
            return np.asarray(read_planes(path, [page or 0])[0])
        plane = _read_png(path) if format == "png" else read_tiff(path, page or 0, max_pixels=MAX_PIXELS)
    except (OSError, SyntaxError, EOFError, ValueError, IndexError) as error:
        if isinstance(error, OSError) and (error.errno == errno.ENOMEM or "out of memory" in str(error)):
            raise MemoryError(str(error)) from error  # no fault of the file
        raise ImageError(
            f"{path} is damaged or truncated ({error}). Copy it again, or remove its site and index again."
        ) from error
    return np.ascontiguousarray(plane.astype(dtype, copy=False))


def _read_png(path: Path) -> np.ndarray:
    # Decoding alone accepts a zeroed tail and a short stream; verify() checks every CRC and consumes the file.
    with Image.open(path, formats=["PNG"]) as opened:
        opened.verify()
    check_stream(path)
    with Image.open(path, formats=["PNG"]) as opened:
        return np.asarray(opened)
