"""Drop exact duplicate rows; refuse rows that contradict each other.

Validate entries: on the plate, unique, consistent, with files of their own.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from distangle.core.unicode_names import path_on_disk
from distangle.screen.indexing.contradictions import contradictions
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.indexing.wells import assign_well_positions
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.reserved_columns import PREFIX, rename_columns


def drop_duplicates(entries: Sequence[SiteRecord], *, duplicate_fix: str) -> tuple[list[SiteRecord], list[Problem]]:
    """Return the entries that are unique at their site, and refusals of the others.

    Of rows that are the same in every column, but for the spelling of the well, the first is kept, also where they
    stand in two tables. Rows that differ are all refused: which one is right cannot be known.

    Args:
        entries: Wells may be spelled `a1` and `A01`: they are compared by position.
        duplicate_fix: What to do about rows that differ.
    """
    groups: dict[tuple[str, str, object, int], list[SiteRecord]] = defaultdict(list)
    for entry in entries:
        groups[entry.experiment, entry.plate, _position(entry.well), entry.site].append(entry)
    if len(groups) == len(entries):
        return list(entries), []
    kept: list[SiteRecord] = []
    problems: list[Problem] = []
    for group in groups.values():
        same = len({_said(entry) for entry in group}) == 1
        if same:
            kept.append(group[0])
        for entry in group[1:] if same else group if len(group) > 1 else []:
            others = [_name(other) for other in group if other is not entry]
            problems.append(
                entry.problem(
                    "duplicate row" if same else "conflicting rows",
                    found=f"{'the same as' if same else 'in conflict with'} {'; '.join(others[:5])}"
                    + (f" and {len(others) - 5} more" if len(others) > 5 else ""),
                    expected="one row per site",
                    fix="Remove the repetition; the first one was kept." if same else duplicate_fix,
                )
            )
    return kept, problems


def _said(entry: SiteRecord) -> tuple[object, ...]:
    well = _position(entry.well)
    fields = tuple("the well" if _position(field) == well else field for field in entry.fields)
    return fields, entry.perturbation, entry.role, entry.split, entry.cell_type, entry.paths, entry.pages


def _position(well: str) -> object:
    return split_well(well.strip()) or well.strip()


def _name(entry: SiteRecord) -> str:
    if not entry.line:
        return entry.paths[0] if entry.paths else "a site without a row"
    said = f"{entry.table} line {entry.line}"
    return f"{said} ({entry.paths[0]})" if entry.paths else said


def validate_records(found: ReaderResult, plate: tuple[int, int] | None) -> tuple[int, int]:
    """Refuse what the tables alone contradict; no image is looked at.

    Args:
        found: As a layout found it. Wells are rewritten as `B03`, and paths as the folders write them; entries that
            are refused become problems.
        plate: Rows and columns of the plates; None for 16 x 24, or 32 x 48 when a well needs it.

    Returns:
        Rows and columns of the plates.
    """
    if isinstance(found.source, Path):
        for entry in found.entries:
            entry.paths = tuple(path_on_disk(found.source, path) for path in entry.paths)
    found.entries, size, problems = assign_well_positions(found.entries, plate)
    found.problems += problems
    for check in (_unique_sites, _agreeing_wells, _unshared_files):
        found.entries, refused = check(found.entries, found)
        found.problems += refused
    found.problems += contradictions(found.entries, found.extra_columns)
    return size


def _unique_sites(entries: list[SiteRecord], found: ReaderResult) -> tuple[list[SiteRecord], list[Problem]]:
    return drop_duplicates(entries, duplicate_fix=found.duplicate_fix)


def _agreeing_wells(entries: list[SiteRecord], found: ReaderResult) -> tuple[list[SiteRecord], list[Problem]]:
    """Refuse wells whose sites name different perturbations."""
    said: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        said[entry.experiment, entry.plate, entry.well].add((entry.perturbation, entry.role.value))
    differ = any(len({name for name, _ in stories}) > 1 for stories in said.values())
    of_sites = _label_of_sites(entries, found) if differ else ""
    correct = "Correct the rows of this well, or map a column that tells experiments apart."
    kept: list[SiteRecord] = []
    problems: list[Problem] = []
    for entry in entries:
        stories = said[entry.experiment, entry.plate, entry.well]
        if len(stories) == 1:
            kept.append(entry)
            continue
        listed = sorted(f"{name!r} ({role})" for name, role in stories)
        problems.append(
            entry.problem(
                "well contradicts itself",
                found=", ".join(listed[:5]) + (", ..." if len(listed) > 5 else ""),
                expected="one perturbation and role for all sites of a well",
                fix=f"{correct} {of_sites}".rstrip() if len({name for name, _ in stories}) > 1 else correct,
            )
        )
    return kept, problems


def _label_of_sites(entries: Sequence[SiteRecord], found: ReaderResult) -> str:
    """Return advice where the perturbation column is a label of single sites.

    It is "" where no column was mapped.
    """
    column = dict(found.provenance.get("columns", {})).get("perturbation", "")
    if not column:
        return ""
    treatments = _treatment_columns(entries, found)
    if treatments:
        more = f" (or {', '.join(treatments[1:4])})" if len(treatments) > 1 else ""
        way = f"map the well's treatment, `--map perturbation={treatments[0]}`{more}"
    else:
        way = "map the well's treatment, `--map perturbation=COLUMN`, or `--map perturbation=` where there is none"
    return (
        f"If column {column!r} is a label of single sites, such as a cell's phenotype, {way}: {column!r} is then kept "
        f"as an extra column, and `distangle train SCREEN --target {rename_columns((column,))[0]}` learns it."
    )


def _treatment_columns(entries: Sequence[SiteRecord], found: ReaderResult) -> list[str]:
    """Return extra columns that may name treatments.

    They have one value for a well, others on its plate, and replicates.
    """
    likely = []
    for k, column in enumerate(found.extra_columns):
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
        name = name if rename_columns((name,)) == (column,) else column  # as the table has it
        if not _PLACE.fullmatch(name) and n_values < len(wells) and any(len(values) > 1 for values in plates.values()):
            likely.append(name)
    return likely


def _unshared_files(entries: list[SiteRecord], found: ReaderResult) -> tuple[list[SiteRecord], list[Problem]]:
    """Refuse sites that name the same page of the same file."""
    holders: dict[tuple[str, int, int], list[SiteRecord]] = defaultdict(list)
    for entry in entries:
        for claim in set(_claims(entry)):
            holders[claim].append(entry)
    shared = {claim: held for claim, held in holders.items() if len(held) > 1}
    kept: list[SiteRecord] = []
    problems: list[Problem] = []
    for entry in entries:
        claims = [claim for claim in _claims(entry) if claim in shared]
        if not claims:
            kept.append(entry)
            continue
        claim = claims[0]
        others = [f"{e.plate} {e.well} site {e.site} (line {e.line})" for e in shared[claim] if e is not entry]
        problems.append(
            entry.problem(
                "file of two sites",
                found=f"{claim[0]} is also of {'; '.join(others[:3])}",
                expected="files of its own for every site",
                fix="Correct the paths of these rows.",
            )
        )
    return kept, problems


def _claims(entry: SiteRecord) -> list[tuple[str, int, int]]:
    """Return path, series and page of every channel."""
    return list(zip(entry.paths, entry.series or (0,) * len(entry.paths), entry.pages, strict=True))


_PLACE = re.compile(r"(Metadata_)?(row|col|column)", re.IGNORECASE)
