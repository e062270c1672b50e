"""Classify every page of a TIFF file as image or thumbnail, with the reason."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import tifffile

from distangle.errors import PixelTypeError
from distangle.images.readers.ome_xml import MetadataError, is_ome, ome_series
from distangle.screen.file_pages import Place, Series, Stack

_MOST_LISTED = 4096  # pages that are looked at one by one; of more only the number counts
_ASIDE = 0b101  # bits of NewSubfileType: a smaller copy of another page, a mask
_SMALLER = 2  # value of the older SubfileType
_OLD_SUBFILE_TYPE = 255
_STK = 33629  # tag UIC2 of MetaMorph, with an entry per plane
_IMAGEJ = re.compile(r"^(images|channels|slices|frames)=(\d+)\s*$", re.MULTILINE)


def read_page_layout(opened: tifffile.TiffFile, path: Path) -> Stack | None:
    """Say what the pages of a file are.

    Args:
        opened: The file.
        path: Of the file; a companion of OME-XML is looked for beside it.

    Returns:
        None for a file of one page.

    Raises:
        PixelTypeError: One page stands for several planes, which cannot be named.
    """
    n_pages = len(opened.pages)
    first = opened.pages.first
    _check_one_plane(path, first, n_pages)
    if n_pages == 1:
        return None
    if n_pages > _MOST_LISTED:
        return Stack(full=tuple(range(n_pages)))
    pages = [opened.pages[number].aspage() for number in range(n_pages)]
    full = tuple(k for k, page in enumerate(pages) if not _is_aside(page)) or tuple(range(n_pages))
    kinds = [(str(page.dtype), tuple(int(side) for side in page.shape)) for page in pages]
    unlike = {k: f"{kinds[k][0]} {' x '.join(map(str, kinds[k][1]))}" for k in full if kinds[k] != kinds[full[0]]}
    said = _description(first)
    told_by, series, trouble = _told(said, path, full, _labels(opened, full))
    return Stack(full=full, unlike=unlike, told_by=told_by, series=series, trouble=trouble)


def _told(said: str, path: Path, full: Sequence[int], labels: Sequence[str]) -> tuple[str, tuple[Series, ...], str]:
    """Return who tells, the images told of, and why they cannot be believed."""
    by = "OME-XML" if is_ome(said) else "ImageJ" if said.startswith("ImageJ=") else "tifffile"
    try:
        if by == "OME-XML":
            series = ome_series(said, path)
            if series:
                _check_pages(series, full)
        elif by == "ImageJ":
            series = _of_imagej(said, full, labels)
        else:
            series = _of_tifffile(said, full)
    except MetadataError as error:
        return by, (), str(error)
    return (by if series else ""), series, ""


def _check_pages(series: Sequence[Series], full: Sequence[int]) -> None:
    """Check that every page of the file is told of once, and no other."""
    told = sorted(page for one in series for page in one.here.values())
    if told != sorted(full):
        raise MetadataError(f"they tell of {len(told)} planes here, and the file has {len(full)} pages")


def _of_imagej(said: str, full: Sequence[int], labels: Sequence[str]) -> tuple[Series, ...]:
    sizes = {name: int(number) for name, number in _IMAGEJ.findall(said)}
    n_channels, n_planes, n_times = (sizes.get(name, 1) for name in ("channels", "slices", "frames"))
    if not sizes.keys() & {"channels", "slices", "frames"}:
        return ()
    if n_channels * n_planes * n_times != len(full):
        raise MetadataError(
            f"{n_channels} channels x {n_planes} slices x {n_times} frames, and the file has {len(full)} pages"
        )
    places = [(c, z, t) for t in range(n_times) for z in range(n_planes) for c in range(n_channels)]
    names = tuple(labels) if len(labels) == n_channels == len(full) else ()
    return (Series(places=tuple(places), pages=tuple(full), names=names),)


def _of_tifffile(said: str, full: Sequence[int]) -> tuple[Series, ...]:
    """Read the axes that tifffile notes.

    Such as `{"shape": [2, 3, 64, 64], "axes": "CZYX"}`.
    """
    if not said.startswith('{"shape"'):
        return ()
    try:
        noted = json.loads(said)
        axes, shape = str(noted.get("axes", "")), [int(side) for side in noted["shape"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()
    leading = dict(zip(axes[:-2], shape[:-2], strict=False))
    if axes[-2:] != "YX" or len(axes) != len(shape) or not leading or not set(leading) <= set("CZT"):
        return ()
    if math.prod(leading.values()) != len(full):
        raise MetadataError(f"axes {axes} of {'x'.join(map(str, shape))}, and the file has {len(full)} pages")
    return (Series(places=_counted(leading), pages=tuple(full)),)


def _counted(leading: dict[str, int]) -> tuple[Place, ...]:
    """Return the places of pages whose last axis runs fastest."""
    places: list[dict[str, int]] = [{}]
    for axis, n in leading.items():
        places = [{**place, axis: k} for place in places for k in range(n)]
    return tuple((place.get("C", 0), place.get("Z", 0), place.get("T", 0)) for place in places)


def _check_one_plane(path: Path, page: tifffile.TiffPage, n_pages: int) -> None:
    """Refuse a page that stands for several planes.

    MetaMorph's STK, and stacks that were written as one piece.
    """
    n_planes, kind = 1, ""
    if _STK in page.tags:
        n_planes, kind = max(1, int(page.tags[_STK].count)), "MetaMorph"
    elif n_pages == 1:
        said = _description(page)
        if said.startswith("ImageJ="):
            n_planes, kind = dict(_IMAGEJ.findall(said)).get("images", 1), "ImageJ"
        elif said.startswith('{"shape"') and '"truncated": true' in said:
            sides = re.match(r'\{"shape": \[([\d, ]*)\]', said)
            n_planes = math.prod(int(side) for side in sides[1].split(",")[:-2]) if sides else 1
            kind = "tifffile"
    if int(n_planes) > 1:
        raise PixelTypeError(
            f"{path} is a stack of {n_planes} planes under one page ({kind}). Expected a page for each plane."
        )


def _is_aside(page: tifffile.TiffPage) -> bool:
    older = page.tags.get(_OLD_SUBFILE_TYPE)
    return bool(int(page.subfiletype) & _ASIDE) or (older is not None and older.value == _SMALLER)


def _description(page: tifffile.TiffPage) -> str:
    return str(page.description or "")


def _labels(opened: tifffile.TiffFile, full: Sequence[int]) -> tuple[str, ...]:
    noted = opened.imagej_metadata if opened.is_imagej else None
    labels = noted.get("Labels", ()) if noted else ()
    named = tuple(str(label) for label in labels) if isinstance(labels, list | tuple) else ()
    return named if len(named) == len(full) else ()
