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

_ORDER = "Name the channels that all plates have, --channels, or index the plate as a screen of its own."


@dataclass(frozen=True, kw_only=True)
class ReconciledRecords:
    """What the instruments say of a whole source.

    Attributes:
        asked: Channels as `NAME=NUMBER`; () where they add nothing.
        problems: Remarks.
        pixel_size_um: Side of a pixel in micrometres; None where it is not told or differs.
        files: Those that speak for images, relative to the source.
    """

    asked: Sequence[str]
    problems: list[Problem]
    pixel_size_um: float | None
    files: Sequence[str] = ()

    @property
    def notes(self) -> dict[str, list[str]]:
        """What the provenance of the screen says of it."""
        return {"instrument_files": list(self.files)} if self.files else {}


def reconcile_records(
    pictures: Sequence[ImageFile], records: InstrumentRecords, asked: Sequence[str]
) -> ReconciledRecords:
    """Order the channels of all plates alike; doubt images that metadata contradict.

    Args:
        pictures: Their channels are rewritten, and their doubts.
        records: What the instruments wrote beside them.
        asked: `NAME` or `NAME=WRITTEN`; none for all.

    Raises:
        ScreenError: The channels asked for contradict the instruments, or plates cannot be brought together.
    """
    if not records.by_folder:
        return ReconciledRecords(asked=(), problems=list(records.problems), pixel_size_um=None)
    of = [records.of(picture.path) for picture in pictures]
    speaking = {record.file: record for record in of if record is not None}
    ordered = [speaking[file] for file in sorted(speaking, key=natural_sort_key)]
    for picture, record in zip(pictures, of, strict=True):
        if record is not None and picture.doubt is None:
            picture.doubt = _contradiction(picture, record)
    problems = [*records.problems, *_absent(pictures, of, ordered)]
    numbers = {number for picture in pictures if (number := number_of(picture.channel)) is not None}
    plan = ChannelPlan()
    if numbers and all(number_of(picture.channel) is not None for picture in pictures):
        named = [record for record in ordered if record.channels]
        without = any(record is None or not record.channels for record in of)
        plan = plan_channels(named, asked, used=numbers, without_record=without)
        _renumber(pictures, of, plan)
    size, differ = pixel_size_of(ordered)
    return ReconciledRecords(
        asked=plan.asked,
        problems=[*problems, *plan.problems, *differ],
        pixel_size_um=size,
        files=[r.file for r in ordered],
    )


def _contradiction(picture: ImageFile, record: InstrumentRecord) -> PlateDoubt | None:
    """Return what an instrument says of an image if it is not what the name says."""
    told = record.images.get(key_of(picture.path))
    well = split_well(picture.well)
    said: list[str] = []
    if told is None:
        if record.wells and well is not None and well not in record.wells:
            said.append(f"well {well_name(*well)} was not measured")
    else:
        said += _differences(picture, told, well)
    if not said:
        return None
    found = f"{record.file} says of {picture.path}: {', '.join(said)}"
    fix = "Find out which is right: the file was renamed, or the instrument's file is of another plate."
    return PlateDoubt(kind="instrument contradicts name", found=found, fix=fix)


def _differences(picture: ImageFile, told: ImageRecord, well: tuple[int, int] | None) -> list[str]:
    said: list[str] = []
    if told.well is not None and well is not None and told.well != well:
        said.append(f"well {well_name(*told.well)}")
    if told.site is not None and told.site != picture.site:
        said.append(f"field {told.site}")
    channel = number_of(picture.channel)
    if told.channel is not None and channel is not None and told.channel != channel:
        said.append(f"channel {told.channel}")
    plane = number_of(dict(picture.moment).get("plane"))
    if told.plane is not None and plane is not None and told.plane != plane:
        said.append(f"plane {told.plane}")
    return said


def _absent(
    pictures: Sequence[ImageFile], of: Sequence[InstrumentRecord | None], records: Sequence[InstrumentRecord]
) -> list[Problem]:
    """Report images that an instrument lists and that are missing.

    A stack that was half copied looks so.
    """
    here: dict[str, set[str]] = defaultdict(set)
    for picture, record in zip(pictures, of, strict=True):
        if record is not None:
            here[record.file].add(key_of(picture.path))
    problems = []
    for record in records:
        absent = sorted(set(record.images) - here[record.file], key=natural_sort_key)
        if absent:
            wells = {well_name(*well) for name in absent if (well := record.images[name].well) is not None}
            listed = ", ".join(sorted(wells, key=natural_sort_key)[:5]) + (", ..." if len(wells) > 5 else "")
            problems.append(
                Problem(
                    severity="warning",
                    kind="images that the instrument lists",
                    file=record.file,
                    found=f"no {absent[0]}" + (f" and {len(absent) - 1} more, of {listed}" if len(absent) > 1 else ""),
                    expected=f"{len(record.images)} images",
                    fix="Copy them again, unless they were left out on purpose.",
                    count=len(absent),
                )
            )
    return problems


def _renumber(pictures: Sequence[ImageFile], of: Sequence[InstrumentRecord | None], plan: ChannelPlan) -> None:
    written: dict[int, str] = {}
    for picture in pictures:
        if (number := number_of(picture.channel)) is not None:
            written.setdefault(number, picture.channel)
    for picture, record in zip(pictures, of, strict=True):
        file = record.file if record is not None and record.channels else ""
        if file in plan.doubts and picture.doubt is None:
            found = f"{file or picture.path}: {plan.doubts[file]}"
            picture.doubt = PlateDoubt(kind="order of channels unknown", found=found, fix=_ORDER)
        number = number_of(picture.channel)
        if file in plan.numbers and number is not None:
            to_first = plan.numbers[file].get(number, f"{number} of {file}")
            picture.channel = written.get(to_first, str(to_first)) if isinstance(to_first, int) else to_first


def pixel_size_of(records: Sequence[InstrumentRecord]) -> tuple[float | None, list[Problem]]:
    """Return the pixel size in micrometres, and a remark where records differ.

    It is None unless all records agree.
    """
    sizes = {record.file: record.pixel_size_um for record in records if record.pixel_size_um is not None}
    if not sizes:
        return None, []
    least, most = min(sizes, key=lambda file: sizes[file]), max(sizes, key=lambda file: sizes[file])
    if sizes[most] - sizes[least] <= 1e-3 * sizes[most]:
        return (sizes[least] if len(sizes) == len(records) else None), []
    problem = Problem(
        severity="warning",
        kind="pixel sizes differ",
        file=most,
        found=f"{sizes[most]:.4g} um a pixel",
        expected=f"{sizes[least]:.4g} um, as in {least}",
        fix="Cells look larger on one plate than on the other: index plates of one magnification as one screen.",
    )
    return None, [problem]
