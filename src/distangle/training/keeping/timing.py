"""Record how long epochs take, apart from the metrics.

A clock is not a function of the seed.
"""

import csv
import time
from pathlib import Path

from distangle.commit import commit_text

HEADINGS = ("epoch", "from_step", "to_step", "seconds")


class Timing:
    """Writes `timing.csv`: one row for each part of an epoch that a process trained.

    Args:
        path: Of the file; rows of earlier processes stay.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as opened:
                self._rows = list(csv.reader(opened))[1:]
        self.start(0)

    def start(self, step: int) -> None:
        """Start the clock at a step of an epoch."""
        self._from_step, self._started = step, time.monotonic()

    def stretch(self, *, epoch: int, to_step: int) -> None:
        """Enter what has been worked since the start, and start anew at the first step."""
        seconds = time.monotonic() - self._started
        self._rows.append([str(epoch), str(self._from_step), str(to_step), f"{seconds:.3f}"])
        commit_text(self._path, "".join(",".join(row) + "\n" for row in (HEADINGS, *self._rows)))
        self.start(0)
