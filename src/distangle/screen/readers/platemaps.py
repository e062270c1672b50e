"""Read the wells of Cell Painting plates: plate maps, `well.csv`, perturbations."""

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

_NAMES: dict[str, tuple[str, ...]] = {
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
    """Read a table that names wells, in one column or by row and column.

    Raises:
        ScreenError: It cannot be read.
    """
    return add_well_column(read_table(path, missing=missing), mapping, usual=("well", *_NAMES["well"]))


def column_names(table: SourceTable, mapping: Mapping[str, str], *, wanted: Sequence[str]) -> dict[str, str]:
    """Match the table's columns to ours by the usual names of Cell Painting.

    Raises:
        ScreenError: What is told does not fit, or a wanted one is missing.
    """
    told = {ours: theirs for ours, theirs in mapping.items() if not theirs or theirs in table.columns}
    lowered = {name.lower(): name for name in reversed(table.columns)}
    for ours, names in _NAMES.items():
        if ours not in told and ours not in lowered and f"metadata_{ours}" not in lowered:
            usual = next((lowered[name.lower()] for name in names if name.lower() in lowered), None)
            if usual is not None:
                told[ours] = usual
    return resolve_columns(table, told, wanted=wanted)


def read_platemaps(
    tables: GalleryTables, mapping: Mapping[str, str], *, plates: Iterable[str], missing: Collection[str] = ()
) -> tuple[WellMetadata | None, list[Problem]]:
    """Return the treatments of wells, and remarks on tables that are not read.

    The treatments are None where no table gives them.

    Args:
        tables: From `list_tables`.
        mapping: Our column name to a table's.
        plates: Those with images. Of `well.csv`, which lists all of JUMP, other plates are left out; of the plate
            maps they are not.
        missing: Words that stand for a missing value.

    Raises:
        ScreenError: A map that is named is absent, or which column is which cannot be told.
    """
    remarks: list[Problem] = []
    used: set[AnyPath] = set()
    there = frozenset(plates)

    def read(path: AnyPath) -> SourceTable:
        return read_wells(path, mapping, missing=missing)

    if tables.barcodes:
        joined, remarks = read_barcodes(tables.barcodes, tables.maps, read, plates=there)
        used = {table.path for table in joined}
    elif tables.wells:
        joined = matching_columns([_of_plates(read(path), mapping, there) for path in tables.wells])
        used = {*tables.wells}
    else:
        joined = []
    unread = _not_read(tables, used)
    if not joined:
        return None, unread
    described = [read_table(path, missing=missing) for path in tables.perturbations]
    remarks += [remark for table in described for remark in table.ragged_problems() if remark.severity == "warning"]
    perturbations = _all_perturbations(described, joined, mapping)
    codes = has_jump_codes(joined)
    parts = [_labels(table, mapping, perturbations, codes) for table in joined]
    remarks += [remark for known in perturbations.values() for remark in known.remarks]
    labels = WellMetadata(
        rows=[row for part in parts for row in part.rows],
        problems=[*remarks, *(problem for part in parts for problem in part.problems)],
        n_rows=sum(part.n_rows for part in parts),
        keys=parts[0].keys,
        extra_columns=parts[0].extra_columns,
        tables=(*tables.barcodes, *dict.fromkeys(table.path for table in joined), *tables.perturbations),
        columns=parts[0].columns,
    )
    return labels, unread


def _not_read(tables: GalleryTables, used: set[AnyPath]) -> list[Problem]:
    """Return refusals of maps that no plate has, and of tables of wells beside maps."""
    name = "Name it in barcode_platemap.csv (Assay_Plate_Barcode,Plate_Map_Name), or take it out."
    spare = [path for path in tables.maps.values() if path not in used]
    problems = unread_tables(spare, found="a map that no barcode names", expected="the map of a plate", fix=name)
    one = "Keep one of the files of this name, or rename this one."
    problems += unread_tables(tables.twins, found="a second map of one name", expected="one file of a name", fix=one)
    if tables.barcodes:
        fix = "Take it out, or take barcode_platemap.csv out to have its rows instead of those of the maps."
        found = "a table of wells beside plate maps"
        problems += unread_tables(tables.wells, found=found, expected="maps or a table of wells", fix=fix)
    return problems


def _of_plates(table: SourceTable, mapping: Mapping[str, str], plates: frozenset[str]) -> SourceTable:
    column = column_names(table, mapping, wanted=("plate", "well"))["plate"]
    at = table.position(column)
    keep = [k for k, row in enumerate(table.rows) if row[at].strip() in plates]
    rows, lines = tuple(table.rows[k] for k in keep), tuple(table.lines[k] for k in keep)
    return dataclasses.replace(table, rows=rows, lines=lines)


def _all_perturbations(
    tables: Sequence[SourceTable], wells: Sequence[SourceTable], mapping: Mapping[str, str]
) -> dict[str, Perturbations]:
    """Return what is known of perturbations, by the column that names them."""
    names: dict[str, list[str]] = {}
    for table in wells:
        column = column_names(table, mapping, wanted=("plate", "well")).get("perturbation", "")
        if column:
            at = table.position(column)
            names.setdefault(column, []).extend(row[at] for row in table.rows)
    roles = _NAMES["role"] if "role" not in mapping else tuple(filter(None, [mapping["role"]]))
    return {
        column: read_perturbations(tables, column, names=there, role_columns=roles) for column, there in names.items()
    }


def _labels(
    table: SourceTable, mapping: Mapping[str, str], known: Mapping[str, Perturbations], codes: frozenset[str]
) -> WellMetadata:
    column = column_names(table, mapping, wanted=("plate", "well")).get("perturbation", "")
    perturbations = known.get(column)
    if perturbations is not None:
        table = perturbations.join(table)
    table = _with_role(table)
    column_of = column_names(table, mapping, wanted=("plate", "well", "perturbation"))
    if "role" not in mapping and _ROLE in table.columns:
        column_of["role"] = _ROLE
    if "perturbation" not in mapping:
        table = _with_names(table, column_of["perturbation"])
    column_of.pop("site", None)
    table, column_of, remarks = read_codes(table, column_of, codes=codes, keep=frozenset(mapping))
    labels = metadata_of(table, column_of)
    if perturbations is not None and perturbations.two_roles:
        labels = _without_two_roles(labels, table.position(column), perturbations.two_roles)
    return dataclasses.replace(labels, problems=[*labels.problems, *remarks])


def _without_two_roles(labels: WellMetadata, at: int, two_roles: Mapping[str, str]) -> WellMetadata:
    """Refuse rows of perturbations that are both a control and a treatment."""
    rows: list[SiteRecord] = []
    problems: list[Problem] = []
    for row in labels.rows:
        name = row.fields[at].strip()
        if name not in two_roles:
            rows.append(row)
            continue
        problems.append(
            row.problem(
                "perturbation in two roles",
                found=f"{name}: {two_roles[name]}",
                expected="one role in all rows of a perturbation",
                fix="Make these rows agree, or name the one column of roles: --map role=COLUMN (--map role= for none).",
            )
        )
    return dataclasses.replace(labels, rows=rows, problems=[*labels.problems, *problems])


def _with_role(table: SourceTable) -> SourceTable:
    """Add the control type where there is one, and the perturbation type elsewhere."""
    lowered = {name.lower(): table.position(name) for name in reversed(table.columns)}
    kinds = [lowered[name.lower()] for name in _NAMES["role"] if name.lower() in lowered]
    if len(kinds) < 2:
        return table
    return with_columns(table, (_ROLE,), lambda row: (next((row[k].strip() for k in kinds if row[k].strip()), ""),))


def _with_names(table: SourceTable, column: str) -> SourceTable:
    """Fill in the name of perturbations without identifier, such as DMSO."""
    lowered = {name.lower(): table.position(name) for name in reversed(table.columns)}
    names = [lowered[name] for name in ("pert_iname", "metadata_pert_iname") if name in lowered]
    at = table.position(column)
    if not names:
        return table
    rows = tuple(row if row[at].strip() else (*row[:at], row[names[0]], *row[at + 1 :]) for row in table.rows)
    return dataclasses.replace(table, rows=rows)


_ROLE = "control_or_pert_type"
