"""Extra outputs without a class: named, saved, resumed and predicted, but never a label or part of chance."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.core.progress import no_progress
from distangle.errors import ConfigError, StoppedError
from distangle.inference import open_model, predict_run
from distangle.model import load_model, save_model
from distangle.report import build_report
from distangle.results import RunFolder, Scores
from distangle.screen import Screen, hold_out
from distangle.training import dry_run, resolve_config, start_run, train
from distangle.training.data.sites import output_names
from distangle.training.pseudo_labels.labeller import PseudoLabeller
from tiny_run import CLASSES, fingerprints, finish_run, tiny_screen, tiny_start

EXTRA = "network.extra_outputs=2"
KNOWN = sorted(CLASSES)
NAMES = [*KNOWN, "unused 1", "unused 2"]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("extra"))


@pytest.fixture(scope="module")
def run(screen: Screen) -> RunFolder:
    assert screen.folder is not None
    run = tiny_start(screen, screen.folder.parent / "run", EXTRA)
    finish_run(run)
    return run


def test_they_stand_behind_the_classes_and_no_site_trains_them(run: RunFolder) -> None:
    model, card = open_model(run)
    assert tuple(run.describe()["classes"]) == card.classes == tuple(NAMES)
    assert card.class_sites == (6, 4, 6, 0, 0)
    assert card.trained_classes == set(KNOWN)
    assert model.linear_templates.weight.shape == model.cosine_templates.weight.shape == (5, 8)
    assert "extra_outputs: 2" in run.config.read_text()


def test_they_are_no_chance_and_no_row_is_lost_when_one_is_predicted(
    run: RunFolder, screen: Screen, tmp_path: Path
) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    copy = RunFolder.open(tmp_path / "run")
    path = copy.checkpoints / "model.safetensors"
    model, card = load_model(path)
    with torch.no_grad():
        model.linear_templates.bias[4] += 1000
    save_model(model, path, card=card)
    scores, sites = predict_run(copy, screen)
    assert len(sites.table) == len(screen.sites)
    assert set(sites.table["predicted"]) == {"unused 2"}
    assert sites.perturbations == tuple(NAMES)
    assert sites.probabilities.shape == (len(screen.sites), 5)
    np.testing.assert_allclose(sites.probabilities.sum(axis=1), 1, atol=1e-6)
    assert {row.chance for row in scores.rows} == {1 / 3}
    assert {row.value for row in scores.rows} == {0.0}
    # True classes are rows, and the output that was predicted is a column.
    assert scores.confusion["perturbations"] == [*KNOWN, "unused 2"]
    assert [row[3] for row in scores.confusion["counts"]] == [3, 2, 3, 0]
    assert scores.never_trained == ()
    assert scores.controls["negative_control"]["confident_treatment"] == 0
    assert Scores.read(copy.scores) == scores
    build_report(copy, screen)


def test_a_resume_ends_with_the_same_bytes(run: RunFolder, screen: Screen, tmp_path: Path) -> None:
    other = tiny_start(screen, tmp_path / "run", EXTRA)
    messages: list[str] = []

    def advance(message: str) -> None:
        messages.append(message)
        if len(messages) == 1:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, StoppedError)):
        train(other, advance=advance, say=no_progress)
    finish_run(RunFolder.open(other.root))
    first, second = fingerprints(run.root), fingerprints(other.root)
    for name in ("checkpoints/model.safetensors", "checkpoints/model.json"):
        assert second[name] == first[name]


@pytest.mark.parametrize("strategy", ["alpha_ramp", "progressive"])
def test_no_pseudo_label_is_ever_one_of_them(
    screen: Screen, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = hold_out(screen, column="experiment", values=["E3"])
    hidden = folds.table.assign(fold=folds.table["fold"].where(folds.table["experiment"] != "E2", "unlabelled"))
    folds = dataclasses.replace(folds, table=hidden, unlabelled="experiment=E2")
    changes = [
        f"pseudo_labels.strategy={strategy}", "pseudo_labels.from_epoch=1", "pseudo_labels.full_epoch=2",
        "pseudo_labels.confidence=0", "pseudo_labels.soft=true", "network.backbone=densenet_small",
        "network.embedding_size=8", "network.handcrafted_features=false", "batch_size=4", "ema_decay=0", EXTRA,
    ]  # fmt: skip
    run = start_run(screen, folds, resolve_config("scratch", changes, epochs=3), tmp_path / "run")
    used_columns: list[np.ndarray] = []
    before = PseudoLabeller.before_epoch

    def record_round(self: PseudoLabeller, state):  # type: ignore[no-untyped-def]
        # Outputs of a network that prefers the unused classes.
        with torch.no_grad():
            state.model.linear_templates.bias[3:] += 50
        assignment = before(self, state)
        if assignment is not None:
            used_columns.append(assignment.columns[assignment.shares > 0])
        return assignment

    monkeypatch.setattr(PseudoLabeller, "before_epoch", record_round)
    finish_run(run)
    assert used_columns
    assert set(np.concatenate(used_columns).tolist()) <= {0, 1, 2}


def test_a_class_of_that_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    screen = tiny_screen(tmp_path)
    new_names = screen.sites["perturbation"].replace({"taxol": "unused 2"})
    names = tuple("unused 2" if name == "taxol" else name for name in screen.metadata.perturbations)
    other = dataclasses.replace(
        screen,
        sites=screen.sites.assign(perturbation=new_names),
        metadata=screen.metadata.model_copy(update={"perturbations": names}),
    )
    config = resolve_config("scratch", [EXTRA])
    with pytest.raises(ConfigError) as error:
        output_names(other, config)
    assert str(error.value) == (
        "network.extra_outputs=2 would name an output 'unused 2', and the screen already has a perturbation of "
        "that name. "
        "Rename it in the tables, or set network.extra_outputs=0."
    )
    assert output_names(other, resolve_config("scratch", ["network.extra_outputs=1"]))[-1] == "unused 1"
    assert output_names(screen, resolve_config("scratch")) == tuple(KNOWN)
    with pytest.raises(ConfigError, match=r"network\.extra_outputs = -1: input should be greater than or equal to 0"):
        resolve_config("scratch", ["network.extra_outputs=-1"])


def test_a_rehearsal_counts_them(screen: Screen) -> None:
    folds = hold_out(screen, column="experiment", values=["E3"])
    config = resolve_config("scratch", [EXTRA, "batch_size=4", "network.backbone=densenet_small"], epochs=1)
    assert dry_run(screen, folds, config, limit=2).steps == 2
