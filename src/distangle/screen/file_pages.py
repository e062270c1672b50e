"""Describe the pages of a file: channels, focal planes, times and thumbnails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

PlanePosition = tuple[int, int, int]
"""Zero-based channel, focal plane and time of a page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """An image of a multi-page file.

    Attributes:
        positions: Position of each plane, in the order of Bio-Formats.
        pages: Page of each plane in the file, from 0; -1 for a plane in another file.
        names: Names of its channels, "" for an unnamed one; empty if no channel is named.
    """

    positions: tuple[PlanePosition, ...]
    pages: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def page_of(self) -> dict[PlanePosition, int]:
        """The page of each position in this file."""
        return {position: page for position, page in zip(self.positions, self.pages, strict=True) if page >= 0}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of channels, focal planes and times in this file."""
        channels, planes, times = (
            (len(set(axis)) for axis in zip(*self.page_of, strict=True)) if self.page_of else (0, 0, 0)
        )
        return channels, planes, times

    def describe(self) -> str:
        """Return its content, such as `2 channels x 3 focal planes`."""
        axes = ("channel", "focal plane", "time")
        parts = [f"{n} {axis}{'s' * (n > 1)}" for n, axis in zip(self.sizes, axes, strict=True) if n > 1]
        return " x ".join(parts) or "1 channel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """The content of the pages of a file.

    Attributes:
        image_pages: Pages that are images; the others are marked as thumbnails, smaller copies or masks.
        odd_pages: Type and size of pages that differ from the first page.
        metadata_source: Format of the metadata on channels, planes and times; "" without metadata.
        series: The images by the metadata.
        error: Why the metadata are invalid; "" if they are valid.
    """

    image_pages: tuple[int, ...]
    odd_pages: Mapping[int, str] = field(default_factory=dict)
    metadata_source: str = ""
    series: tuple[Series, ...] = ()
    error: str = ""

    def describe(self, n_pages: int) -> str:
        """Return a description of a file of `n_pages` pages."""
        n_other = n_pages - len(self.image_pages)
        pages = f"{n_pages} page{'s' * (n_pages != 1)}"
        pages += f", {n_other} of them thumbnails or masks" if n_other else ""
        if self.error:
            return f"{pages}; its {self.metadata_source} metadata are invalid: {self.error}"
        if not self.series:
            return pages
        images = f"{len(self.series)} images, the first of " if len(self.series) > 1 else ""
        return f"{images}{self.series[0].describe()} by its {self.metadata_source} metadata, {pages}"


class ImageHeader(NamedTuple):
    """Header of an image file, read without decoding pixels.

    Attributes:
        dtype: Pixel type.
        shape: (height, width) in px.
        n_pages: Number of pages.
        stack: Content of the pages; None for a file of one page, or if only their number is known.
        is_inverted: Whether zero is white; the pixels are inverted on reading.
    """

    dtype: str
    shape: tuple[int, int]
    n_pages: int
    stack: Stack | None = None
    is_inverted: bool = False
