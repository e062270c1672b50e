"""Read well metadata of Cell Painting plates: plate maps and perturbations."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from distangle.core.remote import AnyPath
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.gallery_codes import has_jump_codes, read_barcodes, read_codes
from distangle.screen.readers.gallery_tables import GalleryTables, unread_tables
from distangle.screen.readers.perturbation_tables import Perturbations, read_perturbations
from distangle.screen.readers.wells.columns import add_well_column, resolve_columns
from distangle.screen.readers.wells.join_metadata import WellMetadata, metadata_of
from distangle.screen.source_tables import SourceTable, matching_columns, read_table, with_columns

_COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "experiment": ("Metadata_Batch", "Batch"),
    "plate": ("Metadata_Plate", "Assay_Plate_Barcode", "Metadata_Assay_Plate_Barcode", "Metadata_Barcode"),
    "well": ("Metadata_Well", "well_position", "Metadata_well_position", "Well_Position", "Metadata_Well_Position"),
    "site": ("Metadata_Site", "Metadata_Field", "Metadata_FieldID"),
    "cell_type": ("Metadata_cell_line", "Metadata_Cell_Line", "Metadata_CellLine", "Cell_type", "Metadata_Cell_type"),
    "perturbation": (
        *("Metadata_JCP2022", "broad_sample", "Metadata_broad_sample", "Metadata_Compound", "Metadata_compound"),
        *("pert_iname", "Metadata_pert_iname", "compound", "gene", "gene_name", "Metadata_gene_name"),
    ),
    "role": ("control_type", "Metadata_control_type", "pert_type", "Metadata_pert_type"),
}


def read_wells(path: AnyPath, mapping: Mapping[str, str], *, missing: Collection[str] = ()) -> SourceTable:
    """Read a table with wells in one column or in a row and a column.

    Raises:
        ScreenError: The table is unreadable.
    """
    return add_well_column(read_table(path, missing=missing), mapping, usual=("well", *_COLUMN_NAMES["well"]))


def column_names(table: SourceTable, mapping: Mapping[str, str], *, wanted: Sequence[str]) -> dict[str, str]:
    """Match columns to fields by the usual names of Cell Painting.

    Raises:
        ScreenError: The mapping does not fit, or a wanted field is missing.
    """
    explicit = {field: column for field, column in mapping.items() if not column or column in table.columns}
    lowered = {name.lower(): name for name in reversed(table.columns)}
    for field, names in _COLUMN_NAMES.items():
        if field not in explicit and field not in lowered and f"metadata_{field}" not in lowered:
            usual = next((lowered[name.lower()] for name in names if name.lower() in lowered), None)
            if usual is not None:
                explicit[field] = usual
    return resolve_columns(table, explicit, wanted=wanted)


def read_platemaps(
    tables: GalleryTables, mapping: Mapping[str, str], *, plates: Iterable[str], missing: Collection[str] = ()
) -> tuple[WellMetadata | None, list[Problem]]:
    """Return the metadata of wells, and warnings about unread tables.

    The metadata are None if no table contains them.

    Args:
        tables: From `list_tables`.
        mapping: Column of each field.
        plates: Plates with images. Other plates of `well.csv`, which lists all of JUMP, are skipped; those of plate
            maps are not.
        missing: Spellings of a missing value.

    Raises:
        ScreenError: A plate map is missing, or the columns are ambiguous.
    """
    warnings: list[Problem] = []
    used: set[AnyPath] = set()
    plate_names = frozenset(plates)

    def read(path: AnyPath) -> SourceTable:
        return read_wells(path, mapping, missing=missing)

    if tables.barcodes:
        well_tables, warnings = read_barcodes(tables.barcodes, tables.maps, read, plates=plate_names)
        used = {table.path for table in well_tables}
    elif tables.wells:
        well_tables = matching_columns([_rows_of_plates(read(path), mapping, plate_names) for path in tables.wells])
        used = {*tables.wells}
    else:
        well_tables = []
    unread_problems = _unread_problems(tables, used)
    if not well_tables:
        return None, unread_problems
    perturbation_tables = [read_table(path, missing=missing) for path in tables.perturbations]
    warnings += [
        warning for table in perturbation_tables for warning in table.ragged_problems() if warning.severity == "warning"
    ]
    perturbations = _read_all_perturbations(perturbation_tables, well_tables, mapping)
    codes = has_jump_codes(well_tables)
    parts = [_well_labels(table, mapping, perturbations, codes) for table in well_tables]
    warnings += [warning for entry in perturbations.values() for warning in entry.warnings]
    labels = WellMetadata(
        rows=[row for part in parts for row in part.rows],
        problems=[*warnings, *(problem for part in parts for problem in part.problems)],
        n_rows=sum(part.n_rows for part in parts),
        keys=parts[0].keys,
        extra_columns=parts[0].extra_columns,
        tables=(*tables.barcodes, *dict.fromkeys(table.path for table in well_tables), *tables.perturbations),
        columns=parts[0].columns,
    )
    return labels, unread_problems


def _unread_problems(tables: GalleryTables, used: set[AnyPath]) -> list[Problem]:
    """Return refusals of unused maps, and of tables of wells next to maps."""
    name_fix = "Name it in barcode_platemap.csv (Assay_Plate_Barcode,Plate_Map_Name), or remove it."
    unnamed = [path for path in tables.maps.values() if path not in used]
    problems = unread_tables(
        unnamed, description="a plate map without a barcode", expected="the map of a plate", fix=name_fix
    )
    one_fix = "Keep one of the files of this name, or rename this one."
    problems += unread_tables(
        tables.duplicate_maps, description="a second map of one name", expected="one file per name", fix=one_fix
    )
    if tables.barcodes:
        fix = "Remove it, or remove barcode_platemap.csv to use this table in place of the maps."
        description = "a table of wells next to plate maps"
        problems += unread_tables(tables.wells, description=description, expected="maps or a table of wells", fix=fix)
    return problems


def _rows_of_plates(table: SourceTable, mapping: Mapping[str, str], plates: frozenset[str]) -> SourceTable:
    column = column_names(table, mapping, wanted=("plate", "well"))["plate"]
    column_index = table.position(column)
    indices = [k for k, row in enumerate(table.rows) if row[column_index].strip() in plates]
    rows, lines = tuple(table.rows[k] for k in indices), tuple(table.lines[k] for k in indices)
    return dataclasses.replace(table, rows=rows, lines=lines)


def _read_all_perturbations(
    tables: Sequence[SourceTable], wells: Sequence[SourceTable], mapping: Mapping[str, str]
) -> dict[str, Perturbations]:
    """Return the perturbation metadata of each perturbation column."""
    names: dict[str, list[str]] = {}
    for table in wells:
        column = column_names(table, mapping, wanted=("plate", "well")).get("perturbation", "")
        if column:
            column_index = table.position(column)
            names.setdefault(column, []).extend(row[column_index] for row in table.rows)
    roles = _COLUMN_NAMES["role"] if "role" not in mapping else tuple(filter(None, [mapping["role"]]))
    return {
        column: read_perturbations(tables, column, names=well_names, role_columns=roles)
        for column, well_names in names.items()
    }


def _well_labels(
    table: SourceTable,
    mapping: Mapping[str, str],
    perturbations_by_column: Mapping[str, Perturbations],
    codes: frozenset[str],
) -> WellMetadata:
    column = column_names(table, mapping, wanted=("plate", "well")).get("perturbation", "")
    perturbations = perturbations_by_column.get(column)
    if perturbations is not None:
        table = perturbations.join(table)
    table = _add_role_column(table)
    column_of = column_names(table, mapping, wanted=("plate", "well", "perturbation"))
    if "role" not in mapping and _ROLE_COLUMN in table.columns:
        column_of["role"] = _ROLE_COLUMN
    if "perturbation" not in mapping:
        table = _fill_names(table, column_of["perturbation"])
    column_of.pop("site", None)
    table, column_of, warnings = read_codes(table, column_of, codes=codes, keep=frozenset(mapping))
    labels = metadata_of(table, column_of)
    if perturbations is not None and perturbations.two_roles:
        labels = _refuse_two_roles(labels, table.position(column), perturbations.two_roles)
    return dataclasses.replace(labels, problems=[*labels.problems, *warnings])


def _refuse_two_roles(labels: WellMetadata, column_index: int, two_roles: Mapping[str, str]) -> WellMetadata:
    """Refuse rows of perturbations with several roles."""
    rows: list[SiteRecord] = []
    problems: list[Problem] = []
    for row in labels.rows:
        name = row.fields[column_index].strip()
        if name not in two_roles:
            rows.append(row)
            continue
        problems.append(
            row.problem(
                "perturbation in two roles",
                found=f"{name}: {two_roles[name]}",
                expected="one role in all rows of a perturbation",
                fix="Make these rows agree, or name one column of roles: --map role=COLUMN (--map role= for none).",
            )
        )
    return dataclasses.replace(labels, rows=rows, problems=[*labels.problems, *problems])


def _add_role_column(table: SourceTable) -> SourceTable:
    """Add a role column: the control type if present, else the perturbation type."""
    lowered = {name.lower(): table.position(name) for name in reversed(table.columns)}
    role_columns = [lowered[name.lower()] for name in _COLUMN_NAMES["role"] if name.lower() in lowered]
    if len(role_columns) < 2:
        return table
    return with_columns(
        table, (_ROLE_COLUMN,), lambda row: (next((row[k].strip() for k in role_columns if row[k].strip()), ""),)
    )


def _fill_names(table: SourceTable, column: str) -> SourceTable:
    """Use the name of perturbations without an identifier, such as DMSO."""
    lowered = {name.lower(): table.position(name) for name in reversed(table.columns)}
    names = [lowered[name] for name in ("pert_iname", "metadata_pert_iname") if name in lowered]
    column_index = table.position(column)
    if not names:
        return table
    rows = tuple(
        row if row[column_index].strip() else (*row[:column_index], row[names[0]], *row[column_index + 1 :])
        for row in table.rows
    )
    return dataclasses.replace(table, rows=rows)


_ROLE_COLUMN = "control_or_pert_type"
