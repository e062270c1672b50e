"""Parse well names: letters and column, row and column digits, or one number."""

import functools
import re
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from distangle.errors import ScreenError
from distangle.screen.plates import row_of

Form = Literal["letters", "figures", "number", "part"]
Side = Literal["images", "tables"]

_LETTERS = re.compile(r"(?:well[-_ ]*)?([A-Z]{1,2})[-_: ]*([0-9]{1,4})", re.IGNORECASE)
_ROW_AND_COLUMN = re.compile(r"r(?:ow)?[-_ ]*([0-9]{1,4})[-_, ]*c(?:ol(?:umn)?)?[-_ ]*([0-9]{1,4})", re.IGNORECASE)
_NUMBER = re.compile(r"(?:well[-_ ]*)?([0-9]{1,5})(?:\.0+)?", re.IGNORECASE)
_PART = re.compile(r"[A-Z]{1,2}[0-9]{1,3}[-_.:/ ][A-Z][0-9]{1,2}", re.IGNORECASE)


@runtime_checkable
class WellPlace(Protocol):
    """What has a well: an image, a site or a row of a table."""

    experiment: str
    plate: str
    well: str


@dataclass(frozen=True, slots=True)
class Spelling:
    """A well as it is written, before it is known from where its source counts.

    Attributes:
        form: `letters` for A01, `figures` for r01c01, `number` for 17, `part` for A01.a1.
        letters: Of the row, as they are written; "" where it is a figure.
        row: The figure of the row, 0 where it has letters.
        column: The figure of the column; of form `number` that of the well.
    """

    form: Form
    letters: str
    row: int
    column: int

    @property
    def has_zero(self) -> bool:
        """Whether a row, a column or a well is 0: only who counts from 0 writes that."""
        return self.form != "part" and (self.column == 0 or (self.form == "figures" and self.row == 0))

    @property
    def is_small(self) -> bool:
        """Whether the row is one small letter, which may stand for a row behind Z."""
        return self.form == "letters" and len(self.letters) == 1 and self.letters.islower()

    def position(self, base: int, *, behind_z: bool = False) -> tuple[int, int] | None:
        """Return row and column from zero; None where the spelling is ambiguous.

        Args:
            base: What its figures count from.
            behind_z: A small letter is a row behind Z: `a` is row 27.
        """
        if self.form == "letters":
            row = row_of(self.letters) + (26 if behind_z and self.is_small else 0)
        elif self.form == "figures":
            row = self.row - base
        else:
            return None
        column = self.column - base
        return (row, column) if row >= 0 and column >= 0 else None


@functools.lru_cache(maxsize=8192)
def spelling_of(name: str) -> Spelling | None:
    """Parse a well name: `A1`, `A-01`, `r02c07`, `17`, `A01.a1`; None if it is none."""
    text = name.strip()
    if not text.isascii():
        return None
    if match := _ROW_AND_COLUMN.fullmatch(text):
        return Spelling("figures", "", int(match[1]), int(match[2]))
    if match := _NUMBER.fullmatch(text):
        return Spelling("number", "", 0, int(match[1]))
    if match := _LETTERS.fullmatch(text):
        return Spelling("letters", match[1], 0, int(match[2]))
    return Spelling("part", "", 0, 0) if _PART.fullmatch(text) else None


@functools.lru_cache(maxsize=64)
def bases_of(text: str | None) -> dict[str, int]:
    """Return what each side counts from, by `--well-base`: 0, 1 or one each.

    Such as `images=0,tables=1`.

    Args:
        text: As typed; None for nothing.

    Returns:
        `images` and `tables` where they were named, "" for what was said of both.

    Raises:
        ScreenError: It is none of these.
    """
    if text is None:
        return {}
    bases: dict[str, int] = {}
    for item in text.split(","):
        side, _, figure = item.strip().rpartition("=")
        is_known = side in ("", "images", "tables") and figure in ("0", "1")
        if not is_known or side in bases or (bases and "" in (side, *bases)):
            message = f"--well-base {text}: expected 0 or 1, what rows and columns in figures count from; or of the "
            message += "names of images and the tables apart, images=0,tables=1."
            raise ScreenError(message)
        bases[side] = int(figure)
    return bases
