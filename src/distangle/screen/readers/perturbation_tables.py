"""Merge tables with a row per perturbation; report contradictions."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distangle.screen.problems import Problem
from distangle.screen.roles import Role, role_of
from distangle.screen.source_tables import SourceTable, with_columns

_SEPARATOR = "|"  # between values of several rows
_MAX_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Perturbations:
    """Metadata of the perturbations of a screen.

    Attributes:
        tables: Tables with one row per perturbation.
        column: Column of the perturbation.
        warnings: Warnings about values that differ.
        two_roles: Rows of each perturbation with several roles, as text.
    """

    tables: tuple[SourceTable, ...]
    column: str
    warnings: tuple[Problem, ...]
    two_roles: Mapping[str, str]

    def join(self, table: SourceTable) -> SourceTable:
        """Add new columns to a table of wells; fill empty cells of existing ones.

        JUMP's `crispr.csv` and `orf.csv` share `Metadata_Symbol`, each for different perturbations.
        """
        for other in self.tables:
            table = _join_columns(table, other, self.column)
        return table


def read_perturbations(
    tables: Sequence[SourceTable], column: str, *, names: Iterable[str], role_columns: Sequence[str]
) -> Perturbations:
    """Merge the rows of every perturbation.

    Values that differ within a table are joined by `|`, such as two targets of a compound. If tables differ, the first
    one is used. A perturbation with several roles is refused.

    Args:
        tables: The tables; those without `column` are skipped with a warning.
        column: Column of the perturbation.
        names: Perturbations of the screen; there is no warning about others.
        role_columns: Columns of the role, in order of precedence; case does not matter.
    """
    screen_names = {name.strip() for name in names}
    warnings = [_missing_column_warning(table, column) for table in tables if column not in table.columns]
    tables = [table for table in tables if column in table.columns]
    roles: dict[str, dict[Role, str]] = defaultdict(dict)
    merged: list[SourceTable] = []
    first_values: dict[tuple[str, str], tuple[str, str]] = {}
    for table in tables:
        groups = _group_rows(table, column)
        for name, rows in groups.items():
            if name in screen_names and name:
                for line, row in rows:
                    role = _role(table, row, role_columns)
                    if role is not None:
                        roles[name].setdefault(role, f"{table.path.name} line {line}")
        merged_table, new_warnings = _merge(table, column, groups, screen_names, ignored_columns=role_columns)
        warnings += new_warnings
        warnings += _table_contradictions(
            merged_table, column, screen_names, first_values, ignored_columns=role_columns
        )
        merged.append(merged_table)
    conflicting = {name: places for name, places in roles.items() if len(places) > 1}
    descriptions = {
        name: ", ".join(f"{role} in {place}" for role, place in places.items()) for name, places in conflicting.items()
    }
    return Perturbations(tables=tuple(merged), column=column, warnings=tuple(warnings), two_roles=descriptions)


def _group_rows(table: SourceTable, column: str) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    at = table.position(column)
    groups: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
    for line, row in zip(table.lines, table.rows, strict=True):
        groups[row[at].strip()].append((line, row))
    return groups


def _merge(
    table: SourceTable,
    column: str,
    groups: Mapping[str, list[tuple[int, tuple[str, ...]]]],
    screen_names: set[str],
    *,
    ignored_columns: Sequence[str],
) -> tuple[SourceTable, list[Problem]]:
    ignored = {name.lower() for name in (*ignored_columns, column)}
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    contradictions: dict[str, str] = {}  # perturbation to what differs
    nameless: list[int] = []
    for name, named_rows in groups.items():
        values_of = [
            tuple(dict.fromkeys(cell.strip() for _, row in named_rows for cell in [row[k]] if cell.strip()))
            for k in range(len(table.columns))
        ]
        if not name and any(len(values) > 1 for values in values_of):
            nameless = [line for line, _ in named_rows]  # a well without a name fits all of them
            continue
        cells = (
            next(iter(values), "") if title.lower() in ignored else _SEPARATOR.join(values)
            for title, values in zip(table.columns, values_of, strict=True)
        )
        rows.append(tuple(cells) if len(named_rows) > 1 else named_rows[0][1])
        lines.append(named_rows[0][0])
        differences = [
            f"{title} {' and '.join(values[:3])}"
            for title, values in zip(table.columns, values_of, strict=True)
            if len(values) > 1 and title.lower() not in ignored
        ]
        if differences and name in screen_names:
            contradictions[name] = (
                f"{name}: {'; '.join(differences)} (lines {', '.join(str(line) for line, _ in named_rows[:5])})"
            )
    fix = (
        f"No action needed if all values are true: they are joined by {_SEPARATOR!r}. Otherwise remove the wrong rows."
    )
    warnings = _difference_warning(
        table, "several rows of one perturbation", contradictions, "one row, or one value", fix
    )
    if nameless and "" in screen_names:
        warnings.append(
            Problem(
                severity="warning",
                kind="several rows without a perturbation",
                file=table.path.name,
                row=", ".join(map(str, nameless[:_MAX_LISTED])),
                found=f"{len(nameless)} different rows with an empty {column!r}",
                expected="one row for wells without a name",
                fix="Fill in the names, here and in the tables of wells; these rows were not used.",
                count=len(nameless),
            )
        )
    return dataclasses.replace(table, rows=tuple(rows), lines=tuple(lines)), warnings


def _table_contradictions(
    table: SourceTable,
    column: str,
    screen_names: set[str],
    first_values: dict[tuple[str, str], tuple[str, str]],
    *,
    ignored_columns: Sequence[str],
) -> list[Problem]:
    """Report values of a table that differ from earlier tables.

    `first_values` is updated with the first value of each perturbation and column.
    """
    ignored = {name.lower() for name in (*ignored_columns, column)}
    column_index = table.position(column)
    contradictions: dict[str, str] = {}
    for row in table.rows:
        name = row[column_index].strip()
        if name not in screen_names:
            continue
        differences = []
        for title, cell in zip(table.columns, row, strict=True):
            value = cell.strip()
            if not value or title.lower() in ignored:
                continue
            first_value, file = first_values.setdefault((name, title), (value, table.path.name))
            if first_value != value:
                differences.append(f"{title} {value} here, {first_value} in {file}")
        if differences:
            contradictions[name] = f"{name}: {'; '.join(differences)}"
    fix = "Make the tables agree: the first one was used."
    return _difference_warning(table, "perturbation tables differ", contradictions, "one value in all tables", fix)


def _difference_warning(
    table: SourceTable, kind: str, contradictions: Mapping[str, str], expected: str, fix: str
) -> list[Problem]:
    if not contradictions:
        return []
    descriptions = list(contradictions.values())
    return [
        Problem(
            severity="warning",
            kind=kind,
            file=table.path.name,
            found=" | ".join(descriptions[:_MAX_LISTED]) + (" | ..." if len(descriptions) > _MAX_LISTED else ""),
            expected=expected,
            fix=fix,
            count=len(contradictions),
        )
    ]


def _role(table: SourceTable, row: tuple[str, ...], role_columns: Sequence[str]) -> Role | None:
    lowered = {name.lower(): k for k, name in reversed(list(enumerate(table.columns)))}
    values = [row[lowered[name.lower()]].strip() for name in role_columns if name.lower() in lowered]
    role = role_of(next((word for word in values if word), ""))
    return None if role in (None, Role.UNKNOWN) else role


def _missing_column_warning(table: SourceTable, column: str) -> Problem:
    return Problem(
        severity="warning",
        kind="table not read",
        file=table.path.name,
        found=f"{table.n_rows} rows without a column {column!r}",
        expected=f"{column!r}, the perturbation column of the tables of wells",
        fix="Rename its perturbation column, or name one that both tables have: --map perturbation=COLUMN.",
    )


def _join_columns(table: SourceTable, other: SourceTable, column: str) -> SourceTable:
    new_columns = [name for name in other.columns if name not in table.columns]
    wide = with_columns(table, new_columns, lambda _: ("",) * len(new_columns))
    column_index, key = wide.position(column), other.position(column)
    cell_pairs = [(wide.position(name), other.position(name)) for name in other.columns if name != column]
    row_of = {row[key].strip(): row for row in other.rows}

    def fill_row(row: tuple[str, ...]) -> tuple[str, ...]:
        values = row_of.get(row[column_index].strip())
        if values is None:
            return row
        cells = list(row)
        for target, source in cell_pairs:
            cells[target] = cells[target] if cells[target].strip() else values[source]
        return tuple(cells)

    return dataclasses.replace(wide, rows=tuple(fill_row(row) for row in wide.rows))
