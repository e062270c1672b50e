"""Classify every page of a TIFF file as image or thumbnail, with the reason."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import tifffile

from distangle.errors import PixelTypeError
from distangle.images.readers.ome_xml import MetadataError, is_ome, ome_series
from distangle.screen.file_pages import PlanePosition, Series, Stack

_MAX_PARSED_PAGES = 4096  # pages parsed one by one; with more, only their number is used
_NOT_FULL_SIZE = 0b101  # bits of NewSubfileType: a smaller copy of another page, a mask
_REDUCED_IMAGE = 2  # value of the older SubfileType
_OLD_SUBFILE_TYPE = 255
_STK = 33629  # tag UIC2 of MetaMorph, with an entry per plane
_IMAGEJ = re.compile(r"^(images|channels|slices|frames)=(\d+)\s*$", re.MULTILINE)


def read_page_layout(file: tifffile.TiffFile, path: Path) -> Stack | None:
    """Describe the pages of a TIFF file.

    Args:
        file: The open file.
        path: Path of the file; a companion of OME-XML is read from its folder.

    Returns:
        None for a file of one page.

    Raises:
        PixelTypeError: One page holds several planes, which cannot be addressed.
    """
    n_pages = len(file.pages)
    first = file.pages.first
    _check_one_plane(path, first, n_pages)
    if n_pages == 1:
        return None
    if n_pages > _MAX_PARSED_PAGES:
        return Stack(image_pages=tuple(range(n_pages)))
    pages = [file.pages[number].aspage() for number in range(n_pages)]
    full = tuple(k for k, page in enumerate(pages) if not _is_thumbnail(page)) or tuple(range(n_pages))
    kinds = [(str(page.dtype), tuple(int(side) for side in page.shape)) for page in pages]
    unlike = {k: f"{kinds[k][0]} {' x '.join(map(str, kinds[k][1]))}" for k in full if kinds[k] != kinds[full[0]]}
    description = _description(first)
    source, series, problem = _describe_pages(description, path, full, _channel_labels(file, full))
    return Stack(image_pages=full, odd_pages=unlike, metadata_source=source, series=series, error=problem)


def _describe_pages(
    description: str, path: Path, full: Sequence[int], labels: Sequence[str]
) -> tuple[str, tuple[Series, ...], str]:
    """Return the source of the metadata, their images, and why they are invalid."""
    source = "OME-XML" if is_ome(description) else "ImageJ" if description.startswith("ImageJ=") else "tifffile"
    try:
        if source == "OME-XML":
            series = ome_series(description, path)
            if series:
                _check_pages(series, full)
        elif source == "ImageJ":
            series = _imagej_series(description, full, labels)
        else:
            series = _tifffile_series(description, full)
    except MetadataError as error:
        return source, (), str(error)
    return (source if series else ""), series, ""


def _check_pages(series: Sequence[Series], full: Sequence[int]) -> None:
    """Check that the metadata describe every page of the file exactly once."""
    pages = sorted(page for image in series for page in image.page_of.values())
    if pages != sorted(full):
        raise MetadataError(f"they describe {len(pages)} planes of this file, which has {len(full)} pages")


def _imagej_series(description: str, full: Sequence[int], labels: Sequence[str]) -> tuple[Series, ...]:
    sizes = {name: int(number) for name, number in _IMAGEJ.findall(description)}
    n_channels, n_planes, n_times = (sizes.get(name, 1) for name in ("channels", "slices", "frames"))
    if not sizes.keys() & {"channels", "slices", "frames"}:
        return ()
    if n_channels * n_planes * n_times != len(full):
        raise MetadataError(
            f"{n_channels} channels x {n_planes} slices x {n_times} frames, but the file has {len(full)} pages"
        )
    places = [(c, z, t) for t in range(n_times) for z in range(n_planes) for c in range(n_channels)]
    names = tuple(labels) if len(labels) == n_channels == len(full) else ()
    return (Series(positions=tuple(places), pages=tuple(full), names=names),)


def _tifffile_series(description: str, full: Sequence[int]) -> tuple[Series, ...]:
    """Read the axes in the metadata of tifffile.

    An example is `{"shape": [2, 3, 64, 64], "axes": "CZYX"}`.
    """
    if not description.startswith('{"shape"'):
        return ()
    try:
        metadata = json.loads(description)
        axes, shape = str(metadata.get("axes", "")), [int(side) for side in metadata["shape"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()
    leading = dict(zip(axes[:-2], shape[:-2], strict=False))
    if axes[-2:] != "YX" or len(axes) != len(shape) or not leading or not set(leading) <= set("CZT"):
        return ()
    if math.prod(leading.values()) != len(full):
        raise MetadataError(f"axes {axes} of {'x'.join(map(str, shape))}, but the file has {len(full)} pages")
    return (Series(positions=_count_places(leading), pages=tuple(full)),)


def _count_places(leading: dict[str, int]) -> tuple[PlanePosition, ...]:
    """Return the places of pages whose last axis varies fastest."""
    places: list[dict[str, int]] = [{}]
    for axis, n in leading.items():
        places = [{**place, axis: k} for place in places for k in range(n)]
    return tuple((place.get("C", 0), place.get("Z", 0), place.get("T", 0)) for place in places)


def _check_one_plane(path: Path, page: tifffile.TiffPage, n_pages: int) -> None:
    """Refuse a page that holds several planes.

    Examples are MetaMorph's STK, and stacks written as one page.
    """
    n_planes, kind = 1, ""
    if _STK in page.tags:
        n_planes, kind = max(1, int(page.tags[_STK].count)), "MetaMorph"
    elif n_pages == 1:
        description = _description(page)
        if description.startswith("ImageJ="):
            n_planes, kind = dict(_IMAGEJ.findall(description)).get("images", 1), "ImageJ"
        elif description.startswith('{"shape"') and '"truncated": true' in description:
            sides = re.match(r'\{"shape": \[([\d, ]*)\]', description)
            n_planes = math.prod(int(side) for side in sides[1].split(",")[:-2]) if sides else 1
            kind = "tifffile"
    if int(n_planes) > 1:
        raise PixelTypeError(
            f"{path} is a stack of {n_planes} planes under one page ({kind}). Expected one page per plane."
        )


def _is_thumbnail(page: tifffile.TiffPage) -> bool:
    older = page.tags.get(_OLD_SUBFILE_TYPE)
    return bool(int(page.subfiletype) & _NOT_FULL_SIZE) or (older is not None and older.value == _REDUCED_IMAGE)


def _description(page: tifffile.TiffPage) -> str:
    return str(page.description or "")


def _channel_labels(file: tifffile.TiffFile, full: Sequence[int]) -> tuple[str, ...]:
    metadata = file.imagej_metadata if file.is_imagej else None
    labels = metadata.get("Labels", ()) if metadata else ()
    texts = tuple(str(label) for label in labels) if isinstance(labels, list | tuple) else ()
    return texts if len(texts) == len(full) else ()
