"""Read OME-XML: channel, focal plane and time of every page of a TIFF file."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from distangle.screen.file_pages import PlanePosition, Series

_MAX_XML_BYTES = 64 << 20  # bytes of XML that are read
_MAX_PLANES = 1 << 20


class MetadataError(Exception):
    """The metadata of a file are unreadable, or contradict the file."""


def is_ome(xml: str) -> bool:
    """Return whether a TIFF description is OME-XML."""
    return xml.rstrip("\0 \r\n\t").endswith(("</OME>", "</OME:OME>", "</ome:OME>")) or "<BinaryOnly" in xml


def ome_series(xml: str, path: Path) -> tuple[Series, ...]:
    """Return the images that OME-XML describes, as far as they are in this file.

    Args:
        xml: The XML, or a pointer to a companion file.
        path: Path of the file; multi-file data sets name the file of each plane.

    Raises:
        MetadataError: The XML is unreadable or inconsistent.

    Source: OME Data Model, Pixels, TiffData and BinaryOnly
    """
    root = _parse(xml)
    own = str(root.get("UUID", ""))
    pointer = next((element for element in root if _local_name(element) == "BinaryOnly"), None)
    if pointer is not None:
        own = str(pointer.get("UUID", own))
        root = _parse(_companion(path, str(pointer.get("MetadataFile", ""))))
    own = _identifier_in(root, own, path.name)
    try:
        all_series = [_series(pixels, own, path.name) for pixels in _pixels(root)]
    except (ValueError, TypeError, KeyError) as error:
        raise MetadataError(f"a value cannot be read ({error})") from error
    return tuple(series for series in all_series if series.page_of)


def _parse(xml: str) -> ElementTree.Element:
    if len(xml) > _MAX_XML_BYTES or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise MetadataError("the XML is too long, or defines a document type")
    try:
        return ElementTree.fromstring(xml.rstrip("\0"))  # noqa: S314 - without a document type nothing is expanded
    except (ElementTree.ParseError, ValueError) as error:
        raise MetadataError(f"the XML is broken ({error})") from error


def _companion(path: Path, name: str) -> str:
    companion = path.parent / name
    if not name or "/" in name or "\\" in name or not companion.is_file() or companion.stat().st_size > _MAX_XML_BYTES:
        raise MetadataError(f"they are in {name!r}, which does not exist beside the file")
    try:
        return companion.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{name} cannot be read ({error})") from error


def _local_name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _pixels(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for image in root:
        if _local_name(image) == "Image":
            yield from (element for element in image if _local_name(element) == "Pixels")


def _series(pixels: ElementTree.Element, own: str, file: str) -> Series:
    sizes = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in "CZT"}
    channels = [element for element in pixels if _local_name(element) == "Channel"]
    samples = sum(int(element.get("SamplesPerPixel", "1")) for element in channels)
    if any(int(element.get("SamplesPerPixel", "1")) > 1 for element in channels) and samples == sizes["C"]:
        sizes["C"] = len(channels)
    order = str(pixels.get("DimensionOrder", "XYZCT"))[2:]
    n_planes = math.prod(sizes.values())
    if sorted(order) != ["C", "T", "Z"] or min(sizes.values()) < 1 or n_planes > _MAX_PLANES:
        raise MetadataError(f"dimension order {order!r} of sizes {sizes}")
    # The first axis of the order varies fastest.
    ranges = [range(sizes[axis]) for axis in reversed(order)]
    indices = [dict(zip(reversed(order), numbers, strict=True)) for numbers in itertools.product(*ranges)]
    places: list[PlanePosition] = [(index["C"], index["Z"], index["T"]) for index in indices]
    pages = _pages(pixels, places, own, file)
    names = tuple(str(element.get("Name", "")) for element in channels)
    return Series(positions=tuple(places), pages=pages, names=names if any(names) else ())


def _pages(pixels: ElementTree.Element, places: list[PlanePosition], own: str, file: str) -> tuple[int, ...]:
    number = {place: k for k, place in enumerate(places)}
    pages = [-1] * len(places)
    blocks = [element for element in pixels if _local_name(element) == "TiffData"]
    if not blocks:
        return tuple(range(len(places)))
    for block in blocks:
        first = number.get(
            (_non_negative(block, "FirstC"), _non_negative(block, "FirstZ"), _non_negative(block, "FirstT"))
        )
        if first is None:
            raise MetadataError("a TiffData element starts outside the image")
        plane_count = block.get("PlaneCount")
        n = int(plane_count) if plane_count is not None else 1 if block.get("IFD") is not None else len(places) - first
        if n < 1 or first + n > len(places):
            raise MetadataError(f"a TiffData element of {n} planes exceeds the image")
        if not _is_in_file(block, own, file):
            continue
        for k in range(n):
            pages[first + k] = _non_negative(block, "IFD") + k
    return tuple(pages)


def _identifier_in(root: ElementTree.Element, own: str, file: str) -> str:
    """Return the file's identifier; if renamed, the only one in the XML."""
    uuids = [element for element in root.iter() if _local_name(element) == "UUID"]
    identifiers = {str(element.text or "").strip() for element in uuids}
    if not uuids or own in identifiers or any(_file_name(element) == file for element in uuids):
        return own
    if len(identifiers) > 1:
        raise MetadataError(f"they describe {len(identifiers)} files, and none is named {file}")
    return identifiers.pop()


def _file_name(uuid: ElementTree.Element) -> str:
    return uuid.get("FileName", "").replace("\\", "/").rpartition("/")[2]


def _is_in_file(block: ElementTree.Element, own: str, file: str) -> bool:
    """Return whether a block is in this file, by identifier or by name."""
    uuid = next((element for element in block if _local_name(element) == "UUID"), None)
    if uuid is None:
        return True
    identifier = str(uuid.text or "").strip()
    return _file_name(uuid) == file or (bool(own) and identifier == own)


def _non_negative(block: ElementTree.Element, name: str) -> int:
    number = int(block.get(name, "0"))
    if number < 0:
        raise ValueError(f"{name} {number}")
    return number
