"""Detect plate maps that are shifted against the images."""

from collections.abc import Set
from dataclasses import dataclass
from itertools import product

from distangle.screen.indexing.records import SiteRecord
from distangle.screen.plates import PlateTransform, Position
from distangle.screen.problems import Problem

_MAX_STEPS = 4  # wells; a larger shift suggests another plate
_MIN_WELLS = 4  # wells; fewer may match by chance


@dataclass(frozen=True)
class PlateShift:
    """The shift between the plate map and the images; false without a shift.

    Attributes:
        advice: A sentence, or "".
        is_certain: The shift matches every well to a row and every row to a well, so unshifted wells have the labels
            of their neighbors.
        transform: Transform of the wells with images to their rows.
    """

    advice: str = ""
    is_certain: bool = False
    transform: PlateTransform = PlateTransform()

    def __bool__(self) -> bool:
        return bool(self.advice)


def detect_shift(images: Set[Position], rows: Set[Position], *, may_count_from_zero: bool = False) -> PlateShift:
    """Return the shift by which every well with images is in the table.

    Args:
        images: Zero-based row and column of the wells with images.
        rows: Zero-based row and column of the wells in the table.
        may_count_from_zero: The reader supports `--well-base`, which is suggested for a shift by one.

    Returns:
        No shift if the wells match unshifted, no shift matches all, or there are fewer than three wells.
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
"""Candidates in order of likelihood: the smallest shift first."""


def shifted_row_problem(site: SiteRecord, row: SiteRecord, shift: PlateShift) -> Problem:
    """Return the refusal of a site on a plate with a shifted plate map.

    Args:
        site: The site.
        row: The row with the same well name.
        shift: The shift of the plate.
    """
    return site.problem(
        "plate map shifted",
        found=f"{row.perturbation!r} in {row.table} line {row.line}",
        expected="the row of this well; the plate map is shifted against the images",
        fix=shift.advice,
    )


def _describe_transform(transform: PlateTransform, *, may_count_from_zero: bool) -> str:
    if transform.transposed:
        return "with rows and columns swapped: correct the plate map."
    shift = " and ".join(
        filter(None, [_describe_step(transform.rows, "row"), _describe_step(transform.columns, "column")])
    )
    base = _FROM_ZERO.get((transform.rows, transform.columns), "") if may_count_from_zero else ""
    return f"if the plate map were shifted by {shift}: correct it.{base}"


_FROM_ZERO = {
    step: f" If {who} from 0, use --well-base {side}=0 instead."
    for who, side, steps in (
        ("the image names count", "images", ((1, 1), (0, 1))),
        ("the table counts", "tables", ((-1, -1), (0, -1))),
    )
    for step in steps
}


def _describe_step(step: int, unit: str) -> str:
    if not step:
        return ""
    # The transform moves images to rows, so the table moves the other way.
    return f"{abs(step)} {unit}{'s' if abs(step) > 1 else ''} {'back' if step > 0 else 'on'}"
