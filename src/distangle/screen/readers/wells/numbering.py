"""Read wells given by number, such as 1 to 384, by rows or by columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from distangle.screen.plates import STANDARD_PLATES, well_name

ORDERS = ("rows", "columns")

Position = tuple[int, int]


@dataclass(frozen=True)
class Numbering:
    """A mapping of numbers to wells.

    Attributes:
        order: `rows`: 2 is A02; `columns`: 2 is B01.
        plate: Rows and columns of the plate.
    """

    order: str
    plate: tuple[int, int]

    def position(self, k: int) -> Position:
        """Return the zero-based row and column of the well with zero-based number `k`."""
        if self.order == "rows":
            return divmod(k, self.plate[1])
        column, row = divmod(k, self.plate[0])
        return row, column

    def name(self, k: int) -> str:
        """Return the name of the well with the zero-based number `k`."""
        return well_name(*self.position(k))

    def __str__(self) -> str:
        direction = "row by row" if self.order == "rows" else "column by column"
        return f"{direction} on {self.plate[0]} x {self.plate[1]} wells"


def possible_numberings(
    numbers: Sequence[set[int]], *, plate: tuple[int, int] | None, order: str | None
) -> list[Numbering]:
    """Return every numbering that contains all numbers of some plates.

    Args:
        numbers: Zero-based numbers of each plate.
        plate: Rows and columns, if known.
        order: `rows` or `columns`, if known.
    """
    end = 1 + max((max(plate_numbers) for plate_numbers in numbers if plate_numbers), default=0)
    plates = [size for size in ((plate,) if plate else STANDARD_PLATES) if end <= size[0] * size[1]]
    return [Numbering(direction, size) for size in plates for direction in ((order,) if order else ORDERS)]


def prefer_whole_plates(candidates: Sequence[Numbering], numbers: Sequence[set[int]]) -> list[Numbering]:
    """Return the numberings of plates with every number present, else all.

    Only plates of 96, 384 or 1536 wells count.

    Args:
        candidates: From `possible_numberings`.
        numbers: Zero-based numbers of each plate.
    """
    sizes = {
        len(plate_numbers)
        for plate_numbers in numbers
        if plate_numbers and max(plate_numbers) + 1 == len(plate_numbers) >= 96
    }
    return [candidate for candidate in candidates if candidate.plate[0] * candidate.plate[1] in sizes] or list(
        candidates
    )


def match_wells(
    candidates: Sequence[Numbering],
    numbers: Mapping[object, set[int]],
    wells: Mapping[object, set[Position]],
    *,
    is_table: bool,
) -> list[Numbering]:
    """Return the numberings by which every well with images has a row, else all.

    Args:
        candidates: From `possible_numberings`.
        numbers: Zero-based numbers of each plate.
        wells: Wells of the same plates on the other side.
        is_table: The numbers are in a table, and the wells in images.
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

    In a table only rows of wells with images count, if there are any.
    """
    for key, plate_numbers in numbers.items():
        for k in sorted(plate_numbers):
            positions = {candidate.position(k) for candidate in candidates}
            relevant = positions & wells[key] if is_table and wells.get(key) else positions
            if len(positions) > 1 and relevant:
                return k
    return None


def readings(candidates: Sequence[Numbering], k: int) -> Iterator[str]:
    """Yield each well that a number may mean, with its first numbering."""
    names: set[str] = set()
    for candidate in candidates:
        if candidate.name(k) not in names:
            names.add(candidate.name(k))
            yield f"{candidate.name(k)} {candidate}"
