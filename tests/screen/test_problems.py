"""Problems of the index and of the checks are one type."""

import pandas as pd
import pytest

from distangle.screen.problems import CheckReport, Problem, findings_table, problems_table, read_problems

REFUSAL = Problem(
    kind="no image", file="wells.csv", row="7", plate="P1", well="B03", found="no file", expected="P1/B03.png", count=2
)
REMARK = Problem(severity="warning", kind="not read", file="a.csv", fix="Nothing.")


def test_a_table_of_problems_is_read_as_it_was_written() -> None:
    assert read_problems(problems_table([REMARK, REFUSAL])) == [REFUSAL, REMARK]
    assert read_problems(problems_table([])) == []


@pytest.mark.parametrize(
    ("problem", "severity", "message", "file", "place"),
    [
        (REFUSAL, "error", "found no file, expected P1/B03.png", "wells.csv, line 7", "plate P1 well B03"),
        (REMARK, "warning", "found nothing", "a.csv", "a.csv"),
    ],
)
def test_a_problem_of_the_index_is_a_finding_of_the_checks(
    problem: Problem, severity: str, message: str, file: str, place: str
) -> None:
    finding = problem.as_finding()
    assert (finding.severity, finding.what, finding.file, finding.where) == (severity, message, file, place)
    assert finding.count == problem.count
    table = findings_table(CheckReport(findings=(finding,), invariants=()).findings)
    assert list(table.columns) == [
        *("severity", "kind", "what", "experiment", "plate", "well", "site", "channel", "file", "fix", "count")
    ]
    expected = {"severity": severity, "what": message, "file": file, "count": str(problem.count)}
    pd.testing.assert_series_equal(table.iloc[0][list(expected)], pd.Series(expected, name=0, dtype="str"))
