"""Read a multi-page file's channels, focal planes, times and thumbnails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

PlanePosition = tuple[int, int, int]
"""Channel, focal plane and time of a page, each counted from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One image of a file of many pages.

    Attributes:
        positions: Of each plane, in the order in which Bio-Formats counts them.
        pages: Where each lies in the file, from 0; -1 for a plane that lies in another file.
        names: Of its channels, "" for one without; none where the file names none.
    """

    positions: tuple[PlanePosition, ...]
    pages: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def page_of(self) -> dict[PlanePosition, int]:
        """The page of each place that lies in this file."""
        return {place: page for place, page in zip(self.positions, self.pages, strict=True) if page >= 0}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many channels, focal planes and times lie in this file."""
        channels, planes, times = (
            (len(set(axis)) for axis in zip(*self.page_of, strict=True)) if self.page_of else (0, 0, 0)
        )
        return channels, planes, times

    def describe(self) -> str:
        """Return what it holds, such as `2 channels x 3 focal planes`."""
        words = ("channel", "focal plane", "time")
        told = [f"{n} {word}{'s' * (n > 1)}" for n, word in zip(self.sizes, words, strict=True) if n > 1]
        return " x ".join(told) or "1 channel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What the pages of a file are.

    Attributes:
        image_pages: Pages that are images; the others are thumbnails, smaller copies or masks, and say so.
        odd_pages: Of an image of another size or type than the first, what it is.
        metadata_source: Whose metadata tell channels, planes and times; "" where nothing does.
        series: The images that they tell of.
        error: Why they cannot be believed; "" where they can.
    """

    image_pages: tuple[int, ...]
    odd_pages: Mapping[int, str] = field(default_factory=dict)
    metadata_source: str = ""
    series: tuple[Series, ...] = ()
    error: str = ""

    def describe(self, n_pages: int) -> str:
        """Return what a file of so many pages holds, in words."""
        n_aside = n_pages - len(self.image_pages)
        counted = f"{n_pages} page{'s' * (n_pages != 1)}"
        counted += f", {n_aside} of them thumbnails or masks" if n_aside else ""
        if self.error:
            return f"{counted}; its {self.metadata_source} metadata cannot be believed: {self.error}"
        if not self.series:
            return counted
        images = f"{len(self.series)} images, the first of " if len(self.series) > 1 else ""
        return f"{images}{self.series[0].describe()} by its {self.metadata_source} metadata, {counted}"


class ImageHeader(NamedTuple):
    """What a file says of itself before any pixel is decoded.

    Attributes:
        dtype: Of a pixel.
        shape: (height, width) in px.
        n_pages: Planes in it.
        stack: What they are; None for a file of one, and where nothing but their number is known.
        is_inverted: Whether its zero is white; the pixels that are read are turned round.
    """

    dtype: str
    shape: tuple[int, int]
    n_pages: int
    stack: Stack | None = None
    is_inverted: bool = False
