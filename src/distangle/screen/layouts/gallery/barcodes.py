"""Read `barcode_platemap.csv`: which plate has which plate map."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distangle.errors import ScreenError, nearest
from distangle.remote import AnyPath
from distangle.screen.problems import Problem
from distangle.screen.source_tables import SourceTable, alike, read_table, require_columns, with_columns


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


def _rows(tables: Sequence[AnyPath]) -> list[_Barcode]:
    found: list[_Barcode] = []
    for path in tables:
        table = read_table(path)
        require_columns(table, ("Assay_Plate_Barcode", "Plate_Map_Name"))
        if table.ragged:
            line, n_fields = table.ragged[0]
            raise ScreenError(f"{path}, line {line}: {n_fields} fields, expected {len(table.columns)}. Mend this line.")
        at_plate, at_map = table.position("Assay_Plate_Barcode"), table.position("Plate_Map_Name")
        found += [
            _Barcode(table=path, line=line, plate=fields[at_plate].strip(), name=fields[at_map].strip())
            for line, fields in zip(table.lines, table.rows, strict=True)
        ]
    if not found:
        raise ScreenError(f"{tables[0]} names no plate. Expected a row per plate.")
    return found


def read_barcodes(
    tables: Sequence[AnyPath],
    maps: Mapping[tuple[str, str], AnyPath],
    read: Callable[[AnyPath], SourceTable],
    *,
    plates: frozenset[str],
) -> tuple[list[SourceTable], list[Problem]]:
    """Return the map of each plate, and remarks; a shared map is repeated.

    Where two batches use one barcode, the batch is in it too.

    Args:
        tables: Every `barcode_platemap.csv`.
        maps: Folder above `platemap/` and name of a map to its file; a map of the same name of another batch is taken
            where a batch has none, with a remark.
        read: Reads a map.
        plates: Those with images; a map that is absent is an error for these, and a remark for others.

    Raises:
        ScreenError: A table cannot be read or names no plate, or a map is absent.
    """
    barcodes = _rows(tables)
    is_shared = len({(row.plate, row.table.parent) for row in barcodes}) > len({row.plate for row in barcodes})
    known: dict[AnyPath, SourceTable] = {}
    said: list[SourceTable] = []
    remarks: list[Problem] = []
    for row in barcodes:
        path = _map_of(row, maps)
        if path is None and (row.plate in plates or row is barcodes[-1] and not said):
            message = f"{row.table}, line {row.line}: plate {row.plate} has the map {row.name!r}, and there is no such "
            message += f"file in a folder 'platemap'. {nearest(row.name, [name for _, name in maps])}"
            raise ScreenError(message)
        if path is None:
            remarks.append(_without_map(row))
            continue
        if len(tables) > 1 and not _is_own(path, row):
            remarks.append(_others_map(row, path))
        table = known.get(path) or read(path)
        # What is ragged in a map is refused once, not for every plate.
        known[path] = dataclasses.replace(table, ragged=(), remarks=())
        table = _with_cell(table, "Assay_Plate_Barcode", row.plate)
        if is_shared and "Metadata_Batch" not in table.columns:
            table = _with_cell(table, "Metadata_Batch", row.batch)
        said.append(table)
    return alike(said), remarks


def _map_of(row: _Barcode, maps: Mapping[tuple[str, str], AnyPath]) -> AnyPath | None:
    named = [(folder, file) for (folder, known), file in maps.items() if known == row.name]
    here = [file for _, file in named if _is_own(file, row)]
    return next(iter([*here, *(file for _, file in named)]), None)


def _is_own(path: AnyPath, row: _Barcode) -> bool:
    """Whether `platemaps/BATCH/platemap/MAP.txt` lies with the table that names it."""
    return str(path.parent.parent) == str(row.table.parent)


def _without_map(row: _Barcode) -> Problem:
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


def _others_map(row: _Barcode, path: AnyPath) -> Problem:
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


def _with_cell(table: SourceTable, column: str, value: str) -> SourceTable:
    return with_columns(table, (column,), lambda _: (value,))
