"""A table that was turned or shifted against its plate, known by the wells that would meet again."""

from collections.abc import Set
from dataclasses import dataclass
from itertools import product

from distangle.screen.entry import Entry
from distangle.screen.problems import Problem

Position = tuple[int, int]

_FARTHEST = 4  # wells; who slips farther has another plate
_ENOUGH = 4  # wells; fewer may meet by chance


@dataclass(frozen=True)
class Move:
    """What would bring a plate's wells and its table together; false where nothing has to move.

    Attributes:
        words: A sentence, or "".
        is_certain: By it every well has its row and every row its well, so wells that meet as they are have the rows
            of their neighbours.
    """

    words: str = ""
    is_certain: bool = False

    def __bool__(self) -> bool:
        return bool(self.words)


def how_moved(found: Set[Position], told: Set[Position], *, may_count_from_zero: bool = False) -> Move:
    """Say by which move every well with images would be in the table, if it is not there already.

    Args:
        found: Row and column of the wells with images, zero based.
        told: Row and column of the wells in the table.
        may_count_from_zero: `--well-base` is known where they come from; it is offered where a step of one fits.

    Returns:
        No move where they meet as they are, none brings all together, or there are fewer than three wells.
    """
    if len(found) < 3 or found <= told:
        return Move()
    swapped = {(column, row) for row, column in found}
    if swapped <= told:
        return _move("with rows and columns swapped: correct the table.", swapped == told, len(found))
    steps = range(-_FARTHEST, _FARTHEST + 1)
    for down, right in sorted(product(steps, steps), key=lambda step: (abs(step[0]) + abs(step[1]), step)):
        shifted = {(row + down, column + right) for row, column in found}
        if shifted <= told:
            said = " and ".join(filter(None, [_step(down, "row"), _step(right, "column")]))
            base = _FROM_ZERO.get((down, right), "") if may_count_from_zero else ""
            return _move(f"if the table were shifted by {said}: correct it.{base}", shifted == told, len(found))
    return Move()


def with_anothers_row(site: Entry, row: Entry, move: Move) -> Problem:
    """Return the refusal of a site that meets a row as it is, on a plate where a certain move gives it another.

    Args:
        site: With images.
        row: Of the well of this name.
        move: Of the plate.
    """
    return site.problem(
        "table beside its wells",
        found=f"{row.perturbation!r} in {row.table} line {row.line}",
        expected="the row of this well; the table of the plate has moved against its images",
        fix=move.words,
    )


def _move(said: str, meet: bool, n_wells: int) -> Move:  # noqa: FBT001
    return Move(f"All wells would match {said}", is_certain=meet and n_wells >= _ENOUGH)


_FROM_ZERO = {
    step: f" If {who} from 0, say so instead: --well-base {side}=0."
    for who, side, steps in (
        ("the names of the images count", "images", ((1, 1), (0, 1))),
        ("the table counts", "tables", ((-1, -1), (0, -1))),
    )
    for step in steps
}


def _step(by: int, what: str) -> str:
    if not by:
        return ""
    # The images' wells were moved to meet the table's: the table has to go the other way.
    return f"{abs(by)} {what}{'s' if abs(by) > 1 else ''} {'back' if by > 0 else 'on'}"
