"""Match columns of a table to fields, and parse its rows."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.wells.spelling import spelling_of
from distangle.screen.roles import ROLE_WORDS, Role, role_of
from distangle.screen.source_tables import SourceTable

FIELD_NAMES = ("experiment", "plate", "well", "site", "cell_type", "perturbation", "role", "split")


def resolve_columns(
    table: SourceTable, mapping: Mapping[str, str], *, wanted: Sequence[str] = ("plate", "well", "perturbation")
) -> dict[str, str]:
    """Return the column of each field, by name or by mapping.

    Args:
        table: The table.
        mapping: Column of each field; "" for a field that the table lacks.
        wanted: Required fields.

    Raises:
        ScreenError: A field or column is unknown, two columns fit, or a required field is missing.
    """
    for field, column in mapping.items():
        if field not in FIELD_NAMES:
            raise ScreenError(f"--map {field}={column}: unknown field {field!r}. {did_you_mean(field, FIELD_NAMES)}")
        if column and column not in table.columns:
            message = f"--map {field}={column}: {table.path} has no column {column!r}. "
            message += did_you_mean(column, table.columns)
            raise ScreenError(message)
    column_of: dict[str, str] = {}
    free = [name for name in table.columns if name not in mapping.values()]
    for field in FIELD_NAMES:
        column = mapping[field] if field in mapping else _auto_match(field, free, table)
        if column:
            column_of[field] = column
    optional = [name for name in wanted if name == "perturbation" and mapping.get(name) == ""]
    missing = [name for name in wanted if name not in column_of and name not in optional]
    if missing:
        example = " ".join(f"--map {name}=COLUMN" for name in missing)
        message = f"{table.path} has no column {' and no column '.join(map(repr, missing))}. "
        message += f"{did_you_mean(missing[0], table.columns)} Name the column: {example}"
        message += " (--map perturbation= if there is none)." if "perturbation" in missing else "."
        message = f"{message} {table.advice}".rstrip()
        raise ScreenError(message)
    return column_of


class RowParser:
    """Parses the rows of one table into entries.

    Args:
        table: The table.
        column_of: Column of each field.
        extra: Extra columns; values are "" for those that this table lacks.
        name: Name of the table in problems.
        experiment: Experiment of tables without this column.
        site: Site of tables without this column.
        needs_well: Refuse invalid well names here; otherwise the index checks them.
    """

    def __init__(
        self,
        table: SourceTable,
        column_of: Mapping[str, str],
        *,
        extra: Sequence[str],
        name: str,
        experiment: str,
        site: int,
        needs_well: bool = False,
    ) -> None:
        self._position = {field: table.position(column) for field, column in column_of.items()}
        self._extra = [table.position(column) if column in table.columns else -1 for column in extra]
        self._name, self._experiment, self._site, self._needs_well = name, experiment, str(site), needs_well

    def parse(self, line: int, fields: tuple[str, ...]) -> SiteRecord:
        """Return the entry of a row, without images.

        Args:
            line: Line of the table; the header is line 1.
            fields: Values of the row, one per column.
        """
        values = self._values(fields)
        perturbation, word = values.get("perturbation", ""), values.get("role", "")
        role = role_of(word) if word else (Role.TREATMENT if perturbation else Role.UNKNOWN)
        site = values.get("site", self._site)
        return SiteRecord(
            experiment=values.get("experiment", self._experiment),
            plate=values.get("plate", ""),
            well=values.get("well", ""),
            site=int(site) if _is_whole(site) else 0,
            cell_type=values.get("cell_type", ""),
            perturbation=perturbation,
            role=role or Role.UNKNOWN,
            split=values.get("split", ""),
            table=self._name,
            line=line,
            extra=tuple("" if k < 0 else fields[k] for k in self._extra),
            fields=fields,
        )

    def validate(self, entry: SiteRecord, fields: tuple[str, ...]) -> Problem | None:
        """Return the refusal of a row; None if it is valid.

        A row is invalid if a name is missing, or if its well, site or role is malformed.
        """
        values = self._values(fields)
        for name in ("experiment", "plate"):
            if name in self._position and not values[name]:
                return entry.problem(f"no {name}", found="''", expected=f"a {name}", fix="Fill it in.")
        if self._needs_well and spelling_of(entry.well) is None:
            return entry.problem("bad well", found=repr(entry.well), expected="a name such as B03", fix="Correct it.")
        if not _is_whole(site := values.get("site", self._site)):
            return entry.problem(
                "bad site", found=repr(site), expected="a whole number", fix="Number the sites of a well."
            )
        if (word := values.get("role", "")) and role_of(word) is None:
            expected = f"one of {', '.join(ROLE_WORDS)}"
            return entry.problem("bad role", found=repr(word), expected=expected, fix="Correct the role.")
        return None

    def _values(self, fields: tuple[str, ...]) -> dict[str, str]:
        return {field: fields[k].strip() for field, k in self._position.items()}


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def add_well_column(table: SourceTable, mapping: Mapping[str, str], *, usual: Sequence[str] = ("well",)) -> SourceTable:
    """Add a column of well names to a table with separate rows and columns.

    Rows and columns are joined if `mapping` assigns `ROW+COLUMN` to `well`, or if the table has no well column but
    columns named `row` and `column` or `col`, with or without the prefix `Metadata_`. Rows are letters or numbers from
    1; anything else is refused with the well.

    Args:
        table: The table, with or without wells.
        mapping: Column of each field.
        usual: Usual names of a column of wells.
    """
    name = mapping.get("well", "")
    parts = name.split("+")
    if name in table.columns:
        return table
    if len(parts) != 2 or not set(parts) <= set(table.columns):
        name, parts = "well", [_first_column(names, table.columns) for names in (("row",), ("column", "col"))]
        if _first_column(usual, table.columns) or "" in parts:
            return table
    row, column = (table.position(part) for part in parts)
    rows = tuple((*fields, _join_well(fields[row].strip(), fields[column].strip())) for fields in table.rows)
    return dataclasses.replace(table, columns=(*table.columns, name), rows=rows)


def _join_well(row: str, column: str) -> str:
    row, column = (
        re.sub(r"^([0-9]+)\.0+$", r"\1", number) for number in (row, column)
    )  # as pandas writes integers in columns with missing values
    return f"r{row}c{column}" if row.isdigit() else f"{row}{column}"


def _first_column(names: Sequence[str], columns: Sequence[str]) -> str:
    normalized = [_normalize_name(f"{prefix}{word}") for word in names for prefix in ("", "Metadata_")]
    return next((name for word in normalized for name in columns if _normalize_name(name) == word), "")


def _auto_match(field: str, columns: Sequence[str], table: SourceTable) -> str:
    for candidate in (field, f"Metadata_{field}"):
        exact = [name for name in columns if name == candidate]
        close = exact or [name for name in columns if _normalize_name(name) == _normalize_name(candidate)]
        if len(close) > 1:
            message = f"{table.path}: {' and '.join(map(repr, close))} may both be {field!r}. "
            message += f"Name one: --map {field}=COLUMN."
            raise ScreenError(message)
        if close:
            return close[0]
    return ""


def _normalize_name(name: str) -> str:
    return re.sub(r"[_\s-]", "", name.lower())


def apply_controls(entries: Sequence[SiteRecord], controls: Mapping[str, Sequence[str]]) -> None:
    """Set the role of entries with a control perturbation.

    Args:
        entries: The entries; their roles are updated.
        controls: Names of perturbations, by role.

    Raises:
        ScreenError: A role or perturbation is unknown, or a perturbation has two roles.
    """
    perturbations = {entry.perturbation for entry in entries if entry.perturbation}
    role_by_name: dict[str, Role] = {}
    for role_name, names in controls.items():
        role = role_of(role_name)
        if role is None or not role_name:
            raise ScreenError(
                f"Controls {role_name!r}: unknown role. {did_you_mean(role_name, [item.value for item in Role])}"
            )
        for name in names:
            if name not in perturbations and entries:  # without entries the refusals are more informative
                flag = f"--{role.value.replace('_', '-')}"
                raise ScreenError(
                    f"{flag} {name}: no row has the perturbation {name!r}. {did_you_mean(name, perturbations)}"
                )
            if role_by_name.setdefault(name, role) != role:
                raise ScreenError(f"{name!r} is named both as {role_by_name[name]} and as {role}. Keep one.")
    for entry in entries:
        entry.role = role_by_name.get(entry.perturbation, entry.role)
