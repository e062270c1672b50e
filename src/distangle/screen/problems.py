"""Problems of a screen: the type, its tables, and the report of the checks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from distangle import __version__
from distangle.core.io import write_json, write_text
from distangle.screen.screen import PROBLEM_COLUMNS, Screen, escape_formula

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

FINDING_COLUMNS = (
    *("severity", "kind", "what", "experiment", "plate", "well", "site", "channel"),
    *("file", "fix", "count"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A problem of a screen: a row of `problems.csv` or of `findings.csv`.

    The index sets `found` and `expected`; a check sets `what`.

    Attributes:
        severity: For the index: `refused` entries are not in the screen, a `warning` does not exclude an entry. For a
            check: an `error` makes results wrong or sites missing, a `warning` may do so, a `note` is information.
        kind: Short name of the problem.
        what: The problem as a sentence with its numbers; "" if `found` and `expected` describe it.
        file: Image or table, relative to the source.
        row: Line of the table, where the header is line 1; "" if none.
        experiment: The experiment, if known; "" for the whole screen.
        plate: The plate, if known.
        well: The well, if known; several are joined by commas.
        site: The site, if known.
        channel: Names or numbers of the channels.
        found: The value found.
        expected: The value expected.
        fix: The next step.
        count: Number of entries (of the index), or of sites, wells or rows (of a check), in this problem.
    """

    severity: Literal["refused", "error", "warning", "note"] = "refused"
    kind: str
    what: str = ""
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

    @property
    def where(self) -> str:
        """The location, such as `HUVEC-01 plate 2 well B03`; else the file."""
        parts = [self.experiment] if self.experiment else []
        parts += [
            f"{name} {getattr(self, name)}" for name in ("plate", "well", "site", "channel") if getattr(self, name)
        ]
        return " ".join(parts) or self.file or "the screen"

    def as_finding(self) -> "Problem":
        """Return a problem of the index as a finding; a refusal is an error."""
        expected = f", expected {self.expected}" if self.expected else ""
        return replace(
            self,
            severity="error" if self.severity == "refused" else self.severity,
            what=f"found {self.found or 'nothing'}{expected}",
            file=f"{self.file}, line {self.row}" if self.row else self.file,
            row="",
        )

    def describe(self) -> str:
        """Return the row as one sentence."""
        names = ("experiment", "plate", "well", "site")
        location = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name)]
        where = [self.file, f"line {self.row}" if self.row else "", *location]
        found = self.found if self.found.endswith("...") else self.found.removesuffix(".")
        text = f"{self.kind} ({', '.join(part for part in where if part)}): found {found or 'nothing'}"
        return text + (f", expected {self.expected}" if self.expected else "")


def problems_table(problems: Sequence[Problem]) -> pd.DataFrame:
    """Return problems of the index as a table, refusals before warnings."""
    ordered = sorted(problems, key=lambda problem: problem.severity)
    columns: dict[str, pd.Series] = {}
    for name in PROBLEM_COLUMNS:
        values = [getattr(problem, name) for problem in ordered]
        if name == "count":
            columns[name] = pd.Series(values, dtype="int64")
        else:
            columns[name] = pd.Series([printable(value) for value in values], dtype="str")
    return pd.DataFrame(columns)


def read_problems(table: pd.DataFrame) -> list[Problem]:
    """Return the rows of `problems.csv` as problems.

    Args:
        table: A table with `PROBLEM_COLUMNS`.
    """
    rows: list[dict[str, Any]] = [
        {name: row[name] for name in PROBLEM_COLUMNS} for row in table.astype({"count": int}).to_dict("records")
    ]
    return [Problem(**row) for row in rows]


def printable(text: str) -> str:
    r"""Return text with control characters and stray bytes escaped as `\x..`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def n_refused(problems: Sequence[Problem]) -> int:
    """Return the number of refused entries."""
    return sum(problem.count for problem in problems if problem.severity == "refused")


def index_findings(screen: Screen) -> list[Problem]:
    """Return the rows of `problems.csv` as findings; a refusal is an error."""
    return [problem.as_finding() for problem in read_problems(screen.problems)]


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """A balance that must hold: every entry of a stage leaves it or is refused.

    Attributes:
        stage: The stage, such as `index`.
        equation: The balance with its numbers.
        holds: Whether it holds.
    """

    stage: str
    equation: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The findings of the checks, and what they covered.

    Attributes:
        findings: Errors first, then warnings and notes, each in the order of the checks.
        invariants: The balances of the stages.
        scope: What was checked and what was not, for JSON.
    """

    findings: tuple[Problem, ...]
    invariants: tuple[Invariant, ...]
    scope: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = sorted(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))
        object.__setattr__(self, "findings", tuple(ordered))

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def fails(self, at: Literal["error", "warning", "never"]) -> bool:
        """Return whether a finding is at least as severe as `at`, or a balance fails."""
        if at == "never":
            return False
        failing = SEVERITIES[: SEVERITIES.index(at) + 1]
        return any(finding.severity in failing for finding in self.findings) or not all(
            invariant.holds for invariant in self.invariants
        )

    def grouped(self) -> list[dict[str, Any]]:
        """Return a dictionary per kind, with counts and its first finding."""
        groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
        for finding in self.findings:
            groups[finding.severity, finding.kind].append(finding)
        return [
            {
                "severity": severity,
                "kind": kind,
                "findings": len(group),
                "count": sum(finding.count for finding in group),
                "first": group[0].where,
                "what": group[0].what,
                "fix": group[0].fix,
            }
            for (severity, kind), group in groups.items()
        ]

    def merge(self, other: "CheckReport") -> "CheckReport":
        """Return a report with the findings of both."""
        return CheckReport(
            findings=(*self.findings, *other.findings),
            invariants=(*self.invariants, *other.invariants),
            scope={**self.scope, **other.scope},
        )

    def write(self, folder: Path) -> list[Path]:
        """Write `checks.json` and `findings.csv`; return both paths."""
        summary_file, table_file = folder / "checks.json", folder / "findings.csv"
        write_text(table_file, findings_table(self.findings).to_csv(index=False, lineterminator="\n"))
        summary = {
            "distangle": __version__,
            "coverage": dict(self.scope),
            "invariants": [
                {"stage": law.stage, "sentence": law.equation, "holds": law.holds} for law in self.invariants
            ],
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "kinds": [{**group, "what": printable(group["what"]), "first": printable(group["first"])}
                      for group in self.grouped()],
        }  # fmt: skip
        write_json(summary_file, summary)
        return [summary_file, table_file]


def findings_table(findings: Sequence[Problem]) -> pd.DataFrame:
    """Return findings as a table of text, with cells like formulas escaped."""
    cells = {name: [str(getattr(finding, name)) for finding in findings] for name in FINDING_COLUMNS}
    return pd.DataFrame(
        {name: [escape_formula(printable(cell)) for cell in column] for name, column in cells.items()}, dtype="str"
    )
