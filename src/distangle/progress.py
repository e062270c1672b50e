"""Tell a person how far a step is: a bar with the time left in a terminal, plain lines elsewhere."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[str], None]
PLAIN_EVERY_S = 10.0  # seconds between two lines where there is no terminal


def speaks() -> bool:
    """Whether this process speaks to a person: of the ranks that a launcher started, only the first does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def progress(title: str, total: int, *, unit: str = "", console: Console | None = None) -> Iterator[Advance]:
    """Give a function to be called once per finished piece, with a few words on its result.

    Args:
        title: What is done, such as "train".
        total: Number of pieces, as far as foreseen.
        unit: Name of a piece, such as "epoch".
        console: Where to write; standard error when None, so that printed results stay clean.
    """
    console = console or Console(stderr=True, quiet=not speaks())
    started = time.monotonic()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        with Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[said]}"), console=console
        ) as bar:
            task = bar.add_task(title, total=total, said="")
            yield lambda said: bar.update(task, advance=1, said=said)
        return
    done, last, first = 0, started, started

    def advance(said: str) -> None:
        nonlocal done, last, first
        done += 1
        now = time.monotonic()
        # What comes before the first piece (reading, measuring) is done once and says nothing of the pieces.
        first = now if done == 1 else first
        if done == total or done == 1 or now - last >= PLAIN_EVERY_S:
            last = now
            left = (now - first) / (done - 1) * (total - done) if done > 1 else math.nan
            # More pieces than were foreseen: what is left is not known, and no negative number says it.
            ahead = "" if math.isnan(left) else f", {left:.0f} s left"
            far = f"{done}/{total} {unit}{ahead} " if done <= total else ""
            console.print(f"{title}: {far}{said}".rstrip(), highlight=False)

    yield advance


def by_percent(advance: Advance) -> Callable[[int, int], None]:
    """Return a function of (done, total) that calls `advance` once per finished percent: for a bar of 100 pieces."""
    shown = 0

    def on(done: int, total: int) -> None:
        nonlocal shown
        while shown < done * 100 // total:
            shown += 1
            advance("")

    return on


def no_progress(said: str) -> None:
    """Say nothing."""
