"""Assign plate maps to plates, and roles to the JUMP codes of controls."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, did_you_mean
from distangle.screen.problems import Problem
from distangle.screen.roles import Role
from distangle.screen.source_tables import SourceTable, matching_columns, read_table, require_columns, with_columns


@dataclass(frozen=True, kw_only=True)
class _Barcode:
    """A row of `barcode_platemap.csv`: a plate and the name of its plate map."""

    table: AnyPath
    line: int
    plate: str
    name: str

    @property
    def batch(self) -> str:
        """The folder of the table: `platemaps/BATCH/barcode_platemap.csv`."""
        return self.table.parent.name


def _read_barcode_rows(tables: Sequence[AnyPath]) -> list[_Barcode]:
    barcodes: list[_Barcode] = []
    for path in tables:
        table = read_table(path)
        require_columns(table, ("Assay_Plate_Barcode", "Plate_Map_Name"))
        if table.ragged:
            line, n_fields = table.ragged[0]
            raise ScreenError(
                f"{path}, line {line}: {n_fields} fields, expected {len(table.columns)}. Correct this line."
            )
        at_plate, at_map = table.position("Assay_Plate_Barcode"), table.position("Plate_Map_Name")
        barcodes += [
            _Barcode(table=path, line=line, plate=fields[at_plate].strip(), name=fields[at_map].strip())
            for line, fields in zip(table.lines, table.rows, strict=True)
        ]
    if not barcodes:
        raise ScreenError(f"{tables[0]} has no row. Expected a row per plate.")
    return barcodes


def read_barcodes(
    tables: Sequence[AnyPath],
    maps: Mapping[tuple[str, str], AnyPath],
    read_map: Callable[[AnyPath], SourceTable],
    *,
    plates: frozenset[str],
) -> tuple[list[SourceTable], list[Problem]]:
    """Return the plate map of each plate, and warnings.

    A map of several plates is repeated for each. If two batches share a barcode, the maps get a column for the batch.

    Args:
        tables: Every `barcode_platemap.csv`.
        maps: File of each map, by the folder above `platemap/` and the name. If a batch lacks a map, the map of this
            name from another batch is used, with a warning.
        read_map: Reads a map.
        plates: Plates with images. A missing map is an error for these plates and a warning for others.

    Raises:
        ScreenError: A table is unreadable or empty, or a map is missing.
    """
    barcodes = _read_barcode_rows(tables)
    is_shared = len({(row.plate, row.table.parent) for row in barcodes}) > len({row.plate for row in barcodes})
    cache: dict[AnyPath, SourceTable] = {}
    plate_maps: list[SourceTable] = []
    warnings: list[Problem] = []
    for row in barcodes:
        path = _find_map(row, maps)
        if path is None and (row.plate in plates or row is barcodes[-1] and not plate_maps):
            message = f"{row.table}, line {row.line}: plate {row.plate} has the map {row.name!r}, and no folder "
            message += f"'platemap' contains it. {did_you_mean(row.name, [name for _, name in maps])}"
            raise ScreenError(message)
        if path is None:
            warnings.append(_missing_map_warning(row))
            continue
        if len(tables) > 1 and not _is_same_batch(path, row):
            warnings.append(_other_batch_warning(row, path))
        table = cache.get(path) or read_map(path)
        # Ragged rows of a map are refused once, not once per plate.
        cache[path] = dataclasses.replace(table, ragged=(), remarks=())
        table = _add_column(table, "Assay_Plate_Barcode", row.plate)
        if is_shared and "Metadata_Batch" not in table.columns:
            table = _add_column(table, "Metadata_Batch", row.batch)
        plate_maps.append(table)
    return matching_columns(plate_maps), warnings


def _find_map(row: _Barcode, maps: Mapping[tuple[str, str], AnyPath]) -> AnyPath | None:
    candidates = [(folder, file) for (folder, name), file in maps.items() if name == row.name]
    own = [file for _, file in candidates if _is_same_batch(file, row)]
    return next(iter([*own, *(file for _, file in candidates)]), None)


def _is_same_batch(path: AnyPath, row: _Barcode) -> bool:
    """Test whether a map is in the batch folder of the table that names it."""
    return str(path.parent.parent) == str(row.table.parent)


def _missing_map_warning(row: _Barcode) -> Problem:
    return Problem(
        severity="warning",
        kind="no plate map",
        file=row.table.name,
        row=str(row.line),
        plate=row.plate,
        found=f"no file {row.name!r} in a folder 'platemap'",
        expected="the map of every plate",
        fix="No action needed: this plate has no image. Copy the map together with its images.",
    )


def _other_batch_warning(row: _Barcode, path: AnyPath) -> Problem:
    return Problem(
        severity="warning",
        kind="plate map of another batch",
        file=f"{row.batch}/{row.table.name}",
        row=str(row.line),
        plate=row.plate,
        found=f"{path.parent.parent.name}/{path.parent.name}/{path.name}",
        expected=f"a map {row.name!r} of batch {row.batch}",
        fix="No action needed if the batches have one design; otherwise copy the map of this batch.",
    )


def _add_column(table: SourceTable, column: str, value: str) -> SourceTable:
    return with_columns(table, (column,), lambda _: (value,))


_CODE_COLUMN = "metadata_jcp2022"
_PREFIX = "JCP2022_"
_CODES_BY_ROLE = {
    # DMSO; the CRISPR controls no-guide and non-targeting; the ORF controls BFP, HcRed, LUCIFERASE and LacZ
    Role.NEGATIVE_CONTROL: ("033924", "800001", "800002", "915128", "915129", "915130", "915131"),
    Role.POSITIVE_CONTROL: (
        # aloxistatin, AMG900, dexamethasone, FK-866, LY2109761, NVS-PAK1-1, quinidine, TC-S-7004
        *("085227", "037716", "025848", "046054", "035095", "064022", "050797", "012818"),
        *("805264", "915132"),  # PLK1 by CRISPR, eGFP by ORF
    ),
    Role.UNTREATED: ("999999",),
    Role.UNKNOWN: ("UNKNOWN", "900001", "028373"),  # 900001: a bad construct; 028373: in no table of JUMP
}
_ROLES = {_PREFIX + code: role.value for role, codes in _CODES_BY_ROLE.items() for code in codes}
_UNKNOWN_TREATMENT = tuple(code for code, role in _ROLES.items() if role == Role.UNKNOWN)
_EMPTY_ROLES = ("", "empty", "null")  # spellings of a missing role in perturbation tables of JUMP

_ROLE, _PERTURBATION = "role_of_code", "perturbation_of_code"


def has_jump_codes(tables: Iterable[SourceTable]) -> frozenset[str]:
    """Return the JUMP control codes that occur in the tables."""
    return frozenset(_ROLES.keys() & {code for table in tables for code in _cells(table, _code_column(table))})


def read_codes(
    table: SourceTable, column_of: Mapping[str, str], *, codes: frozenset[str], keep: frozenset[str] = frozenset()
) -> tuple[SourceTable, dict[str, str], list[Problem]]:
    """Set the role of wells with a JUMP code; clear unknown perturbations.

    Args:
        table: A table of wells.
        column_of: Column of each field.
        codes: From `has_jump_codes` of all tables, so that all get the same columns; empty to change nothing.
        keep: Fields with a column named by the caller, which stay.

    Returns:
        The table, the column of each field, and a warning for every code of an unknown perturbation.
    """
    if not codes:
        return table, dict(column_of), []
    cells = _cells(table, _code_column(table))
    added = {}
    if "role" not in keep:
        roles = _cells(table, column_of.get("role"))
        added["role"] = [
            _ROLES[code] if code in _ROLES and role.lower() in _EMPTY_ROLES else role
            for code, role in zip(cells, roles, strict=True)
        ]
    if "perturbation" not in keep and codes & set(_UNKNOWN_TREATMENT):
        names = _cells(table, column_of.get("perturbation"))
        added["perturbation"] = [
            "" if code in _UNKNOWN_TREATMENT else name for code, name in zip(cells, names, strict=True)
        ]
    columns = {"role": _ROLE, "perturbation": _PERTURBATION}
    rows = tuple((*row, *new) for row, *new in zip(table.rows, *added.values(), strict=True))
    n_unknown = Counter(code for code in cells if code in _UNKNOWN_TREATMENT)
    table = dataclasses.replace(table, columns=(*table.columns, *(columns[name] for name in added)), rows=rows)
    warnings = [
        Problem(
            severity="warning",
            kind="perturbation unknown",
            file=table.path.name,
            found=code,
            expected="a code of a perturbation",
            fix="No action needed: these wells have no label and are excluded from training and scores.",
            count=count,
        )
        for code, count in n_unknown.items()
        if "perturbation" in added
    ]
    return table, {**column_of, **{name: columns[name] for name in added}}, warnings


def _code_column(table: SourceTable) -> str | None:
    return next((name for name in table.columns if name.lower() == _CODE_COLUMN), None)


def _cells(table: SourceTable, column: str | None) -> list[str]:
    return [""] * len(table.rows) if column is None else [row[table.position(column)].strip() for row in table.rows]
