"""Find perturbations whose wells disagree on the role or the target."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.roles import Role, natural_sort_key

_LISTED = 5
_MEASURED = re.compile(r"[+-]?[0-9.,]+([eE][+-]?[0-9]+)?")


def contradictions(entries: Sequence[SiteRecord], extra_columns: Sequence[str]) -> list[Problem]:
    """Return warnings on perturbations whose wells disagree on a single value.

    That is the role, and any column of words that is one for most perturbations with several wells, such as a target
    or a mechanism; a batch or a dose differs for most.

    Args:
        entries: Sites; one of each well is looked at.
        extra_columns: Names for `Entry.extra`.
    """
    wells = {(entry.experiment, entry.plate, entry.well): entry for entry in reversed(entries) if entry.perturbation}
    groups: dict[str, list[SiteRecord]] = defaultdict(list)
    for entry in wells.values():
        groups[entry.perturbation].append(entry)
    several = {name: members for name, members in groups.items() if len(members) > 1}
    problems = []
    roles = {
        name: said
        for name, members in several.items()
        if len(said := _values([entry.role.value for entry in members if entry.role != Role.UNKNOWN])) > 1
    }
    if roles:
        fix = "Correct the roles, or name them: --negative-control NAME, --positive-control NAME."
        problems.append(_problem("roles of one perturbation differ", "role", roles, several, fix))
    for k, column in enumerate(extra_columns):
        values = {name: _values([entry.extra[k].strip() for entry in members]) for name, members in several.items()}
        told = {name: said for name, said in values.items() if said}
        differ = {name: said for name, said in told.items() if len(said) > 1}
        if differ and 2 * len(differ) < len(told) and not _is_measured(differ):
            fix = "Make the rows of a perturbation agree, if the column is to be learnt; else nothing."
            problems.append(_problem("rows of one perturbation differ", column, differ, several, fix))
    return problems


def _values(said: Sequence[str]) -> list[str]:
    return sorted({value for value in said if value}, key=natural_sort_key)


def _is_measured(values: Mapping[str, Sequence[str]]) -> bool:
    return all(_MEASURED.fullmatch(value) for said in values.values() for value in said)


def _problem(
    kind: str, column: str, differ: Mapping[str, Sequence[str]], wells: Mapping[str, Sequence[SiteRecord]], fix: str
) -> Problem:
    names = sorted(differ, key=natural_sort_key)
    listed = [f"{name}: {' and '.join(differ[name][:3])}" for name in names[:_LISTED]]
    first = wells[names[0]][-1]
    return Problem(
        severity="warning",
        kind=kind,
        file=first.table,
        found=f"column {column}: " + "; ".join(listed) + ("; ..." if len(names) > _LISTED else ""),
        expected="one value for a perturbation",
        fix=fix,
        count=len(names),
    )
