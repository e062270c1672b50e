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

_ORDER_FIX = "Name the channels of all plates with --channels, or index this plate as a separate screen."


@dataclass(frozen=True, kw_only=True)
class ReconciledRecords:
    """Instrument metadata of a whole source.

    Attributes:
        selection: Channels as `NAME=NUMBER`; empty without channel names of the instruments.
        problems: Warnings.
        pixel_size_um: Pixel size in micrometers; None if unknown or different.
        files: Metadata files that describe images, relative to the source.
    """

    selection: Sequence[str]
    problems: list[Problem]
    pixel_size_um: float | None
    files: Sequence[str] = ()

    @property
    def notes(self) -> dict[str, list[str]]:
        """Notes for the provenance of the screen."""
        return {"instrument_files": list(self.files)} if self.files else {}


def reconcile_records(
    images: Sequence[ImageFile], records: InstrumentRecords, selection: Sequence[str]
) -> ReconciledRecords:
    """Unify the channel order of all plates; doubt images that metadata contradict.

    Args:
        images: The images; their channels and doubts are updated.
        records: Instrument metadata.
        selection: `NAME` or `NAME=WRITTEN`; empty for all.

    Raises:
        ScreenError: The selection contradicts the instruments, or the channels of plates cannot be matched.
    """
    if not records.by_folder:
        return ReconciledRecords(selection=(), problems=list(records.problems), pixel_size_um=None)
    image_records = [records.record_of(image.path) for image in images]
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
    """Return how instrument metadata contradict the name of an image, or None."""
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
    description = f"{record.file} lists {image.path} as {', '.join(differences)}"
    fix = "Check which is correct: the file was renamed, or the instrument file belongs to another plate."
    return PlateDoubt(kind="instrument contradicts name", description=description, fix=fix)


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

    A partly copied stack is one cause.
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
                    kind="images of the instrument missing",
                    file=record.file,
                    found=f"no {missing[0]}"
                    + (f" and {len(missing) - 1} more, of {wells_text}" if len(missing) > 1 else ""),
                    expected=f"{len(record.images)} images",
                    fix="Copy them again, unless you excluded them on purpose.",
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
            image.doubt = PlateDoubt(kind="channel order unknown", description=description, fix=_ORDER_FIX)
        number = number_of(image.channel)
        if file in plan.numbers and number is not None:
            reference_number = plan.numbers[file].get(number, f"{number} of {file}")
            image.channel = (
                spelling.get(reference_number, str(reference_number))
                if isinstance(reference_number, int)
                else reference_number
            )


def pixel_size_of(records: Sequence[InstrumentRecord]) -> tuple[float | None, list[Problem]]:
    """Return the pixel size in micrometers, and a warning if records differ.

    The size is None unless all records agree.
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
        fix="Cells appear larger on one plate than on the other: index plates of one magnification as one screen.",
    )
    return None, [problem]
