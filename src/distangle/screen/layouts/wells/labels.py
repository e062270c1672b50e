"""Tables that say what was done to the wells, and how they meet the images that were found."""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError
from distangle.remote import AnyPath
from distangle.screen.duplicates import divide_duplicates
from distangle.screen.entry import Entry
from distangle.screen.layouts.wells.columns import resolve_columns, with_wells
from distangle.screen.layouts.wells.moved import Move, how_moved, with_anothers_row
from distangle.screen.layouts.wells.spelling import spelling_of
from distangle.screen.perturbation import ROLE_WORDS, Role, role_of
from distangle.screen.plate import split_well
from distangle.screen.problems import Problem
from distangle.screen.source_tables import SourceTable, read_table

Key = tuple[str, str, tuple[int, int]]  # experiment, plate ("" where the table does not say), well
_ADD_ROW = "Add the row that names this well, or remove the images."
_FETCH = "Copy the images and index again; --tables-only looks for none."


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Rows of wells.

    Attributes:
        rows: One per well, `site` 0; `experiment` and `plate` are "" where the table has no such column.
        problems: Refusals of other rows.
        n_rows: All rows.
        keys: Which of `experiment` and `plate` the rows name.
        extra_columns: Names for `Entry.extra` of the rows.
        tables: What was read.
        columns: Which column was taken for which of ours.
    """

    rows: list[Entry]
    problems: list[Problem]
    n_rows: int
    keys: frozenset[str]
    extra_columns: tuple[str, ...]
    tables: tuple[AnyPath, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


def read_labels(path: AnyPath, mapping: Mapping[str, str], *, missing: Collection[str] = ()) -> Labels:
    """Read a table with a row per well.

    Args:
        path: The table; `well` and `perturbation` it must have, `plate` and `experiment` it may. Without `plate`
            its rows hold for every plate.
        mapping: Our column name to the table's.
        missing: Words that stand for a missing value.

    Raises:
        ScreenError: It cannot be read, or which column is which cannot be told.
    """
    table = with_wells(read_table(path, missing=missing), mapping)
    column_of = resolve_columns(table, mapping, wanted=("well", "perturbation"))
    if "site" in column_of and "site" not in mapping:
        column_of.pop("site")
    return labels_of(table, column_of)


def labels_of(table: SourceTable, column_of: Mapping[str, str]) -> Labels:
    """Return the rows of a table of which is known what its columns are.

    Raises:
        ScreenError: It has a row per site.
    """
    if "site" in column_of:
        message = f"{table.path} has a row per site ({column_of['site']!r}). Take --layout table, with the paths of "
        message += "the images in it, or a table with a row per well."
        raise ScreenError(message)
    ours = {name: table.position(column) for name, column in column_of.items()}
    extra = tuple(name for name in table.columns if name not in column_of.values())
    theirs = [table.position(name) for name in extra]
    rows: list[Entry] = []
    problems = table.ragged_problems()
    for line, fields in zip(table.lines, table.rows, strict=True):
        values = {name: fields[k].strip() for name, k in ours.items()}
        perturbation, word = values.get("perturbation", ""), values.get("role", "")
        role = role_of(word) if word else (Role.TREATMENT if perturbation else Role.UNKNOWN)
        entry = Entry(
            experiment=values.get("experiment", ""),
            plate=values.get("plate", ""),
            well=values["well"],
            site=0,
            cell_type=values.get("cell_type", ""),
            perturbation=perturbation,
            role=role or Role.UNKNOWN,
            split=values.get("split", ""),
            table=table.path.name,
            line=line,
            extra=tuple(fields[k] for k in theirs),
            fields=fields,
        )
        problem = _wrong_row(entry, column_of, word if role is None else "")
        if problem is None:
            rows.append(entry)
        else:
            problems.append(problem)
    return Labels(
        rows=rows,
        problems=problems,
        n_rows=table.n_rows,
        keys=frozenset({"experiment", "plate"} & set(column_of)),
        extra_columns=extra,
        tables=(table.path,),
        columns=dict(column_of),
    )


def join_labels(
    sites: Sequence[Entry], labels: Labels, *, known: frozenset[str], aside: Sequence[Problem] = ()
) -> tuple[list[Entry], list[Problem], int]:
    """Give every site the row of its well; what has no partner is refused.

    Args:
        sites: With images, each; their extra columns stay before the rows'.
        labels: The rows.
        known: Which of `experiment` and `plate` the images name; what only the rows name is taken from them.
        aside: Refusals of other sites: the row of such a well has found its images.

    Returns:
        The sites with their labels, refusals, and how many rows are found beside the sites: those that are refused
        for themselves.
    """
    shared = labels.keys & known
    rows, problems = _one_per_well(labels, shared)
    refused_wells = {_key_of(problem, shared) for problem in [*labels.problems, *problems]}
    row_of = {_key_of(row, shared): row for row in rows}
    used = {key for problem in aside if (key := _key_of(problem, shared)) in row_of}
    entries: list[Entry] = []
    strangers: list[Entry] = []
    moves = _moves([*sites, *aside], rows, shared)
    for site in sites:
        key = _key_of(site, shared)
        row = row_of.get(key)
        if row is None:
            strangers.append(site)
            continue
        used.add(key)
        move = moves.get(_plate_of(site, shared), Move())
        if move.is_certain:
            problems.append(with_anothers_row(site, row, move))
        elif site.cell_type and row.cell_type and site.cell_type != row.cell_type:
            problems.append(_of_two_cell_types(site, row))
        else:
            entries.append(_labelled(site, row, known))
    lonely = [row for key, row in row_of.items() if key not in used]
    for site in strangers:
        was_refused = _key_of(site, shared) in refused_wells
        move = moves.get(_plate_of(site, shared), Move())
        problems.append(_without_row(site, move.words, was_refused=was_refused))
    there = {_plate_of(site, shared) for site in sites} | {_plate_of(problem, shared) for problem in aside}
    problems += _without_images(lonely, moves, shared, with_images=there)
    n_rows_apart = labels.n_rows - len(used)
    return entries, [*labels.problems, *problems], n_rows_apart


def _one_per_well(labels: Labels, shared: frozenset[str]) -> tuple[list[Entry], list[Problem]]:
    # An experiment that only the table knows does not tell two rows of one well apart.
    row_of: dict[int, Entry] = {}
    alike: list[Entry] = []
    for row in labels.rows:
        experiment, plate = _plate_of(row, shared)
        alike.append(dataclasses.replace(row, experiment=experiment, plate=plate))
        row_of[id(alike[-1])] = row
    kept, problems = divide_duplicates(alike, site_hint="Keep one row per well of a plate.")
    return [row_of[id(row)] for row in kept], problems


def _key_of(place: Entry | Problem, shared: frozenset[str]) -> Key | None:
    position = split_well(place.well)
    return None if position is None else (*_plate_of(place, shared), position)


def _plate_of(place: Entry | Problem, shared: frozenset[str]) -> tuple[str, str]:
    return (
        place.experiment if "experiment" in shared else "",
        place.plate if "plate" in shared else "",
    )


def _labelled(site: Entry, row: Entry, known: frozenset[str]) -> Entry:
    return dataclasses.replace(
        site,
        experiment=site.experiment if "experiment" in known or not row.experiment else row.experiment,
        plate=site.plate if "plate" in known or not row.plate else row.plate,
        cell_type=row.cell_type or site.cell_type,
        perturbation=row.perturbation,
        role=row.role,
        split=row.split,
        table=row.table,
        line=row.line,
        extra=(*site.extra, *row.extra),
        fields=row.fields,
    )


def _moves(
    sites: Sequence[Entry | Problem], rows: Sequence[Entry], shared: frozenset[str]
) -> dict[tuple[str, str], Move]:
    """Return for each plate by what move its rows would meet its images, if by one."""
    found: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
    told: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
    for places, wells in ((sites, found), (rows, told)):
        for place in places:
            position = split_well(place.well)
            if position is not None:
                wells[_plate_of(place, shared)].add(position)
    return {
        plate: how_moved(wells, told[plate], may_count_from_zero=True)
        for plate, wells in found.items()
        if plate in told
    }


def _wrong_row(row: Entry, column_of: Mapping[str, str], word: str) -> Problem | None:
    for name in ("experiment", "plate"):
        if name in column_of and not getattr(row, name):
            return row.problem(f"no {name}", found="''", expected=f"a {name}", fix="Fill it in.")
    if spelling_of(row.well) is None:
        return row.problem("bad well", found=repr(row.well), expected="a name such as B03", fix="Correct it.")
    if word:
        expected = f"one of {', '.join(ROLE_WORDS)}"
        return row.problem("bad role", found=repr(word), expected=expected, fix="Correct the role.")
    return None


def _without_row(site: Entry, advice: str, *, was_refused: bool) -> Problem:
    return site.problem(
        "no table row",
        found="images of a well whose rows were refused" if was_refused else "images",
        expected="a row in a table",
        fix=advice or ("Mend the rows of this well." if was_refused else _ADD_ROW),
    )


def _of_two_cell_types(site: Entry, row: Entry) -> Problem:
    return site.problem(
        "two cell types",
        found=f"{site.cell_type} in the name, {row.cell_type} in {row.table} line {row.line}",
        expected="one cell type",
        fix="Correct one of them, or write {} for {cell_type} in --pattern.",
    )


def _without_images(
    rows: Sequence[Entry],
    moves: Mapping[tuple[str, str], Move],
    shared: frozenset[str],
    *,
    with_images: set[tuple[str, str]],
) -> list[Problem]:
    problems: list[Problem] = []
    by_plate: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for row in rows:
        by_plate[_plate_of(row, shared)].append(row)
    for plate, lonely in by_plate.items():
        found = [row.problem("no image", found="no image of this well", expected="an image") for row in lonely]
        fix = moves.get(plate, Move()).words or _FETCH
        if plate not in with_images:
            # One row for the plate, or problems.csv of a partly copied screen would have tens of thousands.
            said = f"no image of the whole plate ({len(found)} rows)"
            found = [dataclasses.replace(found[0], row="", well="", found=said, count=len(found))]
        problems += [dataclasses.replace(problem, fix=fix) for problem in found]
    return problems
