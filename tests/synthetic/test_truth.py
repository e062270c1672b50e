"""What is planted counts only in the screen that it was planted in; a laboratory may name a file of its own so."""

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
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "plates"
    simulate(folder, SimulationConfig.model_validate(FEW), workers=1)
    return folder


@pytest.fixture
def screen(simulated: Path, tmp_path: Path) -> Screen:
    shutil.copytree(simulated, tmp_path / "plates")
    return index(tmp_path / "plates", layout="rxrx1")


def told(screen: Screen) -> tuple[object, list[str]]:
    said: list[str] = []
    return truth_of(screen, say=said.append), said


def test_the_truth_of_a_simulated_screen_is_taken(screen: Screen, simulated: Path) -> None:
    assert told(screen) == (read_truth(simulated), [])


def test_without_labels_it_is_taken_as_well(screen: Screen) -> None:
    """Treatments of a test experiment have none."""
    blank = replace(screen, sites=screen.sites.assign(perturbation=""))
    assert told(blank)[0] is not None


@pytest.mark.parametrize(
    "content", ['{"A01": "cat"}', "[]", "", "\ufeffnot json", "[" * 100_000, '{"schema_version": 2, "sites": []}']
)
def test_a_file_of_a_laboratory_is_left_aside(screen: Screen, content: str) -> None:
    (screen.source / "truth.json").write_text(content, encoding="utf-8")  # type: ignore[union-attr]
    truth, said = told(screen)
    assert truth is None
    assert [words.partition("truth.json")[2] for words in said] == [
        " was not written by `distangle simulate`: it is ignored, and the screen is treated as a real one."
    ]
    with pytest.raises(ScreenError, match=r"truth\.json is damaged: .*`distangle simulate OUT`"):
        read_truth(screen.source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plate": "P-B"}, "does not know"),  # no number, which is no reason to break
        ({"experiment": "E9"}, "does not know HUVEC|does not know E9"),
        ({"site": 7}, "does not know"),
        ({"perturbation": "aspirin"}, "not 'aspirin'"),
    ],
)
def test_the_truth_of_another_screen_is_left_aside(screen: Screen, changes: dict[str, object], words: str) -> None:
    other = replace(screen, sites=screen.sites.assign(**changes))
    truth, said = told(other)
    assert truth is None
    assert len(said) == 1
    assert "belongs to another screen" in said[0]
    assert any(word in said[0] for word in words.split("|"))
    table = pd.DataFrame(columns=["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site"])
    assert planted_truth(other, table, binning=1) is None


def test_a_real_screen_has_none_and_nothing_is_said(screen: Screen) -> None:
    (screen.source / "truth.json").unlink()  # type: ignore[union-attr]
    assert told(screen) == (None, [])


def test_plates_are_known_by_number_or_text(simulated: Path) -> None:
    truth = read_truth(simulated)
    one = truth.sites[0]
    assert truth.site(one.experiment, str(one.plate), one.well, one.site) == one
    assert truth.site(one.experiment, one.plate, one.well, one.site) == one
    assert truth.find(one.experiment, "P-B", one.well, one.site) is None
    assert json.loads((simulated / "truth.json").read_text())["sites"]
