"""Parse well names: letters and column, row and column digits, or one number."""

import functools
import re
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from distangle.errors import ScreenError
from distangle.screen.plates import row_of

Form = Literal["letters", "row_column", "number", "part"]
Side = Literal["images", "tables"]

_LETTERS = re.compile(r"(?:well[-_ ]*)?([A-Z]{1,2})[-_: ]*([0-9]{1,4})", re.IGNORECASE)
_ROW_AND_COLUMN = re.compile(r"r(?:ow)?[-_ ]*([0-9]{1,4})[-_, ]*c(?:ol(?:umn)?)?[-_ ]*([0-9]{1,4})", re.IGNORECASE)
_NUMBER = re.compile(r"(?:well[-_ ]*)?([0-9]{1,5})(?:\.0+)?", re.IGNORECASE)
_PART = re.compile(r"[A-Z]{1,2}[0-9]{1,3}[-_.:/ ][A-Z][0-9]{1,2}", re.IGNORECASE)


@runtime_checkable
class WellPlace(Protocol):
    """An image, a site or a table row with a well."""

    experiment: str
    plate: str
    well: str


@dataclass(frozen=True, slots=True)
class Spelling:
    """A parsed well name, before the base of its source is known.

    Attributes:
        form: `letters` for A01, `row_column` for r01c01, `number` for 17, `part` for A01.a1.
        letters: Row letters as written; "" for a numbered row.
        row: Number of the row; 0 for row letters.
        column: Number of the column; for the form `number` that of the well.
    """

    form: Form
    letters: str
    row: int
    column: int

    @property
    def has_zero(self) -> bool:
        """Whether a row, column or well is 0, which occurs only when counting from 0."""
        return self.form != "part" and (self.column == 0 or (self.form == "row_column" and self.row == 0))

    @property
    def is_lower_case(self) -> bool:
        """Whether the row is one lower-case letter, which may be a row after Z."""
        return self.form == "letters" and len(self.letters) == 1 and self.letters.islower()

    def position(self, base: int, *, after_z: bool = False) -> tuple[int, int] | None:
        """Return the zero-based row and column; None if there is none.

        Args:
            base: First row and column, 0 or 1.
            after_z: A lower-case letter is a row after Z: `a` is row 27.
        """
        if self.form == "letters":
            row = row_of(self.letters) + (26 if after_z and self.is_lower_case else 0)
        elif self.form == "row_column":
            row = self.row - base
        else:
            return None
        column = self.column - base
        return (row, column) if row >= 0 and column >= 0 else None


@functools.lru_cache(maxsize=8192)
def spelling_of(name: str) -> Spelling | None:
    """Parse a well name: `A1`, `A-01`, `r02c07`, `17`, `A01.a1`; None if invalid."""
    text = name.strip()
    if not text.isascii():
        return None
    if match := _ROW_AND_COLUMN.fullmatch(text):
        return Spelling("row_column", "", int(match[1]), int(match[2]))
    if match := _NUMBER.fullmatch(text):
        return Spelling("number", "", 0, int(match[1]))
    if match := _LETTERS.fullmatch(text):
        return Spelling("letters", match[1], 0, int(match[2]))
    return Spelling("part", "", 0, 0) if _PART.fullmatch(text) else None


@functools.lru_cache(maxsize=64)
def bases_of(text: str | None) -> dict[str, int]:
    """Parse `--well-base`: 0, 1, or a base per side, such as `images=0,tables=1`.

    Args:
        text: The value as typed, or None.

    Returns:
        The base of each named side, or of both under "".

    Raises:
        ScreenError: The value is invalid.
    """
    if text is None:
        return {}
    bases: dict[str, int] = {}
    for item in text.split(","):
        side, _, digit = item.strip().rpartition("=")
        is_known = side in ("", "images", "tables") and digit in ("0", "1")
        if not is_known or side in bases or (bases and "" in (side, *bases)):
            message = f"--well-base {text}: expected 0 or 1, the first number of rows and columns, or one for each of "
            message += "image names and tables: images=0,tables=1."
            raise ScreenError(message)
        bases[side] = int(digit)
    return bases
