"""The report of the checks: problems, sums that must come out, and their files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from distangle import __version__
from distangle.commit import commit_json, commit_text
from distangle.screen.problems import Problem, printable
from distangle.screen.table import escape_formula

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


FINDING_COLUMNS = (
    *("severity", "kind", "what", "experiment", "plate", "well", "site", "channel"),
    *("file", "fix", "count"),
)


@dataclass(frozen=True, kw_only=True)
class Law:
    """A sum that must hold: what enters a stage leaves it or is left behind.

    Attributes:
        stage: Where it holds, such as `index`.
        words: The sum in figures.
        holds: Whether it comes out.
    """

    stage: str
    words: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Everything that was looked at and found.

    Attributes:
        findings: Errors first, then warnings and notes, each in the order they were met.
        laws: One per stage.
        looked: What was looked at and what was not, ready for JSON.
    """

    findings: tuple[Problem, ...]
    laws: tuple[Law, ...]
    looked: Mapping[str, Any] = field(default_factory=dict)

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
        return any(finding.severity in bad for finding in self.findings) or not all(law.holds for law in self.laws)

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

    def joined(self, other: "Checked") -> "Checked":
        """Return both together."""
        return Checked(
            findings=(*self.findings, *other.findings),
            laws=(*self.laws, *other.laws),
            looked={**self.looked, **other.looked},
        )

    def write(self, folder: Path) -> list[Path]:
        """Write `checks.json` and `findings.csv`; return both paths."""
        listed, table = folder / "checks.json", folder / "findings.csv"
        commit_text(table, findings_table(self.findings).to_csv(index=False, lineterminator="\n"))
        said = {
            "distangle": __version__,
            "looked": dict(self.looked),
            "laws": [asdict(law) for law in self.laws],
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "kinds": [{**entry, "what": printable(entry["what"]), "first": printable(entry["first"])}
                      for entry in self.grouped()],
        }  # fmt: skip
        commit_json(listed, said)
        return [listed, table]


def findings_table(findings: Sequence[Problem]) -> pd.DataFrame:
    """Return findings as a table of text, with cells like formulas escaped."""
    cells = {name: [str(getattr(finding, name)) for finding in findings] for name in FINDING_COLUMNS}
    return pd.DataFrame(
        {name: [escape_formula(printable(cell)) for cell in column] for name, column in cells.items()}, dtype="str"
    )
