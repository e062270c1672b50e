"""The start of a training: pretrained weights, loaded once, and a compiled network with plain names."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import distangle
from distangle.errors import WeightsError
from distangle.model import ModelConfig, build_classifier
from distangle.results import RunFolder
from distangle.screen import Screen
from distangle.training.config import Network
from distangle.training.initial_state import pretrained_path
from tiny_run import finish_run, tiny_screen, tiny_start


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("network"))


def test_a_run_starts_from_a_file_and_a_resume_needs_it_no_more(screen: Screen, tmp_path: Path) -> None:
    source = build_classifier(ModelConfig(backbone="densenet_small", n_channels=3, n_perturbations=2), seed=5)
    torch.save(source.backbone.features.state_dict(), tmp_path / "backbone.pth")
    run = tiny_start(screen, tmp_path / "run", f"network.weights={tmp_path / 'backbone.pth'}", epochs=1)
    messages: list[str] = []
    finish_run(run, say=messages.append)
    assert [message for message in messages if "arrays start from backbone.pth" in message]
    (tmp_path / "backbone.pth").unlink()
    run.config.write_text(run.config.read_text())
    finish_run(RunFolder.open(run.root), say=messages.append)
    assert "resumed after epoch 1" in messages


def test_weights_that_cannot_be_had_leave_no_folder(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTANGLE_WEIGHTS_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    changes = ("network.weights=imagenet", "network.backbone=resnet18")
    with pytest.raises(WeightsError, match=r"http://127\.0\.0\.1:9/resnet18-f37072fd\.pth could not be downloaded"):
        tiny_start(screen, tmp_path / "run", *changes)
    assert not (tmp_path / "run").exists()
    assert pretrained_path(Network(weights=None), say=print) is None
    assert pretrained_path(Network(weights=Path("a.pth")), say=print) == Path("a.pth")


def test_the_word_imagenet_is_no_path() -> None:
    assert Network(weights="imagenet").weights == "imagenet"
    assert Network.model_validate({"weights": "imagenet"}).weights == "imagenet"
    assert Network.model_validate({"weights": "x/imagenet"}).weights == Path("x/imagenet")


@pytest.mark.slow
def test_a_compiled_training_is_that_of_the_plain_network(screen: Screen, tmp_path: Path) -> None:
    plain = tiny_start(screen, tmp_path / "plain", "network.neck_dropout=0", epochs=1)  # it draws other numbers
    finish_run(plain)
    # In a process of its own: the checks of types that these tests switch on cannot be compiled.
    arguments = ["train", "--from", str(plain.root), "--out", str(tmp_path / "compiled"), "--compile", "true"]
    environment = {**os.environ, "PYTHONPATH": str(Path(distangle.__file__).parent.parent)}
    subprocess.run([sys.executable, "-m", "distangle", *arguments], env=environment, check=True)
    runs = (plain, RunFolder.open(tmp_path / "compiled"))
    losses = [pd.read_csv(run.metrics)["train_loss"].to_numpy() for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    names = [set(load_file(run.checkpoints / "model.safetensors")) for run in runs]
    assert names[0] == names[1]
