"""Problems of a screen, one type for the index and the checks.

Problems of the index as findings beside those of the checks.

The report of the checks: problems, sums that must come out, and their files.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from distangle import __version__
from distangle.core.io import write_json, write_text
from distangle.screen.screen import PROBLEM_COLUMNS, Screen, escape_formula


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One problem of a screen: a row of `problems.csv` or of `findings.csv`.

    The index says what it found and what it expected; a check says `what` in a sentence.

    Attributes:
        severity: Of the index: `refused` is not in the screen, `warning` is in it or never was a part of it. Of a
            check: `error` makes results wrong or sites missing, `warning` may do so, `note` is worth knowing.
        kind: A few words, the same for the same fault.
        what: What is there, in a sentence with its numbers; "" where `found` and `expected` say it.
        file: Image or table, relative to the source.
        row: Line of the table, the header being line 1; "" if none.
        experiment: Where it is, as far as known; "" for the whole screen.
        plate: Where it is, as far as known.
        well: Where it is, as far as known; several with commas.
        site: Where it is, as far as known.
        channel: Names or numbers of the channels in question.
        found: What is there.
        expected: What should be there.
        fix: The next step.
        count: How many found entries, or sites, wells and rows of a check, this row stands for.
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
        """The place in words, such as `HUVEC-01 plate 2 well B03`; else the file."""
        named = [self.experiment] if self.experiment else []
        named += [
            f"{name} {getattr(self, name)}" for name in ("plate", "well", "site", "channel") if getattr(self, name)
        ]
        return " ".join(named) or self.file or "the screen"

    def as_finding(self) -> "Problem":
        """Return a problem of the index as the checks report it; a refusal is an error."""
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
        place = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name)]
        where = [self.file, f"line {self.row}" if self.row else "", *place]
        found = self.found if self.found.endswith("...") else self.found.removesuffix(".")
        said = f"{self.kind} ({', '.join(part for part in where if part)}): found {found or 'nothing'}"
        return said + (f", expected {self.expected}" if self.expected else "")


def problems_table(problems: Sequence[Problem]) -> pd.DataFrame:
    """Return problems of the index as a table, refused before warnings."""
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
        table: With `PROBLEM_COLUMNS`.
    """
    rows: list[dict[str, Any]] = [
        {name: row[name] for name in PROBLEM_COLUMNS} for row in table.astype({"count": int}).to_dict("records")
    ]
    return [Problem(**row) for row in rows]


def printable(text: str) -> str:
    r"""Return text without control characters and stray bytes: they become `\x..`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def n_refused(problems: Sequence[Problem]) -> int:
    """Return how many found entries the refused rows stand for."""
    return sum(problem.count for problem in problems if problem.severity == "refused")


def index_findings(screen: Screen) -> list[Problem]:
    """Return the rows of `problems.csv` as findings; a refusal is an error."""
    return [problem.as_finding() for problem in read_problems(screen.problems)]


Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


FINDING_COLUMNS = (
    *("severity", "kind", "what", "experiment", "plate", "well", "site", "channel"),
    *("file", "fix", "count"),
)


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """A sum that must hold: what enters a stage leaves it or is left behind.

    Attributes:
        stage: Where it holds, such as `index`.
        equation: The sum in figures.
        holds: Whether it comes out.
    """

    stage: str
    equation: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Everything that was looked at and found.

    Attributes:
        findings: Errors first, then warnings and notes, each in the order they were met.
        invariants: One per stage.
        scope: What was looked at and what was not, ready for JSON.
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
        """Say whether something is as bad as `at`, or a sum does not come out."""
        if at == "never":
            return False
        bad = SEVERITIES[: SEVERITIES.index(at) + 1]
        return any(finding.severity in bad for finding in self.findings) or not all(
            law.holds for law in self.invariants
        )

    def grouped(self) -> list[dict[str, Any]]:
        """Return one entry for each kind, with counts and its first problem in words."""
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
        """Return both together."""
        return CheckReport(
            findings=(*self.findings, *other.findings),
            invariants=(*self.invariants, *other.invariants),
            scope={**self.scope, **other.scope},
        )

    def write(self, folder: Path) -> list[Path]:
        """Write `checks.json` and `findings.csv`; return both paths."""
        listed, table = folder / "checks.json", folder / "findings.csv"
        write_text(table, findings_table(self.findings).to_csv(index=False, lineterminator="\n"))
        said = {
            "distangle": __version__,
            "coverage": dict(self.scope),
            "invariants": [
                {"stage": law.stage, "sentence": law.equation, "holds": law.holds} for law in self.invariants
            ],
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "kinds": [{**entry, "what": printable(entry["what"]), "first": printable(entry["first"])}
                      for entry in self.grouped()],
        }  # fmt: skip
        write_json(listed, said)
        return [listed, table]


def findings_table(findings: Sequence[Problem]) -> pd.DataFrame:
    """Return findings as a table of text, with cells like formulas escaped."""
    cells = {name: [str(getattr(finding, name)) for finding in findings] for name in FINDING_COLUMNS}
    return pd.DataFrame(
        {name: [escape_formula(printable(cell)) for cell in column] for name, column in cells.items()}, dtype="str"
    )
