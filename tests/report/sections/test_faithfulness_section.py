import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.report import build_report
from distangle.results import Faithfulness
from report_run import Plan, PlantedRun, make_run


def similarity(mean: float) -> dict:
    return {"mean": mean, "interval": None, "absolute": abs(mean), "null": [-0.1, 0.1], "null_absolute": 0.2}


def curve(mean: float, p: float, values: list[float]) -> dict:
    return {
        "probability": {
            "mean": mean, "interval": None, "random": 0.5, "p": p, "curve": values, "random_curve": [0.9, 0.5, 0.1],
        }
    }  # fmt: skip


def faithfulness_of(verdicts: dict[str, str]) -> Faithfulness:
    stages = ["templates", "neck", "features.conv1"]
    summary = {
        "sites": 7,
        "grid": [4, 4],
        "interval_over": "experiment",
        "curves": {
            "blur": {
                "sites": 5, "deleted": [0.0, 0.5, 1.0], "inserted": [0.0, 0.5, 1.0],
                "deletion": curve(0.21, 0.003, [0.9, 0.2, 0.1]), "insertion": curve(0.77, 0.004, [0.1, 0.8, 0.9]),
            }
        },
        "randomization": {
            "networks": 2, "before_training": "features.conv1", "channels": {},
            "stages": [{"stage": stage, **similarity(0.05)} for stage in stages],
        },
        "targets": similarity(-0.02),
        "views": {**similarity(0.91), "channels": None},
        "seeds": None,
        "shuffled": None,
        "verdicts": verdicts,
    }  # fmt: skip
    maps = np.random.default_rng(1).random((2, 8, 8)).astype(np.float32)
    return Faithfulness(
        table=pd.DataFrame({"row": [0, 1], "deletion_auc": [0.2, 0.3]}),
        arrays={"maps/trained": maps, "maps/untrained/features.conv1": maps[::-1]},
        settings={"method": "grad_cam"},
        summary=summary,
        sentences=("views: maps turn with the image.",),
    )


@pytest.fixture
def own_run(tmp_path: Path) -> PlantedRun:
    return make_run(tmp_path, Plan(explained=4))


def test_the_page_says_which_tests_were_passed_and_what_was_found(own_run: PlantedRun) -> None:
    verdicts = dict.fromkeys(("deletion", "insertion", "randomization", "targets", "views"), "passes")
    faithfulness_of(verdicts).write(own_run.run.explanations)
    page = build_report(own_run.run, own_run.screen).with_name("checks.html").read_text()
    assert "Tests of the attribution maps on 7 sites" in page
    assert "replaced by the blurred image: mean probability 0.21, random maps 0.50, p = 0.003" in page
    assert "similarity 0.05 once all weights are random (random maps −0.10 to 0.10)" in page
    assert "views: maps turn with the image." in page
    assert "Do not rely" not in page
    for name in ("deletion.svg", "randomization.svg", "maps-1.png", "maps-2.png"):
        assert (own_run.run.report / "figures" / name).exists()
        assert f'src="figures/{name}"' in page


def test_a_failed_test_stands_above_all_else(own_run: PlantedRun) -> None:
    faithfulness_of({"deletion": "passes", "randomization": "fails", "views": "cannot say"}).write(
        own_run.run.explanations
    )
    page = build_report(own_run.run, own_run.screen).with_name("checks.html").read_text()
    assert "Do not rely on these maps: they fail randomization." in page
    assert 'class="verdict fails"' in page


def test_without_tests_the_page_says_what_makes_them(own_run: PlantedRun) -> None:
    page = build_report(own_run.run, own_run.screen).with_name("checks.html").read_text()
    assert "The maps have not been tested." in page
    assert f"distangle explain {own_run.run.root}" in page


def test_tests_that_need_other_runs_are_named_with_their_command(own_run: PlantedRun) -> None:
    verdicts = dict.fromkeys(("deletion", "views"), "passes")
    faithfulness_of(verdicts).write(own_run.run.explanations)
    page = build_report(own_run.run, own_run.screen).with_name("checks.html").read_text()
    assert f"distangle explain {own_run.run.root} --seeds OTHER_RUN" in page
    assert f"distangle explain {own_run.run.root} --shuffled RUN" in page


def test_the_page_says_how_much_of_the_maps_lies_on_cells_or_why_not(own_run: PlantedRun) -> None:
    faithfulness_of({"views": "passes"}).write(own_run.run.explanations)
    entry = {"share": 0.44, "interval": None, "area": 0.3, "null": [0.2, 0.4], "p": 0.012}
    cells = {
        "sites": 9,
        "empty": 0,
        "nuclei": entry,
        "cells": {**entry, "share": 0.81},
        "background": {**entry, "p": 0.9},
    }
    for cells_result, expected in (
        (cells, ["Where the maps of 9 sites lie", "cells with their nuclei", "81%", "20% to 40%", "0.012"]),
        ("No channel shows nuclei.", ["Nuclei and cells were not segmented: No channel shows nuclei."]),
    ):
        summary = {**own_run.explanation.summary, "cells": cells_result}
        dataclasses.replace(own_run.explanation, summary=summary).write(own_run.run.explanations)
        page = build_report(own_run.run, own_run.screen).with_name("checks.html").read_text()
        for sentence in expected:
            assert sentence in page
