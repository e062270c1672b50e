"""RxRx1: Kaggle's four tables or the official `metadata.csv`, and one PNG per channel; RxRx2 and RxRx3 likewise."""

import dataclasses
from collections import defaultdict

from distangle.errors import ScreenError
from distangle.screen.channel import Channel
from distangle.screen.duplicates import divide_duplicates
from distangle.screen.entry import Entry, Found, Layout, Request
from distangle.screen.layouts.rxrx.folders import SPLITS, RxRx1Site, list_images
from distangle.screen.layouts.rxrx.tables import coding_of, extra_columns, read_rows, read_tables, sign_of
from distangle.screen.layouts.wells.moved import Move, Position, how_moved, with_anothers_row
from distangle.screen.plate import split_well, well_name
from distangle.screen.problems import Problem

# Colours of recursionpharma/rxrx1-utils (rxrx/io.py, RGB_MAP).
CHANNELS = (
    Channel(name="nuclei", stain="Hoechst 33342", organelle="nuclei", colour="#1300F9"),
    Channel(name="ER", stain="concanavalin A", organelle="endoplasmic reticulum", colour="#2AFF1F"),
    Channel(name="actin", stain="phalloidin", organelle="actin", colour="#FF0019"),
    Channel(name="RNA", stain="SYTO 14", organelle="nucleoli and cytoplasmic RNA", colour="#2DFFFC"),
    Channel(name="mitochondria", stain="MitoTracker", organelle="mitochondria", colour="#FA00FD"),
    Channel(name="Golgi", stain="wheat germ agglutinin", organelle="Golgi", colour="#FEFF28"),
)

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
    tables = read_tables(request.tables or request.source, missing=request.missing)
    extra = extra_columns(tables)
    rows, problems = read_rows(tables, extra)
    coding = coding_of(rows)
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


def _join(
    rows: list[Entry], sites: list[RxRx1Site], refused_wells: set[tuple[str, str, str]]
) -> tuple[list[Entry], list[Problem], int]:
    """Bring the sites together with their rows; also return how many rows have a site."""
    row_of: dict[WellKey, Entry] = {}
    told: dict[PlateKey, set[Position]] = defaultdict(set)
    for row in rows:
        position = split_well(row.well) or (0, 0)
        row_of[row.experiment, row.plate, well_name(*position), row.site] = row
        told[row.experiment, row.plate].add(position)
    found: dict[PlateKey, set[Position]] = defaultdict(set)
    for site in sites:
        found[site.experiment, site.plate].add(split_well(site.well) or (0, 0))
    moves = {plate: how_moved(wells, told[plate]) for plate, wells in found.items() if plate in told}
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
        move = moves.get((site.experiment, site.plate), Move())
        problem = with_anothers_row(entry, row_of[key], move) if move.is_certain else _wrong_site(site, entry)
        if problem is None:
            entry.paths = tuple(f"{site.folder}/{site.files[c]}" for c in sorted(site.files))
            entry.pages = (-1,) * len(CHANNELS)
            entries.append(entry)
        else:
            problems.append(problem)
    for plate, others in strangers.items():
        advice = moves.get(plate, Move()).words
        problems += _without_row(others, refused_wells, advice, is_whole_plate=plate not in told)
    above = {"/".join(site.folder.split("/")[:-2]) for site in sites}
    lonely: dict[PlateKey, list[Entry]] = defaultdict(list)
    for key, row in row_of.items():
        if key not in owners:
            lonely[row.experiment, row.plate].append(row)
    for plate, wells in lonely.items():
        fix = moves.get(plate, Move()).words or _FETCH
        problems += _without_image(wells, _folder(wells[0], above), fix, is_whole_plate=plate not in found)
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
    sites: list[RxRx1Site], refused_wells: set[tuple[str, str, str]], advice: str, *, is_whole_plate: bool
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
                fix=advice or ("Mend the rows of this well." if was_refused else _ADD_TABLE),
            )
        )
    if not is_whole_plate or any("refused" in problem.found for problem in problems):
        return problems
    found = f"images of the whole plate ({len(sites)} sites)"
    return [dataclasses.replace(problems[0], well="", site="", found=found, count=len(sites))]


def _without_image(rows: list[Entry], folder: str, fix: str, *, is_whole_plate: bool) -> list[Problem]:
    if not is_whole_plate:
        return [
            row.problem("no image", found="no file", expected=f"{folder}/{row.well}_s{row.site or 1}_w1.png", fix=fix)
            for row in rows
        ]
    # One row for the plate, or problems.csv of a partly copied screen would have tens of thousands.
    return [
        Problem(
            kind="no image",
            file=", ".join(sorted({row.table for row in rows})),
            experiment=rows[0].experiment,
            plate=rows[0].plate,
            found=f"no image of the whole plate ({len(rows)} rows)",
            expected=f"{folder}/...",
            fix=fix,
            count=len(rows),
        )
    ]


def _folder(row: Entry, above: set[str]) -> str:
    """Where the images of a row should lie: as those of others do, or else as Kaggle packs them."""
    split = row.split if row.split in SPLITS else "images"
    above = above or {split}
    top = split if split in above else min(above)
    return f"{top}/{row.experiment}/Plate{row.plate}".removeprefix("/")


_ADD_TABLE = "Add the table that names these wells (controls have tables of their own), or remove the images."
_FETCH = "Copy the images and index again; --tables-only looks for none."


LAYOUT = Layout(name="rxrx1", find=find_rxrx1, sign=sign_of)
