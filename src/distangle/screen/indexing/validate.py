"""Validate site records: on the plate, unique, consistent, without shared files."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from distangle.core.unicode_names import path_on_disk
from distangle.screen.indexing.contradictions import contradictions
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.indexing.wells import assign_well_positions
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.reserved_columns import PREFIX, rename_columns

_FilePage = str | tuple[str, int, int]
_POSITION_COLUMN = re.compile(r"(Metadata_)?(row|col|column)", re.IGNORECASE)


def drop_duplicates(entries: Sequence[SiteRecord], *, duplicate_fix: str) -> tuple[list[SiteRecord], list[Problem]]:
    """Drop duplicate rows of a site; refuse rows that contradict each other.

    The first of several equal rows is accepted, also across tables; the spelling of the well may differ. If rows of a
    site differ, all are refused, because the right one is unknown.

    Args:
        entries: Records; wells are compared by position, so `a1` equals `A01`.
        duplicate_fix: The next step for rows that differ.

    Returns:
        The accepted records, and a problem for every other one.
    """
    groups: dict[tuple[str, str, object, int], list[SiteRecord]] = defaultdict(list)
    for entry in entries:
        groups[entry.experiment, entry.plate, _position(entry.well), entry.site].append(entry)
    if len(groups) == len(entries):
        return list(entries), []
    accepted: list[SiteRecord] = []
    problems: list[Problem] = []
    for group in groups.values():
        same = len({_comparison_key(entry) for entry in group}) == 1
        if same:
            accepted.append(group[0])
        for entry in group[1:] if same else group if len(group) > 1 else []:
            others = [_describe_entry(other) for other in group if other is not entry]
            problems.append(
                entry.problem(
                    "duplicate row" if same else "conflicting rows",
                    found=f"{'the same as' if same else 'in conflict with'} {'; '.join(others[:5])}"
                    + (f" and {len(others) - 5} more" if len(others) > 5 else ""),
                    expected="one row per site",
                    fix="Remove the duplicate; the first row was indexed." if same else duplicate_fix,
                )
            )
    return accepted, problems


def _comparison_key(entry: SiteRecord) -> tuple[object, ...]:
    well = _position(entry.well)
    fields = tuple("the well" if _position(field) == well else field for field in entry.fields)
    return fields, entry.perturbation, entry.role, entry.split, entry.cell_type, entry.paths, entry.pages


def _position(well: str) -> object:
    return split_well(well.strip()) or well.strip()


def _describe_entry(entry: SiteRecord) -> str:
    if not entry.line:
        return entry.paths[0] if entry.paths else "a site without a row"
    location = f"{entry.table} line {entry.line}"
    return f"{location} ({entry.paths[0]})" if entry.paths else location


def validate_records(result: ReaderResult, plate: tuple[int, int] | None) -> tuple[int, int]:
    """Refuse invalid or contradictory records; no image is opened.

    Args:
        result: The result of a reader, changed in place: wells are rewritten as `B03`, paths as on disk, and refused
            entries become problems.
        plate: Rows and columns of the plates; None for 16 x 24, or 32 x 48 if a well needs it.

    Returns:
        Rows and columns of the plates.
    """
    if isinstance(result.source, Path):
        for entry in result.entries:
            entry.paths = tuple(path_on_disk(result.source, path) for path in entry.paths)
    result.entries, size, problems = assign_well_positions(result.entries, plate)
    result.problems += problems
    for check in (_refuse_conflicting_rows, _refuse_conflicting_wells, _refuse_shared_files):
        result.entries, refused = check(result.entries, result)
        result.problems += refused
    result.problems += contradictions(result.entries, result.extra_columns)
    return size


def _refuse_conflicting_rows(entries: list[SiteRecord], result: ReaderResult) -> tuple[list[SiteRecord], list[Problem]]:
    return drop_duplicates(entries, duplicate_fix=result.duplicate_fix)


def _refuse_conflicting_wells(
    entries: list[SiteRecord], result: ReaderResult
) -> tuple[list[SiteRecord], list[Problem]]:
    """Refuse wells whose sites name different perturbations."""
    labels_of_well: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        labels_of_well[entry.experiment, entry.plate, entry.well].add((entry.perturbation, entry.role.value))
    differ = any(len({name for name, _ in labels}) > 1 for labels in labels_of_well.values())
    site_advice = _site_label_advice(entries, result) if differ else ""
    fix = "Correct the rows of this well, or map a column that distinguishes experiments."
    accepted: list[SiteRecord] = []
    problems: list[Problem] = []
    for entry in entries:
        labels = labels_of_well[entry.experiment, entry.plate, entry.well]
        if len(labels) == 1:
            accepted.append(entry)
            continue
        listed = sorted(f"{name!r} ({role})" for name, role in labels)
        problems.append(
            entry.problem(
                "well contradicts itself",
                found=", ".join(listed[:5]) + (", ..." if len(listed) > 5 else ""),
                expected="one perturbation and role for all sites of a well",
                fix=f"{fix} {site_advice}".rstrip() if len({name for name, _ in labels}) > 1 else fix,
            )
        )
    return accepted, problems


def _site_label_advice(entries: Sequence[SiteRecord], result: ReaderResult) -> str:
    """Return advice if the perturbation column labels single sites.

    The advice is "" if no column was mapped.
    """
    column = dict(result.provenance.get("columns", {})).get("perturbation", "")
    if not column:
        return ""
    treatments = _treatment_columns(entries, result)
    if treatments:
        more = f" (or {', '.join(treatments[1:4])})" if len(treatments) > 1 else ""
        advice = f"map the well's treatment, `--map perturbation={treatments[0]}`{more}"
    else:
        advice = "map the well's treatment, `--map perturbation=COLUMN`, or `--map perturbation=` where there is none"
    return (
        f"If column {column!r} labels single sites, such as a cell's phenotype, {advice}: {column!r} then becomes an "
        f"extra column, and `distangle train SCREEN --target {rename_columns((column,))[0]}` learns it."
    )


def _treatment_columns(entries: Sequence[SiteRecord], result: ReaderResult) -> list[str]:
    """Return extra columns that may name treatments.

    Such a column has one value per well, several per plate, and replicates.
    """
    candidates = []
    for k, column in enumerate(result.extra_columns):
        wells: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for entry in entries:
            wells[entry.experiment, entry.plate, entry.well].add(entry.extra[k].strip())
        if any(len(values) > 1 for values in wells.values()):
            continue
        plates: dict[tuple[str, str], set[str]] = defaultdict(set)
        for (experiment, plate, _), values in wells.items():
            plates[experiment, plate] |= values
        n_values = len(set().union(*plates.values()))
        name = column.removeprefix(PREFIX)
        name = name if rename_columns((name,)) == (column,) else column  # the name in the table
        if (
            not _POSITION_COLUMN.fullmatch(name)
            and n_values < len(wells)
            and any(len(values) > 1 for values in plates.values())
        ):
            candidates.append(name)
    return candidates


def _refuse_shared_files(entries: list[SiteRecord], result: ReaderResult) -> tuple[list[SiteRecord], list[Problem]]:
    """Refuse sites that name the same page of the same file."""
    shared = _shared_pages(entries)
    if not shared:
        return entries, []
    users: dict[_FilePage, list[SiteRecord]] = defaultdict(list)
    for entry in entries:
        for page in shared.intersection(_file_pages(entry)):
            users[page].append(entry)
    accepted: list[SiteRecord] = []
    problems: list[Problem] = []
    for entry in entries:
        pages = [page for page in _file_pages(entry) if page in shared]
        if not pages:
            accepted.append(entry)
            continue
        page = pages[0]
        others = [f"{e.plate} {e.well} site {e.site} (line {e.line})" for e in users[page] if e is not entry]
        problems.append(
            entry.problem(
                "file of two sites",
                found=f"{page if isinstance(page, str) else page[0]} is also of {'; '.join(others[:3])}",
                expected="separate files or pages for every site",
                fix="Correct the paths of these rows.",
            )
        )
    return accepted, problems


def _shared_pages(entries: Sequence[SiteRecord]) -> set[_FilePage]:
    """Return the pages of several sites."""
    seen: set[_FilePage] = set()
    shared: set[_FilePage] = set()
    for entry in entries:
        for page in set(_file_pages(entry)):
            (shared if page in seen else seen).add(page)
    return shared


def _file_pages(entry: SiteRecord) -> Iterator[_FilePage]:
    """Yield path, series and page of every channel.

    A file of one page has its path alone, which saves a million tuples.
    """
    for path, series, page in zip(entry.paths, entry.series or (0,) * len(entry.paths), entry.pages, strict=True):
        yield path if (series, page) == (0, -1) else (path, series, page)
