"""Compare images with instrument metadata: order channels, refuse contradictions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from distangle.screen.plates import split_well, well_name
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.image_file import ImageFile, PlateDoubt
from distangle.screen.readers.instruments.channels import ChannelPlan, plan_channels
from distangle.screen.readers.instruments.metadata_files import InstrumentRecords
from distangle.screen.readers.instruments.plate_record import ImageRecord, InstrumentRecord, key_of, number_of
from distangle.screen.roles import natural_sort_key

_ORDER_FIX = "Name the channels that all plates have, --channels, or index the plate as a screen of its own."


@dataclass(frozen=True, kw_only=True)
class ReconciledRecords:
    """What the instruments say of a whole source.

    Attributes:
        selection: Channels as `NAME=NUMBER`; () where they add nothing.
        problems: Remarks.
        pixel_size_um: Side of a pixel in micrometres; None where it is not told or differs.
        files: Those that speak for images, relative to the source.
    """

    selection: Sequence[str]
    problems: list[Problem]
    pixel_size_um: float | None
    files: Sequence[str] = ()

    @property
    def notes(self) -> dict[str, list[str]]:
        """What the provenance of the screen says of it."""
        return {"instrument_files": list(self.files)} if self.files else {}


def reconcile_records(
    images: Sequence[ImageFile], records: InstrumentRecords, selection: Sequence[str]
) -> ReconciledRecords:
    """Order the channels of all plates alike; doubt images that metadata contradict.

    Args:
        images: Their channels are rewritten, and their doubts.
        records: What the instruments wrote beside them.
        selection: `NAME` or `NAME=WRITTEN`; none for all.

    Raises:
        ScreenError: The channels asked for contradict the instruments, or plates cannot be brought together.
    """
    if not records.by_folder:
        return ReconciledRecords(selection=(), problems=list(records.problems), pixel_size_um=None)
    image_records = [records.of(image.path) for image in images]
    by_file = {record.file: record for record in image_records if record is not None}
    ordered = [by_file[file] for file in sorted(by_file, key=natural_sort_key)]
    for image, record in zip(images, image_records, strict=True):
        if record is not None and image.doubt is None:
            image.doubt = _find_contradiction(image, record)
    problems = [*records.problems, *_missing_image_problems(images, image_records, ordered)]
    numbers = {number for image in images if (number := number_of(image.channel)) is not None}
    plan = ChannelPlan()
    if numbers and all(number_of(image.channel) is not None for image in images):
        with_channels = [record for record in ordered if record.channels]
        is_incomplete = any(record is None or not record.channels for record in image_records)
        plan = plan_channels(with_channels, selection, used=numbers, without_record=is_incomplete)
        _renumber_channels(images, image_records, plan)
    size, size_problems = pixel_size_of(ordered)
    return ReconciledRecords(
        selection=plan.selection,
        problems=[*problems, *plan.problems, *size_problems],
        pixel_size_um=size,
        files=[r.file for r in ordered],
    )


def _find_contradiction(image: ImageFile, record: InstrumentRecord) -> PlateDoubt | None:
    """Return what an instrument says of an image if it is not what the name says."""
    instrument_image = record.images.get(key_of(image.path))
    well = split_well(image.well)
    differences: list[str] = []
    if instrument_image is None:
        if record.wells and well is not None and well not in record.wells:
            differences.append(f"well {well_name(*well)} was not measured")
    else:
        differences += _differences(image, instrument_image, well)
    if not differences:
        return None
    description = f"{record.file} says of {image.path}: {', '.join(differences)}"
    fix = "Find out which is right: the file was renamed, or the instrument's file is of another plate."
    return PlateDoubt(kind="instrument contradicts name", found=description, fix=fix)


def _differences(image: ImageFile, instrument_image: ImageRecord, well: tuple[int, int] | None) -> list[str]:
    differences: list[str] = []
    if instrument_image.well is not None and well is not None and instrument_image.well != well:
        differences.append(f"well {well_name(*instrument_image.well)}")
    if instrument_image.site is not None and instrument_image.site != image.site:
        differences.append(f"field {instrument_image.site}")
    channel = number_of(image.channel)
    if instrument_image.channel is not None and channel is not None and instrument_image.channel != channel:
        differences.append(f"channel {instrument_image.channel}")
    plane = number_of(dict(image.axis_values).get("plane"))
    if instrument_image.plane is not None and plane is not None and instrument_image.plane != plane:
        differences.append(f"plane {instrument_image.plane}")
    return differences


def _missing_image_problems(
    images: Sequence[ImageFile], image_records: Sequence[InstrumentRecord | None], records: Sequence[InstrumentRecord]
) -> list[Problem]:
    """Report images that an instrument lists and that are missing.

    A stack that was half copied looks so.
    """
    present: dict[str, set[str]] = defaultdict(set)
    for image, record in zip(images, image_records, strict=True):
        if record is not None:
            present[record.file].add(key_of(image.path))
    problems = []
    for record in records:
        missing = sorted(set(record.images) - present[record.file], key=natural_sort_key)
        if missing:
            wells = {well_name(*well) for name in missing if (well := record.images[name].well) is not None}
            wells_text = ", ".join(sorted(wells, key=natural_sort_key)[:5]) + (", ..." if len(wells) > 5 else "")
            problems.append(
                Problem(
                    severity="warning",
                    kind="images that the instrument lists",
                    file=record.file,
                    found=f"no {missing[0]}"
                    + (f" and {len(missing) - 1} more, of {wells_text}" if len(missing) > 1 else ""),
                    expected=f"{len(record.images)} images",
                    fix="Copy them again, unless they were left out on purpose.",
                    count=len(missing),
                )
            )
    return problems


def _renumber_channels(
    images: Sequence[ImageFile], image_records: Sequence[InstrumentRecord | None], plan: ChannelPlan
) -> None:
    spelling: dict[int, str] = {}
    for image in images:
        if (number := number_of(image.channel)) is not None:
            spelling.setdefault(number, image.channel)
    for image, record in zip(images, image_records, strict=True):
        file = record.file if record is not None and record.channels else ""
        if file in plan.doubts and image.doubt is None:
            description = f"{file or image.path}: {plan.doubts[file]}"
            image.doubt = PlateDoubt(kind="order of channels unknown", found=description, fix=_ORDER_FIX)
        number = number_of(image.channel)
        if file in plan.numbers and number is not None:
            reference_number = plan.numbers[file].get(number, f"{number} of {file}")
            image.channel = (
                spelling.get(reference_number, str(reference_number))
                if isinstance(reference_number, int)
                else reference_number
            )


def pixel_size_of(records: Sequence[InstrumentRecord]) -> tuple[float | None, list[Problem]]:
    """Return the pixel size in micrometres, and a remark where records differ.

    It is None unless all records agree.
    """
    sizes = {record.file: record.pixel_size_um for record in records if record.pixel_size_um is not None}
    if not sizes:
        return None, []
    smallest, largest = min(sizes, key=lambda file: sizes[file]), max(sizes, key=lambda file: sizes[file])
    if sizes[largest] - sizes[smallest] <= 1e-3 * sizes[largest]:
        return (sizes[smallest] if len(sizes) == len(records) else None), []
    problem = Problem(
        severity="warning",
        kind="pixel sizes differ",
        file=largest,
        found=f"{sizes[largest]:.4g} um a pixel",
        expected=f"{sizes[smallest]:.4g} um, as in {smallest}",
        fix="Cells look larger on one plate than on the other: index plates of one magnification as one screen.",
    )
    return None, [problem]
