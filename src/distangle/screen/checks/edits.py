"""Find the rows of an edited table that no longer match the screen.

Check that the tables are still those the screen was indexed from.
"""

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

LISTED = 200  # rows that are named one by one; the others are counted
FIX = "If the edit is right, index again; if not, put the table back as it was."

CHANGED = "row changed since indexing"
ADDED = "row added since indexing"
GONE = "row taken away since indexing"
FURTHER = "further rows edited since indexing"
UNREADABLE = "edited rows cannot be listed"

Key = tuple[str, str, str, str]
_LABELS = ("cell_type", "perturbation", "role", "split")
# Refusals that only the files explain: reading the tables again cannot tell whether they still hold.
_OF_FILES = frozenset(
    (
        *("no image", "missing channel", "unreadable file", "unreadable image"),
        *("wrong number of pages", "channels differ", "size or bit depth", ZEROED_TAIL),
    )
)


@dataclass(frozen=True)
class _Read:
    """The tables as they are now.

    They are sites that may be indexed, refusals by their place, and what sites have.
    """

    entries: Mapping[Key, SiteRecord]
    refused: Mapping[Key, Problem]
    extra: Mapping[str, int]
    with_paths: bool


def check_edited(screen: Screen) -> Iterator[Problem]:
    """Find every row that is another, or new, or gone since the screen was indexed.

    No image is opened. A row that stands for several sites of a well is one finding that names them. What reads as it
    was, such as rows in another order, is none.

    Args:
        screen: One of whose tables has another hash than when it was indexed.
    """
    if "options" not in screen.card.provenance:
        what = "the screen was indexed by a version that did not note the options of its index"
        yield _unlisted(
            what, "Index again, and compare: `distangle check NEW --compare-with OLD` says how many labels changed."
        )
        return
    try:
        found = reread_source(screen)
    except (ScreenError, OSError, KeyError, TypeError) as error:
        yield _unlisted(f"the tables cannot be read as they were: {error}", FIX)
        return
    now = _read(screen, found)
    rows = _joined([*_of_the_screen(screen, now), *_new(screen, now)])
    yield from rows[:LISTED]
    if len(rows) > LISTED:
        counts = Counter(row.kind.split()[1] for row in rows[LISTED:])
        listed = ", ".join(f"{n} {word}" for word, n in counts.items())
        yield Problem(
            severity=rows[LISTED].severity,
            kind=FURTHER,
            what=f"{len(rows) - LISTED} more rows than the {LISTED} that are listed: {listed}",
            fix=FIX,
            count=sum(row.count for row in rows[LISTED:]),
        )
    yield from _unseen(screen, now)


def _unlisted(what: str, fix: str) -> Problem:
    return Problem(severity="warning", kind=UNREADABLE, what=what, fix=fix)


def _read(screen: Screen, found: ReaderResult) -> _Read:
    shared = {name: k for k, name in enumerate(found.extra_columns) if name in screen.card.extra_columns}
    same_channels = [one.name for one in found.channels] == [one.name for one in screen.card.channels]
    packed = "packed" in screen.card.provenance
    return _Read(
        entries={(one.experiment, one.plate, one.well, str(one.site)): one for one in found.entries},
        refused={_place(one.experiment, one.plate, one.well, one.site): one for one in found.refusals},
        extra=shared,
        with_paths=same_channels and not packed and not screen.card.tables_only,
    )


def _place(experiment: str, plate: str, well: str, site: str) -> Key:
    """Return the place of a refusal, with its well named as in the screen."""
    position = split_well(well)
    return experiment, plate, well if position is None else well_name(*position), site


def _refusal(refused: Mapping[Key, Any], key: Key) -> Any:
    """Return the refusal of a site, of its well or of its plate; None without one."""
    experiment, plate, well, _ = key
    places = (key, (experiment, plate, well, ""), (experiment, plate, "", ""))
    return next((refused[place] for place in places if place in refused), None)


def _of_the_screen(screen: Screen, now: _Read) -> Iterator[Problem]:
    """Give the sites of the screen that are others now, or no more."""
    for site in screen.sites.to_dict("records"):
        key = _key(site)
        entry = now.entries.get(key)
        if entry is not None:
            differences, severe = _differences(screen, site, entry, now)
            if differences:
                found = _finding(CHANGED, key, "; ".join(differences), _line(entry))
                yield found if severe else replace(found, severity="warning")
            continue
        problem = _refusal(now.refused, key)
        if problem is None:
            yield _finding(GONE, key, f"was {_said(site)}, is in no table any more")
        elif problem.kind not in _OF_FILES:
            at = f"{problem.file}, line {problem.row}" if problem.row else problem.file
            what = f"was {_said(site)}, is refused now: {problem.kind}, found {problem.found or 'nothing'}"
            yield _finding(GONE, key, what, at, fix=f"{problem.fix} Then index again; or put the table back.")


def _key(site: Mapping[Any, Any]) -> Key:
    experiment, plate, well, number = (str(site[name]) for name in KEY_COLUMNS)
    return experiment, plate, well, number


def _differences(screen: Screen, site: Mapping[Any, Any], entry: SiteRecord, now: _Read) -> tuple[list[str], bool]:
    """Return what differs, in words, and whether more than an extra column does."""
    pairs = [(name, str(site[name]), str(getattr(entry, name))) for name in _LABELS]
    if now.with_paths:
        for k, channel in enumerate(screen.card.channels):
            path, page = str(site[f"path_{k + 1}"]), int(site[f"page_{k + 1}"])
            # Pages that the files told when they were opened are not in the table: only its paths are compared.
            is_now = page if "pages_told_by_files" in screen.card.provenance else entry.pages[k]
            pairs.append((f"file of {channel.name}", _file(path, page), _file(entry.paths[k], is_now)))
    n_severe = sum(was != is_now for _, was, is_now in pairs)
    pairs += [(name, str(site[name]), entry.extra[k]) for name, k in now.extra.items()]
    words = [f"{name.replace('_', ' ')} was {was!r}, is {is_now!r}" for name, was, is_now in pairs if was != is_now]
    return words, n_severe > 0


def _file(path: str, page: int) -> str:
    return path if page < 0 else f"{path} page {page}"


def _new(screen: Screen, now: _Read) -> Iterator[Problem]:
    """Give rows that no site of the screen has: added, corrected, or refused."""
    there = {_key(site) for site in screen.sites[list(KEY_COLUMNS)].to_dict("records")}
    wells = {key[:3] for key in there}
    table = screen.problems[screen.problems["severity"] == "refused"]
    before = {_place(*_key(row)): str(row["kind"]) for row in table.to_dict("records")}
    for key, entry in now.entries.items():
        kind = _refusal(before, key)
        if key in there or kind in _OF_FILES:
            continue
        was = f"refused when it was indexed ({kind}), is " if kind else "not there, is "
        yield _finding(ADDED, key, f"was {was}{_said(_labels(entry))}", _line(entry))
    for key, problem in now.refused.items():
        is_known = key in there or key in before or (not key[3] and key[:3] in wells)
        if key[2] and not is_known and _refusal(before, key) is None and problem.kind not in _OF_FILES:
            at = f"{problem.file}, line {problem.row}" if problem.row else problem.file
            what = f"was not there, is refused now: {problem.kind}, found {problem.found or 'nothing'}"
            yield _finding(ADDED, key, what, at, fix=f"{problem.fix} Then index again.")


def _unseen(screen: Screen, now: _Read) -> Iterator[Problem]:
    """Report sites whose images are gone, so that their rows cannot be compared."""
    gone = 0
    for site in screen.sites[list(KEY_COLUMNS)].to_dict("records"):
        key = _key(site)
        problem = None if key in now.entries else _refusal(now.refused, key)
        gone += problem is not None and problem.kind in _OF_FILES
    if gone:
        what = (
            f"{gone} of {len(screen.sites)} sites have no images in the source any more: their rows were not compared"
        )
        yield replace(_unlisted(what, "Put the images back to compare them too."), count=gone)


def _labels(entry: SiteRecord) -> dict[str, str]:
    return {"perturbation": entry.perturbation, "role": entry.role.value}


def _said(site: Mapping[Any, Any]) -> str:
    return f"{str(site['perturbation'])!r} ({site['role']})"


def _line(entry: SiteRecord) -> str:
    return f"{entry.table}, line {entry.line}" if entry.line else entry.table


def _finding(kind: str, key: Key, what: str, file: str = "", *, fix: str = FIX) -> Problem:
    experiment, plate, well, site = key
    return Problem(
        severity="error",
        kind=kind,
        what=what,
        experiment=experiment,
        plate=plate,
        well=well,
        site=site,
        file=file,
        fix=fix,
    )


def _joined(rows: Sequence[Problem]) -> list[Problem]:
    """Return one finding for the sites of a well of which the same is said."""
    groups: dict[Problem, list[str]] = defaultdict(list)
    for row in rows:
        groups[replace(row, site="")].append(row.site)
    return [replace(row, site=",".join(sites), count=len(sites)) for row, sites in groups.items()]


def check_provenance(screen: Screen) -> Iterator[Problem]:
    """Find tables edited since they were indexed, with their rows.

    A table that is no longer there is a note.
    """
    if not isinstance(screen.source, Path):
        return
    edited: list[str] = []
    for table in screen.card.provenance.get("tables", []):
        path = screen.source / str(table["path"])
        try:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == table["sha256"]
        except OSError as error:
            yield Problem(
                severity="note",
                kind="table not there",
                what=f"the table cannot be compared with what was indexed ({error.strerror})",
                file=str(table["path"]),
                fix="Nothing, if screen or tables were moved: the screen keeps what it said.",
            )
            continue
        if not same:
            edited.append(str(table["path"]))
    if not edited:
        return
    rows = list(check_edited(screen))
    for name in edited:
        yield Problem(
            severity="error" if rows else "warning",
            kind="table changed since indexing",
            what="its SHA-256 is not that of the table that was indexed"
            + ("" if rows else "; read again, it says the same of every site"),
            file=name,
            fix=FIX,
            count=1,
        )
    yield from rows
