"""Merge tables with a row per perturbation; report contradictions."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distangle.screen.problems import Problem
from distangle.screen.roles import Role, role_of
from distangle.screen.source_tables import SourceTable, with_columns

_BETWEEN = "|"  # of the values of several rows of one table
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Perturbations:
    """What tables say of the perturbations of a screen.

    Attributes:
        tables: Each with one row per perturbation.
        column: That names it.
        remarks: On values that differ.
        two_roles: Perturbation to what its rows say, where they give it several roles.
    """

    tables: tuple[SourceTable, ...]
    column: str
    remarks: tuple[Problem, ...]
    two_roles: Mapping[str, str]

    def join(self, table: SourceTable) -> SourceTable:
        """Add new columns to a table of wells; fill empty cells of existing ones.

        JUMP's `crispr.csv` and `orf.csv` both say `Metadata_Symbol`, each of its own perturbations.
        """
        for other in self.tables:
            table = _joined(table, other, self.column)
        return table


def read_perturbations(
    tables: Sequence[SourceTable], column: str, *, names: Iterable[str], role_columns: Sequence[str]
) -> Perturbations:
    """Bring the rows of every perturbation together.

    Rows of one table that differ have their values joined by `|`, as those of a compound with two targets. Of several
    tables the first one counts. A perturbation whose rows tell of several roles has none.

    Args:
        tables: Those that lack `column` are left out, with a remark.
        column: Of the perturbation.
        names: The perturbations of the screen: nothing is said of others.
        role_columns: Columns with a role, the one that counts first; case does not matter.
    """
    here = {name.strip() for name in names}
    remarks = [_without_column(table, column) for table in tables if column not in table.columns]
    tables = [table for table in tables if column in table.columns]
    roles: dict[str, dict[Role, str]] = defaultdict(dict)
    merged: list[SourceTable] = []
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for table in tables:
        groups = _rows_of(table, column)
        for name, rows in groups.items():
            if name in here and name:
                for line, row in rows:
                    role = _role(table, row, role_columns)
                    if role is not None:
                        roles[name].setdefault(role, f"{table.path.name} line {line}")
        kept, remark = _merge(table, column, groups, here, but=role_columns)
        remarks += remark
        remarks += _against_others(kept, column, here, first, but=role_columns)
        merged.append(kept)
    several = {name: told for name, told in roles.items() if len(told) > 1}
    said = {name: ", ".join(f"{role} in {place}" for role, place in told.items()) for name, told in several.items()}
    return Perturbations(tables=tuple(merged), column=column, remarks=tuple(remarks), two_roles=said)


def _rows_of(table: SourceTable, column: str) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    at = table.position(column)
    groups: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
    for line, row in zip(table.lines, table.rows, strict=True):
        groups[row[at].strip()].append((line, row))
    return groups


def _merge(
    table: SourceTable,
    column: str,
    groups: Mapping[str, list[tuple[int, tuple[str, ...]]]],
    here: set[str],
    *,
    but: Sequence[str],
) -> tuple[SourceTable, list[Problem]]:
    silent = {name.lower() for name in (*but, column)}
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    differ: dict[str, str] = {}  # perturbation to what differs
    nameless: list[int] = []
    for name, members in groups.items():
        told = [
            tuple(dict.fromkeys(cell.strip() for _, row in members for cell in [row[k]] if cell.strip()))
            for k in range(len(table.columns))
        ]
        if not name and any(len(values) > 1 for values in told):
            nameless = [line for line, _ in members]  # which of them a well without a name is cannot be known
            continue
        joined = (
            next(iter(values), "") if title.lower() in silent else _BETWEEN.join(values)
            for title, values in zip(table.columns, told, strict=True)
        )
        rows.append(tuple(joined) if len(members) > 1 else members[0][1])
        lines.append(members[0][0])
        apart = [
            f"{title} {' and '.join(values[:3])}"
            for title, values in zip(table.columns, told, strict=True)
            if len(values) > 1 and title.lower() not in silent
        ]
        if apart and name in here:
            differ[name] = f"{name}: {'; '.join(apart)} (lines {', '.join(str(line) for line, _ in members[:5])})"
    fix = f"Nothing, if all of them are true: they are kept with {_BETWEEN!r} between; else take the wrong rows out."
    remarks = _differences(table, "several rows of one perturbation", differ, "one row, or one value", fix)
    if nameless and "" in here:
        remarks.append(
            Problem(
                severity="warning",
                kind="several rows without a perturbation",
                file=table.path.name,
                row=", ".join(map(str, nameless[:_LISTED])),
                found=f"{len(nameless)} rows with an empty {column!r} that differ",
                expected="one, for the wells without a name",
                fix="Name them, here and in the tables of wells; none of them was taken.",
                count=len(nameless),
            )
        )
    return dataclasses.replace(table, rows=tuple(rows), lines=tuple(lines)), remarks


def _against_others(
    table: SourceTable,
    column: str,
    here: set[str],
    first: dict[tuple[str, str], tuple[str, str]],
    *,
    but: Sequence[str],
) -> list[Problem]:
    """Report what a table says unlike one before it.

    `first` keeps who said what first.
    """
    silent = {name.lower() for name in (*but, column)}
    at = table.position(column)
    differ: dict[str, str] = {}
    for row in table.rows:
        name = row[at].strip()
        if name not in here:
            continue
        apart = []
        for title, cell in zip(table.columns, row, strict=True):
            value = cell.strip()
            if not value or title.lower() in silent:
                continue
            before, file = first.setdefault((name, title), (value, table.path.name))
            if before != value:
                apart.append(f"{title} {value} here, {before} in {file}")
        if apart:
            differ[name] = f"{name}: {'; '.join(apart)}"
    fix = "Make the tables agree: the first one was taken."
    return _differences(table, "tables of perturbations differ", differ, "one value in all tables", fix)


def _differences(table: SourceTable, kind: str, differ: Mapping[str, str], expected: str, fix: str) -> list[Problem]:
    if not differ:
        return []
    listed = list(differ.values())
    return [
        Problem(
            severity="warning",
            kind=kind,
            file=table.path.name,
            found=" | ".join(listed[:_LISTED]) + (" | ..." if len(listed) > _LISTED else ""),
            expected=expected,
            fix=fix,
            count=len(differ),
        )
    ]


def _role(table: SourceTable, row: tuple[str, ...], role_columns: Sequence[str]) -> Role | None:
    lowered = {name.lower(): k for k, name in reversed(list(enumerate(table.columns)))}
    words = [row[lowered[name.lower()]].strip() for name in role_columns if name.lower() in lowered]
    role = role_of(next((word for word in words if word), ""))
    return None if role in (None, Role.UNKNOWN) else role


def _without_column(table: SourceTable, column: str) -> Problem:
    return Problem(
        severity="warning",
        kind="table not read",
        file=table.path.name,
        found=f"{table.n_rows} rows without a column {column!r}",
        expected=f"the column of the tables of wells, {column!r}",
        fix="Rename its column of perturbations so, or name the one that both have: --map perturbation=COLUMN.",
    )


def _joined(table: SourceTable, other: SourceTable, column: str) -> SourceTable:
    new = [name for name in other.columns if name not in table.columns]
    wide = with_columns(table, new, lambda _: ("",) * len(new))
    at, key = wide.position(column), other.position(column)
    fill = [(wide.position(name), other.position(name)) for name in other.columns if name != column]
    row_of = {row[key].strip(): row for row in other.rows}

    def filled(row: tuple[str, ...]) -> tuple[str, ...]:
        known = row_of.get(row[at].strip())
        if known is None:
            return row
        cells = list(row)
        for here, there in fill:
            cells[here] = cells[here] if cells[here].strip() else known[there]
        return tuple(cells)

    return dataclasses.replace(wide, rows=tuple(filled(row) for row in wide.rows))
