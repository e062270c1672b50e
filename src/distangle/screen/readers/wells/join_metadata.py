"""Join well metadata to sites."""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.indexing.validate import drop_duplicates
from distangle.screen.plates import Position, split_well
from distangle.screen.problems import Problem
from distangle.screen.readers.wells.columns import RowParser, add_well_column, resolve_columns
from distangle.screen.readers.wells.shift import PlateShift, detect_shift, shifted_row_problem
from distangle.screen.source_tables import SourceTable, read_table

Key = tuple[str, str, tuple[int, int]]  # experiment and plate ("" if the table lacks them), well
_ADD_ROW = "Add the row that names this well, or remove the images."
FETCH = "Copy the images and index again, or use --tables-only to look for no image."


@dataclass(frozen=True, kw_only=True)
class WellMetadata:
    """Well metadata of one or more tables.

    Attributes:
        rows: One row per well, with `site` 0; `experiment` and `plate` are "" if the table lacks them.
        problems: Refusals of invalid rows.
        n_rows: Number of all rows.
        keys: Which of `experiment` and `plate` the rows contain.
        extra_columns: Names of `SiteRecord.extra`.
        tables: Paths of the tables.
        columns: Column of each field.
    """

    rows: list[SiteRecord]
    problems: list[Problem]
    n_rows: int
    keys: frozenset[str]
    extra_columns: tuple[str, ...]
    tables: tuple[AnyPath, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


def read_metadata(path: AnyPath, mapping: Mapping[str, str], *, missing: Collection[str] = ()) -> WellMetadata:
    """Read a table with a row per well.

    Args:
        path: The table; `well` and `perturbation` are required, `plate` and `experiment` optional. Without `plate` its
            rows apply to every plate.
        mapping: Column of each field.
        missing: Spellings of a missing value.

    Raises:
        ScreenError: The table is unreadable, or its columns are ambiguous.
    """
    table = add_well_column(read_table(path, missing=missing), mapping)
    column_of = resolve_columns(table, mapping, wanted=("well", "perturbation"))
    if "site" in column_of and "site" not in mapping:
        column_of.pop("site")
    return metadata_of(table, column_of)


def metadata_of(table: SourceTable, column_of: Mapping[str, str]) -> WellMetadata:
    """Parse the rows of a table with known columns.

    Raises:
        ScreenError: The table has a row per site.
    """
    if "site" in column_of:
        message = f"{table.path} has a row per site ({column_of['site']!r}). Use --layout table with image paths in "
        message += "the table, or a table with a row per well."
        raise ScreenError(message)
    extra = tuple(name for name in table.columns if name not in column_of.values())
    parser = RowParser(table, column_of, extra=extra, name=table.path.name, experiment="", site=0, needs_well=True)
    rows: list[SiteRecord] = []
    problems = table.ragged_problems()
    for line, fields in zip(table.lines, table.rows, strict=True):
        entry = parser.parse(line, fields)
        problem = parser.validate(entry, fields)
        if problem is None:
            rows.append(entry)
        else:
            problems.append(problem)
    return WellMetadata(
        rows=rows,
        problems=problems,
        n_rows=table.n_rows,
        keys=frozenset({"experiment", "plate"} & set(column_of)),
        extra_columns=extra,
        tables=(table.path,),
        columns=dict(column_of),
    )


class Mismatches:
    """Refusals of sites and rows that do not match.

    A reader may override them for its folders.
    """

    may_count_from_zero = True
    """Whether the reader supports `--well-base`, which is suggested for a shift by one."""

    def check_joined(self, site: SiteRecord, row: SiteRecord) -> Problem | None:
        """Return the refusal of a site that has a row; None to accept it.

        Args:
            site: The site with the labels of its row.
            row: The row.
        """
        return None

    def shifted_plate_problem(self, site: SiteRecord, row: SiteRecord, shift: PlateShift) -> Problem:
        """Return the refusal of a site that has the row of another well.

        Args:
            site: The site.
            row: The row with the same well name.
            shift: The shift of the plate.
        """
        return shifted_row_problem(site, row, shift)

    def missing_row_problems(self, sites: Sequence["UnmatchedSite"]) -> list[Problem]:
        """Return the refusals of sites without a row."""
        return [
            unmatched.site.problem(
                "no table row", found=unmatched.description, expected="a row in a table", fix=unmatched.fix(_ADD_ROW)
            )
            for unmatched in sites
        ]

    def missing_image_problems(self, rows: Sequence[SiteRecord], advice: str, *, is_whole_plate: bool) -> list[Problem]:
        """Return the refusals of rows of one plate without images.

        Args:
            rows: The rows.
            advice: The shift that would match the table to the images; "" if none does.
            is_whole_plate: The plate has no image; one refusal replaces those of its rows.
        """
        problems = [
            row.problem("no image", found="no image of this well", expected="an image", fix=advice or FETCH)
            for row in rows
        ]
        if not is_whole_plate:
            return problems
        # One refusal per plate keeps problems.csv of a partly copied screen short.
        description = f"no image of the whole plate ({len(rows)} rows)"
        return [dataclasses.replace(problems[0], row="", well="", found=description, count=len(rows))]


@dataclass(frozen=True, kw_only=True)
class UnmatchedSite:
    """A site without a row.

    Attributes:
        site: The site.
        was_refused: Its well has rows, which were refused.
        plate_has_rows: Its plate has accepted rows.
        advice: The shift that would match the table to the images; "" if none does.
    """

    site: SiteRecord
    was_refused: bool
    plate_has_rows: bool
    advice: str

    @property
    def description(self) -> str:
        """Text of the refusal."""
        return "images of a well whose rows were refused" if self.was_refused else "images"

    def fix(self, add_row: str) -> str:
        """Return the next step: the advice, to correct the rows, or `add_row`."""
        return self.advice or ("Correct the rows of this well." if self.was_refused else add_row)


def join_metadata(
    result: ReaderResult,
    labels: WellMetadata,
    *,
    refusals: Sequence[Problem] = (),
    mismatches: Mismatches | None = None,
) -> None:
    """Join each site to the row of its well; refuse sites and rows without a match.

    A row of a single site has precedence over a row of its whole well.

    Args:
        result: The sites, each with images. Their extra columns precede those of the rows. The rows supply experiment
            and plate if the sites lack them. Receives the refusals and the number of unmatched rows.
        labels: The rows.
        refusals: Refusals of other sites, whose wells have images.
        mismatches: Wording of the refusals; None for the default.
    """
    mismatches = mismatches or Mismatches()
    shared = labels.keys & result.key_columns
    rows, problems = _drop_repeated_rows(labels, shared)
    refused_wells = {_key_of(problem, shared) for problem in [*labels.problems, *problems]}
    row_of = {(_key_of(row, shared), row.site): row for row in rows}
    used = {key for problem in refusals if (key := (_key_of(problem, shared), 0)) in row_of}
    sites, result.entries = result.entries, []
    unmatched: list[SiteRecord] = []
    shifts = _shifts([*sites, *refusals], rows, shared, may_count_from_zero=mismatches.may_count_from_zero)
    for site in sites:
        well = _key_of(site, shared)
        key = (well, site.site) if (well, site.site) in row_of else (well, 0)
        if key not in row_of:
            unmatched.append(site)
            continue
        used.add(key)
        row = row_of[key]
        shift = shifts.get(_plate_of(site, shared), PlateShift())
        labeled = _add_labels(site, row, result.key_columns)
        if shift.is_certain:
            problem: Problem | None = mismatches.shifted_plate_problem(site, row, shift)
        elif site.cell_type and row.cell_type and site.cell_type != row.cell_type:
            problem = _cell_type_problem(site, row)
        else:
            problem = mismatches.check_joined(labeled, row)
        if problem is None:
            result.entries.append(labeled)
        else:
            problems.append(problem)
    plates_with_rows = {_plate_of(row, shared) for row in rows}
    problems += mismatches.missing_row_problems(
        [
            UnmatchedSite(
                site=site,
                was_refused=_key_of(site, shared) in refused_wells,
                plate_has_rows=_plate_of(site, shared) in plates_with_rows,
                advice=shifts.get(_plate_of(site, shared), PlateShift()).advice,
            )
            for site in unmatched
        ]
    )
    with_known_images: list[SiteRecord | Problem] = [*sites, *refusals]
    plates_with_images = {_plate_of(place, shared) for place in with_known_images}
    by_plate: dict[tuple[str, str], list[SiteRecord]] = defaultdict(list)
    for key, row in row_of.items():
        if key not in used:
            by_plate[_plate_of(row, shared)].append(row)
    for plate, missing_rows in by_plate.items():
        advice = shifts.get(plate, PlateShift()).advice
        problems += mismatches.missing_image_problems(
            missing_rows, advice, is_whole_plate=plate not in plates_with_images
        )
    result.problems += [*labels.problems, *problems]
    result.n_found += labels.n_rows - len(used)
    result.extra_columns += labels.extra_columns
    result.tables += labels.tables


def _drop_repeated_rows(labels: WellMetadata, shared: frozenset[str]) -> tuple[list[SiteRecord], list[Problem]]:
    # An experiment that only the table contains does not distinguish two rows of one well.
    row_of: dict[int, SiteRecord] = {}
    normalized: list[SiteRecord] = []
    for row in labels.rows:
        experiment, plate = _plate_of(row, shared)
        normalized.append(dataclasses.replace(row, experiment=experiment, plate=plate))
        row_of[id(normalized[-1])] = row
    unique, problems = drop_duplicates(normalized, duplicate_fix="Keep one row per well of a plate.")
    return [row_of[id(row)] for row in unique], problems


def _key_of(place: SiteRecord | Problem, shared: frozenset[str]) -> Key | None:
    position = split_well(place.well)
    return None if position is None else (*_plate_of(place, shared), position)


def _plate_of(place: SiteRecord | Problem, shared: frozenset[str]) -> tuple[str, str]:
    return (
        place.experiment if "experiment" in shared else "",
        place.plate if "plate" in shared else "",
    )


def _add_labels(site: SiteRecord, row: SiteRecord, keys: frozenset[str]) -> SiteRecord:
    return dataclasses.replace(
        site,
        experiment=site.experiment if "experiment" in keys or not row.experiment else row.experiment,
        plate=site.plate if "plate" in keys or not row.plate else row.plate,
        cell_type=row.cell_type or site.cell_type,
        perturbation=row.perturbation,
        role=row.role,
        split=row.split,
        table=row.table,
        line=row.line,
        extra=(*site.extra, *row.extra) if site.extra else row.extra,
        fields=row.fields,
    )


def _shifts(
    sites: Sequence[SiteRecord | Problem],
    rows: Sequence[SiteRecord],
    shared: frozenset[str],
    *,
    may_count_from_zero: bool,
) -> dict[tuple[str, str], PlateShift]:
    """Return the shift of each plate that would match its rows to its images."""
    images: dict[tuple[str, str], set[Position]] = defaultdict(set)
    table_wells: dict[tuple[str, str], set[Position]] = defaultdict(set)
    for places, wells in ((sites, images), (rows, table_wells)):
        for place in places:
            position = split_well(place.well)
            if position is not None:
                wells[_plate_of(place, shared)].add(position)
    return {
        plate: detect_shift(wells, table_wells[plate], may_count_from_zero=may_count_from_zero)
        for plate, wells in images.items()
        if plate in table_wells
    }


def _cell_type_problem(site: SiteRecord, row: SiteRecord) -> Problem:
    return site.problem(
        "two cell types",
        found=f"{site.cell_type} in the name, {row.cell_type} in {row.table} line {row.line}",
        expected="one cell type",
        fix="Correct one of them, or replace {cell_type} by {} in --pattern.",
    )
