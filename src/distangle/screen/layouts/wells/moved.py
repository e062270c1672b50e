"""A table that was turned or shifted against its plate, known by the wells that would meet again."""

from collections.abc import Set
from itertools import product

Position = tuple[int, int]

_FARTHEST = 4  # wells; who slips farther has another plate


def how_moved(found: Set[Position], told: Set[Position]) -> str:
    """Say by which move every well with images would be in the table, if it is not there already.

    Args:
        found: Row and column of the wells with images, zero based.
        told: Row and column of the wells in the table.

    Returns:
        A sentence, or "": they meet as they are, no move brings all together, or there are fewer than three wells.
    """
    if len(found) < 3 or found <= told:
        return ""
    if {(column, row) for row, column in found} <= told:
        return "All wells would match with rows and columns swapped: correct the table."
    steps = range(-_FARTHEST, _FARTHEST + 1)
    for down, right in sorted(product(steps, steps), key=lambda step: (abs(step[0]) + abs(step[1]), step)):
        if {(row + down, column + right) for row, column in found} <= told:
            said = [_step(down, "row"), _step(right, "column")]
            return f"All wells would match if the table were shifted by {' and '.join(filter(None, said))}: correct it."
    return ""


def _step(by: int, what: str) -> str:
    if not by:
        return ""
    # The images' wells were moved to meet the table's: the table has to go the other way.
    return f"{abs(by)} {what}{'s' if abs(by) > 1 else ''} {'back' if by > 0 else 'on'}"
