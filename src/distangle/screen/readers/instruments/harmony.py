"""Read `Index.idx.xml` and `Index.xml` of Harmony (Opera Phenix, Operetta)."""

from collections.abc import Mapping

from distangle.core.remote import AnyPath
from distangle.screen.readers.instruments.plate_record import ImageRecord, InstrumentRecord, key_of, number_of, well_at
from distangle.screen.readers.instruments.xml import parse_xml

_TO_UM = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3, "": 1e6}


def read_harmony(path: AnyPath, *, file: str) -> InstrumentRecord:
    """Read an index: every image with its well, site, plane and channel.

    Up to version 5 each image contains its channel name; from version 6 on a channel map contains the names.

    Args:
        path: The file.
        file: Path for warnings, relative to the source.

    Raises:
        ScreenError: The file is not a Harmony index.
        OSError: The file is unreadable.
    """
    reader = _IndexParser()
    parse_xml(path, root="EvaluationInputData", start=reader.start, end=reader.end)
    sizes = reader.sizes
    is_consistent = bool(sizes) and max(sizes) - min(sizes) <= 1e-3 * max(sizes)
    return InstrumentRecord(
        file=file,
        channels=reader.channels,
        pixel_size_um=min(sizes) if is_consistent and min(sizes) > 0 else None,
        images=reader.images,
    )


class _IndexParser:
    """Collects channels, images and pixel sizes from XML elements."""

    def __init__(self) -> None:
        self.channels: dict[int, str] = {}
        self.images: dict[str, ImageRecord] = {}
        self.sizes: set[float] = set()
        self._values: dict[str, str] | None = None
        self._outer = ""
        self._unit = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Start an image or a channel of the map."""
        if name in ("Image", "Entry") and self._values is None and not (name == "Image" and "id" in attributes):
            self._values, self._outer = {"ChannelID": attributes.get("ChannelID", "")}, name
        elif name.startswith("ImageResolution"):
            self._unit = attributes.get("Unit", "")

    def end(self, name: str, text: str) -> None:
        """Store a value, or the finished image."""
        if self._values is None:
            return
        if name == self._outer:
            self._add_record(self._values)
            self._values = None
        elif name.startswith("ImageResolution"):
            self._add_size(text)
        else:
            self._values[name] = text

    def _add_record(self, values: Mapping[str, str]) -> None:
        channel = number_of(values.get("ChannelID"))
        if channel is not None and values.get("ChannelName"):
            self.channels.setdefault(channel, values["ChannelName"])
        key = key_of(values.get("URL", ""))
        if self._outer == "Image" and key:
            self.images[key] = ImageRecord(
                well=well_at(values.get("Row"), values.get("Col")),
                site=number_of(values.get("FieldID")),
                plane=number_of(values.get("PlaneID")),
                channel=channel,
            )

    def _add_size(self, text: str) -> None:
        try:
            size = float(text) * _TO_UM[self._unit]
        except (KeyError, ValueError):
            return
        if 0 < size < 1e4:
            self.sizes.add(size)
