"""Well names of one plate as written by its images or by a table."""

import functools
from dataclasses import dataclass, field

from distangle.screen.readers.wells.spelling import Side, Spelling, WellPlace, spelling_of

PlateKey = tuple[str, str]


@dataclass(frozen=True)
class Doubt:
    """Why the wells of a plate are ambiguous, and the next step."""

    description: str
    fix: str


@dataclass
class PlateNames:
    """The wells of one plate as written by images or by a table."""

    side: Side
    key: PlateKey
    partner: PlateKey
    places: dict[str, list[WellPlace]] = field(default_factory=dict)  # by the well as written
    doubt: Doubt | None = None

    @functools.cached_property
    def letter_wells(self) -> frozenset[tuple[str, int]]:
        """Row letters and column of every well with row letters."""
        return frozenset((spelling.letters, spelling.column) for _, spelling in self.with_form("letters"))

    @functools.cached_property
    def lower_case_rows(self) -> frozenset[str]:
        """Rows of one lower-case letter."""
        return frozenset(letters for letters, _ in self.letter_wells if len(letters) == 1 and letters.islower())

    @functools.cached_property
    def upper_case_rows(self) -> frozenset[str]:
        """Rows of one upper-case letter."""
        return frozenset(letters for letters, _ in self.letter_wells if len(letters) == 1 and letters.isupper())

    @functools.cached_property
    def has_double_letters(self) -> bool:
        """Whether row 27 is `AA`, so that lower case has no meaning."""
        return any(len(letters) == 2 for letters, _ in self.letter_wells)

    @property
    def is_mixed(self) -> bool:
        """Whether rows occur in both cases."""
        return bool(self.lower_case_rows) and bool(self.upper_case_rows)

    def with_form(self, form: str) -> list[tuple[str, Spelling]]:
        """Return the wells of a spelling form, each with its spelling."""
        spellings = ((name, spelling_of(name)) for name in self.places)
        return [(name, spelling) for name, spelling in spellings if spelling is not None and spelling.form == form]
