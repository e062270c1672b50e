"""RxRx1: Kaggle's four tables or the official `metadata.csv`, and one PNG per channel; RxRx2 and RxRx3 likewise."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence

from distangle.errors import ScreenError
from distangle.remote import AnyPath
from distangle.screen.channel import Channel
from distangle.screen.duplicates import divide_duplicates
from distangle.screen.entry import Entry, Found, Layout, Request
from distangle.screen.layouts.rxrx1_folders import SPLITS, RxRx1Site, list_images
from distangle.screen.perturbation import ROLE_WORDS, Role, role_of
from distangle.screen.plate import split_well, well_name
from distangle.screen.problems import Problem
from distangle.screen.source_tables import SourceTable, read_table, require_columns

# Colours of recursionpharma/rxrx1-utils (rxrx/io.py, RGB_MAP).
CHANNELS = (
    Channel(name="nuclei", stain="Hoechst 33342", organelle="nuclei", colour="#1300F9"),
    Channel(name="ER", stain="concanavalin A", organelle="endoplasmic reticulum", colour="#2AFF1F"),
    Channel(name="actin", stain="phalloidin", organelle="actin", colour="#FF0019"),
    Channel(name="RNA", stain="SYTO 14", organelle="nucleoli and cytoplasmic RNA", colour="#2DFFFC"),
    Channel(name="mitochondria", stain="MitoTracker", organelle="mitochondria", colour="#FA00FD"),
    Channel(name="Golgi", stain="wheat germ agglutinin", organelle="Golgi", colour="#FEFF28"),
)

_KAGGLE = {
    "train.csv": "train",
    "train_controls.csv": "train",
    "test.csv": "test",
    "test_controls.csv": "test",
}
_OFFICIAL = ("metadata.csv", "rxrx2-metadata.csv", "metadata_rxrx3.csv", "metadata_rxrx3_core.csv")
_ALSO = {"experiment_name": "experiment", "address": "well", "treatment": "sirna"}  # of RxRx3, and of RxRx2
_READ = ("cell_type", "dataset", "experiment", "plate", "well", "site", "well_type", "sirna")
_UNTREATED = frozenset({"1138", "UNTREATED", "EMPTY", "EMPTY_control"})  # v1, v2, the official tables of 1 and 3
_UNTOLD = frozenset({"CRISPR_control"})  # RxRx3 does not say of which kind
_IDS = ("id_code", "well_id", "site_id")
_ID = re.compile(r"(?P<experiment>.+)_(?P<plate>[0-9]+)_(?P<well>[A-Za-z]{1,2}[0-9]+)(?:_(?P<site>[0-9]+))?")

PlateKey = tuple[str, str]
WellKey = tuple[str, str, str, int]  # experiment, plate, well, site (0: the row stands for the whole well)


def find_rxrx1(request: Request) -> Found:
    """Find the sites of RxRx1 in its tables and folders.

    Tables: any of Kaggle's `train.csv`, `test.csv`, `train_controls.csv`, `test_controls.csv` (integers or
    names for the siRNA), or the official `metadata.csv` of RxRx1, RxRx2 or RxRx3 (their `treatment` is the
    perturbation; gene, dose and the rest are extra columns). Images: `<experiment>/Plate<p>/<well>_s<s>_w<c>.png`
    under `train/`, `test/`, `images/` or the source itself.

    Raises:
        ScreenError: No table, a column missing, or two codings of the siRNA.
    """
    if not request.source.is_dir():
        message = f"{request.source} is no folder. Expected the folder of RxRx1's images and tables."
        raise ScreenError(message)
    tables = _read_tables(request.tables or request.source)
    extra = tuple(dict.fromkeys(c for table in tables for c in table.columns if c not in _READ))
    rows, problems = _rows(tables, extra)
    coding = _coding(rows)
    n_rows = sum(table.n_rows for table in tables)
    rows, refused = divide_duplicates(rows, site_hint="Keep one row per well.")
    problems += refused
    refused_wells = {(problem.experiment, problem.plate, problem.well) for problem in problems}
    if request.tables_only:
        entries, found = rows, n_rows
    else:
        sites, remarks = list_images(request.source)
        entries, refused, n_owners = _join(rows, sites, refused_wells)
        problems += [*remarks, *refused]
        # Rows whose images are there are no entries of their own: their sites are.
        found = len(sites) + n_rows - n_owners
    return Found(
        source=request.source,
        channels=CHANNELS,
        entries=entries,
        problems=problems,
        found=found,
        extra_columns=extra,
        tables=tuple(table.path for table in tables),
        site_hint="Keep each site in one folder only.",
        notes={"sirna_coding": coding},
    )


def _read_tables(place: AnyPath) -> list[SourceTable]:
    known = (*_KAGGLE, *_OFFICIAL)
    folder, names = (place.parent, (place.name,)) if place.is_file() else (place, known)
    there = [name for name in names if name in known and (folder / name).is_file()]
    if not there:
        message = f"No table of RxRx1 in {place}: expected any of {', '.join(known)}. Name its folder: --tables FOLDER."
        raise ScreenError(message)
    official = [name for name in there if name in _OFFICIAL]
    if official and len(there) > 1:
        other = next(name for name in there if name != official[-1])
        message = f"{folder} holds both {official[-1]} and {other}: the same wells twice. Keep one kind of table."
        raise ScreenError(message)
    tables = [_renamed(read_table(folder / name)) for name in there]
    for table in tables:
        named = () if table.path.name == "test.csv" else ("sirna",)
        require_columns(table, ("experiment", "plate", "well", *named))
    return tables


def _renamed(table: SourceTable) -> SourceTable:
    """Give the columns of RxRx2 and RxRx3 the names of RxRx1."""
    return dataclasses.replace(table, columns=tuple(_known(table.columns)))


def _known(columns: Sequence[str]) -> list[str]:
    return [_ALSO[name] if name in _ALSO and _ALSO[name] not in columns else name for name in columns]


def _rows(tables: list[SourceTable], extra: tuple[str, ...]) -> tuple[list[Entry], list[Problem]]:
    rows: list[Entry] = []
    problems: list[Problem] = []
    for table in tables:
        problems += table.ragged_problems()
        position = {name: k for k, name in enumerate(table.columns)}
        ours = [position.get(name, -1) for name in _READ]
        theirs = [position.get(name, -1) for name in extra]
        split = _KAGGLE.get(table.path.name, "")
        for line, fields in zip(table.lines, table.rows, strict=True):
            values = ["" if k < 0 else fields[k].strip() for k in ours]
            cell_type, dataset, experiment, plate, well, site, well_type, sirna = values
            role = _role(sirna, well_type)
            entry = Entry(
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
                extra=tuple("" if k < 0 else fields[k] for k in theirs),
                fields=fields,
            )
            wrong = _wrong_row(entry, plate, site if "site" in position else None, well_type if role is None else "")
            wrong = wrong or _contradicted(entry, extra)
            if wrong is None:
                rows.append(entry)
            else:
                problems.append(wrong)
    return rows, problems


def _role(sirna: str, well_type: str) -> Role | None:
    if well_type:
        return role_of(well_type)
    if sirna in _UNTREATED:
        return Role.NEGATIVE_CONTROL
    if sirna in _UNTOLD:
        return Role.UNKNOWN
    # v1 codes 1108 treatments as 0..1107 and 30 positive controls behind them.
    is_positive = sirna.isascii() and sirna.isdigit() and 1108 <= int(sirna) <= 1137
    return Role.POSITIVE_CONTROL if is_positive else Role.TREATMENT


def _wrong_row(entry: Entry, plate: str, site: str | None, word: str) -> Problem | None:
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


def _contradicted(entry: Entry, names: Sequence[str]) -> Problem | None:
    """Refuse a row whose id, `HUVEC-01_1_B03` or with a site behind it, is that of another place."""
    for name, value in zip(names, entry.extra, strict=True):
        match = _ID.fullmatch(value.strip()) if name in _IDS else None
        if match is None:
            continue
        site = int(match["site"] or 0)
        said = (match["experiment"], str(int(match["plate"])), split_well(match["well"]))
        is_same_site = not (site and entry.site) or site == entry.site
        if said != (entry.experiment, entry.plate, split_well(entry.well)) or not is_same_site:
            return entry.problem(
                "row contradicts its id",
                found=f"{name} {value}",
                expected=f"the id of {entry.experiment} plate {entry.plate} well {entry.well}",
                fix="Correct the id or the other columns of this row.",
            )
    return None


def _coding(rows: list[Entry]) -> str:
    """Return `integer` (v1), `name` (v2, official) or `none`; the two must not be mixed in one class list."""
    first: dict[str, Entry] = {}
    for row in rows:
        if row.perturbation:
            first.setdefault("integer" if row.perturbation.isdigit() else "name", row)
    if len(first) == 2:
        v1, v2 = first["integer"], first["name"]
        message = (
            f"Two codings of the siRNA: {v1.table} line {v1.line} has {v1.perturbation!r} (integers, Kaggle v1), "
            f"{v2.table} line {v2.line} has {v2.perturbation!r} (names, v2). Take all tables from one version."
        )
        raise ScreenError(message)
    return next(iter(first), "none")


def _join(
    rows: list[Entry], sites: list[RxRx1Site], refused_wells: set[tuple[str, str, str]]
) -> tuple[list[Entry], list[Problem], int]:
    """Bring the sites together with their rows; also return how many rows have a site."""
    row_of: dict[WellKey, Entry] = {}
    plates_of_rows: set[PlateKey] = set()
    for row in rows:
        row_of[row.experiment, row.plate, well_name(*(split_well(row.well) or (0, 0))), row.site] = row
        plates_of_rows.add((row.experiment, row.plate))
    entries: list[Entry] = []
    problems: list[Problem] = []
    owners: set[WellKey] = set()
    strangers: dict[PlateKey, list[RxRx1Site]] = defaultdict(list)
    for site in sites:
        keys = [(site.experiment, site.plate, site.well, number) for number in (site.site, 0)]
        key = next((key for key in keys if key in row_of), None)
        if key is None:
            strangers[site.experiment, site.plate].append(site)
            continue
        owners.add(key)
        entry = dataclasses.replace(row_of[key], well=site.well, site=site.site)
        problem = _wrong_site(site, entry)
        if problem is None:
            entry.paths = tuple(f"{site.folder}/{site.files[c]}" for c in sorted(site.files))
            entry.pages = (-1,) * len(CHANNELS)
            entries.append(entry)
        else:
            problems.append(problem)
    for plate, others in strangers.items():
        problems += _without_row(others, refused_wells, is_whole_plate=plate not in plates_of_rows)
    plates_of_sites = {(site.experiment, site.plate) for site in sites}
    lonely: dict[PlateKey, list[Entry]] = defaultdict(list)
    for key, row in row_of.items():
        if key not in owners:
            lonely[row.experiment, row.plate].append(row)
    for plate, wells in lonely.items():
        problems += _without_image(wells, is_whole_plate=plate not in plates_of_sites)
    return entries, problems, len(owners)


def _wrong_site(site: RxRx1Site, entry: Entry) -> Problem | None:
    numbers = range(1, len(CHANNELS) + 1)
    missing = [c for c in numbers if c not in site.files]
    if missing:
        names = ", ".join(f"{site.well}_s{site.site}_w{c}.png" for c in missing)
        problem = entry.problem(
            "missing channel",
            channel=", ".join(map(str, missing)),
            found=f"channels {', '.join(map(str, sorted(site.files)))}",
            expected="channels 1, 2, 3, 4, 5, 6",
            fix=f"Copy {names} and index again.",
        )
        return dataclasses.replace(problem, file=site.folder)
    if site.taken:
        names = ", ".join(dict.fromkeys(site.taken))
        problem = entry.problem(
            "two files for a channel", found=names, expected="one file per channel", fix="Keep one of them."
        )
        return dataclasses.replace(problem, file=site.folder)
    return None


def _without_row(
    sites: list[RxRx1Site], refused_wells: set[tuple[str, str, str]], *, is_whole_plate: bool
) -> list[Problem]:
    problems = []
    for site in sites:
        was_refused = (site.experiment, site.plate, site.well) in refused_wells
        problems.append(
            Problem(
                kind="no table row",
                file=site.folder,
                experiment=site.experiment,
                plate=site.plate,
                well=site.well,
                site=str(site.site),
                found="images of a well whose rows were refused" if was_refused else "images",
                expected="a row in a table",
                fix="Mend the rows of this well." if was_refused else _ADD_TABLE,
            )
        )
    if not is_whole_plate or any("refused" in problem.found for problem in problems):
        return problems
    found = f"images of the whole plate ({len(sites)} sites)"
    return [dataclasses.replace(problems[0], well="", site="", found=found, count=len(sites))]


def _without_image(rows: list[Entry], *, is_whole_plate: bool) -> list[Problem]:
    if not is_whole_plate:
        return [row.problem("no image", found="no file", expected=_where(row), fix=_FETCH) for row in rows]
    # One row for the plate, or problems.csv of a partly copied screen would have tens of thousands.
    return [
        Problem(
            kind="no image",
            file=", ".join(sorted({row.table for row in rows})),
            experiment=rows[0].experiment,
            plate=rows[0].plate,
            found=f"no image of the whole plate ({len(rows)} rows)",
            expected=_where(rows[0], name="..."),
            fix=_FETCH,
            count=len(rows),
        )
    ]


def _where(row: Entry, *, name: str = "") -> str:
    split = row.split if row.split in SPLITS else "images"
    name = name or f"{row.well}_s{row.site or 1}_w1.png"
    return f"{split}/{row.experiment}/Plate{row.plate}/{name}"


_ADD_TABLE = "Add the table that names these wells (controls have tables of their own), or remove the images."
_FETCH = "Copy the images and index again; --tables-only looks for none."


def _sign(source: AnyPath) -> str:
    if source.is_file():
        return source.name if _is_ours(source) else ""
    return next((name for name in (*_KAGGLE, *_OFFICIAL) if _is_ours(source / name)), "")


def _is_ours(path: AnyPath) -> bool:
    """Tell a table of RxRx1 by its name and its columns."""
    if path.name not in (*_KAGGLE, *_OFFICIAL) or not path.is_file():
        return False
    with path.open("rb") as opened:
        header = opened.read(4096).decode("utf-8-sig", errors="replace").splitlines()[:1]
    columns = {*_known([name.strip() for line in header for name in line.split(",")])}
    return columns >= {"experiment", "plate", "well", *(["sirna"] if path.name in _OFFICIAL else [])}


LAYOUT = Layout(name="rxrx1", find=find_rxrx1, sign=_sign)
