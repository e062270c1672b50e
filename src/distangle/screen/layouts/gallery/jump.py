"""Codes of JUMP that are no perturbations: DMSO, untreated, unknown."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from distangle.screen.perturbation import Role
from distangle.screen.problems import Problem
from distangle.screen.source_tables import SourceTable

_CODES = "metadata_jcp2022"
_ROLES = {
    "JCP2022_033924": Role.NEGATIVE_CONTROL.value,  # DMSO
    "JCP2022_999999": Role.UNTREATED.value,
    "JCP2022_UNKNOWN": Role.UNKNOWN.value,
    "JCP2022_900001": Role.UNKNOWN.value,  # a bad construct
}
_UNTOLD = tuple(code for code, role in _ROLES.items() if role == Role.UNKNOWN)
_NOT_SAID = ("", "empty", "null")  # what tables of JUMP's perturbations write of such codes, where they list them

_ROLE, _PERTURBATION = "role_of_code", "perturbation_of_code"


def codes_in(tables: Iterable[SourceTable]) -> frozenset[str]:
    """Return which of these codes stand in any of the tables."""
    return frozenset(_ROLES.keys() & {code for table in tables for code in _cells(table, _column(table))})


def read_codes(
    table: SourceTable, column_of: Mapping[str, str], *, codes: frozenset[str], keep: frozenset[str] = frozenset()
) -> tuple[SourceTable, dict[str, str], list[Problem]]:
    """Give wells with such a code their role; an unknown treatment is no class.

    Args:
        table: Of wells.
        column_of: Our column name to the table's.
        codes: From `codes_in` of all tables, which must have the same columns afterwards; none: nothing is done.
        keep: Which of `role` and `perturbation` the caller named a column for; those stay.

    Returns:
        The table, which column is which, and a warning for every code that hides a perturbation.
    """
    if not codes:
        return table, dict(column_of), []
    cells = _cells(table, _column(table))
    added = {}
    if "role" not in keep:
        told = _cells(table, column_of.get("role"))
        added["role"] = [
            _ROLES[code] if code in _ROLES and word.lower() in _NOT_SAID else word
            for code, word in zip(cells, told, strict=True)
        ]
    if "perturbation" not in keep and codes & set(_UNTOLD):
        names = _cells(table, column_of.get("perturbation"))
        added["perturbation"] = ["" if code in _UNTOLD else name for code, name in zip(cells, names, strict=True)]
    columns = {"role": _ROLE, "perturbation": _PERTURBATION}
    rows = tuple((*row, *new) for row, *new in zip(table.rows, *added.values(), strict=True))
    untold = Counter(code for code in cells if code in _UNTOLD)
    table = dataclasses.replace(table, columns=(*table.columns, *(columns[name] for name in added)), rows=rows)
    remarks = [
        Problem(
            severity="warning",
            kind="perturbation not known",
            file=table.path.name,
            found=code,
            expected="a code of a perturbation",
            fix="Nothing: these wells are in the screen without a label, and are neither trained on nor scored.",
            count=count,
        )
        for code, count in untold.items()
        if "perturbation" in added
    ]
    return table, {**column_of, **{name: columns[name] for name in added}}, remarks


def _column(table: SourceTable) -> str | None:
    return next((name for name in table.columns if name.lower() == _CODES), None)


def _cells(table: SourceTable, column: str | None) -> list[str]:
    return [""] * len(table.rows) if column is None else [row[table.position(column)].strip() for row in table.rows]
