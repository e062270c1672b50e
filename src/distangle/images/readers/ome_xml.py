"""OME-XML: which page of which file is which channel, focal plane and time."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from distangle.screen.file_pages import Place, Series

_LARGEST = 64 << 20  # bytes of XML that are read
_MOST_PLANES = 1 << 20


class MetadataError(Exception):  # noqa: N818 - no fault of ours: what a file says of its pages cannot be believed
    """Metadata that contradict the file, or cannot be read."""


def is_ome(said: str) -> bool:
    """Tell whether a description is OME-XML."""
    return said.rstrip("\0 \r\n\t").endswith(("</OME>", "</OME:OME>", "</ome:OME>")) or "<BinaryOnly" in said


def ome_series(said: str, path: Path) -> tuple[Series, ...]:
    """Return the images that OME-XML tells of, as far as they lie in this file.

    Args:
        said: The XML, or the pointer to a companion beside the file.
        path: Of the file: planes of a data set of many files say which one they are in.

    Raises:
        NotTold: It cannot be read, or says nothing that holds together.

    Source: OME Data Model, Pixels, TiffData and BinaryOnly
    """
    root = _parsed(said)
    own = str(root.get("UUID", ""))
    pointer = next((one for one in root if _name(one) == "BinaryOnly"), None)
    if pointer is not None:
        own = str(pointer.get("UUID", own))
        root = _parsed(_companion(path, str(pointer.get("MetadataFile", ""))))
    own = _own(root, own, path.name)
    try:
        found = [_series(pixels, own, path.name) for pixels in _pixels(root)]
    except (ValueError, TypeError, KeyError) as error:
        raise MetadataError(f"a value cannot be read ({error})") from error
    return tuple(series for series in found if series.here)


def _parsed(said: str) -> ElementTree.Element:
    if len(said) > _LARGEST or "<!DOCTYPE" in said or "<!ENTITY" in said:
        raise MetadataError("the XML is too long, or defines a document type")
    try:
        return ElementTree.fromstring(said.rstrip("\0"))  # noqa: S314 - without a document type nothing is expanded
    except (ElementTree.ParseError, ValueError) as error:
        raise MetadataError(f"the XML is broken ({error})") from error


def _companion(path: Path, name: str) -> str:
    companion = path.parent / name
    if not name or "/" in name or "\\" in name or not companion.is_file() or companion.stat().st_size > _LARGEST:
        raise MetadataError(f"they lie in {name!r}, which is not beside the file")
    try:
        return companion.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{name} cannot be read ({error})") from error


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _pixels(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for image in root:
        if _name(image) == "Image":
            yield from (one for one in image if _name(one) == "Pixels")


def _series(pixels: ElementTree.Element, own: str, file: str) -> Series:
    sizes = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in "CZT"}
    channels = [one for one in pixels if _name(one) == "Channel"]
    samples = sum(int(one.get("SamplesPerPixel", "1")) for one in channels)
    if any(int(one.get("SamplesPerPixel", "1")) > 1 for one in channels) and samples == sizes["C"]:
        sizes["C"] = len(channels)
    order = str(pixels.get("DimensionOrder", "XYZCT"))[2:]
    n_planes = math.prod(sizes.values())
    if sorted(order) != ["C", "T", "Z"] or min(sizes.values()) < 1 or n_planes > _MOST_PLANES:
        raise MetadataError(f"dimension order {order!r} of sizes {sizes}")
    # The first axis of the order runs fastest.
    runs = [range(sizes[axis]) for axis in reversed(order)]
    named = [dict(zip(reversed(order), numbers, strict=True)) for numbers in itertools.product(*runs)]
    places: list[Place] = [(at["C"], at["Z"], at["T"]) for at in named]
    pages = _pages(pixels, places, own, file)
    names = tuple(str(one.get("Name", "")) for one in channels)
    return Series(places=tuple(places), pages=pages, names=names if any(names) else ())


def _pages(pixels: ElementTree.Element, places: list[Place], own: str, file: str) -> tuple[int, ...]:
    number = {place: k for k, place in enumerate(places)}
    pages = [-1] * len(places)
    blocks = [one for one in pixels if _name(one) == "TiffData"]
    if not blocks:
        return tuple(range(len(places)))
    for block in blocks:
        first = number.get((_whole(block, "FirstC"), _whole(block, "FirstZ"), _whole(block, "FirstT")))
        if first is None:
            raise MetadataError("a TiffData begins outside of the image")
        told = block.get("PlaneCount")
        n = int(told) if told is not None else 1 if block.get("IFD") is not None else len(places) - first
        if n < 1 or first + n > len(places):
            raise MetadataError(f"a TiffData of {n} planes goes beyond the image")
        if not _is_here(block, own, file):
            continue
        for k in range(n):
            pages[first + k] = _whole(block, "IFD") + k
    return tuple(pages)


def _own(root: ElementTree.Element, own: str, file: str) -> str:
    """Return the file's identifier; if renamed, the only one that the XML names."""
    told = [one for one in root.iter() if _name(one) == "UUID"]
    known = {str(one.text or "").strip() for one in told}
    if not told or own in known or any(_file_name(one) == file for one in told):
        return own
    if len(known) > 1:
        raise MetadataError(f"they tell of {len(known)} files, and none of them is named {file}")
    return known.pop()


def _file_name(uuid: ElementTree.Element) -> str:
    return uuid.get("FileName", "").replace("\\", "/").rpartition("/")[2]


def _is_here(block: ElementTree.Element, own: str, file: str) -> bool:
    """Return whether a block lies in this file, by identifier or by name."""
    uuid = next((one for one in block if _name(one) == "UUID"), None)
    if uuid is None:
        return True
    said = str(uuid.text or "").strip()
    return _file_name(uuid) == file or (bool(own) and said == own)


def _whole(block: ElementTree.Element, name: str) -> int:
    number = int(block.get(name, "0"))
    if number < 0:
        raise ValueError(f"{name} {number}")
    return number
