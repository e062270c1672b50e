"""Wells by number, 1 to 384: row by row or column by column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from distangle.screen.plates import STANDARD_PLATES, well_name

ORDERS = ("rows", "columns")

Position = tuple[int, int]


@dataclass(frozen=True)
class Numbering:
    """How numbers become wells.

    Attributes:
        order: `rows`: 2 is A02; `columns`: 2 is B01.
        plate: Rows and columns.
    """

    order: str
    plate: tuple[int, int]

    def position(self, k: int) -> Position:
        """Return row and column of the well with the number `k`, all from zero."""
        if self.order == "rows":
            return divmod(k, self.plate[1])
        column, row = divmod(k, self.plate[0])
        return row, column

    def name(self, k: int) -> str:
        """Return the name of the well with the number `k`, from zero."""
        return well_name(*self.position(k))

    def __str__(self) -> str:
        by = "row by row" if self.order == "rows" else "column by column"
        return f"{by} on {self.plate[0]} x {self.plate[1]} wells"


def possible_numberings(
    numbers: Sequence[set[int]], *, plate: tuple[int, int] | None, order: str | None
) -> list[Numbering]:
    """Return every numbering that has all numbers of some plates.

    Args:
        numbers: Of each plate, from zero.
        plate: Rows and columns, where they are known.
        order: `rows` or `columns`, where it is known.
    """
    end = 1 + max((max(plate_numbers) for plate_numbers in numbers if plate_numbers), default=0)
    plates = [size for size in ((plate,) if plate else STANDARD_PLATES) if end <= size[0] * size[1]]
    return [Numbering(by, size) for size in plates for by in ((order,) if order else ORDERS)]


def prefer_whole_plates(candidates: Sequence[Numbering], numbers: Sequence[set[int]]) -> list[Numbering]:
    """Return numberings of standard plates whose numbers are all there, else all.

    The plates are of 96, 384 or 1536 wells.

    Args:
        candidates: From `numberings`.
        numbers: Of each plate, from zero.
    """
    whole = {
        len(plate_numbers)
        for plate_numbers in numbers
        if plate_numbers and max(plate_numbers) + 1 == len(plate_numbers) >= 96
    }
    return [candidate for candidate in candidates if candidate.plate[0] * candidate.plate[1] in whole] or list(
        candidates
    )


def match_wells(
    candidates: Sequence[Numbering],
    numbers: Mapping[object, set[int]],
    wells: Mapping[object, set[Position]],
    *,
    is_table: bool,
) -> list[Numbering]:
    """Return numberings by which every well with images has a row, else all.

    Args:
        candidates: From `numberings`.
        numbers: Of each plate, from zero.
        wells: Of the same plates as the other side names them.
        is_table: The numbers stand in a table, the wells are those of the images.
    """
    shared = [key for key in numbers if wells.get(key)]

    def fits(candidate: Numbering) -> bool:
        for key in shared:
            positions = {candidate.position(k) for k in numbers[key]}
            if not (wells[key] <= positions if is_table else positions <= wells[key]):
                return False
        return True

    return [candidate for candidate in candidates if fits(candidate)] if shared else list(candidates)


def first_difference(
    candidates: Sequence[Numbering],
    numbers: Mapping[object, set[int]],
    wells: Mapping[object, set[Position]],
    *,
    is_table: bool,
) -> int | None:
    """Return the first number that two numberings read differently; None if none.

    Of a table only the rows of wells with images count, where there are some.
    """
    for key, plate_numbers in numbers.items():
        for k in sorted(plate_numbers):
            positions = {candidate.position(k) for candidate in candidates}
            relevant = positions & wells[key] if is_table and wells.get(key) else positions
            if len(positions) > 1 and relevant:
                return k
    return None


def readings(candidates: Sequence[Numbering], k: int) -> Iterator[str]:
    """Give each well that a number may be, with the first numbering that says so."""
    names: set[str] = set()
    for candidate in candidates:
        if candidate.name(k) not in names:
            names.add(candidate.name(k))
            yield f"{candidate.name(k)} {candidate}"
