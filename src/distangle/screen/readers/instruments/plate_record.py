"""Records of instrument metadata, and the keys to look up images."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """Instrument metadata of one image; None for unknown values.

    Attributes:
        well: Zero-based row and column.
        site: Number of the site.
        plane: Number of the focal plane.
        channel: Number of the channel.
    """

    well: tuple[int, int] | None = None
    site: int | None = None
    plane: int | None = None
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class InstrumentRecord:
    """Instrument metadata of one measurement.

    Attributes:
        file: Path relative to the source; it describes the images in its folder and below.
        channels: Name of each channel, by number.
        pixel_size_um: Pixel size in micrometers; None if unknown or if channels differ.
        images: Records of the images, by `key_of` the file name; empty if unknown.
        wells: Zero-based row and column of the measured wells; empty if unknown.
        prefix: Lower-case prefix of its image names; "" for all images of the folder.
    """

    file: str
    channels: Mapping[int, str] = field(default_factory=dict)
    pixel_size_um: float | None = None
    images: Mapping[str, ImageRecord] = field(default_factory=dict)
    wells: frozenset[tuple[int, int]] = frozenset()
    prefix: str = ""

    @property
    def folder(self) -> str:
        """Folder of the file."""
        return self.file.rpartition("/")[0]


def key_of(path: str) -> str:
    """Return the lookup key of a file: its case-folded stem.

    PNG files converted from TIFF keep the key.
    """
    name = path.replace("\\", "/").rpartition("/")[2]
    return (name.rpartition(".")[0] or name).casefold()


def number_of(text: str | None) -> int | None:
    """Parse a whole number from 0; None if it is not one."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def well_at(row: str | None, column: str | None) -> tuple[int, int] | None:
    """Return the zero-based well of a row and column from 1; None if invalid."""
    first, second = number_of(row), number_of(column)
    return (first - 1, second - 1) if first and second else None
