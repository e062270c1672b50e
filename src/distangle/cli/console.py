"""Print results to standard output, and notes and errors to standard error."""

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console

from distangle.core.progress import forward_messages, shows_progress

NAME_WIDTH = 26
GAP = 2  # spaces between two columns

# A pipe has no width: wide enough there that no table loses its numbers.
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 160, quiet=not shows_progress())
_err = Console(stderr=True, highlight=False)


# Names come from tables of others: codes that recolour or retitle a terminal, or turn the direction of writing.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Replace terminal control characters by their escape codes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def print_result(sentence: str) -> None:
    """Print a result to standard output."""
    _print(_out, sentence)


def print_note(sentence: str) -> None:
    """Print a warning or remark to standard error, in yellow."""
    if shows_progress():
        _print(_err, sentence, style="yellow")


def print_status(sentence: str) -> None:
    """Print a status message to standard error."""
    if shows_progress():
        _print(_err, sentence)


def print_error(sentence: str) -> None:
    """Print an error to standard error, in red."""
    _print(_err, f"error: {sentence}", style="red")


def _print(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a text; wrap long lines between words on a terminal."""
    text = plain(text)
    if console.is_terminal:
        text = "\n".join(_wrapped(line, console.width) for line in text.split("\n"))
    forward_messages()
    console.print(text, style=style, markup=False, soft_wrap=True)


def _wrapped(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def print_below(name: str, text: str) -> None:
    """Print a name with a wrapped description next to it."""
    width = _out.width if _out.is_terminal else 120
    first = f"  {name:<{NAME_WIDTH}}"
    filled = textwrap.wrap(plain(text), max(20, width - NAME_WIDTH - 4), break_long_words=False, break_on_hyphens=False)
    head, *more = filled or [""]
    lines = [f"{first}  {head}"] if len(first) == NAME_WIDTH + 2 else [first, f"{' ' * (NAME_WIDTH + 4)}{head}"]
    for line in [*lines, *(f"{' ' * (NAME_WIDTH + 4)}{rest}" for rest in more)]:
        _out.print(line.rstrip(), markup=False, soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, n_names: int = 1) -> None:
    """Print a table; on a narrow terminal, print each row as a block instead.

    No cell is cut.

    Args:
        headings: Titles of the columns; all columns except the first are aligned right.
        rows: Cells of each row.
        n_names: Number of columns that name a row.
    """
    cells = [[plain(str(cell)) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    fits = sum(widths) + GAP * (len(widths) - 1) <= _out.width or not _out.is_terminal
    lines = _columns([list(headings), *cells], widths) if fits else _stacked(headings, cells, n_names=n_names)
    for text in lines:
        _out.print(text, markup=False, soft_wrap=True)


def _columns(rows: list[list[str]], widths: list[int]) -> Iterator[str]:
    for row in rows:
        room = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        left = [f"{row[0]}{room[0]}", *(f"{space}{cell}" for space, cell in zip(room[1:], row[1:], strict=True))]
        yield (" " * GAP).join(left).rstrip()


def _stacked(headings: Sequence[str], rows: list[list[str]], *, n_names: int) -> Iterator[str]:
    for row in rows:
        named = list(zip(headings, row, strict=True))
        # A number says nothing without its heading; a word does.
        first = (f"{heading} {cell}" if cell[:1].isdigit() and k else cell for k, (heading, cell) in enumerate(named))
        yield from _filled([cell for cell in list(first)[:n_names] if cell], indent=0)
        yield from _filled([f"{heading} {cell}".strip() for heading, cell in named[n_names:]], indent=4)


def _filled(pieces: Sequence[str], *, indent: int) -> Iterator[str]:
    """Yield lines of whole pieces, as many per line as fit."""
    text = ""
    for piece in pieces:
        longer = f"{text}{' ' * GAP}{piece}" if text else piece
        if text and indent + cell_len(longer) > _out.width:
            yield f"{' ' * indent}{text}"
            longer = piece
        text = longer
    if text:
        yield f"{' ' * indent}{text}"
