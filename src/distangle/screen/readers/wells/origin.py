"""Decide whether rows and columns of a source count from 1 or from 0."""

from collections.abc import Mapping, Sequence

from distangle.errors import WellBaseError
from distangle.screen.readers.wells.spelling import Side, Spelling, WellPlace, bases_of, spelling_of

FORMS = ("letters", "row_column", "number")
SIDES: tuple[Side, ...] = ("images", "tables")
_SIDE_NAMES = {"images": "the image names", "tables": "the table"}


def bases_of_sides(
    wells: Sequence[tuple[Side, WellPlace, Spelling]],
    well_base: str | None,
    *,
    known_base: int | None = None,
    other_spellings: Sequence[Spelling] = (),
) -> dict[tuple[Side, str], int]:
    """Return the first row and column, 0 or 1, of each side and spelling form.

    Args:
        wells: Every well of a source: its side, its place and its spelling.
        well_base: Value of `--well-base`, if given.
        known_base: Base of the image names, if the microscope is known.
        other_spellings: Other spellings on the side of the images.

    Raises:
        WellBaseError: There is a 0 without `--well-base`, or `--well-base 0` does not say which side it applies to.
    """
    bases = bases_of(well_base)
    has_zero_of: dict[tuple[Side, str], bool] = {}
    first: dict[Side, tuple[str, Spelling]] = {}
    for side, place, spelling in wells:
        key = side, spelling.form
        has_zero_of[key] = has_zero_of.get(key, False) or spelling.has_zero
        if spelling.has_zero:
            first.setdefault(side, (_describe_place(place), spelling))
    for spelling in other_spellings:
        if spelling.has_zero:
            has_zero_of["images", spelling.form] = True
            first.setdefault("images", ("the metadata of the plate", spelling))
    counts = {(side, form): 1 for side in SIDES for form in FORMS}
    for side, form in counts:
        if side in bases:
            counts[side, form] = bases[side]
        elif "" in bases:
            counts[side, form] = _base_of_form(side, form, has_zero_of) if bases[""] == 0 else 1
        elif side == "images" and known_base is not None:
            counts[side, form] = known_base
        elif has_zero_of.get((side, form)):
            raise WellBaseError(_zero_message(*first[side]))
    return counts


def require_base_one(well: str, where: str) -> None:
    """Refuse a source of RxRx1 with a column 0: labels would shift by one well.

    Args:
        well: The well as written.
        where: Location for the message.

    Raises:
        WellBaseError: The well has a column 0.
    """
    spelling = spelling_of(well)
    if spelling is not None and spelling.has_zero:
        message = f"{where} has the well {well!r}: column 0, and RxRx1 counts from 1. Correct a typing error; "
        message += "read a source that counts from 0 by --layout table or folder with --well-base 0."
        raise WellBaseError(message)


def _base_of_form(side: Side, form: str, has_zero_of: Mapping[tuple[Side, str], bool]) -> int:
    """Return the base of a form under `--well-base 0` without a side.

    Raises:
        WellBaseError: The option may not apply to this form.
    """
    if has_zero_of.get((side, form)):
        return 0
    if (side, form) not in has_zero_of:
        return 1
    other_sides = [key for key in has_zero_of if key[0] != side]
    zeros = [key for key, has_zero in has_zero_of.items() if has_zero]
    if form != "letters":
        if any(key[0] != side for key in zeros):
            raise WellBaseError(_ambiguous_side_message(f"{_SIDE_NAMES[side]} may also count from 0, and contain no 0"))
        return 0
    if zeros or any(other != "letters" for _, other in has_zero_of):
        return 1  # letters with a column count from 1 without a column 0
    if other_sides:
        raise WellBaseError(
            _ambiguous_side_message("no well has a column 0, neither in the image names nor in the table")
        )
    return 0


def _ambiguous_side_message(why: str) -> str:
    return f"--well-base 0: {why}. Give a base for each: --well-base images=0,tables=1 (or the reverse)."


def _zero_message(where: str, spelling: Spelling) -> str:
    position = "well 0"
    if spelling.form == "letters":
        position = f"the well '{spelling.letters}{spelling.column}', column 0"
    elif spelling.form == "row_column":
        position = f"row {spelling.row}, column {spelling.column}"
    return (
        f"{where} has {position}, so wells may count from 0. Read from 1, every other well would get the label of its "
        f"neighbor. If they count from 0, use --well-base 0. Otherwise correct the error, or refuse only such wells "
        f"with --well-base 1."
    )


def _describe_place(place: object) -> str:
    """Return the location of a well."""
    line, table = getattr(place, "line", 0), getattr(place, "table", "")
    if line:
        return f"{table}, line {line},"
    return getattr(place, "path", "") or next(iter(getattr(place, "paths", ())), "") or "a place"
