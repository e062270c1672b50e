"""Test that a ground truth is used only for its own screen."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.explain.context import planted_truth
from distangle.screen import Screen, index
from distangle.synthetic import SimulationConfig, simulate
from distangle.synthetic.truth import read_truth, truth_of

FEW = {
    "image_size": 32, "cell_types": ("HUVEC",), "experiments_per_cell_type": 1, "plates_per_experiment": 1,
    "n_treatments": 2, "n_positive_controls": 1, "n_negative_controls": 1, "sites_per_well": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "plates"
    simulate(folder, SimulationConfig.model_validate(FEW), workers=1)
    return folder


@pytest.fixture
def screen(lab_folder: Path, tmp_path: Path) -> Screen:
    shutil.copytree(lab_folder, tmp_path / "plates")
    return index(tmp_path / "plates", layout="rxrx1")


def read_messages(screen: Screen) -> tuple[object, list[str]]:
    messages: list[str] = []
    return truth_of(screen, say=messages.append), messages


def test_the_truth_of_a_simulated_screen_is_taken(screen: Screen, lab_folder: Path) -> None:
    assert read_messages(screen) == (read_truth(lab_folder), [])


def test_without_labels_it_is_taken_as_well(screen: Screen) -> None:
    """Treatments of a test experiment have no label."""
    blank_screen = replace(screen, sites=screen.sites.assign(perturbation=""))
    assert read_messages(blank_screen)[0] is not None


@pytest.mark.parametrize(
    "content", ['{"A01": "cat"}', "[]", "", "\ufeffnot json", "[" * 100_000, '{"schema_version": 2, "sites": []}']
)
def test_a_file_of_a_laboratory_is_left_aside(screen: Screen, content: str) -> None:
    (screen.source / "truth.json").write_text(content, encoding="utf-8")  # type: ignore[union-attr]
    truth, messages = read_messages(screen)
    assert truth is None
    assert [message.partition("truth.json")[2] for message in messages] == [
        " was not written by `distangle simulate`: it is ignored, and the screen is treated as a real one."
    ]
    with pytest.raises(ScreenError, match=r"truth\.json is damaged: .*`distangle simulate OUT`"):
        read_truth(screen.source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"plate": "P-B"}, "lacks"),  # not a number: refused, not a crash
        ({"experiment": "E9"}, "lacks HUVEC|lacks E9"),
        ({"site": 7}, "lacks"),
        ({"perturbation": "aspirin"}, "not 'aspirin'"),
    ],
)
def test_the_truth_of_another_screen_is_left_aside(screen: Screen, changes: dict[str, object], reasons: str) -> None:
    other = replace(screen, sites=screen.sites.assign(**changes))
    truth, messages = read_messages(other)
    assert truth is None
    assert len(messages) == 1
    assert "belongs to another screen" in messages[0]
    assert any(reason in messages[0] for reason in reasons.split("|"))
    table = pd.DataFrame(columns=["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site"])
    assert planted_truth(other, table, binning=1) is None


def test_a_real_screen_has_none_and_nothing_is_said(screen: Screen) -> None:
    (screen.source / "truth.json").unlink()  # type: ignore[union-attr]
    assert read_messages(screen) == (None, [])


def test_plates_are_known_by_number_or_text(lab_folder: Path) -> None:
    truth = read_truth(lab_folder)
    one = truth.sites[0]
    assert truth.site(one.experiment, str(one.plate), one.well, one.site) == one
    assert truth.site(one.experiment, one.plate, one.well, one.site) == one
    assert truth.find(one.experiment, "P-B", one.well, one.site) is None
    assert json.loads((lab_folder / "truth.json").read_text())["sites"]
