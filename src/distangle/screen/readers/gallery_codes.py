"""Read `barcode_platemap.csv`: which plate has which plate map.

Codes of JUMP that are no perturbations: DMSO, untreated, unknown.
"""

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
    """A row of a `barcode_platemap.csv`: which map a plate has."""

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
            raise ScreenError(f"{path}, line {line}: {n_fields} fields, expected {len(table.columns)}. Mend this line.")
        at_plate, at_map = table.position("Assay_Plate_Barcode"), table.position("Plate_Map_Name")
        barcodes += [
            _Barcode(table=path, line=line, plate=fields[at_plate].strip(), name=fields[at_map].strip())
            for line, fields in zip(table.lines, table.rows, strict=True)
        ]
    if not barcodes:
        raise ScreenError(f"{tables[0]} names no plate. Expected a row per plate.")
    return barcodes


def read_barcodes(
    tables: Sequence[AnyPath],
    maps: Mapping[tuple[str, str], AnyPath],
    read_map: Callable[[AnyPath], SourceTable],
    *,
    plates: frozenset[str],
) -> tuple[list[SourceTable], list[Problem]]:
    """Return the map of each plate, and remarks; a shared map is repeated.

    Where two batches use one barcode, the batch is in it too.

    Args:
        tables: Every `barcode_platemap.csv`.
        maps: Folder above `platemap/` and name of a map to its file; a map of the same name of another batch is taken
            where a batch has none, with a remark.
        read_map: Reads a map.
        plates: Those with images; a map that is absent is an error for these, and a remark for others.

    Raises:
        ScreenError: A table cannot be read or names no plate, or a map is absent.
    """
    barcodes = _read_barcode_rows(tables)
    is_shared = len({(row.plate, row.table.parent) for row in barcodes}) > len({row.plate for row in barcodes})
    cache: dict[AnyPath, SourceTable] = {}
    plate_maps: list[SourceTable] = []
    warnings: list[Problem] = []
    for row in barcodes:
        path = _find_map(row, maps)
        if path is None and (row.plate in plates or row is barcodes[-1] and not plate_maps):
            message = f"{row.table}, line {row.line}: plate {row.plate} has the map {row.name!r}, and there is no such "
            message += f"file in a folder 'platemap'. {did_you_mean(row.name, [name for _, name in maps])}"
            raise ScreenError(message)
        if path is None:
            warnings.append(_missing_map_warning(row))
            continue
        if len(tables) > 1 and not _is_same_batch(path, row):
            warnings.append(_other_batch_warning(row, path))
        table = cache.get(path) or read_map(path)
        # What is ragged in a map is refused once, not for every plate.
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
    """Whether `platemaps/BATCH/platemap/MAP.txt` lies with the table that names it."""
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
        fix="Nothing, as there is no image of this plate; copy its map with its images.",
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
        fix="Nothing if the batches have one design; else copy the map of this batch.",
    )


def _add_column(table: SourceTable, column: str, value: str) -> SourceTable:
    return with_columns(table, (column,), lambda _: (value,))


_CODE_COLUMN = "metadata_jcp2022"
_ROLES = {
    "JCP2022_033924": Role.NEGATIVE_CONTROL.value,  # DMSO
    "JCP2022_999999": Role.UNTREATED.value,
    "JCP2022_UNKNOWN": Role.UNKNOWN.value,
    "JCP2022_900001": Role.UNKNOWN.value,  # a bad construct
}
_UNKNOWN_TREATMENT = tuple(code for code, role in _ROLES.items() if role == Role.UNKNOWN)
_EMPTY_ROLES = ("", "empty", "null")  # what tables of JUMP's perturbations write of such codes, where they list them

_ROLE, _PERTURBATION = "role_of_code", "perturbation_of_code"


def has_jump_codes(tables: Iterable[SourceTable]) -> frozenset[str]:
    """Return which of these codes stand in any of the tables."""
    return frozenset(_ROLES.keys() & {code for table in tables for code in _cells(table, _code_column(table))})


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
            kind="perturbation not known",
            file=table.path.name,
            found=code,
            expected="a code of a perturbation",
            fix="Nothing: these wells are in the screen without a label, and are neither trained on nor scored.",
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
