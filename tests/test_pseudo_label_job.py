"""Pseudo labels through the command line on a tiny synthetic screen: three folds, a resume, and messages."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from distangle.cli import main
from distangle.errors import ConfigError, FoldError
from distangle.results import Predictions, RunFolder, Scores
from distangle.screen import Folds, hide_labels, hold_out, read_screen

SETTINGS = (
    "image_size=64",
    "magnification=0.6",
    "cell_types=[HUVEC]",
    "experiments_per_cell_type=4",
    "n_treatments=4",
    "n_positive_controls=1",
    "n_negative_controls=2",
    "sites_per_well=2",
)
FOLDS = ("--hold-out", "experiment=HUVEC-04", "--unlabelled", "experiment=HUVEC-02,HUVEC-03")
SMALL = ("--preset", "scratch", "--epochs", "4", "--set", "batch_size=8", "--set", "pseudo_labels.from_epoch=1")
OFTEN = ("--set", "checkpointing.every_steps=1")
ALWAYS = (
    "--set",
    "pseudo_labels.max_gap=2",
    "--set",
    "pseudo_labels.min_precision=0",
    "--set",
    "pseudo_labels.min_entropy=0",
)
ACCEPTING = ("--set", "pseudo_labels.confidence=0", "--set", "pseudo_labels.max_drop=2")


def training_arguments(strategy: str) -> list[str]:
    return [*SMALL, *OFTEN, *ALWAYS, *ACCEPTING, "--set", f"pseudo_labels.strategy={strategy}", *FOLDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pseudo labels")
    main(["simulate", str(root / "plates"), *(word for pair in SETTINGS for word in ("--set", pair)), "--workers", "1"])
    main(["index", str(root / "plates"), "--out", str(root / "screen")])
    for strategy in ("alpha_ramp", "progressive"):
        main(["train", str(root / "screen"), "--out", str(root / "runs" / strategy), *training_arguments(strategy)])
    main(["predict", str(root / "runs/alpha_ramp")])
    return root


@pytest.mark.parametrize("strategy", ["alpha_ramp", "progressive"])
def test_every_round_is_logged_and_the_run_says_what_it_did(folder: Path, strategy: str) -> None:
    run = RunFolder.open(folder / "runs" / strategy)
    metrics = pd.read_csv(run.metrics)
    names = ["accept_rate", "entropy", "choice_entropy", "agreement", "precision", "accuracy", "confidence", "stopped"]
    counts = metrics[[f"pseudo_{name}" for name in names]]
    assert counts.iloc[0].isna().all()  # T1 = 1: the first epoch has labels only
    assert counts.iloc[2:].notna().all(axis=None)
    assert (counts["pseudo_stopped"].iloc[1:] == 0).all()
    if strategy == "progressive":
        expected = [np.floor(8 * (0.4 + 0.6 * x)) / 8 for x in (1 / 4, 2 / 4, 3 / 4)]
        assert counts["pseudo_accept_rate"].iloc[1:].tolist() == pytest.approx(expected)
    else:
        assert counts["pseudo_accept_rate"].iloc[1:].tolist() == [1, 1, 1]
        weight = metrics["pseudo_weight"].iloc[1:]
        assert weight.is_monotonic_increasing
        assert 0 <= weight.iloc[0] < weight.iloc[-1] <= 1
    description = run.describe()
    assert description["unlabelled"] == "experiment=HUVEC-02,HUVEC-03"
    assert (description["pseudo_labels"]["strategy"], description["pseudo_labels"]["rounds"]) == (strategy, 3)
    assert description["pseudo_labels"]["stopped"] is None


def test_the_third_fold_is_predicted_marked_and_not_scored(folder: Path) -> None:
    table = Predictions.read(folder / "runs/alpha_ramp/predictions", level="site").table
    folds = table.groupby("Metadata_Experiment")["Metadata_Fold"].unique().str.join(" ").to_dict()
    assert folds == {
        "HUVEC-01": "train",
        "HUVEC-02": "unlabelled",
        "HUVEC-03": "unlabelled",
        "HUVEC-04": "held_out",
    }
    scores = Scores.read(folder / "runs/alpha_ramp/predictions/scores.json")
    held_out = table[table["Metadata_Fold"] == "held_out"]
    n = {row.n for row in scores.rows if row.level == "site" and row.wells == "with controls" and row.subset == "all"}
    assert n == {len(held_out)}
    hidden = int((table["Metadata_Fold"] == "unlabelled").sum())
    note = f"{hidden} sites of experiment=HUVEC-02,HUVEC-03 are predicted but not scored: their images were used"
    assert any(prefix.startswith(note) for prefix in scores.notes)


def test_hidden_labels_are_not_trained_on_and_change_nothing_but_the_counts(folder: Path, tmp_path: Path) -> None:
    """The same screen with every hidden label scrambled trains the same network, byte for byte."""
    screen = read_screen(folder / "screen")
    folds = hide_labels(screen, hold_out(screen, values=["HUVEC-04"]), values=["HUVEC-02", "HUVEC-03"])
    hidden = np.flatnonzero((folds.of(screen) == "unlabelled") & (screen.sites["role"] == "treatment").to_numpy())
    scrambled = screen.sites.copy()
    names = scrambled.loc[hidden, "perturbation"].to_numpy()
    scrambled.loc[hidden, "perturbation"] = names[::-1]
    assert (names[::-1] != names).any()
    other = tmp_path / "screen"
    other.mkdir()
    for name in ("screen.json", "problems.csv"):
        (other / name).write_bytes((folder / "screen" / name).read_bytes())
    card = json.loads((other / "screen.json").read_text())
    from dataclasses import replace

    from distangle.screen import write_screen

    write_screen(replace(screen, sites=scrambled), other)
    assert json.loads((other / "screen.json").read_text())["perturbations_sha256"] == card["perturbations_sha256"]
    main(["train", str(other), "--out", str(tmp_path / "run"), *training_arguments("alpha_ramp")])
    first = load_file(folder / "runs/alpha_ramp/checkpoints/model.safetensors")
    second = load_file(tmp_path / "run/checkpoints/model.safetensors")
    assert all(np.array_equal(first[name], second[name]) for name in first)
    counts = [
        pd.read_csv(run / "metrics.csv")[["pseudo_accuracy", "pseudo_accept_rate"]]
        for run in (folder / "runs/alpha_ramp", tmp_path / "run")
    ]
    assert counts[0]["pseudo_accept_rate"].equals(counts[1]["pseudo_accept_rate"])
    assert not counts[0]["pseudo_accuracy"].equals(counts[1]["pseudo_accuracy"])


@pytest.mark.parametrize("strategy", ["alpha_ramp", "progressive"])
def test_a_training_stopped_within_an_epoch_goes_on_bit_for_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    import distangle.training.checkpointing.manager as runs

    save, calls = runs.save_state, []

    def save_and_stop(*args: object, **options: object) -> object:
        paths = save(*args, **options)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 7:  # two steps an epoch, each saved, and its end
            raise KeyboardInterrupt
        return paths

    monkeypatch.setattr(runs, "save_state", save_and_stop)
    stopped_folder = folder / "runs" / f"stopped {strategy}"
    with pytest.raises(SystemExit):
        main(["train", str(folder / "screen"), "--out", str(stopped_folder), *training_arguments(strategy)])
    monkeypatch.undo()
    main(["train", "--resume", str(stopped_folder)])
    assert "resumed after step 1 of epoch 3" in capsys.readouterr().err
    first, second = (
        load_file(path / "checkpoints/model.safetensors") for path in (folder / "runs" / strategy, stopped_folder)
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    metrics = [
        pd.read_csv(path / "metrics.csv").filter(like="pseudo") for path in (folder / "runs" / strategy, stopped_folder)
    ]
    pd.testing.assert_frame_equal(*metrics)


def test_a_collapse_is_said_and_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # After one epoch a network has learned little and assigns the wells very unevenly.
    arguments = [word.replace("min_entropy=0", "min_entropy=1") for word in training_arguments("alpha_ramp")]
    main(["train", str(folder / "screen"), "--out", str(folder / "runs/collapsed"), *arguments])
    message = " ".join(capsys.readouterr().err.split())
    assert "pseudo labels end before epoch 2: the classes of" in message
    assert "Training goes on with labels only." in message
    run = RunFolder.open(folder / "runs/collapsed")
    assert run.describe()["pseudo_labels"]["stopped"]["epoch"] == 2
    assert pd.read_csv(run.metrics)["pseudo_stopped"].iloc[1:].tolist() == [1, 1, 1]


def error_of(folder: Path, *changes: str) -> str:
    from distangle.training import resolve_config, start_run

    screen = read_screen(folder / "screen")
    folds = hold_out(screen, values=["HUVEC-04"])
    with pytest.raises((ConfigError, FoldError)) as error:
        start_run(screen, folds, resolve_config("scratch", changes, epochs=4), folder / "runs/new")
    assert not (folder / "runs/new").exists()
    return str(error.value)


def test_pseudo_labels_that_nobody_would_get_or_that_come_too_late_are_refused(folder: Path) -> None:
    message = error_of(folder, "pseudo_labels.strategy=alpha_ramp")
    assert "pseudo_labels.from_epoch=30, but the training has 4 epochs" in message
    message = error_of(
        folder, "pseudo_labels.strategy=alpha_ramp", "pseudo_labels.from_epoch=3", "pseudo_labels.full_epoch=2"
    )
    assert "full_epoch=2 lies before from_epoch=3" in message
    message = error_of(folder, "pseudo_labels.strategy=progressive", "pseudo_labels.from_epoch=1")
    assert "every site outside the held-out fold has a known perturbation" in message
    assert "`--unlabelled experiment=NAME`" in message


def test_the_reported_fold_is_named_when_it_would_get_pseudo_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word.replace("HUVEC-02,HUVEC-03", "HUVEC-03,HUVEC-04") for word in training_arguments("alpha_ramp")]
    with pytest.raises(SystemExit):
        main(["train", str(folder / "screen"), "--out", str(folder / "runs/new"), *arguments])
    message = " ".join(capsys.readouterr().err.split())
    assert "sites of HUVEC-04 are held out (experiment=HUVEC-04) and would get pseudo labels" in message
    assert not (folder / "runs/new").exists()


def test_controls_of_hidden_plates_get_no_pseudo_label_and_treatments_no_control(folder: Path) -> None:
    from distangle.images import ImageCache
    from distangle.training import read_config
    from distangle.training.data.sites import labelled_sites
    from distangle.training.pseudo_labels.unlabelled_wells import candidate_rows, unlabelled_wells

    run = RunFolder.open(folder / "runs/alpha_ramp")
    screen, folds, config = read_screen(folder / "screen"), Folds.read(run.folds), read_config(run.config)
    classes = tuple(run.describe()["classes"])
    rows = candidate_rows(screen, folds, config, classes)
    assert set(screen.sites["role"].iloc[rows]) == {"treatment"}
    assert len(rows) == 2 * 4 * 2  # experiments, treatments, sites
    store = ImageCache(screen, config.preprocessing)
    labelled, _ = labelled_sites(store, np.flatnonzero(folds.of(screen) == "train"), classes, config)
    pool, _ = labelled_sites(store, rows, classes, config)
    wells = unlabelled_wells(screen, labelled, pool, classes, config)
    store.close()
    treatments = set(screen.sites.loc[screen.sites["role"] == "treatment", "perturbation"])
    assert {classes[k] for k in np.flatnonzero(wells.possible[0])} == treatments
    assert (len(wells.names), np.bincount(wells.well_of_site).tolist()) == (8, [2] * 8)
    assert wells.first_position == len(labelled.rows)


@pytest.mark.parametrize("with_controls", [True, False])
def test_controls_of_hidden_plates_join_behind_the_unlabelled_sites(folder: Path, with_controls: bool) -> None:
    from distangle.images import ImageCache
    from distangle.training import read_config
    from distangle.training.data.sites import labelled_sites
    from distangle.training.pseudo_labels.unlabelled_wells import join_unlabelled
    from distangle.training.validate import SiteEvaluation

    run = RunFolder.open(folder / "runs/alpha_ramp")
    screen, folds, config = read_screen(folder / "screen"), Folds.read(run.folds), read_config(run.config)
    config = config.model_copy(
        update={"pseudo_labels": config.pseudo_labels.model_copy(update={"controls": with_controls})}
    )
    classes = tuple(run.describe()["classes"])
    store = ImageCache(screen, config.preprocessing)
    labelled, _ = labelled_sites(store, np.flatnonzero(folds.of(screen) == "train"), classes, config)
    joined_sites, labeller = join_unlabelled(
        folds, labelled, classes, config, SiteEvaluation(store=store), say=lambda _: None
    )
    store.close()
    sites = screen.sites.iloc[joined_sites.rows]
    behind = sites.iloc[len(labelled.rows) + 16 :]
    hidden = folds.of(screen) == "unlabelled"
    controls = hidden & (screen.sites["role"] != "treatment").to_numpy()
    assert len(behind) == (controls.sum() if with_controls else 0)
    assert [classes[k] for k in labeller.wells.control_classes] == behind["perturbation"].tolist()
    assert (behind["role"] != "treatment").all()
    assert not (folds.of(screen)[joined_sites.rows] == "held_out").any()
    assert (joined_sites.labels[len(labelled.rows) :] == -1).all()
    assert joined_sites.statistics is not None
    assert len(joined_sites.statistics) == len(joined_sites.names) == len(joined_sites.rows)
