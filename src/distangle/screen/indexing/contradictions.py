"""Find perturbations whose wells disagree on the role or the target."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.roles import Role, natural_sort_key

_MAX_LISTED = 5
_NUMBER = re.compile(r"[+-]?[0-9.,]+([eE][+-]?[0-9]+)?")


def contradictions(entries: Sequence[SiteRecord], extra_columns: Sequence[str]) -> list[Problem]:
    """Return warnings on perturbations whose wells disagree on a single value.

    The values are the role, and any text column with a single value for most perturbations with several wells, such
    as a target or a mechanism. A batch or a dose differs for most.

    Args:
        entries: Site records; one per well is used.
        extra_columns: Column names of `SiteRecord.extra`.
    """
    wells = {(entry.experiment, entry.plate, entry.well): entry for entry in reversed(entries) if entry.perturbation}
    groups: dict[str, list[SiteRecord]] = defaultdict(list)
    for entry in wells.values():
        groups[entry.perturbation].append(entry)
    replicated = {name: members for name, members in groups.items() if len(members) > 1}
    problems = []
    roles = {
        name: values
        for name, members in replicated.items()
        if len(values := _values([entry.role.value for entry in members if entry.role != Role.UNKNOWN])) > 1
    }
    if roles:
        fix = "Correct the roles, or name them: --negative-control NAME, --positive-control NAME."
        problems.append(_problem("roles of one perturbation differ", "role", roles, replicated, fix))
    for k, column in enumerate(extra_columns):
        values_of = {
            name: values
            for name, members in replicated.items()
            if (values := _values([entry.extra[k].strip() for entry in members]))
        }
        conflicts = {name: values for name, values in values_of.items() if len(values) > 1}
        if conflicts and 2 * len(conflicts) < len(values_of) and not _are_numbers(conflicts):
            fix = "If you train on this column, make the rows of a perturbation agree; otherwise nothing."
            problems.append(_problem("rows of one perturbation differ", column, conflicts, replicated, fix))
    return problems


def _values(cells: Sequence[str]) -> list[str]:
    return sorted({value for value in cells if value}, key=natural_sort_key)


def _are_numbers(values: Mapping[str, Sequence[str]]) -> bool:
    return all(_NUMBER.fullmatch(value) for cells in values.values() for value in cells)


def _problem(
    kind: str, column: str, conflicts: Mapping[str, Sequence[str]], wells: Mapping[str, Sequence[SiteRecord]], fix: str
) -> Problem:
    names = sorted(conflicts, key=natural_sort_key)
    listed = [f"{name}: {' and '.join(conflicts[name][:3])}" for name in names[:_MAX_LISTED]]
    first = wells[names[0]][-1]
    return Problem(
        severity="warning",
        kind=kind,
        file=first.table,
        found=f"column {column}: " + "; ".join(listed) + ("; ..." if len(names) > _MAX_LISTED else ""),
        expected="one value for a perturbation",
        fix=fix,
        count=len(names),
    )
