"""Drop exact duplicate rows; refuse rows that contradict each other."""

from collections import defaultdict
from collections.abc import Sequence

from distangle.screen.entry import Entry
from distangle.screen.plate import split_well
from distangle.screen.problems import Problem


def divide_duplicates(entries: Sequence[Entry], *, site_hint: str) -> tuple[list[Entry], list[Problem]]:
    """Return the entries that are unique at their site, and refusals of the others.

    Of rows that are the same in every column, but for the spelling of the well, the first is kept, also where they
    stand in two tables. Rows that differ are all refused: which one is right cannot be known.

    Args:
        entries: Wells may be spelled `a1` and `A01`: they are compared by position.
        site_hint: What to do about rows that differ.
    """
    groups: dict[tuple[str, str, object, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.experiment, entry.plate, _position(entry.well), entry.site].append(entry)
    if len(groups) == len(entries):
        return list(entries), []
    kept: list[Entry] = []
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
                    fix="Remove the repetition; the first one was kept." if same else site_hint,
                )
            )
    return kept, problems


def _said(entry: Entry) -> tuple[object, ...]:
    well = _position(entry.well)
    fields = tuple("the well" if _position(field) == well else field for field in entry.fields)
    return fields, entry.perturbation, entry.role, entry.split, entry.cell_type, entry.paths, entry.pages


def _position(well: str) -> object:
    return split_well(well.strip()) or well.strip()


def _name(entry: Entry) -> str:
    if not entry.line:
        return entry.paths[0] if entry.paths else "a site without a row"
    said = f"{entry.table} line {entry.line}"
    return f"{said} ({entry.paths[0]})" if entry.paths else said
