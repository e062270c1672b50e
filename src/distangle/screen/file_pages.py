"""Read a multi-page file's channels, focal planes, times and thumbnails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Place = tuple[int, int, int]
"""Channel, focal plane and time of a page, each counted from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One image of a file of many pages.

    Attributes:
        places: Of each plane, in the order in which Bio-Formats counts them.
        pages: Where each lies in the file, from 0; -1 for a plane that lies in another file.
        names: Of its channels, "" for one without; none where the file names none.
    """

    places: tuple[Place, ...]
    pages: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def here(self) -> dict[Place, int]:
        """The page of each place that lies in this file."""
        return {place: page for place, page in zip(self.places, self.pages, strict=True) if page >= 0}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many channels, focal planes and times lie in this file."""
        channels, planes, times = (len(set(axis)) for axis in zip(*self.here, strict=True)) if self.here else (0, 0, 0)
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
        full: Pages that are images; the others are thumbnails, smaller copies or masks, and say so.
        unlike: Of an image of another size or type than the first, what it is.
        told_by: Whose metadata tell channels, planes and times; "" where nothing does.
        series: The images that they tell of.
        trouble: Why they cannot be believed; "" where they can.
    """

    full: tuple[int, ...]
    unlike: Mapping[int, str] = field(default_factory=dict)
    told_by: str = ""
    series: tuple[Series, ...] = ()
    trouble: str = ""

    def describe(self, n_pages: int) -> str:
        """Return what a file of so many pages holds, in words."""
        n_aside = n_pages - len(self.full)
        counted = f"{n_pages} page{'s' * (n_pages != 1)}"
        counted += f", {n_aside} of them thumbnails or masks" if n_aside else ""
        if self.trouble:
            return f"{counted}; its {self.told_by} metadata cannot be believed: {self.trouble}"
        if not self.series:
            return counted
        images = f"{len(self.series)} images, the first of " if len(self.series) > 1 else ""
        return f"{images}{self.series[0].describe()} by its {self.told_by} metadata, {counted}"


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
