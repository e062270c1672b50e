"""Accuracy in a report: the headline, its interval, baselines, warnings and confusions."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distangle.report import build_report
from distangle.report.data import load, main_row
from distangle.report.html import percent
from distangle.report.score_table import score_sentence, score_table
from distangle.report.sections.scores import confused_pairs, warnings_of
from distangle.results import Predictions, ScoreRow
from distangle.results.confusion import read_confusion
from report_pages import build, copy_of
from report_run import PlantedRun


def test_what_rules_without_cells_would_have_scored_stands_in_the_row_that_it_belongs_to(
    run_data: PlantedRun, tmp_path: Path
) -> None:
    run = copy_of(run_data, tmp_path)
    scores = json.loads((run.predictions / "scores.json").read_text())
    by_rule = {"position": 0.125, "plate": 0.0625, "intensity": 0.5}
    is_main = {"metric": "balanced accuracy", "subset": "all", "level": "well"}.items()
    reference = next(row for row in scores["rows"] if is_main <= row.items())
    for row in scores["rows"]:
        is_same_combination = all(row[name] == reference[name] for name in ("level", "views", "wells", "subset"))
        of_metric = by_rule if row["metric"] == "balanced accuracy" else dict.fromkeys(by_rule, 0.9)
        row["baselines"] = of_metric if is_same_combination else {}
    (run.predictions / "scores.json").write_text(json.dumps(scores))
    page = build(run, run_data, truth=run_data.truth)["index"]
    html = (run.report / "scores.html").read_text(encoding="utf-8")
    table = html.partition("Cell-free baselines")[2].partition("</table>")[0]
    assert re.findall(r'scope="col"[^>]*>([^<]*)<', table) == [
        *("network", "position alone", "plate alone", "intensity alone", "chance")
    ]
    # Guessing frequent classes helps balanced accuracy less, so only that one is printed.
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table.partition("<tbody>")[2])
    assert cells == ["all", percent(reference["value"]), "12.5\u202f%", "6.2\u202f%", "50.0\u202f%", "10.0\u202f%"]
    # The most important caveat also stands at the top, the strongest rule first.
    top = page.text[: page.text.index("Read this first")]
    assert (
        "Without cells, balanced accuracy is 50.0\u202f% from the brightness of the images, 12.5\u202f% from the "
        f"position of the well, 6.2\u202f% from the plate, each alone; the network reaches "
        f"{percent(reference['value'])}"
    ) in top


def row_with(**changes: Any) -> ScoreRow:
    fields: dict[str, Any] = dict(
        level="well", views=1, wells="treatments", subset="all", metric="accuracy", value=0.2, interval=(0.1, 0.3),
        interval_over="experiment", n=10, n_groups=6, chance=0.15, transductive=False,
    )  # fmt: skip
    return ScoreRow(**(fields | changes))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (row_with(), "The interval includes chance"),
        (row_with(chance=0.05), "The whole interval lies above chance."),
        (row_with(chance=0.5), "The whole interval lies below chance: look for an error"),
        (row_with(interval=None, n_groups=1), "An interval needs at least 5 experiments"),
        (row_with(interval=None, n_groups=2, by_group={"E1": 0.1, "E2": 0.3}), "(E1 10.0\u202f%, E2 30.0\u202f%)"),
        (row_with(metric="balanced accuracy"), "with a balanced accuracy of 20.0\u202f%"),
        (row_with(level="site"), "On 10 held-out sites"),
    ],
)
def test_the_sentence_says_what_the_interval_says_of_chance(run_data: PlantedRun, row: ScoreRow, text: str) -> None:
    assert text in score_sentence(run_data.scores, row)


def test_no_95_percent_stands_beside_too_few_groups(run_data: PlantedRun) -> None:
    # 40 of 40 in two experiments: an earlier version wrote their range, 100 to 100 %.
    row = row_with(value=1.0, interval=(1.0, 1.0), n=40, n_groups=2, by_group={"E1": 1.0, "E2": 1.0})
    assert row.interval is None
    text = score_sentence(run_data.scores, row)
    assert "95" not in text
    assert "above chance" not in text
    few_groups = dataclasses.replace(
        load(run_data.run, run_data.screen), scores=run_data.scores.model_copy(update={"rows": (row,)})
    )
    html = str(score_table(few_groups).__html__())
    assert "95" not in html
    assert "by experiment" in html
    assert "100.0 · 100.0\u202f%" in html
    assert html.count('class="group"') == 1 + 2  # the line of the table, and a ring for each


def test_warnings_name_what_distorts_the_scores_and_nothing_twice(run_data: PlantedRun, tmp_path: Path) -> None:
    warnings = " ".join(warnings_of(load(run_data.run, run_data.screen)))
    assert "forced" not in warnings
    assert "In some rows of the score table the method saw the test plates" in warnings
    assert (
        "1 perturbation of the held-out wells had no training well and is left out of the scores: siRNA_3." in warnings
    )
    assert "1 well could not be read during prediction." in warnings
    assert "3 entries of the screen were refused" in warnings
    assert "Cell type joined the features." in warnings
    assert "The check of the positive controls is violated: They should be recognised most surely" in warnings
    assert "negative controls is violated" not in warnings
    run = copy_of(run_data, tmp_path)
    notes = ("The split was forced: x.", "4 held-out sites of siRNA_3 are not scored: no training well has them.")
    run_data.scores.model_copy(update={"forced": True, "notes": notes}).write(run.scores)
    warnings = " ".join(warnings_of(load(run, run_data.screen)))
    assert warnings.count("split was forced") == 1
    assert warnings.count("no training well") == 1


def test_a_forced_split_is_stamped_on_the_page_and_its_charts(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    run_data.scores.model_copy(update={"forced": True}).write(run.scores)
    for name in build(run, run_data):
        assert '<main class="forced">' in (run.report / f"{name}.html").read_text(encoding="utf-8")
    charts = list((run.report / "figures").glob("*.svg"))
    assert len(charts) == 7
    assert all("forced split" in chart.read_text(encoding="utf-8") for chart in charts)


def test_the_row_of_the_confusion_with_most_errors_is_named() -> None:
    counts = np.array([[5, 2, 0], [0, 1, 7], [1, 0, 0]])
    matrix = read_confusion({"perturbations": ["a", "b", "c"], "counts": counts.tolist()})
    assert confused_pairs(matrix) == [("b", "c", 7, 8), ("a", "b", 2, 7), ("c", "a", 1, 1)]
    assert counts[0, 0] == 5


def test_many_perturbations_become_a_list_of_confused_pairs(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    names = [f"gene_{k}" for k in range(60)]
    counts = np.eye(60, dtype=int) * 3
    counts[7, 41] = 9
    confusion = {"perturbations": names, "counts": counts.tolist()}
    run_data.scores.model_copy(update={"confusion": confusion}).write(run.scores)
    page = build(run, run_data)["scores"]
    assert "A matrix of 60 perturbations cannot be read." in page.text
    assert not (run.report / "figures" / "confusion.svg").exists()
    assert (
        "gene_7 gene_41 9 12 75\u202f%" in re.sub(r"\s+", " ", page.text).replace("\xa0", " ") or "gene_41" in page.text
    )


def test_predictions_of_a_screen_without_a_held_out_well_are_told(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    table = run_data.wells.table.assign(Metadata_Fold="train")
    wells = Predictions(
        level="well", table=pd.DataFrame(table), logits=run_data.wells.logits, embedding=run_data.wells.embedding,
        perturbations=run_data.wells.perturbations, views=1,
    )  # fmt: skip
    wells.write(run.predictions)
    run_data.scores.model_copy(update={"rows": ()}).write(run.scores)
    pages = build(run, run_data)
    assert "No well is held out, so there is no plate to show." in pages["plates"].text
    assert "Nothing could be scored: no held-out well has a known and trained perturbation." in pages["scores"].text


def test_the_confusion_is_normalized_by_the_true_perturbation(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    confusion = {"perturbations": ["a", "b"], "counts": [[3, 1], [0, 10]]}
    run_data.scores.model_copy(update={"confusion": confusion}).write(run.scores)
    build_report(run, run_data.screen)
    html = (run.report / "figures" / "confusion.svg").read_text(encoding="utf-8")
    opacities = [part.split(";")[0].split('"')[0] for part in html.split("fill-opacity: ")[1:]]
    assert opacities[:2] == ["0.75", "0.25"]


def test_the_headline_prefers_a_row_whose_method_has_not_seen_the_test_plates(run_data: PlantedRun) -> None:
    rows = (
        row_with(transductive=True, value=0.9),
        row_with(subset="cell type HUVEC", value=0.8),
        row_with(level="site", value=0.7),
        row_with(wells="with controls", value=0.6),
        row_with(views=8, value=0.5),
        row_with(value=0.4),
    )
    for left_out, value in ((0, 0.4), (1, 0.5), (2, 0.6), (3, 0.7), (4, 0.9), (5, 0.9)):
        result = main_row(run_data.scores.model_copy(update={"rows": rows[: len(rows) - left_out]}))
        assert result is not None
        assert result.value == value
    assert main_row(run_data.scores.model_copy(update={"rows": ()})) is None
