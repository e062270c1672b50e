"""Test prediction with batch-norm statistics of the plate: stored, fixed, and equal for one image."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from distangle.errors import WeightsError
from distangle.explain import AnalysisOptions, ExplainSettings, SiteSelection, explain_run
from distangle.images import ImageCache, fit_normalization
from distangle.inference import load_statistics, open_model, predict_run
from distangle.inference.statistics import ExperimentStatistics, compute_here
from distangle.model import PlateBatchNorm
from distangle.model.plate_batch_norm import rows_by_statistics
from distangle.results import Predictions, RunFolder
from distangle.screen import Screen, read_screen
from distangle.screen.plate_groups import statistics_groups
from tests_support import screen_of
from tiny_run import fingerprints, finish_run, stop_at_save, tiny_screen, tiny_start

PURE = (
    "batches.pure=plate",
    "batch_norm.statistics=plate",
    "batch_norm.min_sites=4",
    "preprocessing.standardize=image",
    "preprocessing.transform=none",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/fresh (not trained) and runs/a (trained and predicted)."""
    root = tmp_path_factory.mktemp("norms")
    screen = tiny_screen(root)
    tiny_start(screen, root / "runs/fresh", *PURE, "checkpointing.every_steps=1")
    run = RunFolder(Path(shutil.copytree(root / "runs/fresh", root / "runs/a")))
    finish_run(run)
    predict_run(run, screen)
    return root


def part_of(screen: Screen, rows: list[int]) -> Screen:
    return dataclasses.replace(screen, sites=screen.sites.iloc[rows].reset_index(drop=True))


def test_prediction_is_what_the_network_in_training_mode_says_of_the_plate_as_one_batch(folder: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    model, card = open_model(run)
    store = ImageCache(screen, card.preprocessing)
    rows = np.flatnonzero(screen.sites["experiment"] == "E3").tolist()
    _, statistics = fit_normalization(store, rows)
    standardized = np.stack([(store.image(row) - statistics[row, 0, :, None, None]) for row in rows])
    standardized /= statistics[rows][:, 1, :, None, None]
    store.close()
    model.train()
    model.neck.dropout.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(standardized.astype(np.float32))).logits.numpy()
    site_predictions = Predictions.read(run.predictions, level="site")
    np.testing.assert_allclose(site_predictions.logits[rows], expected, atol=1e-3)


def test_one_image_of_a_known_plate_is_predicted_alone_as_with_its_plate(folder: Path, tmp_path: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    plate_predictions = Predictions.read(run.predictions, level="site")
    for row in (0, 9, 23):
        messages: list[str] = []
        predict_run(run, part_of(screen, [row]), out=tmp_path / str(row), say=messages.append)
        single_predictions = Predictions.read(tmp_path / str(row), level="site")
        np.testing.assert_array_equal(single_predictions.logits[0], plate_predictions.logits[row])
        plate = f"{screen.sites['experiment'].iloc[row]} 1"
        assert messages == [f"norms: a has stored the batch-norm statistics of 1 plate(s) ({plate})."]


def test_a_prediction_does_not_depend_on_order_or_on_other_plates(folder: Path, tmp_path: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    whole_predictions = Predictions.read(run.predictions, level="site")
    fresh = RunFolder(Path(shutil.copytree(run.root, tmp_path / "run")))
    PlateBatchNorm.remove(fresh.checkpoints)
    rows = [*range(23, 15, -1), *range(8)]  # E3 backwards, then E1
    predict_run(fresh, part_of(screen, rows), out=tmp_path / "out")
    np.testing.assert_array_equal(
        Predictions.read(tmp_path / "out", level="site").logits, whole_predictions.logits[rows]
    )


def test_the_statistics_are_kept_with_the_run_and_in_its_manifest(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/a")
    files = json.loads(run.manifest.read_text())["files"]
    assert {"checkpoints/norm_statistics.safetensors", "checkpoints/norm_statistics.json"} <= set(files)
    plate_statistics = load_statistics(run)
    assert plate_statistics is not None
    assert plate_statistics.index_of_plate == {("E1", "1"): 0, ("E2", "1"): 1, ("E3", "1"): 2}
    assert plate_statistics.descriptions == tuple(f"plate {name} 1, 8 sites" for name in ("E1", "E2", "E3"))
    assert (
        len(plate_statistics.statistics[0]) == 2 * 25
    )  # mean and variance of 22 norms of the backbone and 3 of the neck


def test_scores_say_that_images_of_the_test_plates_were_used(folder: Path, tmp_path: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    messages: list[str] = []
    scores, _ = predict_run(run, screen, out=tmp_path / "plate", say=messages.append)
    assert all(row.transductive for row in scores.rows)
    assert any("statistics of the plate of every image" in note for note in scores.notes)
    scores, plain = predict_run(run, screen, out=tmp_path / "running", statistics_source="running")
    assert not any(row.transductive for row in scores.rows)
    assert not any("transductive" in note for note in scores.notes)
    one = Predictions.read(run.predictions, level="site", views=8)
    assert np.abs(plain.logits - one.logits).max() > 0.01


def test_a_run_predicted_anew_without_plate_statistics_keeps_none(folder: Path, tmp_path: Path) -> None:
    screen = read_screen(folder / "screen")
    run = RunFolder(Path(shutil.copytree(folder / "runs/a", folder / "runs/b")))
    predict_run(run, screen, statistics_source="running")
    assert load_statistics(run) is None
    assert not any("norm_statistics" in name for name in json.loads(run.manifest.read_text())["files"])


def test_an_explanation_uses_the_statistics_of_the_prediction(folder: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    settings = ExplainSettings(sites_at_once=3, n_null_maps=5, n_draws=5)
    explanation = explain_run(
        run, screen, selection=SiteSelection(n_sites=8), settings=settings, options=AnalysisOptions(parts=())
    )
    site_predictions = Predictions.read(run.predictions, level="site")
    wells = site_predictions.table["Metadata_Well"].tolist()
    held_out = site_predictions.table["Metadata_Fold"] == "held_out"
    confidence = dict(zip(np.array(wells)[held_out], site_predictions.table["confidence"][held_out], strict=True))
    expected = [confidence[well] for well in explanation.table["Metadata_Well"]]
    np.testing.assert_allclose(explanation.table["probability"], expected, atol=1e-5)


@pytest.mark.parametrize("n", [2, 5])
def test_pure_batches_and_plate_norms_resume_byte_for_byte(folder: Path, n: int) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/stopped {n}")))
    stop_at_save(run, n)
    finish_run(run)
    predict_run(run, read_screen(folder / "screen"))
    result, expected = fingerprints(run.root), fingerprints(folder / "runs/a")
    expected = {name: expected[name] for name in expected if not name.startswith("explanations")}
    assert result == expected


def test_the_curve_of_a_training_uses_the_statistics_that_prediction_uses(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/a")
    curve = pd.read_csv(run.metrics)["held_out_accuracy"].iloc[-1]
    table = Predictions.read(run.predictions, level="site").table
    held_out = table[table["Metadata_Fold"] == "held_out"]
    assert curve == pytest.approx((held_out["perturbation"] == held_out["predicted"]).mean(), abs=1e-5)


def test_statistics_of_some_plates_are_completed_to_those_of_all(folder: Path) -> None:
    screen, run = read_screen(folder / "screen"), RunFolder.open(folder / "runs/a")
    model, card = open_model(run)
    store = ImageCache(screen, card.preprocessing)
    nothing = PlateBatchNorm("plate", {}, (), ())
    task = ExperimentStatistics(model=model, card=card, store=store, choice=card.batch_norm, known=nothing)
    complete = nothing
    for _, result in compute_here(task):
        complete = complete.join(result)
    assert list(complete.index_of_plate.items()) == [(("E1", "1"), 0), (("E2", "1"), 1), (("E3", "1"), 2)]
    known = PlateBatchNorm("plate", {("E2", "1"): 0}, complete.statistics[1:2], complete.descriptions[1:2])
    again = known
    for rows, result in compute_here(dataclasses.replace(task, known=known)):
        assert set(screen.sites["experiment"].iloc[list(rows)]) <= {"E1", "E3"}
        again = again.join(result)
    store.close()
    assert again.index_of_plate == {("E2", "1"): 0, ("E1", "1"): 1, ("E3", "1"): 2}
    for k, other in ((0, 1), (1, 0), (2, 2)):
        assert again.descriptions[k] == complete.descriptions[other]
        for name, tensor in again.statistics[k].items():
            torch.testing.assert_close(tensor, complete.statistics[other][name], rtol=0, atol=0)


def test_damaged_statistics_and_those_of_other_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/a", tmp_path / "run")))
    path = run.checkpoints / "norm_statistics.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"norm_statistics.safetensors is damaged: its SHA-256 differs from that"):
        load_statistics(run)
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"computed with other weights than those next to it. Run `distangle predict`"
    ):
        PlateBatchNorm.read(run.checkpoints, weights_sha256="0")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(WeightsError, match=r"norm_statistics.json is damaged"):
        load_statistics(run)


def sites(*plates: tuple[str, str, int]) -> Screen:
    rows = [
        {"experiment": e, "plate": p, "well": f"B{k + 2:02d}", "site": 1, "role": "treatment"}
        for e, p, n in plates
        for k in range(n)
    ]
    return screen_of(pd.DataFrame(rows))


def test_a_plate_with_too_few_sites_takes_those_of_its_experiment_and_says_so() -> None:
    screen = sites(("E1", "1", 9), ("E1", "2", 3), ("E2", "1", 5))
    rows = list(range(17))
    groups, messages = statistics_groups(screen, rows, by="plate", min_sites=8, source_rows=rows)
    assert [(group.description, group.plates, group.rows) for group in groups] == [
        ("plate E1 1", (("E1", "1"),), tuple(range(9))),
        ("experiment E1", (("E1", "2"),), tuple(range(12))),
        ("the running statistics of the training", (("E2", "1"),), ()),
    ]
    assert messages == [
        "Norms of plate E1 2: 3 readable site(s) of plate E1 2, fewer than batch_norm.min_sites=8; used instead: "
        "experiment E1 "
        "(12 sites).",
        "Norms of plate E2 1: 5 readable site(s) of plate E2 1, fewer than batch_norm.min_sites=8; used instead: "
        "the running "
        "statistics of the training.",
    ]


def test_controls_stand_for_their_plate_then_for_their_experiment() -> None:
    screen = sites(("E1", "1", 4), ("E1", "2", 4), ("E2", "1", 3))
    role = ["negative_control", "negative_control", "untreated", "treatment"] + ["treatment"] * 3 + ["untreated"] * 4
    screen.sites["role"] = role
    rows = list(range(11))
    groups, messages = statistics_groups(screen, rows, by="controls", min_sites=3, source_rows=rows)
    assert [(group.description, group.plates, group.rows) for group in groups] == [
        ("controls of plate E1 1", (("E1", "1"),), (0, 1, 2)),
        ("controls of experiment E1", (("E1", "2"),), (0, 1, 2, 7)),
        ("controls of plate E2 1", (("E2", "1"),), (8, 9, 10)),
    ]
    assert messages == [
        "Norms of plate E1 2: 1 readable site(s) of controls of plate E1 2, fewer than batch_norm.min_sites=3; "
        "used instead: "
        "controls of experiment E1 (4 sites)."
    ]


def test_plates_of_an_experiment_share_its_statistics() -> None:
    screen = sites(("E1", "1", 3), ("E1", "2", 6), ("E2", "1", 8))
    rows = list(range(17))
    groups, messages = statistics_groups(screen, rows, by="experiment", min_sites=8, source_rows=rows)
    assert [(group.description, group.plates) for group in groups] == [
        ("experiment E1", (("E1", "1"), ("E1", "2"))),
        ("experiment E2", (("E2", "1"),)),
    ]
    assert messages == []


def test_rows_go_to_the_statistics_of_their_plate_and_an_unknown_plate_is_refused() -> None:
    screen = sites(("E1", "1", 2), ("E2", "1", 2), ("E3", "1", 1))
    one, two = {"a": torch.zeros(1)}, {"a": torch.ones(1)}
    norms = PlateBatchNorm("plate", {("E1", "1"): 1, ("E2", "1"): None}, (one, two), ("x", "y"))
    assert rows_by_statistics(norms, screen, [3, 0, 2, 1]) == [([3, 2], None), ([0, 1], two)]
    assert rows_by_statistics(None, screen, [4, 0]) == [([4, 0], None)]
    with pytest.raises(WeightsError, match=r"Plate E3 1 has no batch-norm statistics, 2 other plates have"):
        rows_by_statistics(norms, screen, [4])
