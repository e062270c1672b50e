"""Check that the tables are still those the screen was indexed from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from distangle.screen.checks.edited import FIX, check_edited
from distangle.screen.problems import Problem
from distangle.screen.table import Screen


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
