"""Detect plates whose table has shifted against their images."""

from collections.abc import Set
from dataclasses import dataclass
from itertools import product

from distangle.screen.indexing.records import SiteRecord
from distangle.screen.plates import PlateTransform, Position
from distangle.screen.problems import Problem

_MAX_STEPS = 4  # wells; who slips farther has another plate
_MIN_WELLS = 4  # wells; fewer may meet by chance


@dataclass(frozen=True)
class PlateShift:
    """What brings a plate's wells and its table together; false without a shift.

    Attributes:
        advice: A sentence, or "".
        is_certain: By it every well has its row and every row its well, so wells that meet as they are have the rows
            of their neighbours.
        transform: What brings the wells with images to their rows.
    """

    advice: str = ""
    is_certain: bool = False
    transform: PlateTransform = PlateTransform()

    def __bool__(self) -> bool:
        return bool(self.advice)


def detect_shift(images: Set[Position], rows: Set[Position], *, may_count_from_zero: bool = False) -> PlateShift:
    """Return the shift by which every well with images would be in the table.

    Args:
        images: Row and column of the wells with images, zero based.
        rows: Row and column of the wells in the table.
        may_count_from_zero: `--well-base` is known where they come from; it is offered where a step of one fits.

    Returns:
        No shift where they meet as they are, none brings all together, or there are fewer than three wells.
    """
    if len(images) < 3 or images <= rows:
        return PlateShift()
    for transform in _CANDIDATES:
        transformed = transform.apply_to_set(images)
        if transformed <= rows:
            advice = f"All wells would match {_describe_transform(transform, may_count_from_zero=may_count_from_zero)}"
            return PlateShift(advice, is_certain=transformed == rows and len(images) >= _MIN_WELLS, transform=transform)
    return PlateShift()


_STEPS = range(-_MAX_STEPS, _MAX_STEPS + 1)
_CANDIDATES = (
    PlateTransform(transposed=True),
    *(
        PlateTransform(rows=down, columns=right)
        for down, right in sorted(product(_STEPS, _STEPS), key=lambda step: (abs(step[0]) + abs(step[1]), step))
    ),
)
"""Tried in this order: the nearest shift is the likeliest."""


def shifted_row_problem(site: SiteRecord, row: SiteRecord, shift: PlateShift) -> Problem:
    """Return the refusal of a site that meets another well's row on a shifted plate.

    Args:
        site: With images.
        row: Of the well of this name.
        shift: Of the plate.
    """
    return site.problem(
        "table beside its wells",
        found=f"{row.perturbation!r} in {row.table} line {row.line}",
        expected="the row of this well; the table of the plate has moved against its images",
        fix=shift.advice,
    )


def _describe_transform(transform: PlateTransform, *, may_count_from_zero: bool) -> str:
    if transform.transposed:
        return "with rows and columns swapped: correct the table."
    shift = " and ".join(
        filter(None, [_describe_step(transform.rows, "row"), _describe_step(transform.columns, "column")])
    )
    base = _FROM_ZERO.get((transform.rows, transform.columns), "") if may_count_from_zero else ""
    return f"if the table were shifted by {shift}: correct it.{base}"


_FROM_ZERO = {
    step: f" If {who} from 0, say so instead: --well-base {side}=0."
    for who, side, steps in (
        ("the names of the images count", "images", ((1, 1), (0, 1))),
        ("the table counts", "tables", ((-1, -1), (0, -1))),
    )
    for step in steps
}


def _describe_step(by: int, what: str) -> str:
    if not by:
        return ""
    # The images' wells were moved to meet the table's: the table has to go the other way.
    return f"{abs(by)} {what}{'s' if abs(by) > 1 else ''} {'back' if by > 0 else 'on'}"
