"""Choose whether rows and columns of a source count from 1 or from 0."""

from collections.abc import Mapping, Sequence

from distangle.errors import WellBaseError
from distangle.screen.readers.wells.spelling import Side, Spelling, WellPlace, bases_of, spelling_of

FORMS = ("letters", "figures", "number")
SIDES: tuple[Side, ...] = ("images", "tables")
_SIDE_NAMES = {"images": "the names of the images", "tables": "the table"}


def bases_of_sides(
    wells: Sequence[tuple[Side, WellPlace, Spelling]],
    well_base: str | None,
    *,
    known_base: int | None = None,
    other_spellings: Sequence[Spelling] = (),
) -> dict[tuple[Side, str], int]:
    """Return what each side counts from, for each form of spelling: 0 or 1.

    Args:
        wells: Every well of a source: its side, the place and its spelling.
        well_base: `--well-base`, if it was given.
        known_base: What the names of the images count from, where a microscope gave them.
        other_spellings: Other spellings on the side of the images.

    Raises:
        WellBaseError: There is a 0 and nobody said so; or 0 was said and it is open of which side.
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
            first.setdefault("images", ("the plate's lists of rows and columns", spelling))
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
        well: As it is written.
        where: For the message.

    Raises:
        WellBaseError: The well has a column 0.
    """
    spelling = spelling_of(well)
    if spelling is not None and spelling.has_zero:
        message = (
            f"{where} has the well {well!r}: column 0, and RxRx1 counts from 1. If it is a slip of the pen, correct "
        )
        message += "it; a source that counts from 0 is read by --layout table or folder with --well-base 0."
        raise WellBaseError(message)


def _base_of_form(side: Side, form: str, has_zero_of: Mapping[tuple[Side, str], bool]) -> int:
    """Return what a form counts from where `--well-base 0` is all that was said.

    Raises:
        WellBaseError: It is open whether that was meant.
    """
    if has_zero_of.get((side, form)):
        return 0
    if (side, form) not in has_zero_of:
        return 1
    other_sides = [key for key in has_zero_of if key[0] != side]
    zeros = [key for key, has_zero in has_zero_of.items() if has_zero]
    if form != "letters":
        if any(key[0] != side for key in zeros):
            raise WellBaseError(_ambiguous_side_message(f"{_SIDE_NAMES[side]} may count from 0 too, and have no 0"))
        return 0
    if zeros or any(other != "letters" for _, other in has_zero_of):
        return 1  # letters and a column count from 1 wherever there is no column 0
    if other_sides:
        raise WellBaseError(
            _ambiguous_side_message("no name of a well has a column 0, neither of the images nor in the table")
        )
    return 0


def _ambiguous_side_message(why: str) -> str:
    return f"--well-base 0: {why}. Say of which it holds: --well-base images=0,tables=1 (or the other way round)."


def _zero_message(where: str, spelling: Spelling) -> str:
    what = "well 0"
    if spelling.form == "letters":
        what = f"the well '{spelling.letters}{spelling.column}', column 0"
    elif spelling.form == "figures":
        what = f"row {spelling.row}, column {spelling.column}"
    return (
        f"{where} is of {what}: who writes that counts from 0, and read from 1 every other well would have the label "
        f"of its neighbour. Say so: --well-base 0. If it is a slip of the pen, correct it, or have such wells refused "
        f"one by one: --well-base 1."
    )


def _describe_place(place: object) -> str:
    """Return where a well is written."""
    line, table = getattr(place, "line", 0), getattr(place, "table", "")
    if line:
        return f"{table}, line {line},"
    return getattr(place, "path", "") or next(iter(getattr(place, "paths", ())), "") or "a place"
