"""The reliability curve in the report: the points of the bins, its caption, and what stands there without one."""

from dataclasses import replace

import pytest

from distangle.report import build_report
from distangle.report.data import load, main_row
from distangle.report.sections.calibration import calibration, reliability_chart
from distangle.results import Calibration, ReliabilityBin, Scores
from report_run import Made, Plan, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(tmp_path_factory.mktemp("calibration"), Plan(), parts=("predictions",))


def part(level: str = "well", **changes: object) -> Calibration:
    before = (ReliabilityBin(low=0.8, high=0.9, n=30, confidence=0.85, accuracy=0.5),)
    after = (ReliabilityBin(low=0.5, high=0.6, n=30, confidence=0.55, accuracy=0.5),)
    values: dict[str, object] = {"level": level, "views": 1, "groups_over": "experiment", "n": 30}
    values |= {"temperatures": {"E1": 1.514, "E2": 2.0}, "ece_before": 0.35, "ece_after": 0.05}
    return Calibration.model_validate(values | {"before": before, "after": after} | changes)


def section(made: Made, scores: Scores) -> tuple[str, dict[str, str]]:
    written: dict[str, str] = {}

    def write(name: str, text: str) -> str:
        written[name] = text
        return f"figures/{name}"

    content = calibration(replace(load(made.run, made.screen), scores=scores), write)
    return "" if content is None else str(content.__html__()), written


def test_the_curve_of_the_main_score_is_drawn_with_both_errors(made: Made) -> None:
    other = part(level="site", ece_before=0.99)
    sentence = "unlike_training is a rank."
    scores = made.scores.model_copy(
        update={"calibration": (other, part()), "well_columns": {"unlike_training": sentence}}
    )
    page, written = section(made, scores)
    assert "30 held-out wells of treatments (1 view), in 1 bins" in page
    assert "35.0\u202f% for the network and 5.0\u202f% after" in page
    assert "(1.51 to 2.00; above 1: overconfident)" in page
    assert "fitted on the others" in page
    assert sentence in page
    assert list(written) == ["reliability.svg"]
    assert "Calibration, by well" in written["reliability.svg"]


def test_equal_results_give_equal_bytes_and_a_stamp() -> None:
    assert reliability_chart(part()) == reliability_chart(part())
    assert "forced split" in reliability_chart(part(), stamp="forced split")


def test_a_reason_stands_where_there_is_no_curve(made: Made) -> None:
    empty = Calibration(level="well", views=8, groups_over="plate", n=4, reason="No temperature: one plate.")
    page, written = section(made, made.scores.model_copy(update={"calibration": (empty,)}))
    assert "No temperature: one plate." in page
    assert (written, "<img" in page) == ({}, False)
    assert section(made, made.scores) == ("", {})  # of an earlier version


def test_scores_that_use_the_layout_have_a_table_of_their_own(made: Made) -> None:
    better = [
        row.model_copy(update={"layout": layout, "value": 0.987, "transductive": True})
        for row in made.scores.rows
        if (row.level, row.subset, row.wells) == ("well", "all", "treatments")
        for layout in ("plate group", "one perturbation per well")
    ]
    top = main_row(made.scores)
    assert top is not None
    five = top.model_copy(update={"metric": "top-5 accuracy", "value": 0.876, "chance": 0.5})
    scores = made.scores.model_copy(update={"rows": (*better, *made.scores.rows, five)})
    assert main_row(scores) == top
    scores.write(made.run.scores)
    made.run.record(made.run.scores)
    page = build_report(made.run, made.screen).with_name("scores.html").read_text()
    assert page.count("wells · treatments · uses the layout of the plate") == 1
    assert "one perturbation per well: all" in page
    assert "In 87.6\u202f% of the wells of the score at the top, the true class is among the five most" in page
    assert Scores.read(made.run.scores) == scores
