"""Well names, plate sizes and plate transforms."""

import functools
import re
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from distangle.errors import ScreenError

STANDARD_PLATES = ((2, 3), (3, 4), (4, 6), (8, 12), (16, 24), (32, 48))
"""Rows and columns of the plates of 6, 12, 24, 96, 384 and 1536 wells."""

Position = tuple[int, int]
"""Zero-based row and column of a well."""

_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9][0-9]{0,3})")
_NUMBERED = re.compile(r"r0*([1-9][0-9]?)c0*([1-9][0-9]{0,3})", re.IGNORECASE)


@functools.lru_cache(maxsize=8192)
def split_well(name: str) -> tuple[int, int] | None:
    """Parse a well name for a plate of any size.

    Args:
        name: `A1`, `a01`, `AA01`, or `r01c01` with both counted from one; surrounding white space is ignored.

    Returns:
        Zero-based row and column; None if it is not a well name.
    """
    if match := _WELL.fullmatch(name.strip()):
        return row_of(match[1]), int(match[2]) - 1
    if match := _NUMBERED.fullmatch(name.strip()):
        return int(match[1]) - 1, int(match[2]) - 1
    return None


def row_of(letters: str) -> int:
    """Return the zero-based row of a plate from its letters: 0 for `A`, 26 for `AA`."""
    row = 0
    for letter in letters.upper():
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1


@functools.lru_cache(maxsize=8192)
def well_name(row: int, column: int) -> str:
    """Return the name of a well, such as `B03`, from its zero-based row and column.

    Raises:
        ScreenError: A negative position, or a row past `ZZ`.
    """
    if not (0 <= row < 27 * 26 and column >= 0):
        raise ScreenError(f"No well at row {row}, column {column}: both count from zero, rows end before {27 * 26}.")
    first, second = divmod(row, 26)
    letters = (chr(ord("A") + first - 1) if first else "") + chr(ord("A") + second)
    return f"{letters}{column + 1:02d}"


def parse_well(name: str, *, rows: int, columns: int) -> tuple[int, int]:
    """Return the zero-based row and column of a well of a plate.

    Args:
        name: `A1`, `a01`, `A01` or `r1c1`; `AA01` follows `Z01`.
        rows: Rows of the plate.
        columns: Columns of the plate.

    Raises:
        ScreenError: It is not a well name, or the well is not on the plate.
    """
    position = split_well(name)
    if position is None or position[0] >= rows or position[1] >= columns:
        raise ScreenError(
            f"No well {name!r} on a plate of {rows} x {columns} wells. Expected row letters and a column "
            f"number, from 'A01' to {well_name(rows - 1, columns - 1)!r}."
        )
    return position


def location_name(experiment: str, plate: str, well: str = "", site: str | int = "") -> str:
    """Format a location, such as `HUVEC-01 plate 2 well B03 site 1`.

    Args:
        experiment: Name of the experiment.
        plate: Name of the plate.
        well: Name of the well; "" for the whole plate.
        site: Number of the field of view; "" for the whole well.
    """
    parts = [("plate", plate), ("well", well), ("site", str(site))]
    return " ".join([experiment, *(f"{name} {value}" for name, value in parts if value != "")])


def smallest_plate(rows: int, columns: int) -> tuple[int, int]:
    """Return the smallest standard plate with these rows and columns, or the largest."""
    for plate in STANDARD_PLATES:
        if rows <= plate[0] and columns <= plate[1]:
            return plate
    return STANDARD_PLATES[-1]


@dataclass(frozen=True, kw_only=True)
class PlateTransform:
    """A transform that corrects the well positions of a misplaced plate.

    The steps are applied in the order of the attributes.

    Attributes:
        transposed: Swap rows and columns.
        rotated: Rotate the plate by 180 degrees.
        size: Rows and columns of the rotated plate; None for the plate passed to `apply`.
        rows: Added to every row.
        columns: Added to every column.
    """

    transposed: bool = False
    rotated: bool = False
    size: Position | None = None
    rows: int = 0
    columns: int = 0

    def apply(self, positions: np.ndarray, plate: Position) -> np.ndarray:
        """Return corrected positions, int [well, 2]; they may lie off the plate.

        Args:
            positions: Zero-based row and column of each well, int [well, 2].
            plate: Rows and columns of the plate.
        """
        moved = positions[:, ::-1] if self.transposed else positions
        if self.rotated:
            moved = np.array(self.size or plate) - 1 - moved
        return np.asarray(moved + np.array([self.rows, self.columns]))

    def apply_to_set(self, positions: Set[Position], plate: Position = STANDARD_PLATES[-1]) -> set[Position]:
        """Return the corrected positions of a set of wells; see `apply`."""
        moved = self.apply(np.array(list(positions), dtype=int).reshape(-1, 2), plate)
        return {(row, column) for row, column in moved.tolist()}
