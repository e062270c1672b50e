"""Read rows in lower case: rows after Z of 1536 wells, or rows A to F."""

from collections.abc import Mapping, Sequence

from distangle.screen.plates import row_of, well_name
from distangle.screen.readers.wells.plate_names import Doubt, PlateNames
from distangle.screen.readers.wells.spelling import Side

Position = tuple[int, int]


def read_lower_case_rows(
    plate: PlateNames,
    others: Sequence[PlateNames],
    same_side: Sequence[PlateNames],
    size: Position | None,
    *,
    has_large: bool,
    is_certain: bool,
) -> bool | Doubt:
    """Return whether lower-case letters are rows after Z, or a doubt."""
    if not _may_be_after_z(plate) or any(other.has_double_letters for other in same_side):
        return False
    mixed = plate.is_mixed
    if not mixed and any(max(other.lower_case_rows, default="") > "f" for other in same_side):
        return False
    if size is not None:
        return size[0] > 26
    if mixed and has_large:
        return True
    if mixed and any(other.places for other in others) and not _both_cases(plate) and not any(map(_has_z, others)):
        return False
    if not mixed and (is_certain or not has_large):
        return is_certain
    return _lower_case_doubt(plate)


def agree_on_rows(plate: PlateNames, others: Sequence[PlateNames], small: Mapping[int, bool | Doubt]) -> bool | Doubt:
    """Return the reading of lower-case letters, or a doubt if the sides disagree."""
    reading = small[id(plate)]
    for other in others:
        shared = plate.letter_wells & other.letter_wells if small[id(other)] != reading else ()
        if any(letters in plate.lower_case_rows for letters, _ in shared):
            return _lower_case_doubt(plate)
    return reading


def _lower_case_doubt(plate: PlateNames) -> Doubt:
    name = next(name.strip() for name, spelling in plate.with_form("letters") if spelling.is_lower_case)
    first, second = row_of(name[0]), row_of(name[0]) + 26
    column = name.lstrip("abcdefABCDEF-_: ")
    return Doubt(
        f"{name!r}, row {name[0].upper()} in lower case or row {second + 1} ({well_name(second, 0)[:-2]}{column})",
        f"If it is {well_name(first, 0)[:-2]}{column}: --plate-rows 16 --plate-columns 24. If it is "
        f"{well_name(second, 0)[:-2]}{column}: --plate-rows 32 --plate-columns 48.",
    )


def sides_after_z(plates: Sequence[PlateNames]) -> set[Side]:
    """Return the sides that write rows in both cases, as on 1536 wells."""
    sure = {plate.side for plate in plates if plate.is_mixed and _may_be_after_z(plate)}
    return sure - {plate.side for plate in plates if plate.has_double_letters}


def _may_be_after_z(plate: PlateNames) -> bool:
    """Test whether rows are in lower case, none after `f`, the last of 32 rows."""
    return "" < max(plate.lower_case_rows, default="") <= "f"


def _has_z(plate: PlateNames) -> bool:
    """Test whether a plate may have a row after Z."""
    return (
        bool(plate.lower_case_rows)
        or plate.has_double_letters
        or any(s.row > 26 for _, s in plate.with_form("row_column"))
    )


def has_large_plate(plates: Sequence[PlateNames], bases: Mapping[tuple[Side, str], int]) -> bool:
    """Test whether a well needs a plate of 1536 wells under any reading."""
    for plate in plates:
        for form in ("letters", "row_column"):
            for _, spelling in plate.with_form(form):
                position = spelling.position(bases[plate.side, form])
                if position is None or position[0] >= 32 or position[1] >= 48:
                    continue  # no plate has it: a typing error
                if position[1] >= 24 or (position[0] >= 16 and not spelling.is_lower_case):
                    return True
    return False


def _both_cases(plate: PlateNames) -> bool:
    """Test whether a well occurs in lower case and in upper case."""
    written = plate.letter_wells
    return any(letters.islower() and (letters.upper(), column) in written for letters, column in written)
