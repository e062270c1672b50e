"""Pages of runs that chose a batch correction, were cross-validated, or held nothing out."""

import dataclasses
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from distangle.errors import RunError
from distangle.report import build_report
from distangle.results import RunFolder
from report_run import PlantedRun

NONE = {"method": "none", "group": "experiment", "wells": "controls"}
CENTRE = {"method": "center", "group": "plate", "wells": "controls"}
CORRECTION: dict[str, Any] = {
    "chosen": CENTRE,
    "expect": "plates",
    "reason": "For new plates (as was asked for): balanced accuracy 0.625 over 3 folds of training plates, none 0.500.",
    "compared": [
        {**NONE, "name": "none", "balanced_accuracy": 0.5, "by_fold": [0.45, 0.5, 0.55], "share_corrected": 0.0},
        {
            **CENTRE,
            "name": "center by the negative controls of the plate",
            "balanced_accuracy": 0.625,
            "by_fold": [0.6, 0.625, 0.65],
            "share_corrected": 0.42,
        },
    ],
}
PLAN = {"n_folds": 4, "group": "plate", "expect": "plates", "why": "as was asked for", "hidden": None}


@pytest.fixture
def run(run_data: PlantedRun, tmp_path: Path) -> RunFolder:
    shutil.copytree(run_data.run.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def describe(run: RunFolder, **fields: object) -> None:
    run.run.write_text(json.dumps({**run.describe(), **fields}))


def text_of(index: Path, *names: str) -> str:
    """Return the text of pages of a report; all of them without names."""
    paths = [index.with_name(f"{name}.html") for name in names] or sorted(index.parent.glob("*.html"))
    plain = re.sub(r"<[^>]+>", " ", " ".join(path.read_text(encoding="utf-8") for path in paths))
    return " ".join(html.unescape(plain).split())


def test_what_was_chosen_stands_with_its_reason_beside_all_that_was_compared(
    run_data: PlantedRun, run: RunFolder
) -> None:
    run.correction.write_text(json.dumps(CORRECTION))
    page = build_report(run, run_data.screen, one_file=True).with_name("method.html")
    text = text_of(page, "method")
    assert '<div class="part" id="correction">' in page.read_text()
    assert '<details class="part" id="correction">' in page.with_name("report.html").read_text()
    assert f"Chosen: center by the negative controls of the plate . {CORRECTION['reason']}" in text
    assert "none 50.0 % 45.0 · 50.0 · 55.0 % 0 %" in text
    assert "center by the negative controls of the plate 62.5 % 60.0 · 62.5 · 65.0 % 42 %" in text
    assert "<strong>62.5\u202f%</strong>" in page.read_text()
    assert "<strong>50.0\u202f%</strong>" not in page.read_text()
    assert "fades to no correction" in text
    assert "Training and held-out wells have separate estimates" in text


def test_a_run_that_chose_nothing_has_no_such_section_and_one_that_could_not_compare_no_table(
    run_data: PlantedRun, run: RunFolder
) -> None:
    assert "Batch correction" not in text_of(build_report(run, run_data.screen))
    reason = "Nothing could be compared: the training wells are of one plate."
    run.correction.write_text(json.dumps({**CORRECTION, "chosen": NONE, "reason": reason, "compared": []}))
    text = text_of(build_report(run, run_data.screen), "method")
    assert f"Chosen: none . {reason}" in text
    assert "share corrected 0" not in text
    assert "one-sided t test" not in text


def test_a_damaged_choice_is_named(run_data: PlantedRun, run: RunFolder) -> None:
    run.correction.write_text("{")
    with pytest.raises(RunError, match=r"correction\.json is damaged: .* train the run again"):
        build_report(run, run_data.screen)


def test_scores_of_a_cross_validation_are_said_to_be_out_of_fold(run_data: PlantedRun, run: RunFolder) -> None:
    describe(run, cross_validation=PLAN, held_out="cross-validation over 4 sets of whole plates")
    run.correction.write_text(json.dumps(CORRECTION))
    for k, choice in enumerate((NONE, CENTRE, NONE, NONE), start=1):
        fold = run.cross_validation / f"fold-{k}"
        fold.mkdir(parents=True)
        (fold / "correction.json").write_text(json.dumps({**CORRECTION, "chosen": choice}))
    index = build_report(run, run_data.screen)
    text = text_of(index, "index")
    assert "Scores are out of fold: in each of 4 folds a network was trained with some whole plates held out" in text
    assert "The final network, which predicts new screens, was then trained on all wells" in text
    text = text_of(index, "method")
    assert "the final network, trained on all wells: it has no held-out wells." in text
    assert "none in 3 folds, center by the negative controls of the plate in 1 fold" in text
    text = text_of(index, "provenance")
    assert "distangle train SCREEN --epochs 12 --cross-validate 4" in text.replace("--preset small ", "")


@pytest.mark.parametrize("has_prediction", [True, False])
def test_a_run_that_held_nothing_out_says_so_in_every_section(
    run_data: PlantedRun, run: RunFolder, *, has_prediction: bool
) -> None:
    describe(run, held_out="nothing")
    if has_prediction:
        note = "Nothing was held out, so nothing is scored."
        empty = {"perturbations": [], "counts": []}
        run_data.scores.model_copy(
            update={"rows": (), "confusion": empty, "controls": {}, "held_out": "nothing", "never_trained": (),
                    "notes": (note,)}
        ).write(run.scores)  # fmt: skip
        table = run_data.wells.table.assign(Metadata_Fold="train")
        dataclasses.replace(run_data.wells, table=table).write(run.predictions)
    else:
        shutil.rmtree(run.predictions)
    text = text_of(build_report(run, run_data.screen))
    assert "Nothing was held out and nothing was scored: the network was trained on all wells" in text
    assert "Nothing was held out, so there is no held-out curve." in text
    assert "--hold-out none" in text
    assert "There is no score yet" not in text
    if has_prediction:
        assert text.count("Nothing was held out, so nothing is scored.") == 1
        assert "no error can be counted" in text
        assert "No well is held out, so there is no plate to show." in text
        assert "Nothing was held out, so the controls could not be checked (Sec. 2.2)." in text


def test_held_out_wells_without_a_known_label_are_no_missing_prediction(run_data: PlantedRun, run: RunFolder) -> None:
    run_data.scores.model_copy(update={"rows": ()}).write(run.scores)
    text = text_of(build_report(run, run_data.screen))
    assert text.count("Nothing could be scored: no held-out well has a known and trained perturbation.") == 2
    assert "There is no score yet" not in text
