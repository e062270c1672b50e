"""What the Cell Painting Gallery says of its wells: plate maps, JUMP's `well.csv`, and tables of perturbations."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distangle.remote import AnyPath
from distangle.screen.layouts.gallery.barcodes import read_barcodes
from distangle.screen.layouts.gallery.jump import codes_in, read_codes
from distangle.screen.layouts.names.listing import folders_below
from distangle.screen.layouts.wells.columns import resolve_columns, with_wells
from distangle.screen.layouts.wells.labels import Labels, labels_of
from distangle.screen.problems import Problem
from distangle.screen.source_tables import ENDING, SourceTable, alike, read_table, with_columns

BARCODES = "barcode_platemap.csv"
_LOAD_DATA = re.compile(rf"load_data.*{ENDING}", re.IGNORECASE)
_WELLS = re.compile(f"well{ENDING}", re.IGNORECASE)
_PERTURBATIONS = re.compile(f"(compound|orf|crispr|perturbation_control){ENDING}", re.IGNORECASE)
_IMAGES = frozenset(
    {"images", "illum", "profiles", "analysis", "backend", "segmentation", "quality_control", "assaydev"}
)

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


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables below a folder, by what they are.

    Attributes:
        load_data: One per folder, CSV or Parquet; `load_data.csv` where there are several.
        barcodes: Which plate has which map.
        maps: Folder above `platemap/` and name of a map to its file.
        wells: JUMP's table of all wells.
        perturbations: Tables with a row per perturbation.
    """

    load_data: tuple[AnyPath, ...] = ()
    barcodes: tuple[AnyPath, ...] = ()
    maps: Mapping[tuple[str, str], AnyPath] = dataclasses.field(default_factory=dict)
    wells: tuple[AnyPath, ...] = ()
    perturbations: tuple[AnyPath, ...] = ()


def list_tables(place: AnyPath, remarks: list[Problem]) -> Tables:
    """Find the tables below a folder; folders of images and profiles are not entered."""
    load_data: list[AnyPath] = []
    barcodes: list[AnyPath] = []
    maps: dict[tuple[str, str], AnyPath] = {}
    wells: list[AnyPath] = []
    perturbations: list[AnyPath] = []
    for folder, names in folders_below(place, remarks, closed=_IMAGES):
        here = folder.rsplit("/", 1)[-1].lower()
        found = sorted((name for name in names if _LOAD_DATA.fullmatch(name)), key=lambda name: (len(name), name))
        load_data += [place / f"{folder}/{name}".lstrip("/") for name in found[:1]]
        for name in names:
            path = place / f"{folder}/{name}".lstrip("/")
            if name.lower() == BARCODES:
                barcodes.append(path)
            elif here == "platemap" and name.lower().endswith((".txt", ".csv", ".tsv")):
                maps[str(path.parent.parent), name.rsplit(".", 1)[0]] = path
            elif _WELLS.fullmatch(name):
                wells.append(path)
            elif _PERTURBATIONS.fullmatch(name) or (here == "external_metadata" and name.lower().endswith(".tsv")):
                perturbations.append(path)
    return Tables(
        load_data=tuple(load_data),
        barcodes=tuple(barcodes),
        maps=maps,
        wells=tuple(wells),
        perturbations=tuple(perturbations),
    )


def read_wells(path: AnyPath, mapping: Mapping[str, str]) -> SourceTable:
    """Read a table that names wells, in one column or by row and column (`with_wells`).

    Raises:
        ScreenError: It cannot be read.
    """
    return with_wells(read_table(path), mapping, usual=("well", *_NAMES["well"]))


def column_names(table: SourceTable, mapping: Mapping[str, str], *, wanted: Sequence[str]) -> dict[str, str]:
    """Return which column is which of ours, by the names that are usual in Cell Painting.

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


def read_platemaps(tables: Tables, mapping: Mapping[str, str], *, plates: Iterable[str]) -> Labels | None:
    """Return what was done to the wells; None where no table says so.

    Args:
        tables: From `list_tables`.
        mapping: Our column name to a table's.
        plates: Those with images. Of `well.csv`, which lists all of JUMP, other plates are left out; of the plate
            maps they are not.

    Raises:
        ScreenError: A map that is named is absent, or which column is which cannot be told.
    """
    remarks: list[Problem] = []
    if tables.barcodes and tables.maps:
        joined, remarks = read_barcodes(
            tables.barcodes, tables.maps, lambda path: read_wells(path, mapping), plates=frozenset(plates)
        )
    elif tables.wells:
        joined = alike([_of_plates(read_wells(path, mapping), mapping, frozenset(plates)) for path in tables.wells])
    else:
        return None
    perturbations = [read_table(path) for path in tables.perturbations]
    codes = codes_in(joined)
    parts = [_labels(table, mapping, perturbations, codes) for table in joined]
    return Labels(
        rows=[row for part in parts for row in part.rows],
        problems=[*remarks, *(problem for part in parts for problem in part.problems)],
        n_rows=sum(part.n_rows for part in parts),
        keys=parts[0].keys,
        extra_columns=parts[0].extra_columns,
        tables=(*tables.barcodes, *dict.fromkeys(table.path for table in joined), *tables.perturbations),
        columns=parts[0].columns,
    )


def _of_plates(table: SourceTable, mapping: Mapping[str, str], plates: frozenset[str]) -> SourceTable:
    column = column_names(table, mapping, wanted=("plate", "well"))["plate"]
    at = table.position(column)
    keep = [k for k, row in enumerate(table.rows) if row[at].strip() in plates]
    rows, lines = tuple(table.rows[k] for k in keep), tuple(table.lines[k] for k in keep)
    return dataclasses.replace(table, rows=rows, lines=lines)


def _labels(
    table: SourceTable, mapping: Mapping[str, str], perturbations: Sequence[SourceTable], codes: frozenset[str]
) -> Labels:
    column_of = column_names(table, mapping, wanted=("plate", "well"))
    column = column_of.get("perturbation", "")
    for other in perturbations:
        if column in other.columns:
            table = _with_perturbations(table, other, column)
    table = _with_role(table)
    column_of = column_names(table, mapping, wanted=("plate", "well", "perturbation"))
    if "role" not in mapping and _ROLE in table.columns:
        column_of["role"] = _ROLE
    if "perturbation" not in mapping:
        table = _with_names(table, column_of["perturbation"])
    column_of.pop("site", None)
    table, column_of, remarks = read_codes(table, column_of, codes=codes, keep=frozenset(mapping))
    labels = labels_of(table, column_of)
    return dataclasses.replace(labels, problems=[*labels.problems, *remarks])


def _with_perturbations(table: SourceTable, other: SourceTable, column: str) -> SourceTable:
    """Join what another table says of each perturbation: new columns, and what is empty in those that are there.

    JUMP's `crispr.csv` and `orf.csv` both say `Metadata_Symbol`, each of its own perturbations.
    """
    new = [name for name in other.columns if name not in table.columns]
    wide = with_columns(table, new, lambda _: ("",) * len(new))
    at, key = wide.position(column), other.position(column)
    fill = [(wide.position(name), other.position(name)) for name in other.columns if name != column]
    row_of = {row[key].strip(): row for row in reversed(other.rows)}

    def filled(row: tuple[str, ...]) -> tuple[str, ...]:
        known = row_of.get(row[at].strip())
        if known is None:
            return row
        cells = list(row)
        for here, there in fill:
            cells[here] = cells[here] if cells[here].strip() else known[there]
        return tuple(cells)

    return dataclasses.replace(wide, rows=tuple(filled(row) for row in wide.rows))


def _with_role(table: SourceTable) -> SourceTable:
    """Add the control type where there is one, and the perturbation type elsewhere."""
    lowered = {name.lower(): table.position(name) for name in reversed(table.columns)}
    kinds = [lowered[name.lower()] for name in _NAMES["role"] if name.lower() in lowered]
    if len(kinds) < 2:
        return table
    return with_columns(table, (_ROLE,), lambda row: (next((row[k].strip() for k in kinds if row[k].strip()), ""),))


def _with_names(table: SourceTable, column: str) -> SourceTable:
    """Fill in the name of a perturbation without an identifier, as of DMSO in the Broad's plate maps."""
    lowered = {name.lower(): table.position(name) for name in reversed(table.columns)}
    names = [lowered[name] for name in ("pert_iname", "metadata_pert_iname") if name in lowered]
    at = table.position(column)
    if not names:
        return table
    rows = tuple(row if row[at].strip() else (*row[:at], row[names[0]], *row[at + 1 :]) for row in table.rows)
    return dataclasses.replace(table, rows=rows)


_ROLE = "control_or_pert_type"
