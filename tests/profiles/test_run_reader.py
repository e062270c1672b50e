"""Which vectors and which wells of a run become profiles."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.profiles.readers import ProfilesFile, read_profiles
from distangle.profiles.run_reader import RunRows
from distangle.results import Predictions

WELLS = ("B02", "B03", "B04", "B05")
EMBEDDING = np.arange(8, dtype=np.float32).reshape(4, 2)
BACKBONE = np.arange(12, dtype=np.float32).reshape(4, 3) + 100


def make_run(folder: Path, fold: list[str], *, n_folds: int = 0, backbone: bool = False) -> Path:
    table = pd.DataFrame(
        {
            "Metadata_Experiment": "e", "Metadata_Plate": "1", "Metadata_Well": WELLS, "Metadata_Site": "1",
            "Metadata_Role": "treatment", "Metadata_Fold": fold, "perturbation": "s1", "predicted": "s1",
            "reason": ["", "", "", "no file"],
        }
    )  # fmt: skip
    (folder / "predictions").mkdir(parents=True)
    record = {"cross_validation": {"n_folds": n_folds}} if n_folds else {}
    (folder / "run.json").write_text(json.dumps(record))
    values = EMBEDDING.copy()
    values[3] = np.nan
    Predictions(
        level="site", table=table, logits=values[:, :1], embedding=values, perturbations=("s1",), views=1
    ).write(folder / "predictions")
    if backbone:
        (folder / "features").mkdir()
        card = {"shape": [4, 2, 3], "unreadable": {"3": "no file"}}
        (folder / "features" / "features.json").write_text(json.dumps(card))
        np.save(folder / "features" / "statistics.npy", np.zeros((4, 2, 1), np.float32))
        np.save(folder / "features" / "00000.npy", np.stack([BACKBONE, -BACKBONE], axis=1))
    return folder


def wells_of(file: ProfilesFile) -> list[str]:
    assert file.n_found == len(file.profiles) + len(file.refused) + file.n_trained
    return file.profiles.table["Metadata_Well"].tolist()


def test_held_out_wells_are_the_default_of_a_run_that_holds_wells_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["train", "held_out", "train", "held_out"])
    file = read_profiles(run, of_run=RunRows(features="auto", wells="auto"))
    assert wells_of(file) == ["B03"]
    np.testing.assert_array_equal(file.profiles.features, EMBEDDING[[1]])
    assert file.n_trained == 2
    assert file.notes == ()
    assert file.sentence().endswith("1 used, 1 refused, 2 left out (the network was trained on them).")
    assert file.profiles.provenance["wells"] == "held_out"


def test_training_wells_are_marked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["train", "held_out", "train", "held_out"])
    file = read_profiles(run, of_run=RunRows(wells="all"))
    assert wells_of(file) == ["B02", "B03", "B04"]
    assert file.notes[0].startswith("The network was trained on 2 of 3 sites: replicates look more alike")


def test_backbone_features_are_the_default_of_a_cross_validation(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["held_out"] * 4, n_folds=2, backbone=True)
    file = read_profiles(run, of_run=RunRows(features="auto", wells="auto"))
    assert wells_of(file) == ["B02", "B03", "B04"]
    np.testing.assert_array_equal(file.profiles.features, BACKBONE[:3])
    assert file.notes == ()
    assert file.profiles.feature_names[0] == "backbone_0"


def test_the_final_network_of_a_cross_validation_knows_all_wells(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["held_out"] * 4, n_folds=2)
    file = read_profiles(run, of_run=RunRows(features="auto", wells="auto"))
    assert wells_of(file) == ["B02", "B03", "B04"]
    assert "trained on 3 of 3 sites" in file.notes[0]
    with pytest.raises(ProfileError, match="trained on all 3 sites. Expected some that it was not trained on"):
        read_profiles(run, of_run=RunRows(wells="held_out"))


def test_predictions_of_another_screen_are_a_source(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["", "", "", ""])
    assert wells_of(read_profiles(run / "predictions", of_run=RunRows(features="auto", wells="auto"))) == [
        "B02",
        "B03",
        "B04",
    ]


def test_what_a_source_lacks_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["held_out"] * 4)
    with pytest.raises(ProfileError, match="no features of a frozen backbone.*--features embedding"):
        read_profiles(run, of_run=RunRows(features="backbone"))
    table = tmp_path / "table.csv"
    table.write_text("Metadata_Plate,Metadata_Well,f\n1,B02,1\n")
    with pytest.raises(ProfileError, match=r"is no run, but features or wells of a run are asked for"):
        read_profiles(table, of_run=RunRows(features="backbone"))
    other = make_run(tmp_path / "other", ["held_out"] * 4, backbone=True)
    card = other / "features" / "features.json"
    card.write_text(card.read_text().replace("[4, 2, 3]", "[3, 2, 3]"))
    with pytest.raises(ProfileError, match="features of 3 sites, but the predictions have 4 rows"):
        read_profiles(other, of_run=RunRows(features="backbone"))
