"""Where words go: results to standard output, remarks and errors to standard error."""

import re
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from distangle.progress import speaks

# A pipe has no width: wide enough there that no table loses its numbers.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160, quiet=not speaks())
_err = Console(stderr=True, highlight=False, soft_wrap=True)


# Names come from tables of others: codes that recolour or retitle a terminal, or turn the direction of writing.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return a text in which a code that a terminal would obey stands as its number."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def tell(sentence: str) -> None:
    """Print a result."""
    _out.print(plain(sentence), markup=False)


def remark(sentence: str) -> None:
    """Print something a person should see that is no result."""
    if speaks():
        _err.print(plain(sentence), style="yellow", markup=False)


def complain(sentence: str) -> None:
    """Print an error."""
    _err.print(plain(f"error: {sentence}"), style="red", markup=False)


def tell_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; columns after the first are aligned right."""
    table = Table(box=None, pad_edge=False)
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="right" if k else "left", no_wrap=heading != "subset", overflow="fold")
    for row in rows:
        table.add_row(*(plain(str(cell)).replace("[", r"\[") for cell in row))
    _out.print(table)
