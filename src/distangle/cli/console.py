"""Print results to standard output, and notes and errors to standard error."""

import contextvars
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

from distangle.core.progress import note_output, shows_progress

if TYPE_CHECKING:
    from distangle.results import ScoreRow, Scores

BASELINES = ("position", "plate", "intensity")  # rules that use no image of a cell
NAME_WIDTH = 26
GAP = 2  # spaces between two columns

# A pipe has no width: 160 columns hold every table.
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 160, quiet=not shows_progress())
_err = Console(stderr=True, highlight=False)


_addresses: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("addresses", default={})  # noqa: B039


def show_addresses(addresses: Mapping[str, str]) -> None:
    """Print URLs in place of the local copies that this command works on.

    Args:
        addresses: URL of each local path.
    """
    _addresses.set({**_addresses.get(), **addresses})


def _with_addresses(text: str) -> str:
    for path, url in _addresses.get().items():
        text = re.sub(rf"{re.escape(path)}(?![\w.-]|/\.lock)", url.replace("\\", r"\\"), text)
    return text


# Names from tables can hold codes that recolor or retitle a terminal, or reverse the direction of text.
_CONTROL_CHARACTERS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_control_characters(text: str) -> str:
    """Replace terminal control characters by their escape codes."""
    return _CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


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
    text = escape_control_characters(_with_addresses(text))
    if console.is_terminal:
        text = "\n".join(_wrap(line, console.width) for line in text.split("\n"))
    note_output()
    console.print(text, style=style, markup=False, soft_wrap=True)


def _wrap(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def print_below(name: str, text: str) -> None:
    """Print a name with a wrapped description next to it."""
    width = _out.width if _out.is_terminal else 120
    label = f"  {name:<{NAME_WIDTH}}"
    wrapped = textwrap.wrap(
        escape_control_characters(text), max(20, width - NAME_WIDTH - 4), break_long_words=False, break_on_hyphens=False
    )
    head, *others = wrapped or [""]
    lines = [f"{label}  {head}"] if len(label) == NAME_WIDTH + 2 else [label, f"{' ' * (NAME_WIDTH + 4)}{head}"]
    for line in [*lines, *(f"{' ' * (NAME_WIDTH + 4)}{line}" for line in others)]:
        _out.print(line.rstrip(), markup=False, soft_wrap=True)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, n_names: int = 1, n_spare: int = 0
) -> tuple[str, ...]:
    """Print a table; on a narrow terminal, print each row as a block instead.

    No cell is cut.

    Args:
        headings: Titles of the columns; all columns except the first are aligned right.
        rows: Cells of each row.
        n_names: Number of columns that name a row.
        n_spare: Number of last columns that a narrow terminal leaves out.

    Returns:
        Titles of the columns that were left out.
    """
    cells = [[escape_control_characters(str(cell)) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    fits = _fits(widths)
    left_out: tuple[str, ...] = ()
    if n_spare and not fits:
        left_out, headings = tuple(headings[-n_spare:]), headings[:-n_spare]
        cells, widths = [row[:-n_spare] for row in cells], widths[:-n_spare]
        fits = _fits(widths)
    lines = (
        _format_columns([list(headings), *cells], widths) if fits else _format_blocks(headings, cells, n_names=n_names)
    )
    for text in lines:
        _out.print(text, markup=False, soft_wrap=True)
    return left_out


def _fits(widths: Sequence[int]) -> bool:
    return sum(widths) + GAP * (len(widths) - 1) <= _out.width or not _out.is_terminal


def _format_columns(rows: list[list[str]], widths: list[int]) -> Iterator[str]:
    for row in rows:
        padding = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        aligned = [
            f"{row[0]}{padding[0]}",
            *(f"{space}{cell}" for space, cell in zip(padding[1:], row[1:], strict=True)),
        ]
        yield (" " * GAP).join(aligned).rstrip()


def _format_blocks(headings: Sequence[str], rows: list[list[str]], *, n_names: int) -> Iterator[str]:
    for row in rows:
        pairs = list(zip(headings, row, strict=True))
        # A number needs its heading; a word does not.
        named = (f"{heading} {cell}" if cell[:1].isdigit() and k else cell for k, (heading, cell) in enumerate(pairs))
        yield from _fill_lines([cell for cell in list(named)[:n_names] if cell], indent=0)
        yield from _fill_lines([f"{heading} {cell}".strip() for heading, cell in pairs[n_names:]], indent=4)


def _fill_lines(pieces: Sequence[str], *, indent: int) -> Iterator[str]:
    """Yield lines of whole pieces, as many per line as fit."""
    line = ""
    for piece in pieces:
        extended = f"{line}{' ' * GAP}{piece}" if line else piece
        if line and indent + cell_len(extended) > _out.width:
            yield f"{' ' * indent}{line}"
            extended = piece
        line = extended
    if line:
        yield f"{' ' * indent}{line}"


def score_lines(scores: "Scores") -> Iterator[tuple[str, ...]]:
    """Yield the rows of the score table, accuracy and balanced accuracy side by side.

    Round brackets hold a confidence interval. Square brackets hold the values of the groups if they are too few for an
    interval. The last columns are the balanced accuracy of the cell-free `BASELINES`.

    Args:
        scores: All scores; those of single cell types are left out here.
    """
    balanced = {_key(row): row for row in scores.rows if row.metric == "balanced accuracy"}
    for row in scores.rows:
        is_detail = row.subset.startswith("cell type") or (row.layout and row.subset != "all")
        if row.metric == "accuracy" and not is_detail:
            numbers = (_format_score(row), _format_score(balanced[_key(row)]))
            baselines = (balanced[_key(row)].baselines.get(rule) for rule in BASELINES)
            cells = ("-" if value is None else f"{value:.3f}" for value in baselines)
            subset = row.layout or row.subset
            yield row.level, str(row.views), row.wells, subset, *numbers, f"{row.chance:.3f}", *cells, str(row.n)


def _key(row: "ScoreRow") -> tuple[str, int, str, str, str]:
    return row.level, row.views, row.wells, row.subset, row.layout


def _format_score(row: "ScoreRow") -> str:
    if row.interval:
        return f"{row.value:.3f} ({row.interval[0]:.3f}-{row.interval[1]:.3f})"
    groups = f" [{' '.join(f'{value:.3f}' for value in row.by_group.values())}]" if row.by_group else ""
    return f"{row.value:.3f}{groups}"


def bracket_notes(scores: "Scores") -> Iterator[str]:
    """Yield the explanation of the square brackets of `score_lines`.

    Args:
        scores: All scores.
    """
    from distangle.core.stats import MIN_GROUPS

    few = [row for row in scores.rows if row.by_group and row.interval is None and row.subset == "all"]
    if few:
        row = few[0]
        yield (
            f"Square brackets: the values of {', '.join(row.by_group)}. An interval needs at least {MIN_GROUPS} "
            f"{row.interval_over}s; there are {row.n_groups}."
        )


def further_scores(scores: "Scores") -> Iterator[str]:
    """Yield sentences on the layout, top-5 accuracy and calibration.

    Args:
        scores: All scores.
    """
    if any(row.layout for row in scores.rows):
        yield "The subsets 'plate group' and 'one perturbation per well' use the layout of the plate."
    for row in scores.rows:
        if (row.metric, row.subset, row.wells, row.views, row.layout) == ("top-5 accuracy", "all", "treatments", 8, ""):
            yield f"Top-5 accuracy by {row.level}, 8 views: {_format_score(row)}; chance {row.chance:.3f}."
    for part in scores.calibration:
        if part.views == 8 and part.ece_before is not None and part.ece_after is not None:
            yield (
                f"Calibration error by {part.level}, 8 views: {part.ece_before:.3f}, and {part.ece_after:.3f} with a "
                f"temperature from other {part.groups_over}s."
            )
