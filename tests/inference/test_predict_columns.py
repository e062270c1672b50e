"""A whole prediction of a small RxRx1 screen: columns of wells, scores, and the Kaggle file of its test wells."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.cli import main
from distangle.images import probe_image
from distangle.inference import predict_run
from distangle.results import RunFolder, Scores
from distangle.screen import hold_out, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, simulate
from distangle.training import resolve_config, start_run
from tiny_run import TRAINING, finish_run, tiny_screen, tiny_start


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ with five experiments of two plates, one of them without labels; run/ that held two out; kaggle.csv."""
    folder = tmp_path_factory.mktemp("rxrx1")
    config = SimulationConfig(
        image_size=32, cell_types=("HUVEC",), experiments_per_cell_type=5, n_test_experiments=1, n_treatments=12,
        n_positive_controls=1, n_negative_controls=1, sites_per_well=1,
    )  # fmt: skip
    simulate(folder / "plates", config, workers=1)
    write_screen(index(folder / "plates", layout="rxrx1", probe=probe_image), folder / "screen")
    screen = read_screen(folder / "screen")
    held_out = sorted(set(screen.sites["experiment"][screen.sites["split"] == "train"]))[:2]
    folds = hold_out(screen, column="experiment", values=held_out)
    finish_run(start_run(screen, folds, resolve_config("scratch", TRAINING, epochs=1), folder / "run"))
    main(["predict", str(folder / "run"), "--kaggle", str(folder / "kaggle.csv")])
    return folder


def test_the_columns_of_wells_are_those_of_the_screen(lab: Path) -> None:
    run = RunFolder.open(lab / "run")
    wells = pd.read_parquet(run.predictions / "wells_views8.parquet")
    in_training = (wells["Metadata_Fold"] == "train") & (wells["perturbation"] != "")
    treatments = wells["Metadata_Role"] == "treatment"
    layout_wells = wells[~in_training & treatments]
    assert set(wells["group_size"][in_training | ~treatments]) == {0}
    assert set(layout_wells["group_size"]) == {6}
    for _, plate in layout_wells.groupby(["Metadata_Experiment", "Metadata_Plate"]):
        assert len(plate) == plate["predicted_by_assignment"].nunique() == 6
        assert set(plate["predicted_by_group"]) <= set(plate["predicted_by_assignment"])
    # Test wells have no label, and are predicted all the same.
    assert (layout_wells["perturbation"] == "").sum() == 12
    assert np.array_equal(wells["unlike_training"].isna(), in_training)
    assert wells["unlike_training"].dropna().between(0, 1).all()
    (calibration,) = [one for one in Scores.read(run.scores).calibration if (one.level, one.views) == ("well", 8)]
    assert ("calibrated_confidence" in wells) == (not calibration.reason)
    assert "group_size" not in pd.read_parquet(run.predictions / "sites_views8.parquet").columns


def test_scores_say_what_they_use(lab: Path) -> None:
    scores = Scores.read(RunFolder.open(lab / "run").scores)
    assert {row.layout for row in scores.rows} == {"", "plate group", "one perturbation per well"}
    layouts = [row for row in scores.rows if row.layout]
    assert {(row.level, row.wells, row.n) for row in layouts if row.subset == "all"} == {("well", "treatments", 24)}
    assert [row.chance for row in layouts] == pytest.approx([1 / 6] * len(layouts))
    top = [row for row in scores.rows if row.metric == "top-5 accuracy" and row.subset == "all"]
    assert {(row.level, row.views, row.wells) for row in top} == {
        (level, views, wells)
        for level in ("site", "well")
        for views in (1, 8)
        for wells in ("treatments", "with controls")
    }
    accuracy = {
        (row.level, row.views, row.wells): row for row in scores.rows if (row.metric, row.subset) == ("accuracy", "all")
    }
    assert all(row.value >= accuracy[row.level, row.views, row.wells].value for row in top if not row.layout)
    assert [(one.level, one.views) for one in scores.calibration] == [
        ("site", 1),
        ("site", 8),
        ("well", 1),
        ("well", 8),
    ]
    assert all(one.reason or len(one.temperatures) == 2 for one in scores.calibration)
    assert scores.well_columns["layout"].startswith("In the training wells, every plate carries one of 2 groups")
    assert "24 held-out wells" not in scores.well_columns["unlike_training"]  # 12 of the other experiment are too few


def test_the_kaggle_file_has_every_test_well(lab: Path) -> None:
    with (lab / "kaggle.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with next(lab.glob("plates/**/test.csv")).open(newline="") as file:
        expected = [row["id_code"] for row in csv.DictReader(file)]
    assert sorted(row["id_code"] for row in rows) == sorted(expected)
    wells = pd.read_parquet(lab / "run" / "predictions" / "wells_views8.parquet").set_index("Metadata_id_code")
    assert [row["sirna"] for row in rows] == [wells["predicted"][row["id_code"]] for row in rows]


@pytest.mark.parametrize("name", ["", "HUVEC-77"])
def test_a_part_of_the_screen_and_another_screen_take_the_training_wells_of_the_run(lab: Path, name: str) -> None:
    run, screen = RunFolder.open(lab / "run"), read_screen(lab / "screen")
    sites = screen.sites[screen.sites["split"] == "test"].reset_index(drop=True)
    sites = sites.assign(experiment=name) if name else sites
    metadata = screen.metadata.model_copy(update={"sites_sha256": "ab" * 32}) if name else screen.metadata
    other = type(screen)(metadata=metadata, sites=sites, problems=screen.problems, folder=lab / "screen")
    scores, _ = predict_run(run, other, out=lab / f"other{name}")
    wells = pd.read_parquet(lab / f"other{name}" / "wells_views8.parquet")
    assert "24 held-out wells" in scores.well_columns["unlike_training"]
    treatments = wells["Metadata_Role"] == "treatment"  # the controls of the test plates were trained on
    assert np.array_equal(wells["unlike_training"].notna(), treatments)
    assert (wells["group_size"][treatments] == 6).all()


def test_a_screen_without_the_layout_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_start(tiny_screen(tmp_path), tmp_path / "run", epochs=1)
    finish_run(run)
    with pytest.raises(SystemExit):
        main(["predict", str(run.root), "--kaggle", str(tmp_path / "kaggle.csv")])
    assert "The network predicts 'DMSO' (3 such classes): a Kaggle file needs" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not run.scores.exists()
    scores, _ = predict_run(run, read_screen(tmp_path / "screen"))
    assert scores.well_columns["layout"] == (
        "No prediction uses the layout of the plate: taxol occurs 3 times on the training plate E1 1."
    )
    assert "needs 20" in scores.well_columns["unlike_training"]
    assert {row.metric for row in scores.rows} == {"accuracy", "balanced accuracy"}
    assert all(one.reason for one in scores.calibration)
    assert not {"predicted_by_group", "unlike_training"} & set(pd.read_parquet(run.predictions / "wells.parquet"))
