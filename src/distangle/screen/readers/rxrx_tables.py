"""Read the tables of RxRx1, RxRx2 and RxRx3, and list their image files."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.plates import location_name, split_well, well_name
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import IMAGE_EXTENSIONS, scan, unmatched_names
from distangle.screen.readers.wells.origin import require_base_one
from distangle.screen.roles import ROLE_WORDS, Role, role_of
from distangle.screen.source_tables import SourceTable, read_table, require_columns

SPLITS = ("train", "test", "images")  # optional folders between the source and its experiments

_PLATE = re.compile(r"plate0*([0-9]+)", re.IGNORECASE)
_IMAGE = re.compile(r"([A-Za-z]{1,2}[0-9]{1,3})_s([1-9][0-9]{0,3})_w([1-6])\.png", re.IGNORECASE)

_EXPECTED = "images in EXPERIMENT/Plate<number>/, such as HUVEC-01/Plate1/"


@dataclasses.dataclass(kw_only=True, slots=True)
class RxRx1Site:
    """Files of one site; `duplicates` lists files of a channel with several."""

    folder: str
    experiment: str
    plate: str
    well: str
    site: int
    files: dict[int, str] = dataclasses.field(default_factory=dict)
    duplicates: list[str] = dataclasses.field(default_factory=list)


def list_images(source: AnyPath, warnings: list[Problem]) -> Iterator[RxRx1Site]:
    """Yield the images by site, one plate folder after the other.

    Args:
        source: Folder or URL.
        warnings: Receives the names that are not recognized.
    """
    for split in (*SPLITS, ""):
        for experiment in _folders(source, split, warnings):
            if not split and experiment in SPLITS:
                continue
            if not experiment.isprintable():
                warnings.append(
                    unmatched_names(f"{split}/{experiment}", experiment, "a printable name such as HUVEC-01")
                )
                continue
            parent = f"{split}/{experiment}" if split else experiment
            for name in _folders(source, parent, warnings):
                match = _PLATE.fullmatch(name)
                if match is not None:
                    yield from _list_plate(source, f"{parent}/{name}", (experiment, str(int(match[1]))), warnings)
                elif _has_images(source, f"{parent}/{name}"):
                    warnings.append(unmatched_names(f"{parent}/{name}", name, _EXPECTED))


def _list_plate(source: AnyPath, folder: str, plate: tuple[str, str], warnings: list[Problem]) -> Collection[RxRx1Site]:
    sites: dict[tuple[str, int], RxRx1Site] = {}
    for name, is_folder in scan(source, folder, warnings):
        if is_folder and not name.startswith(".") and _has_images(source, f"{folder}/{name}"):
            warnings.append(unmatched_names(f"{folder}/{name}", name, "images in the folder of their plate"))
            continue
        match = _IMAGE.fullmatch(name)
        position = split_well(match[1]) if match else None
        if match is not None and position is None:
            require_base_one(match[1], f"{folder}/{name}")
        if match is None or position is None:
            if IMAGE_EXTENSIONS.fullmatch(name):
                expected = "<well>_s<site>_w<channel 1-6>.png, such as B03_s1_w1.png"
                warnings.append(unmatched_names(f"{folder}/{name}", name, expected))
            continue
        key = (well_name(*position), int(match[2]))
        site = sites.get(key)
        if site is None:
            experiment, number = plate
            site = RxRx1Site(folder=folder, experiment=experiment, plate=number, well=key[0], site=key[1])
            sites[key] = site
        if int(match[3]) in site.files:
            site.duplicates += [site.files[int(match[3])], name]
        site.files.setdefault(int(match[3]), name)
    return sites.values()


def _folders(source: AnyPath, folder: str, warnings: list[Problem]) -> Iterator[str]:
    # The depth is fixed at three, so a link to a parent folder cannot cause a loop.
    stray_images: list[str] = []
    for name, is_folder in scan(source, folder, warnings, may_lack=folder in SPLITS):
        if is_folder and not name.startswith("."):
            yield name
        elif not is_folder and IMAGE_EXTENSIONS.fullmatch(name):
            stray_images.append(name)
    if stray_images:
        names = ", ".join(stray_images[:5]) + (", ..." if len(stray_images) > 5 else "")
        warnings.append(unmatched_names(folder or ".", names, _EXPECTED, count=len(stray_images)))


def _has_images(source: AnyPath, folder: str) -> bool:
    """Test whether a folder contains images or plate folders."""
    return any(
        _PLATE.fullmatch(name) if is_folder else IMAGE_EXTENSIONS.fullmatch(name)
        for name, is_folder in scan(source, folder, [])
    )


_KAGGLE = {
    "train.csv": "train",
    "train_controls.csv": "train",
    "test.csv": "test",
    "test_controls.csv": "test",
}
_OFFICIAL = ("metadata.csv", "rxrx2-metadata.csv", "metadata_rxrx3.csv", "metadata_rxrx3_core.csv")
_ALIASES = {"experiment_name": "experiment", "address": "well", "treatment": "sirna"}  # of RxRx3, and of RxRx2
_SITE_COLUMNS = ("cell_type", "dataset", "experiment", "plate", "well", "site", "well_type", "sirna")
_NEGATIVE_CONTROLS = frozenset(
    {"1138", "UNTREATED", "EMPTY", "EMPTY_control"}
)  # v1, v2, the official tables of 1 and 3
_UNSPECIFIED_CONTROLS = frozenset({"CRISPR_control"})  # RxRx3 does not contain the kind of control
_ID_COLUMNS = ("id_code", "well_id", "site_id")
_ID_REGEX = re.compile(r"(?P<experiment>.+)_(?P<plate>[0-9]+)_(?P<well>[A-Za-z]{1,2}[0-9]+)(?:_(?P<site>[0-9]+))?")


def read_tables(path: AnyPath, *, missing: Collection[str] = ()) -> list[SourceTable]:
    """Read all tables of a folder, or one; rename columns to those of RxRx1.

    Args:
        path: The folder, or one table.
        missing: Spellings of a missing value.

    Raises:
        ScreenError: There is no table, there are tables of two kinds, or a column is missing.
    """
    known_names = (*_KAGGLE, *_OFFICIAL)
    folder, names = (path.parent, (path.name,)) if path.is_file() else (path, known_names)
    existing = [name for name in names if name in known_names and (folder / name).is_file()]
    if not existing:
        raise ScreenError(
            f"No table of RxRx1 in {path}: expected any of {', '.join(known_names)}. Name the folder: --tables FOLDER."
        )
    official = [name for name in existing if name in _OFFICIAL]
    if official and len(existing) > 1:
        other = next(name for name in existing if name != official[-1])
        raise ScreenError(
            f"{folder} contains {official[-1]} and {other}, which list the same wells. Keep one kind of table."
        )
    tables = [_rename_columns(read_table(folder / name, missing=missing)) for name in existing]
    for table in tables:
        required = () if table.path.name == "test.csv" else ("sirna",)
        require_columns(table, ("experiment", "plate", "well", *required))
    return tables


def _rename_columns(table: SourceTable) -> SourceTable:
    """Rename the columns of RxRx2 and RxRx3 to those of RxRx1."""
    return dataclasses.replace(table, columns=tuple(_canonical_names(table.columns)))


def _canonical_names(columns: Sequence[str]) -> list[str]:
    return [_ALIASES[name] if name in _ALIASES and _ALIASES[name] not in columns else name for name in columns]


def extra_columns(tables: list[SourceTable]) -> tuple[str, ...]:
    """Return the extra columns, such as gene and dose."""
    return tuple(dict.fromkeys(name for table in tables for name in table.columns if name not in _SITE_COLUMNS))


def read_rows(tables: list[SourceTable], extra: tuple[str, ...]) -> tuple[list[SiteRecord], list[Problem]]:
    """Return the entries of valid rows, without images, and refusals of the others."""
    rows: list[SiteRecord] = []
    problems: list[Problem] = []
    for table in tables:
        problems += table.ragged_problems()
        position = {name: k for k, name in enumerate(table.columns)}
        indices = [position.get(name, -1) for name in _SITE_COLUMNS]
        extra_indices = [position.get(name, -1) for name in extra]
        split = _KAGGLE.get(table.path.name, "")
        for line, fields in zip(table.lines, table.rows, strict=True):
            values = ["" if k < 0 else fields[k].strip() for k in indices]
            cell_type, dataset, experiment, plate, well, site, well_type, sirna = values
            role = _role(sirna, well_type)
            entry = SiteRecord(
                experiment=experiment,
                plate=str(int(plate)) if plate.isascii() and plate.isdigit() else plate,
                well=well,
                site=int(site) if site.isascii() and site.isdigit() else 0,
                cell_type=cell_type or experiment.split("-")[0],
                perturbation=sirna,
                role=role or Role.UNKNOWN,
                split=split or dataset,
                table=table.path.name,
                line=line,
                extra=tuple("" if k < 0 else fields[k] for k in extra_indices),
                fields=fields,
            )
            require_base_one(well, f"{table.path}, line {line}")
            problem = _row_problem(
                entry, plate, site if "site" in position else None, well_type if role is None else ""
            )
            problem = problem or _id_problem(entry, extra)
            if problem is None:
                rows.append(entry)
            else:
                problems.append(problem)
    return rows, problems


def _role(sirna: str, well_type: str) -> Role | None:
    if well_type:
        return role_of(well_type)
    if sirna in _NEGATIVE_CONTROLS:
        return Role.NEGATIVE_CONTROL
    if sirna in _UNSPECIFIED_CONTROLS:
        return Role.UNKNOWN
    # v1 codes 1108 treatments as 0..1107, then 30 positive controls.
    is_positive = sirna.isascii() and sirna.isdigit() and 1108 <= int(sirna) <= 1137
    return Role.POSITIVE_CONTROL if is_positive else Role.TREATMENT


def _row_problem(entry: SiteRecord, plate: str, site: str | None, word: str) -> Problem | None:
    if not entry.experiment:
        return entry.problem("no experiment", found="''", expected="a name such as HUVEC-01", fix="Fill it in.")
    if not (plate.isascii() and plate.isdigit()):
        return entry.problem("bad plate", found=repr(plate), expected="a number", fix="Correct the plate.")
    if site is not None and entry.site == 0:
        return entry.problem("bad site", found=repr(site), expected="a number from 1", fix="Correct the site.")
    if split_well(entry.well) is None:
        return entry.problem("bad well", found=repr(entry.well), expected="a name such as B03", fix="Correct it.")
    if word:
        expected = f"one of {', '.join(ROLE_WORDS)}"
        return entry.problem("bad role", found=repr(word), expected=expected, fix="Correct the well_type.")
    return None


def _id_problem(entry: SiteRecord, names: Sequence[str]) -> Problem | None:
    """Refuse a row whose id, such as `HUVEC-01_1_B03`, names another well."""
    for name, value in zip(names, entry.extra, strict=True):
        match = _ID_REGEX.fullmatch(value.strip()) if name in _ID_COLUMNS else None
        if match is None:
            continue
        site = int(match["site"] or 0)
        id_place = (match["experiment"], str(int(match["plate"])), split_well(match["well"]))
        is_same_site = not (site and entry.site) or site == entry.site
        if id_place != (entry.experiment, entry.plate, split_well(entry.well)) or not is_same_site:
            return entry.problem(
                "row contradicts its id",
                found=f"{name} {value}",
                expected=f"the id of {location_name(entry.experiment, entry.plate, entry.well)}",
                fix="Correct the id or the other columns of this row.",
            )
    return None


def coding_of(rows: list[SiteRecord]) -> str:
    """Return `integer` (v1), `name` (v2, official) or `none`; refuse a mixture."""
    first: dict[str, SiteRecord] = {}
    for row in rows:
        if row.perturbation:
            first.setdefault("integer" if row.perturbation.isdigit() else "name", row)
    if len(first) == 2:
        v1, v2 = first["integer"], first["name"]
        raise ScreenError(
            f"Two codings of the siRNA: {v1.table} line {v1.line} has {v1.perturbation!r} (integers, Kaggle v1), "
            f"{v2.table} line {v2.line} has {v2.perturbation!r} (names, v2). Use tables of one version."
        )
    return next(iter(first), "none")


def detect(source: AnyPath) -> str:
    """Return the name of an RxRx1 table in a folder, or of the table; "" if none."""
    if source.is_file():
        return source.name if _is_rxrx_table(source) else ""
    return next((name for name in (*_KAGGLE, *_OFFICIAL) if _is_rxrx_table(source / name)), "")


def _is_rxrx_table(path: AnyPath) -> bool:
    """Test whether a file is a table of RxRx1, by its name and columns."""
    if path.name not in (*_KAGGLE, *_OFFICIAL) or not path.is_file():
        return False
    with path.open("rb") as stream:
        header = stream.read(4096).decode("utf-8-sig", errors="replace").splitlines()[:1]
    columns = {*_canonical_names([name.strip() for line in header for name in line.split(",")])}
    return columns >= {"experiment", "plate", "well", *(["sirna"] if path.name in _OFFICIAL else [])}
