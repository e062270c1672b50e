"""Read metadata of Yokogawa CV7000, CV8000 and CQ1: `.mlf`, `.mrf`, `.mes`."""

from collections.abc import Mapping

from distangle.core.remote import AnyPath
from distangle.screen.readers.instruments.plate_record import ImageRecord, InstrumentRecord, key_of, number_of, well_at
from distangle.screen.readers.instruments.xml import parse_xml


def read_images(path: AnyPath) -> dict[str, ImageRecord]:
    """Read a `.mlf`: the record of each image, by `key_of` its name.

    Error records are skipped.

    Raises:
        ScreenError: The file is not a valid `.mlf`.
        OSError: The file is unreadable.
    """
    images: dict[str, ImageRecord] = {}
    open_records: list[ImageRecord] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if name == "MeasurementRecord" and attributes.get("Type", "IMG") == "IMG":
            open_records.append(
                ImageRecord(
                    well=well_at(attributes.get("Row"), attributes.get("Column")),
                    site=number_of(attributes.get("FieldIndex")),
                    plane=number_of(attributes.get("ZIndex")),
                    channel=number_of(attributes.get("Ch")),
                )
            )

    def end(name: str, text: str) -> None:
        if name == "MeasurementRecord" and open_records:
            record = open_records.pop()
            if text:
                images[key_of(text)] = record

    parse_xml(path, root="MeasurementData", start=start, end=end)
    return images


def read_detail(path: AnyPath) -> tuple[float | None, str]:
    """Read a `.mrf`: the pixel size in micrometers and the name of the `.mes`.

    The size is None if channels differ.

    Raises:
        ScreenError: The file is not a valid `.mrf`.
        OSError: The file is unreadable.
    """
    sizes: set[float] = set()
    setting = ""

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal setting
        if name == "MeasurementDetail":
            setting = attributes.get("MeasurementSettingFileName", "")
        elif name == "MeasurementChannel":
            for key in ("HorizontalPixelDimension", "VerticalPixelDimension"):
                try:
                    sizes.add(float(attributes[key]))
                except (KeyError, ValueError):
                    continue

    parse_xml(path, root="MeasurementDetail", start=start, end=lambda *_: None)
    is_consistent = bool(sizes) and min(sizes) > 0 and max(sizes) - min(sizes) <= 1e-3 * max(sizes)
    return (min(sizes) if is_consistent and max(sizes) < 1e4 else None), setting


def read_setting(path: AnyPath) -> dict[int, str]:
    """Read a `.mes`: the name of every channel, by number.

    Raises:
        ScreenError: The file is not a valid `.mes`.
        OSError: The file is unreadable.
    """
    channels: dict[int, str] = {}

    def start(name: str, attributes: Mapping[str, str]) -> None:
        number = number_of(attributes.get("Ch")) if name == "Channel" else None
        label = next((attributes[key].strip() for key in ("Target", "Fluorophore") if attributes.get(key)), "")
        if number is not None and label:
            channels[number] = label

    parse_xml(path, root="MeasurementSetting", start=start, end=lambda *_: None)
    return channels


def read_cellvoyager(files: Mapping[str, AnyPath], *, folder: str) -> InstrumentRecord:
    """Read the metadata files of one CellVoyager measurement.

    Args:
        files: Existing files by extension: `mlf`, `mrf`, `mes`.
        folder: Folder relative to the source.

    Raises:
        ScreenError: A file is damaged.
        OSError: A file is unreadable.
    """
    images = read_images(files["mlf"]) if "mlf" in files else {}
    size = read_detail(files["mrf"])[0] if "mrf" in files else None
    channels = read_setting(files["mes"]) if "mes" in files else {}
    first = next(files[kind] for kind in ("mes", "mlf", "mrf") if kind in files)
    return InstrumentRecord(
        file=f"{folder}/{first.name}".lstrip("/"), channels=channels, pixel_size_um=size, images=images
    )
