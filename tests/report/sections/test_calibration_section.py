"""The reliability curve in the report: points of the bins, caption, and the text in its absence."""

from dataclasses import replace

import pytest

from distangle.report import build_report
from distangle.report.data import load, main_row
from distangle.report.sections.calibration import calibration, reliability_chart
from distangle.results import Calibration, ReliabilityBin, Scores
from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return make_run(tmp_path_factory.mktemp("calibration"), Plan(), parts=("predictions",))


def part(level: str = "well", **changes: object) -> Calibration:
    before = (ReliabilityBin(low=0.8, high=0.9, n=30, confidence=0.85, accuracy=0.5),)
    after = (ReliabilityBin(low=0.5, high=0.6, n=30, confidence=0.55, accuracy=0.5),)
    values: dict[str, object] = {"level": level, "views": 1, "groups_over": "experiment", "n": 30}
    values |= {"temperatures": {"E1": 1.514, "E2": 2.0}, "ece_before": 0.35, "ece_after": 0.05}
    return Calibration.model_validate(values | {"before": before, "after": after} | changes)


def section(planted_run: PlantedRun, scores: Scores) -> tuple[str, dict[str, str]]:
    files: dict[str, str] = {}

    def write(name: str, text: str) -> str:
        files[name] = text
        return f"figures/{name}"

    content = calibration(replace(load(planted_run.run, planted_run.screen), scores=scores), write)
    return "" if content is None else str(content.__html__()), files


def test_the_curve_of_the_main_score_is_drawn_with_both_errors(planted_run: PlantedRun) -> None:
    other = part(level="site", ece_before=0.99)
    sentence = "unlike_training is a rank."
    scores = planted_run.scores.model_copy(
        update={"calibration": (other, part()), "well_columns": {"unlike_training": sentence}}
    )
    page, files = section(planted_run, scores)
    assert "30 held-out wells of treatments (1 view), in 1 bins" in page
    assert "35.0\u202f% for the network and 5.0\u202f% after" in page
    assert "(1.51 to 2.00; above 1: overconfident)" in page
    assert "fitted on the others" in page
    assert sentence in page
    assert list(files) == ["reliability.svg"]
    assert "Calibration, by well" in files["reliability.svg"]


def test_equal_results_give_equal_bytes_and_a_stamp() -> None:
    assert reliability_chart(part()) == reliability_chart(part())
    assert "forced split" in reliability_chart(part(), stamp="forced split")


def test_a_reason_stands_where_there_is_no_curve(planted_run: PlantedRun) -> None:
    empty = Calibration(level="well", views=8, groups_over="plate", n=4, reason="No temperature: one plate.")
    page, files = section(planted_run, planted_run.scores.model_copy(update={"calibration": (empty,)}))
    assert "No temperature: one plate." in page
    assert (files, "<img" in page) == ({}, False)
    assert section(planted_run, planted_run.scores) == ("", {})  # of an earlier version


def test_scores_that_use_the_layout_have_a_table_of_their_own(planted_run: PlantedRun) -> None:
    better = [
        row.model_copy(update={"layout": layout, "value": 0.987, "transductive": True})
        for row in planted_run.scores.rows
        if (row.level, row.subset, row.wells) == ("well", "all", "treatments")
        for layout in ("plate group", "one perturbation per well")
    ]
    top = main_row(planted_run.scores)
    assert top is not None
    five = top.model_copy(update={"metric": "top-5 accuracy", "value": 0.876, "chance": 0.5})
    scores = planted_run.scores.model_copy(update={"rows": (*better, *planted_run.scores.rows, five)})
    assert main_row(scores) == top
    scores.write(planted_run.run.scores)
    planted_run.run.record(planted_run.run.scores)
    page = build_report(planted_run.run, planted_run.screen).with_name("scores.html").read_text()
    assert page.count("wells · treatments · uses the layout of the plate") == 1
    assert "one perturbation per well: all" in page
    assert "In 87.6\u202f% of the wells of the score at the top, the true class is among the five most" in page
    assert Scores.read(planted_run.run.scores) == scores
