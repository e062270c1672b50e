"""Index a source folder: every entry found is indexed or refused by name."""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle import __version__
from distangle.core.partitions import RayWorkers
from distangle.core.remote import RemotePath, as_path
from distangle.core.unicode_names import normalize_name
from distangle.errors import ScreenError
from distangle.screen.indexing.file_workers import read_files_on_ray
from distangle.screen.indexing.files import InspectionResult, Probe, SiteFiles, ZeroedRowsFinder, inspect_files
from distangle.screen.indexing.links import links_out_of_source, links_problem
from distangle.screen.indexing.provenance import options_to_json, relative
from distangle.screen.indexing.records import IndexOptions, ReaderResult, SiteRecord
from distangle.screen.indexing.validate import validate_records
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem, n_refused, problems_table
from distangle.screen.readers import detect_layout
from distangle.screen.readers import find as find_entries
from distangle.screen.roles import natural_sort_key, ordered_classes, ordered_classes_sha256
from distangle.screen.screen import Screen, ScreenMetadata, path_columns
from distangle.screen.source_tables import MISSING


def index(
    source: str | Path | RemotePath,
    *,
    layout: str | None = None,
    tables: str | Path | RemotePath | None = None,
    mapping: Mapping[str, str] | None = None,
    channels: Sequence[str] | None = None,
    pages: str | None = None,
    pattern: str | None = None,
    controls: Mapping[str, Sequence[str]] | None = None,
    missing: Sequence[str] | None = None,
    tables_only: bool = False,
    hash_files: bool = True,
    plate_rows: int | None = None,
    plate_columns: int | None = None,
    planes: Sequence[str] | None = None,
    time: str = "",
    cycle: str = "",
    acquisition: str = "",
    well_base: int | str | None = None,
    well_order: str | None = None,
    probe: Probe | None = None,
    find_zeroed_rows: ZeroedRowsFinder | None = None,
    ray: RayWorkers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Screen:
    """Index a source into a screen of sites with labels, and report its problems.

    There is one argument for each option of `distangle index`, and four for reading files.

    Args:
        source: Folder of the images, or a URL; for layout `table` also the table itself.
        layout: A name in `LAYOUTS`; None detects the layout, and stores the evidence.
        tables: Folder or file of the tables, if not in the source.
        mapping: Column of distangle to column of the table.
        channels: `NAME` or `NAME=COLUMN`.
        pages: Column with one file of many pages for all channels, layout `table` only.
        pattern: Pattern of image paths, layout `folder` only.
        controls: Role to names of perturbations.
        missing: Table values that mean a missing value, which is not a class; by default `MISSING`. A name in
            `controls` is never missing.
        tables_only: Do not look for images; one row per row of the tables.
        hash_files: Read every file for its SHA-256.
        plate_rows: Rows of the plates; given together with `plate_columns`. By default 16 x 24, or 32 x 48
            if a well needs it.
        plate_columns: Columns of the plates.
        planes: `PLANE` for all channels, `CHANNEL=PLANE` for one, if the images have several.
        time: The time to use, if there are several.
        cycle: The cycle or round of staining to use.
        acquisition: The acquisition of a plate to use.
        well_base: 0 if row and column numbers count from 0; 1 to refuse only the wells with a 0;
            `images=0,tables=1` sets it for image names and tables. None refuses a source that counts from 0.
        well_order: `rows` if well numbers run row by row, `columns` if column by column.
        probe: Reads the header of a file (in `distangle.images`), so that sizes, bit depths and pages are checked.
        find_zeroed_rows: Finds zeroed rows at the end of raw files (in `distangle.images`); sites with some are
            refused. Used only with `hash_files`. None keeps them.
        ray: Workers of Ray that read the files; None for this process.
        progress: Called with the number of files done and of all files.

    Returns:
        The screen, not yet written; found = indexed + refused.

    Raises:
        ScreenError: The source cannot be read, or nothing in it can be indexed.
        RunError: Workers of Ray failed.
    """
    if (plate_rows is None) != (plate_columns is None):
        raise ScreenError("--plate-rows and --plate-columns belong together: give both, or neither.")
    if plate_rows is not None and plate_columns is not None and min(plate_rows, plate_columns) < 1:
        raise ScreenError(f"No plate has {plate_rows} x {plate_columns} wells: expected at least 1 row and 1 column.")
    roles = {role: [normalize_name(name) for name in names] for role, names in (controls or {}).items()}
    control_names = {name.casefold() for names in roles.values() for name in names}
    plate_option = None if plate_rows is None or plate_columns is None else (plate_rows, plate_columns)
    if well_order not in (None, "rows", "columns"):
        raise ScreenError(f"--well-order {well_order}: expected rows (well 2 is A02) or columns (well 2 is B01).")
    request = IndexOptions(
        source=as_path(source),
        tables=None if tables is None else as_path(tables),
        mapping={column: normalize_name(table_column) for column, table_column in (mapping or {}).items()},
        channels=tuple(normalize_name(name) for name in channels or ()),
        pages=None if pages is None else normalize_name(pages),
        pattern=pattern,
        controls=roles,
        tables_only=tables_only,
        planes=tuple(planes or ()),
        time=time,
        cycle=cycle,
        acquisition=acquisition,
        missing=tuple(
            value for value in (MISSING if missing is None else missing) if value.casefold() not in control_names
        ),
        plate=plate_option,
        well_base=None if well_base is None else str(well_base),
        well_order=well_order,
    )
    layout, evidence = (layout, "") if layout is not None else detect_layout(request)
    result = find_entries(layout, request)
    plate = validate_records(result, plate_option)
    entries, problems = result.entries, result.problems
    if tables_only:
        inspection = InspectionResult(
            entries=entries, files=[SiteFiles()] * len(entries), dtype=None, shape=None, problems=[]
        )
    else:
        inspection = inspect_files(
            entries,
            result.channels,
            source=result.source,
            probe=probe,
            find_zeroed_rows=find_zeroed_rows,
            hash_files=hash_files,
            read=None if ray is None else functools.partial(read_files_on_ray, workers=ray),
            progress=progress,
        )
    problems += inspection.problems
    outward_links = [] if tables_only else links_out_of_source(result.source, inspection.entries)
    problems += links_problem(outward_links)
    sites = _sites_table(inspection.entries, inspection.files, result, n_channels=len(result.channels))
    n_refusals = n_refused(problems)
    _check_conservation(result.n_found, len(sites), n_refusals, problems)
    names = ordered_classes(sites["perturbation"])
    metadata = ScreenMetadata(
        layout=layout,
        source=str(result.source.resolve()),
        channels=result.channels,
        dtype=inspection.dtype,
        shape=inspection.shape,
        pixel_size_um=result.pixel_size_um,
        plate_rows=plate[0],
        plate_columns=plate[1],
        perturbations=names,
        perturbations_sha256=ordered_classes_sha256(names),
        cell_types=tuple(sorted({name for name in sites["cell_type"] if name})),
        extra_columns=result.extra_columns,
        found=result.n_found,
        indexed=len(sites),
        refused=n_refusals,
        tables_only=tables_only,
        provenance={
            **_provenance(result, hash_files=hash_files and not tables_only, has_probe=probe is not None),
            **({"recognised_by": evidence} if evidence else {}),
            **({"pages_told_by_files": inspection.n_resolved_pages} if inspection.n_resolved_pages else {}),
            **({"links_out": len(outward_links)} if outward_links else {}),
            "options": options_to_json(request, plate_option, folder=result.source),
        },
    )
    return Screen(metadata=metadata, sites=sites, problems=problems_table(problems))


def conservation_line(screen: Screen) -> str:
    """Return the balance of the index: `found 24 = indexed 12 + refused 12`."""
    metadata = screen.metadata
    return f"found {metadata.found} = indexed {metadata.indexed} + refused {metadata.refused}"


def _sites_table(
    entries: Sequence[SiteRecord], files: Sequence[SiteFiles], result: ReaderResult, *, n_channels: int
) -> pd.DataFrame:
    rank = {name: k for k, name in enumerate(sorted({e.experiment for e in entries}, key=natural_sort_key))}
    plate_rank = {name: k for k, name in enumerate(sorted({e.plate for e in entries}, key=natural_sort_key))}
    position_of = {well: split_well(well) or (0, 0) for well in {e.well for e in entries}}
    rows, columns_of_wells, experiments, plates, sites = (
        np.fromiter(values, dtype=np.int64, count=len(entries))
        for values in (
            (position_of[e.well][0] for e in entries),
            (position_of[e.well][1] for e in entries),
            (rank[e.experiment] for e in entries),
            (plate_rank[e.plate] for e in entries),
            (e.site for e in entries),
        )
    )
    order = np.lexsort((sites, columns_of_wells, rows, plates, experiments)).tolist()
    entries = [entries[k] for k in order]
    files = [files[k] for k in order]
    columns: dict[str, pd.Series] = {
        "experiment": _text_series(e.experiment for e in entries),
        "plate": _text_series(e.plate for e in entries),
        "well": _text_series(e.well for e in entries),
        "row": pd.Series(rows[order]),
        "column": pd.Series(columns_of_wells[order]),
        "site": pd.Series(sites[order]),
        "cell_type": _text_series(e.cell_type for e in entries),
        "perturbation": _text_series(e.perturbation for e in entries),
        "role": _text_series(e.role.value for e in entries),
        "split": _text_series(e.split for e in entries),
    }
    for k, (path, page) in enumerate(zip(*[iter(path_columns(n_channels))] * 2, strict=True)):
        columns[path] = _text_series(e.paths[k] if e.paths else "" for e in entries)
        columns[page] = _integer_series(e.pages[k] if e.pages else -1 for e in entries)
    columns["size"] = _integer_series(file.size for file in files)
    columns["mtime"] = pd.Series([file.mtime for file in files], dtype="float64")
    columns["sha256"] = _text_series(file.sha256 for file in files)
    for k, name in enumerate(result.extra_columns):
        columns[name] = _text_series(e.extra[k] for e in entries)
    return pd.DataFrame(columns)


def _text_series(values: Iterable[str]) -> pd.Series:
    return pd.Series(list(values), dtype="str")


def _integer_series(values: Iterable[int]) -> pd.Series:
    return pd.Series(list(values), dtype="int64")


def _check_conservation(n_found: int, n_indexed: int, n_refusals: int, problems: Sequence[Problem]) -> None:
    if n_found != n_indexed + n_refusals:
        message = f"found {n_found} is not indexed {n_indexed} + refused {n_refusals}: this is a bug in distangle, "
        message += "please report it with the table."
        raise ScreenError(message)
    if n_indexed == 0:
        refusals = [problem for problem in problems if problem.severity == "refused"]
        kinds: Counter[str] = Counter()
        for problem in refusals:
            kinds[problem.kind] += problem.count
        message = "Nothing can be indexed: the tables have no rows."
        if refusals:
            counted = ", ".join(f"{n} x {kind}" for kind, n in kinds.most_common())
            first = " | ".join(_describe_problems(refusals[:3]))
            message = f"Nothing can be indexed: found {n_found}, all refused ({counted}). First: {first}"
        raise ScreenError(message)


def _describe_problems(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield each problem as a sentence; a shared fix follows the last one."""
    for problem, after in zip(problems, (*problems[1:], None), strict=True):
        same = after is not None and after.fix == problem.fix
        yield problem.describe() if same else f"{problem.describe()}. {problem.fix}"


def _provenance(result: ReaderResult, *, hash_files: bool, has_probe: bool) -> dict[str, Any]:
    return {
        "distangle": __version__,
        "tables": [
            {"path": relative(path, result.source), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in result.tables
        ],
        "files_hashed": hash_files,
        "headers_read": has_probe,
        **result.provenance,
    }
