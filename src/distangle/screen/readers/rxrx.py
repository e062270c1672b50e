"""Read RxRx1, RxRx2 and RxRx3: tables, and one PNG per channel."""

import dataclasses
import posixpath
from collections import defaultdict
from collections.abc import Sequence

from distangle.errors import ScreenError
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult, SiteRecord
from distangle.screen.indexing.validate import drop_duplicates
from distangle.screen.problems import Problem
from distangle.screen.readers.rxrx_tables import (
    SPLITS,
    RxRx1Site,
    coding_of,
    detect,
    extra_columns,
    list_images,
    read_rows,
    read_tables,
)
from distangle.screen.readers.wells.join_metadata import FETCH, Mismatches, UnmatchedSite, WellMetadata, join_metadata
from distangle.screen.readers.wells.shift import PlateShift
from distangle.screen.roles import Channel

# Colors of recursionpharma/rxrx1-utils (rxrx/io.py, RGB_MAP).
CHANNELS = (
    Channel(name="nuclei", stain="Hoechst 33342", organelle="nuclei", color="#1300F9"),
    Channel(name="ER", stain="concanavalin A", organelle="endoplasmic reticulum", color="#2AFF1F"),
    Channel(name="actin", stain="phalloidin", organelle="actin", color="#FF0019"),
    Channel(name="RNA", stain="SYTO 14", organelle="nucleoli and cytoplasmic RNA", color="#2DFFFC"),
    Channel(name="mitochondria", stain="MitoTracker", organelle="mitochondria", color="#FA00FD"),
    Channel(name="Golgi", stain="wheat germ agglutinin", organelle="Golgi", color="#FEFF28"),
)


def find_rxrx1(request: IndexOptions) -> ReaderResult:
    """Find the sites of RxRx1 in its tables and folders.

    The tables are any of Kaggle's `train.csv`, `test.csv`, `train_controls.csv`, `test_controls.csv` (integers or
    names for the siRNA), or the official `metadata.csv` of RxRx1, RxRx2 or RxRx3 (their `treatment` is the
    perturbation; gene, dose and the rest are extra columns). The images are
    `<experiment>/Plate<p>/<well>_s<s>_w<c>.png` under `train/`, `test/`, `images/` or the source itself.

    Raises:
        ScreenError: There is no table, a column is missing, or the siRNA has two codings.
    """
    if not request.source.is_dir():
        raise ScreenError(f"{request.source} is not a folder. Expected the folder of RxRx1's images and tables.")
    tables = read_tables(request.tables or request.source, missing=request.missing)
    extra = extra_columns(tables)
    rows, problems = read_rows(tables, extra)
    coding = coding_of(rows)
    n_rows = sum(table.n_rows for table in tables)
    rows, refusals = drop_duplicates(rows, duplicate_fix="Keep one row per well.")
    problems += refusals
    result = ReaderResult(
        source=request.source,
        channels=CHANNELS,
        duplicate_fix="Keep each site in one folder only.",
        provenance={"sirna_coding": coding},
    )
    paths = tuple(table.path for table in tables)
    if request.tables_only:
        result.entries, result.problems, result.n_found = rows, problems, n_rows
        result.extra_columns, result.tables = extra, paths
        return result
    warnings: list[Problem] = []
    mismatches = _RxRx1Mismatches()
    for site in list_images(request.source, warnings):
        result.entries.append(_record_of_site(site))
        mismatches.note(site)
    result.n_found, result.key_columns = len(result.entries), _KEYS
    labels = WellMetadata(rows=rows, problems=problems, n_rows=n_rows, keys=_KEYS, extra_columns=extra, tables=paths)
    join_metadata(result, labels, mismatches=mismatches)
    result.problems += warnings
    return result


def _record_of_site(site: RxRx1Site) -> SiteRecord:
    """Return the record of a site; a missing channel has no path."""
    return SiteRecord(
        experiment=site.experiment,
        plate=site.plate,
        well=site.well,
        site=site.site,
        paths=tuple(f"{site.folder}/{site.files[c]}" for c in sorted(site.files)),
        pages=_PAGES,
    )


class _RxRx1Mismatches(Mismatches):
    """Refusals worded for the folders of RxRx1."""

    may_count_from_zero = False

    def __init__(self) -> None:
        self._incomplete: dict[tuple[str, str, int], RxRx1Site] = {}
        self._parents: set[str] = set()

    def note(self, site: RxRx1Site) -> None:
        """Keep what a refusal may need of a site; of most sites that is nothing."""
        self._parents.add("/".join(site.folder.split("/")[:-2]))
        if site.duplicates or len(site.files) < len(CHANNELS):
            self._incomplete[site.folder, site.well, site.site] = site

    def check_joined(self, site: SiteRecord, row: SiteRecord) -> Problem | None:
        """Refuse a site with a missing or duplicate channel."""
        files = self._incomplete.get((_folder_of(site), site.well, site.site))
        if files is None:
            return None
        problem = _channel_problem(files, dataclasses.replace(row, well=site.well, site=site.site))
        return None if problem is None else dataclasses.replace(problem, file=files.folder)

    def shifted_plate_problem(self, site: SiteRecord, row: SiteRecord, shift: PlateShift) -> Problem:
        """Refuse the row, because the table of RxRx1 must be corrected."""
        return super().shifted_plate_problem(dataclasses.replace(row, well=site.well, site=site.site), row, shift)

    def missing_row_problems(self, sites: Sequence[UnmatchedSite]) -> list[Problem]:
        """Refuse sites without a row; combine the refusals of a plate without rows."""
        by_plate: dict[tuple[str, str], list[UnmatchedSite]] = defaultdict(list)
        for unmatched in sites:
            by_plate[unmatched.site.experiment, unmatched.site.plate].append(unmatched)
        problems: list[Problem] = []
        for plate_sites in by_plate.values():
            expected = "a row in a table"
            refusals = [
                dataclasses.replace(
                    unmatched.site.problem(
                        "no table row", found=unmatched.description, expected=expected, fix=unmatched.fix(_ADD_TABLE)
                    ),
                    file=_folder_of(unmatched.site),
                )
                for unmatched in plate_sites
            ]
            if not any(unmatched.plate_has_rows or unmatched.was_refused for unmatched in plate_sites):
                description = f"images of the whole plate ({len(plate_sites)} sites)"
                refusals = [
                    dataclasses.replace(refusals[0], well="", site="", found=description, count=len(plate_sites))
                ]
            problems += refusals
        return problems

    def missing_image_problems(self, rows: Sequence[SiteRecord], advice: str, *, is_whole_plate: bool) -> list[Problem]:
        """Refuse rows without images; name the expected files."""
        folder = _expected_folder(rows[0], self._parents)
        if not is_whole_plate:
            return [
                row.problem(
                    "no image",
                    found="no file",
                    expected=f"{folder}/{row.well}_s{row.site or 1}_w1.png",
                    fix=advice or FETCH,
                )
                for row in rows
            ]
        (problem,) = super().missing_image_problems(rows, advice, is_whole_plate=True)
        tables = ", ".join(sorted({row.table for row in rows}))
        return [dataclasses.replace(problem, file=tables, site="", expected=f"{folder}/...")]


def _folder_of(entry: SiteRecord) -> str:
    return posixpath.dirname(entry.paths[0])


def _channel_problem(site: RxRx1Site, entry: SiteRecord) -> Problem | None:
    numbers = range(1, len(CHANNELS) + 1)
    missing = [c for c in numbers if c not in site.files]
    if missing:
        names = ", ".join(f"{site.well}_s{site.site}_w{c}.png" for c in missing)
        return entry.problem(
            "missing channel",
            channel=", ".join(map(str, missing)),
            found=f"channels {', '.join(map(str, sorted(site.files)))}",
            expected="channels 1, 2, 3, 4, 5, 6",
            fix=f"Copy {names} and index again.",
        )
    if site.duplicates:
        names = ", ".join(dict.fromkeys(site.duplicates))
        return entry.problem(
            "two files for a channel", found=names, expected="one file per channel", fix="Keep one of them."
        )
    return None


def _expected_folder(row: SiteRecord, parents: set[str]) -> str:
    """Return the expected folder of a row: next to other images, or as on Kaggle."""
    split = row.split if row.split in SPLITS else "images"
    parents = parents or {split}
    top = split if split in parents else min(parents)
    return f"{top}/{row.experiment}/Plate{row.plate}".removeprefix("/")


_KEYS = frozenset({"experiment", "plate"})
_PAGES = (-1,) * len(CHANNELS)
_ADD_TABLE = "Add the table that names these wells (controls have tables of their own), or remove the images."


LAYOUT = Reader(name="rxrx1", read=find_rxrx1, detect=detect)
