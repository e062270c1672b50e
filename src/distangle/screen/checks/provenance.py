"""Whether the tables are still those that the screen was indexed from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from distangle.screen.checks.finding import Finding
from distangle.screen.table import Screen


def check_provenance(screen: Screen) -> Iterator[Finding]:
    """Find tables that were edited since they were indexed; of those that are no longer there, a note."""
    for table in screen.card.provenance.get("tables", []):
        if not isinstance(screen.source, Path):
            return
        path = screen.source / str(table["path"])
        try:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == table["sha256"]
        except OSError as error:
            yield Finding(
                severity="note",
                kind="table not there",
                what=f"the table cannot be compared with what was indexed ({error.strerror})",
                file=str(table["path"]),
                fix="Nothing, if screen or tables were moved: the screen keeps what it said.",
            )
            continue
        if not same:
            yield Finding(
                severity="error",
                kind="table changed since indexing",
                what="its SHA-256 is not that of the table that was indexed: a row was edited, added or taken away",
                file=str(table["path"]),
                fix="Index again, and compare: `distangle check NEW --like OLD` says which labels became others.",
            )
