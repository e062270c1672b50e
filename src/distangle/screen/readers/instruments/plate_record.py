"""What the instrument's own file says of a plate."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What the instrument says of one file; None where it says nothing.

    Attributes:
        well: Row and column from 0.
        site: Number of the field.
        plane: Number of the focal plane.
        channel: Number of the channel.
    """

    well: tuple[int, int] | None = None
    site: int | None = None
    plane: int | None = None
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class InstrumentRecord:
    """What the instrument says of one measurement.

    Attributes:
        file: Relative to the source; it speaks for the images in its folder and below.
        channels: Number of each channel to its name.
        pixel_size_um: Side of a pixel in micrometres; None where it is not told or channels differ.
        images: `key_of` the name of a file to what it shows; empty where none are listed.
        wells: Row and column from 0 of those that were measured; empty where they are not told.
        prefix: How the names of its images begin, in small letters; "" for all in the folder.
    """

    file: str
    channels: Mapping[int, str] = field(default_factory=dict)
    pixel_size_um: float | None = None
    images: Mapping[str, ImageRecord] = field(default_factory=dict)
    wells: frozenset[tuple[int, int]] = frozenset()
    prefix: str = ""

    @property
    def folder(self) -> str:
        """The folder that it lies in."""
        return self.file.rpartition("/")[0]


def key_of(path: str) -> str:
    """Return a file name without folder and ending, in small letters.

    PNG made of TIFF keep it.
    """
    name = path.replace("\\", "/").rpartition("/")[2]
    return (name.rpartition(".")[0] or name).casefold()


def number_of(text: str | None) -> int | None:
    """Return a whole number from 0; None for anything else."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def well_at(row: str | None, column: str | None) -> tuple[int, int] | None:
    """Return a well from row and column counted from 1; None where they are none."""
    first, second = number_of(row), number_of(column)
    return (first - 1, second - 1) if first and second else None
