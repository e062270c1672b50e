"""What was refused or looks odd, one row each, so that nothing is dropped without a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from distangle.screen.table import PROBLEM_COLUMNS


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One row of `problems.csv`.

    Attributes:
        severity: `refused`: not in the screen. `warning`: in the screen, or never a part of it.
        kind: A few words, the same for the same fault.
        file: Image or table, relative to the source.
        row: Line of the table, the header being line 1; "" if none.
        experiment: Where it is, as far as known.
        plate: Where it is, as far as known.
        well: Where it is, as far as known.
        site: Where it is, as far as known.
        channel: Names or numbers of the channels in question.
        found: What is there.
        expected: What should be there.
        fix: The next step.
        count: How many found entries this row stands for.
    """

    severity: Literal["refused", "warning"] = "refused"
    kind: str
    file: str = ""
    row: str = ""
    experiment: str = ""
    plate: str = ""
    well: str = ""
    site: str = ""
    channel: str = ""
    found: str = ""
    expected: str = ""
    fix: str = ""
    count: int = 1

    def describe(self) -> str:
        """Return the row as one sentence."""
        names = ("experiment", "plate", "well", "site")
        place = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name)]
        where = [self.file, f"line {self.row}" if self.row else "", *place]
        found = self.found if self.found.endswith("...") else self.found.removesuffix(".")
        said = f"{self.kind} ({', '.join(part for part in where if part)}): found {found or 'nothing'}"
        return said + (f", expected {self.expected}" if self.expected else "")


def problems_table(problems: Sequence[Problem]) -> pd.DataFrame:
    """Return the problems as a table: refused before warnings, otherwise in the order they were met."""
    ordered = sorted(problems, key=lambda problem: problem.severity)
    columns: dict[str, pd.Series] = {}
    for name in PROBLEM_COLUMNS:
        values = [getattr(problem, name) for problem in ordered]
        if name == "count":
            columns[name] = pd.Series(values, dtype="int64")
        else:
            columns[name] = pd.Series([printable(value) for value in values], dtype="str")
    return pd.DataFrame(columns)


def printable(text: str) -> str:
    r"""Return text that any file and terminal can hold: control characters and stray bytes as `\x..`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def n_refused(problems: Sequence[Problem]) -> int:
    """Return how many found entries the refused rows stand for."""
    return sum(problem.count for problem in problems if problem.severity == "refused")
