"""Compare the tables of a source with the screen that was indexed from them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distangle.errors import ScreenError
from distangle.screen.indexing.files import ZEROED_TAIL
from distangle.screen.indexing.provenance import reread_source
from distangle.screen.indexing.records import ReaderResult, SiteRecord
from distangle.screen.plates import split_well, well_name
from distangle.screen.problems import Problem
from distangle.screen.screen import KEY_COLUMNS, Screen

MAX_LISTED = 200  # rows with a finding of their own; further rows are counted
FIX = "If the edit is right, index again; otherwise restore the table."

CHANGED = "row changed since indexing"
ADDED = "row added since indexing"
REMOVED = "row taken away since indexing"
FURTHER = "further rows edited since indexing"
UNREADABLE = "edited rows cannot be listed"

Key = tuple[str, str, str, str]
_LABELS = ("cell_type", "perturbation", "role", "split")
# Problems of the files, which reading the tables again cannot confirm.
_FILE_PROBLEMS = frozenset(
    (
        *("no image", "missing channel", "unreadable file", "unreadable image"),
        *("wrong number of pages", "channels differ", "size or bit depth", ZEROED_TAIL),
    )
)


@dataclass(frozen=True)
class _CurrentTables:
    """Current content of the tables: records and refusals by location."""

    entries: Mapping[Key, SiteRecord]
    refused: Mapping[Key, Problem]
    extra: Mapping[str, int]
    with_paths: bool


def check_edits(screen: Screen) -> Iterator[Problem]:
    """Find rows that were changed, added or removed since the screen was indexed.

    No image is opened. A row for several sites of a well is one finding that lists them. The order of rows does not
    matter.

    Args:
        screen: A screen with a table whose hash has changed.
    """
    if "options" not in screen.metadata.provenance:
        description = "the screen was indexed by a version that did not store the options of its index"
        yield _unreadable_finding(
            description, "Index again, and compare: `distangle check NEW --compare-with OLD` counts the changed labels."
        )
        return
    try:
        result = reread_source(screen)
    except (ScreenError, OSError, KeyError, TypeError) as error:
        yield _unreadable_finding(f"the tables can no longer be read with the same options: {error}", FIX)
        return
    current = _current_tables(screen, result)
    rows = _merge_sites([*_changed_sites(screen, current), *_added_rows(screen, current)])
    yield from rows[:MAX_LISTED]
    if len(rows) > MAX_LISTED:
        counts = Counter(row.kind.split()[1] for row in rows[MAX_LISTED:])
        listed = ", ".join(f"{n} {verb}" for verb, n in counts.items())
        yield Problem(
            severity=rows[MAX_LISTED].severity,
            kind=FURTHER,
            what=f"{len(rows) - MAX_LISTED} more rows than the {MAX_LISTED} that are listed: {listed}",
            fix=FIX,
            count=sum(row.count for row in rows[MAX_LISTED:]),
        )
    yield from _sites_without_images(screen, current)


def _unreadable_finding(description: str, fix: str) -> Problem:
    return Problem(severity="warning", kind=UNREADABLE, what=description, fix=fix)


def _current_tables(screen: Screen, result: ReaderResult) -> _CurrentTables:
    extra_columns = {name: k for k, name in enumerate(result.extra_columns) if name in screen.metadata.extra_columns}
    same_channels = [record.name for record in result.channels] == [record.name for record in screen.metadata.channels]
    is_packed = "packed" in screen.metadata.provenance
    return _CurrentTables(
        entries={(record.experiment, record.plate, record.well, str(record.site)): record for record in result.entries},
        refused={
            _problem_key(record.experiment, record.plate, record.well, record.site): record
            for record in result.refusals
        },
        extra=extra_columns,
        with_paths=same_channels and not is_packed and not screen.metadata.tables_only,
    )


def _problem_key(experiment: str, plate: str, well: str, site: str) -> Key:
    """Return the key of a problem, with a normalized well name."""
    position = split_well(well)
    return experiment, plate, well if position is None else well_name(*position), site


def _refusal(refused: Mapping[Key, Any], key: Key) -> Any:
    """Return the refusal of a site, of its well or of its plate; None without one."""
    experiment, plate, well, _ = key
    keys = (key, (experiment, plate, well, ""), (experiment, plate, "", ""))
    return next((refused[key_of_part] for key_of_part in keys if key_of_part in refused), None)


def _changed_sites(screen: Screen, current: _CurrentTables) -> Iterator[Problem]:
    """Yield findings on sites of the screen that were changed or removed."""
    for site in screen.sites.to_dict("records"):
        key = _site_key(site)
        entry = current.entries.get(key)
        if entry is not None:
            differences, is_severe = _differences(screen, site, entry, current)
            if differences:
                finding = _finding(CHANGED, key, "; ".join(differences), _table_line(entry))
                yield finding if is_severe else replace(finding, severity="warning")
            continue
        problem = _refusal(current.refused, key)
        if problem is None:
            yield _finding(REMOVED, key, f"was {_format_labels(site)}, is no longer in a table")
        elif problem.kind not in _FILE_PROBLEMS:
            line = f"{problem.file}, line {problem.row}" if problem.row else problem.file
            description = (
                f"was {_format_labels(site)}, is now refused: {problem.kind}, found {problem.found or 'nothing'}"
            )
            yield _finding(
                REMOVED, key, description, line, fix=f"{problem.fix} Then index again; or restore the table."
            )


def _site_key(site: Mapping[Any, Any]) -> Key:
    experiment, plate, well, number = (str(site[name]) for name in KEY_COLUMNS)
    return experiment, plate, well, number


def _differences(
    screen: Screen, site: Mapping[Any, Any], entry: SiteRecord, current: _CurrentTables
) -> tuple[list[str], bool]:
    """Return the differences, and whether a standard column differs."""
    pairs = [(name, str(site[name]), str(getattr(entry, name))) for name in _LABELS]
    if current.with_paths:
        for k, channel in enumerate(screen.metadata.channels):
            path, page = str(site[f"path_{k + 1}"]), int(site[f"page_{k + 1}"])
            # Pages from file metadata are not in the table: compare only the paths.
            new = page if "pages_told_by_files" in screen.metadata.provenance else entry.pages[k]
            pairs.append((f"file of {channel.name}", _format_file(path, page), _format_file(entry.paths[k], new)))
    n_severe = sum(old != new for _, old, new in pairs)
    pairs += [(name, str(site[name]), entry.extra[k]) for name, k in current.extra.items()]
    differences = [f"{name.replace('_', ' ')} was {old!r}, is {new!r}" for name, old, new in pairs if old != new]
    return differences, n_severe > 0


def _format_file(path: str, page: int) -> str:
    return path if page < 0 else f"{path} page {page}"


def _added_rows(screen: Screen, current: _CurrentTables) -> Iterator[Problem]:
    """Yield findings on rows without a site in the screen: added or corrected."""
    keys = {_site_key(site) for site in screen.sites[list(KEY_COLUMNS)].to_dict("records")}
    wells = {key[:3] for key in keys}
    table = screen.problems[screen.problems["severity"] == "refused"]
    old_refusals = {_problem_key(*_site_key(row)): str(row["kind"]) for row in table.to_dict("records")}
    for key, entry in current.entries.items():
        kind = _refusal(old_refusals, key)
        if key in keys or kind in _FILE_PROBLEMS:
            continue
        before_text = f"refused when it was indexed ({kind}), is " if kind else "missing, is "
        yield _finding(ADDED, key, f"was {before_text}{_format_labels(_labels(entry))}", _table_line(entry))
    for key, problem in current.refused.items():
        is_known = key in keys or key in old_refusals or (not key[3] and key[:3] in wells)
        if key[2] and not is_known and _refusal(old_refusals, key) is None and problem.kind not in _FILE_PROBLEMS:
            line = f"{problem.file}, line {problem.row}" if problem.row else problem.file
            description = f"was missing, is now refused: {problem.kind}, found {problem.found or 'nothing'}"
            yield _finding(ADDED, key, description, line, fix=f"{problem.fix} Then index again.")


def _sites_without_images(screen: Screen, current: _CurrentTables) -> Iterator[Problem]:
    """Report sites without images, whose rows cannot be compared."""
    n_missing = 0
    for site in screen.sites[list(KEY_COLUMNS)].to_dict("records"):
        key = _site_key(site)
        problem = None if key in current.entries else _refusal(current.refused, key)
        n_missing += problem is not None and problem.kind in _FILE_PROBLEMS
    if n_missing:
        description = (
            f"{n_missing} of {len(screen.sites)} sites no longer have source images: their rows were not compared"
        )
        yield replace(_unreadable_finding(description, "Put the images back to compare them."), count=n_missing)


def _labels(entry: SiteRecord) -> dict[str, str]:
    return {"perturbation": entry.perturbation, "role": entry.role.value}


def _format_labels(site: Mapping[Any, Any]) -> str:
    return f"{str(site['perturbation'])!r} ({site['role']})"


def _table_line(entry: SiteRecord) -> str:
    return f"{entry.table}, line {entry.line}" if entry.line else entry.table


def _finding(kind: str, key: Key, description: str, file: str = "", *, fix: str = FIX) -> Problem:
    experiment, plate, well, site = key
    return Problem(
        severity="error",
        kind=kind,
        what=description,
        experiment=experiment,
        plate=plate,
        well=well,
        site=site,
        file=file,
        fix=fix,
    )


def _merge_sites(rows: Sequence[Problem]) -> list[Problem]:
    """Merge equal findings on sites of a well."""
    groups: dict[Problem, list[str]] = defaultdict(list)
    for row in rows:
        groups[replace(row, site="")].append(row.site)
    return [replace(row, site=",".join(sites), count=len(sites)) for row, sites in groups.items()]


def check_provenance(screen: Screen) -> Iterator[Problem]:
    """Find tables and rows that were edited since the screen was indexed.

    A missing table is a note.
    """
    if not isinstance(screen.source, Path):
        return
    edited: list[str] = []
    for table in screen.metadata.provenance.get("tables", []):
        path = screen.source / str(table["path"])
        try:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == table["sha256"]
        except OSError as error:
            yield Problem(
                severity="note",
                kind="table not there",
                what=f"the table cannot be compared with what was indexed ({error.strerror})",
                file=str(table["path"]),
                fix="Nothing, if screen or tables were moved: the screen holds their content.",
            )
            continue
        if not same:
            edited.append(str(table["path"]))
    if not edited:
        return
    rows = list(check_edits(screen))
    for name in edited:
        yield Problem(
            severity="error" if rows else "warning",
            kind="table changed since indexing",
            what="its SHA-256 differs from that of the indexed table"
            + ("" if rows else "; its content is the same for every site"),
            file=name,
            fix=FIX,
            count=1,
        )
    yield from rows
