"""Controls added to every batch: which and how many, without a loss; resumed and predicted."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from distangle.errors import ConfigError, FoldError
from distangle.images import ImageCache
from distangle.inference import load_statistics, predict_run
from distangle.model import ModelConfig, build_classifier
from distangle.results import Predictions, RunFolder
from distangle.screen import Folds, Screen, hold_out, read_screen
from distangle.training import resolve_config
from distangle.training.data.loader import BatchLoader, TrainingBatch
from distangle.training.data.sites import LabelSource, class_names, control_sites, labelled_sites
from distangle.training.step import batch_loss
from tiny_run import fingerprints, finish_run, stop_at_save, tiny_screen, tiny_start

SETTINGS = ("batches.pure=plate", "batch_norm.n_controls=2", "batch_norm.statistics=controls", "batch_norm.min_sites=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("controls")
    screen = tiny_screen(root, n_wells=9)
    tiny_start(screen, root / "runs/fresh", *SETTINGS, "checkpointing.every_steps=1", epochs=2)
    run = RunFolder(Path(shutil.copytree(root / "runs/fresh", root / "runs/a")))
    finish_run(run)
    predict_run(run, screen)
    return root


def maker_of(screen: Screen, *changes: str) -> tuple[BatchLoader, list[str]]:
    config = resolve_config("scratch", ["batch_size=4", "network.handcrafted_features=false", *SETTINGS, *changes])
    store = ImageCache(screen, config.preprocessing.model_copy(update={"binning": 1}))
    folds = hold_out(screen, column="experiment", values=["E3"])
    classes = class_names(screen, "perturbation")
    sites, _ = labelled_sites(store, np.flatnonzero(folds.of(screen) == "train"), classes, config)
    messages: list[str] = []
    controls = control_sites(store, folds, config, say=messages.append)
    return BatchLoader(store, sites, config, n_perturbations=3, controls=controls), messages


def test_every_batch_has_its_controls_of_the_same_plate_and_they_carry_no_label(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    role = dict(zip(screen.sites["experiment"] + screen.sites["well"], screen.sites["role"], strict=True))
    maker, messages = maker_of(screen)
    assert messages == []
    drawn_sites = set()
    for epoch in range(3):
        for batch in maker.epoch(np.arange(18), epoch):
            control_rows = np.flatnonzero(batch.label_sources == LabelSource.NORM_ONLY)
            assert control_rows.tolist() == [len(batch.sites) - 2, len(batch.sites) - 1]
            places = {name.split("/")[0] for name in batch.sites}
            assert len(places) == 1
            assert places <= {"E1", "E2"}
            assert all(
                role[batch.sites[k].split("/")[0] + batch.sites[k].split("/")[2]] == "negative_control"
                for k in control_rows
            )
            assert len({batch.sites[k] for k in control_rows}) == 2
            assert float(batch.labels[control_rows].abs().sum()) == 0
            np.testing.assert_allclose(batch.labels[: len(batch.sites) - 2].sum(1), 1, atol=1e-6)
            drawn_sites |= {batch.sites[k] for k in control_rows}
    assert len(drawn_sites) == 6  # all three of both plates take turns
    maker.close()


def test_controls_are_a_function_of_seed_epoch_and_batch(folder: Path) -> None:
    screen = read_screen(folder / "screen")

    def draw_of(seed: int) -> list[tuple[str, ...]]:
        maker, _ = maker_of(screen, f"seed={seed}")
        names = [batch.sites[-2:] for epoch in range(4) for batch in maker.epoch(np.arange(18), epoch)]
        maker.close()
        return names

    assert draw_of(0) == draw_of(0)
    assert draw_of(0) != draw_of(1)


def test_controls_have_no_part_in_the_loss_but_move_it_through_the_norms(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    maker, _ = maker_of(screen, "cutmix.probability=0")
    batch = next(maker.epoch(np.arange(18), 0))
    maker.close()
    model = build_classifier(
        ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3, embedding_size=4), seed=0
    )
    config = resolve_config("scratch", ["precision=fp32"])
    model.eval()
    full = batch_loss(model, batch, config, epoch=0.0)
    n = len(batch.sites) - 2
    batch_alone = dataclasses.replace(
        batch,
        pixels=batch.pixels[:n],
        labels=batch.labels[:n],
        sites=batch.sites[:n],
        label_sources=batch.label_sources[:n],
        experiments=None,
    )

    def loss(training_batch: TrainingBatch) -> float:
        return float(batch_loss(model, training_batch, config, epoch=0.0).loss.detach())

    assert loss(batch) == pytest.approx(loss(batch_alone), rel=1e-5)
    assert full.n_scored == n
    model.train()
    assert abs(loss(batch) - loss(batch_alone)) > 1e-3


def test_a_plate_with_few_controls_borrows_from_its_experiment_and_says_so(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    sites = screen.sites.copy()
    sites.loc[sites["experiment"].isin(["E1", "E2"]) & (sites["well"] > "B05"), "plate"] = "2"
    divided = dataclasses.replace(screen, sites=sites)
    maker, messages = maker_of(divided, "batch_norm.n_controls=3")
    assert messages == [
        "batch_norm.n_controls=3: 4 of 4 training plates have fewer readable controls (E1 1 (2), E1 2 (1), E2 1 "
        "(2), E2 2 (1)"
        "); other controls of their experiment are added where available."
    ]
    for batch in maker.epoch(np.arange(18), 0):
        own_plate = batch.sites[0].split("/")[:2]
        control_plates = [name.split("/")[:2] for name in batch.sites[-3:]]
        assert control_plates.count(own_plate) == {"1": 2, "2": 1}[own_plate[1]]
        assert {place[0] for place in control_plates} == {own_plate[0]}
    maker.close()


def test_without_any_control_it_is_refused(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    bare = dataclasses.replace(screen, sites=screen.sites.assign(role="treatment"))
    with pytest.raises(
        FoldError, match=r"batch_norm.n_controls=2, but none of the training sites is a readable negative"
    ):
        maker_of(bare, "preprocessing.standardize=image")
    run = RunFolder(Path(shutil.copytree(folder / "runs/a", folder / "runs/bare")))
    with pytest.raises(
        ConfigError, match=r"none of the 2 training plates in this screen has 3 readable negative controls"
    ):
        predict_run(run, bare)


def test_controls_of_a_new_plate_do_not_look_at_its_treatments(folder: Path, tmp_path: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    statistics = load_statistics(run)
    assert statistics is not None
    assert statistics.by == "controls"
    assert len(statistics.contrast) == 3 * 25  # shift, ratio and least of every norm of the tiny network
    assert statistics.descriptions[-1] == "controls of plate E3 1, 3 sites"
    whole_predictions = Predictions.read(run.predictions, level="site")
    fresh = RunFolder(Path(shutil.copytree(run.root, tmp_path / "run")))
    # The same plate under a new name, with two of its treatments: no stored statistics apply.
    rows = np.flatnonzero(
        (screen.sites["experiment"] == "E3") & ~screen.sites["well"].isin(["B03", "B04", "B06"])
    ).tolist()
    sites = screen.sites.iloc[rows].reset_index(drop=True).assign(plate="new")
    metadata = screen.metadata.model_copy(update={"sites_sha256": "another"})
    predict_run(fresh, dataclasses.replace(screen, sites=sites, metadata=metadata), out=tmp_path / "out")
    part_predictions = Predictions.read(tmp_path / "out", level="site")
    np.testing.assert_allclose(part_predictions.logits, whole_predictions.logits[rows], atol=1e-5)


def test_plates_of_another_screen_never_take_the_norms_of_namesakes(folder: Path, tmp_path: Path) -> None:
    """The second screen has a plate E3 1 as well, with one control left: too few for statistics."""
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    in_e3 = screen.sites[screen.sites["experiment"] == "E3"]
    controls = in_e3.index[in_e3["role"] == "negative_control"]
    rows = in_e3.index.difference(controls[1:]).tolist()
    other = screen.metadata.model_copy(update={"sites_sha256": "another"})
    messages: dict[str, list[str]] = {"own": [], "another": []}
    for name, metadata in (("own", screen.metadata), ("another", other)):
        part = dataclasses.replace(screen, sites=screen.sites.iloc[rows].reset_index(drop=True), metadata=metadata)
        predict_run(run, part, out=tmp_path / name, say=messages[name].append)
    assert any("a has stored the batch-norm statistics of 1 plate(s) (E3 1)" in message for message in messages["own"])
    assert not any("that a keeps" in message for message in messages["another"])
    assert any("Norms of plate E3 1: 1 readable site(s) of controls of plate E3 1" in w for w in messages["another"])


def test_scores_say_that_the_controls_of_the_test_plates_were_used(folder: Path, tmp_path: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    scores, _ = predict_run(run, screen, out=tmp_path / "out")
    assert all(row.transductive for row in scores.rows)
    assert any("statistics of the plate's negative controls of every image" in note for note in scores.notes)


@pytest.mark.parametrize("n", [1, 3])
def test_a_training_with_controls_resumes_byte_for_byte(folder: Path, n: int) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/stopped {n}")))
    stop_at_save(run, n)
    finish_run(run)
    predict_run(run, read_screen(folder / "screen"))
    assert fingerprints(run.root) == fingerprints(folder / "runs/a")


def test_the_folds_are_matched_with_the_screen_once_however_many_controls_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = read_screen(folder / "screen")
    config = resolve_config("scratch", ["network.handcrafted_features=false", *SETTINGS])
    store, folds_of, calls = ImageCache(screen, config.preprocessing.model_copy(update={"binning": 1})), Folds.of, []
    monkeypatch.setattr(Folds, "of", lambda folds, other: calls.append(1) or folds_of(folds, other))
    folds = hold_out(screen, column="experiment", values=["E3"])
    calls.clear()
    controls = control_sites(store, folds, config, say=lambda message: None)
    assert controls is not None
    assert (len(controls.rows), len(calls)) == (6, 1)
