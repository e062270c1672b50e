"""Read the well names of a source; refuse plates with ambiguous names."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from distangle.screen.indexing.records import IndexOptions, SiteRecord
from distangle.screen.plates import split_well, well_name
from distangle.screen.problems import Problem
from distangle.screen.readers.wells.join_metadata import WellMetadata
from distangle.screen.readers.wells.numbering import (
    Numbering,
    first_difference,
    match_wells,
    possible_numberings,
    prefer_whole_plates,
    readings,
)
from distangle.screen.readers.wells.origin import FORMS, bases_of_sides
from distangle.screen.readers.wells.plate_names import Doubt, PlateKey, PlateNames
from distangle.screen.readers.wells.row_letters import (
    agree_on_rows,
    has_large_plate,
    read_lower_case_rows,
    sides_after_z,
)
from distangle.screen.readers.wells.spelling import Side, WellPlace, spelling_of

TWO_READINGS = "ambiguous well names"
"""Kind of the refusal."""

Position = tuple[int, int]


P = TypeVar("P", bound=WellPlace)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WellReading(Generic[P]):
    """Places and rows with unambiguous wells.

    Attributes:
        places: Images, sites or rows of the only table.
        labels: Well metadata, including the refusals of its rows; None without a table of wells.
        problems: Refusals and warnings.
        n_refused: Number of refused entries of places.
    """

    places: list[P]
    labels: WellMetadata | None
    problems: list[Problem]
    n_refused: int


def normalize_wells(
    places: Sequence[WellPlace],
    rows: Sequence[WellPlace],
    *,
    shared: frozenset[str],
    request: IndexOptions,
    base: int | None = None,
    other_names: Iterable[str] = (),
) -> tuple[dict[tuple[Side, PlateKey], Doubt], list[Problem]]:
    """Normalize every unambiguous well, to `A01` or `AA01`.

    Invalid wells stay unchanged and are refused later.

    Args:
        places: Images, or the rows of the only table; their wells are updated.
        rows: Rows of a table of wells; their wells are updated.
        shared: Which of `experiment` and `plate` both sides contain.
        request: Supplies plate size, `well_base` and `well_order`.
        base: Base of a known instrument.
        other_names: Other well names of the source.

    Returns:
        The doubt of each ambiguous side and plate, and warnings.

    Raises:
        ScreenError: The source has a 0 without `--well-base`.
    """
    other_names = list(other_names)
    is_known = request.well_base is not None or base is not None
    if (
        not is_known
        and not any(map(_has_zero, other_names))
        and all(map(_is_unambiguous, _written_names(places, rows)))
    ):
        return {}, []
    plates = [*_plates("images", places, shared), *_plates("tables", rows, shared)]
    bases = bases_of_sides(
        [
            (plate.side, plate.places[name][0], spelling)
            for plate in plates
            for form in FORMS
            for name, spelling in plate.with_form(form)
        ],
        request.well_base,
        known_base=base,
        other_spellings=[spelling for name in other_names if (spelling := spelling_of(name)) is not None],
    )
    _doubt_well_parts(plates)
    wells = _read_letters(plates, bases, request.plate)
    warnings = _read_numbers(plates, bases, wells, request)
    return {(plate.side, plate.key): plate.doubt for plate in plates if plate.doubt is not None}, warnings


def resolve_names(
    places: Sequence[P],
    labels: WellMetadata | None,
    *,
    shared: frozenset[str],
    request: IndexOptions,
    count: Callable[[Sequence[P]], int] = len,
    side: Side = "images",
    base: int | None = None,
    other_names: Iterable[str] = (),
) -> WellReading[P]:
    """Read the wells of images and of their table; refuse ambiguous plates.

    Args:
        places: Images, sites, or the rows of the only table.
        labels: Well metadata, if any.
        shared: Which of `experiment` and `plate` both contain.
        request: Supplies plate size, `well_base` and `well_order`.
        count: Counts the entries of some places.
        side: `tables` if the places are the rows of the only table.
        base: See `normalize_wells`.
        other_names: See `normalize_wells`.

    Raises:
        ScreenError: See `normalize_wells`.
    """
    rows: Sequence[WellPlace] = labels.rows if labels is not None else ()
    images, rows = (places, rows) if side == "images" else ((), places)
    doubts, problems = normalize_wells(images, rows, shared=shared, request=request, base=base, other_names=other_names)
    place_doubts = {key: doubt for (plate_side, key), doubt in doubts.items() if plate_side == side}
    partner_doubts = {_partner(key, shared): doubt for (plate_side, key), doubt in doubts.items() if plate_side != side}
    readable: list[P] = []
    refused_places: dict[PlateKey, list[P]] = defaultdict(list)
    for place in places:
        key = place.experiment, place.plate
        doubt = place_doubts.get(key) or partner_doubts.get(_partner(key, shared))
        if doubt is None:
            readable.append(place)
        else:
            place_doubts[key] = doubt
            refused_places[key].append(place)
    n_refused = 0
    for key, plate_places in refused_places.items():
        problems.append(_refusal(plate_places[0], place_doubts[key], count=count(plate_places)))
        n_refused += count(plate_places)
    if labels is not None:
        readable_partners = {_partner((place.experiment, place.plate), shared) for place in readable}
        refused_partners = {
            _partner(key, shared): place_doubts[key]
            for key in refused_places
            if _partner(key, shared) not in readable_partners
        }
        labels = _refuse_ambiguous_rows(labels, shared, {**refused_partners, **partner_doubts})
    return WellReading(places=readable, labels=labels, problems=problems, n_refused=n_refused)


def _refuse_ambiguous_rows(
    labels: WellMetadata, shared: frozenset[str], doubts: Mapping[PlateKey, Doubt]
) -> WellMetadata:
    rows: list[SiteRecord] = []
    problems: list[Problem] = []
    refused_rows: dict[PlateKey, list[SiteRecord]] = defaultdict(list)
    for row in labels.rows:
        key = _partner((row.experiment, row.plate), shared)
        if key in doubts:
            refused_rows[key].append(row)
        elif split_well(row.well) is None:
            expected = "a name such as B03"
            problems.append(row.problem("bad well", found=repr(row.well), expected=expected, fix="Correct it."))
        else:
            rows.append(row)
    problems += [
        _refusal(plate_rows[0], doubts[key], count=len(plate_rows)) for key, plate_rows in refused_rows.items()
    ]
    return dataclasses.replace(labels, rows=rows, problems=[*labels.problems, *problems])


def _refusal(place: WellPlace, doubt: Doubt, *, count: int) -> Problem:
    line = getattr(place, "line", 0)
    paths = getattr(place, "paths", ()) or (getattr(place, "path", ""),)
    return Problem(
        kind=TWO_READINGS,
        file=getattr(place, "table", "") or paths[0],
        row=str(line) if line else "",
        experiment=place.experiment,
        plate=place.plate,
        found=doubt.description,
        expected="unambiguous wells on a plate",
        fix=doubt.fix,
        count=count,
    )


def _written_names(*sides: Sequence[WellPlace]) -> set[str]:
    return {place.well for side in sides for place in side}


def _has_zero(name: str) -> bool:
    spelling = spelling_of(name)
    return spelling is not None and spelling.has_zero


def _is_unambiguous(name: str) -> bool:
    """Test whether a name has one reading: upper-case letters, or an invalid name."""
    spelling = spelling_of(name)
    if spelling is None:
        return True
    return spelling.form == "letters" and not spelling.is_lower_case and split_well(name) is not None


def _plates(side: Side, places: Sequence[WellPlace], shared: frozenset[str]) -> list[PlateNames]:
    plates: dict[PlateKey, PlateNames] = {}
    for place in places:
        key = place.experiment, place.plate
        plate = plates.setdefault(key, PlateNames(side, key, _partner(key, shared)))
        plate.places.setdefault(place.well, []).append(place)
    return list(plates.values())


def _partner(key: PlateKey, shared: frozenset[str]) -> PlateKey:
    """Return the key of a plate that both sides share."""
    return key[0] if "experiment" in shared else "", key[1] if "plate" in shared else ""


def _doubt_well_parts(plates: Sequence[PlateNames]) -> None:
    for plate in plates:
        if parts := plate.with_form("part"):
            name = parts[0][0].strip()
            plate.doubt = Doubt(
                f"{name!r}, a site of a well, or a well of a larger plate",
                "Name wells as A01 and sites by number: with {well} and {site} in --pattern, or in two columns of a "
                "table. Name wells of a larger plate as on that plate.",
            )


def _read_letters(
    plates: Sequence[PlateNames], bases: Mapping[tuple[Side, str], int], size: Position | None
) -> dict[tuple[Side, PlateKey], set[Position]]:
    """Read wells with row letters or row numbers; return them by side and plate."""
    has_large = has_large_plate(plates, bases)
    certain_sides = sides_after_z(plates) if has_large else set()
    wells: dict[tuple[Side, PlateKey], set[Position]] = defaultdict(set)
    small_letters: dict[int, bool | Doubt] = {}
    sides: dict[Side, list[PlateNames]] = defaultdict(list)
    partners: dict[tuple[Side, PlateKey], list[PlateNames]] = defaultdict(list)
    for plate in plates:
        sides[plate.side].append(plate)
        partners[plate.side, plate.partner].append(plate)
    for plate in plates:
        others, same_side = partners[_other_side(plate.side), plate.partner], sides[plate.side]
        small_letters[id(plate)] = read_lower_case_rows(
            plate, others, same_side, size, has_large=has_large, is_certain=plate.side in certain_sides
        )
    for plate in plates:
        after_z = agree_on_rows(plate, partners[_other_side(plate.side), plate.partner], small_letters)
        if isinstance(after_z, Doubt):
            plate.doubt = plate.doubt or after_z
            continue
        for form in ("letters", "row_column"):
            for name, spelling in plate.with_form(form):
                position = spelling.position(bases[plate.side, form], after_z=after_z)
                if position is not None and position[0] < 26 * 27:
                    wells[plate.side, plate.partner].add(position)
                    if form == "row_column" or split_well(name) != position:
                        _set_well(plate.places[name], well_name(*position))
    return wells


def _set_well(places: Sequence[WellPlace], well: str) -> None:
    for place in places:
        place.well = well


def _other_side(side: Side) -> Side:
    return "tables" if side == "images" else "images"


def _read_numbers(
    plates: Sequence[PlateNames],
    bases: Mapping[tuple[Side, str], int],
    wells: Mapping[tuple[Side, PlateKey], set[Position]],
    request: IndexOptions,
) -> list[Problem]:
    """Read numbered wells of plates without other wells; return warnings."""
    numbered = [
        plate
        for plate in plates
        if plate.with_form("number") and not (plate.with_form("letters") or plate.with_form("row_column"))
    ]
    if not numbered:
        return []
    numbers = {id(plate): _well_numbers(plate, bases[plate.side, "number"]) for plate in numbered}
    candidates = possible_numberings(list(numbers.values()), plate=request.plate, order=request.well_order)
    side: Side = "images" if any(plate.side == "images" for plate in numbered) else "tables"
    numbers_of: dict[object, set[int]] = defaultdict(set)
    wells_of: dict[object, set[Position]] = {}
    for plate in numbered:
        if plate.side == side:
            numbers_of[plate.partner] |= numbers[id(plate)]
            wells_of[plate.partner] = wells.get((_other_side(side), plate.partner), set())
    possible = match_wells(candidates, numbers_of, wells_of, is_table=side == "tables") or candidates
    possible = prefer_whole_plates(possible, list(numbers.values()))
    if not possible:
        return []  # no plate has so many wells: each is refused later
    number = first_difference(possible, numbers_of, wells_of, is_table=side == "tables")
    if number is not None:
        doubt = _numbering_doubt(possible, number, base=bases[side, "number"])
        for plate in numbered:
            plate.doubt = plate.doubt or doubt
        return []
    for plate in numbered:
        for name, spelling in plate.with_form("number"):
            if spelling.column >= bases[plate.side, "number"]:
                _set_well(plate.places[name], possible[0].name(spelling.column - bases[plate.side, "number"]))
    is_known = request.plate is not None and request.well_order is not None
    return [] if is_known else [_numbering_warning(numbered[0], possible)]


def _well_numbers(plate: PlateNames, base: int) -> set[int]:
    return {spelling.column - base for _, spelling in plate.with_form("number") if spelling.column >= base}


def _numbering_doubt(possible: Sequence[Numbering], number: int, *, base: int) -> Doubt:
    options = []
    if len({candidate.order for candidate in possible}) > 1:
        options.append("--well-order rows (or columns)")
    if len({candidate.plate for candidate in possible}) > 1:
        rows, columns = possible[0].plate
        options.append(f"--plate-rows {rows} --plate-columns {columns} (or those of another plate)")
    return Doubt(
        f"well {number + base}, {', '.join(readings(possible, number))}", f"Specify it with {' and '.join(options)}."
    )


def _numbering_warning(plate: PlateNames, possible: Sequence[Numbering]) -> Problem:
    name, spelling = plate.with_form("number")[0]
    place = plate.places[name][0]
    return Problem(
        severity="warning",
        kind="wells by number",
        file=getattr(place, "table", "") or getattr(place, "path", ""),
        plate=place.plate,
        well=place.well,
        found=f"well {spelling.column}",
        expected=f"wells counted {' or '.join(map(str, possible))}, which agree for these wells",
        fix="No action needed if correct; otherwise use --well-order, --plate-rows and --plate-columns.",
    )
