"""Half precision in the loop: what fp16 does when a gradient overflows, and that it survives a resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import distangle.training.checkpointing.manager as training
from distangle.errors import RunError
from distangle.model import ModelConfig, build_classifier
from distangle.results import RunFolder
from distangle.screen import Screen
from distangle.training import resolve_config
from distangle.training.checkpointing.checkpoints import load_state, save_state
from distangle.training.config import TrainingConfig
from distangle.training.data.loader import TrainingBatch
from distangle.training.loop import make_optimizer
from distangle.training.state import TrainingState
from distangle.training.step import StepResult, TrainStep
from tiny_run import fingerprints, finish_run, tiny_screen, tiny_start


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("precision"))


def losses(screen: Screen, out: Path, *changes: str) -> list[float]:
    run = tiny_start(screen, out, *changes, epochs=1)
    finish_run(run)
    train_losses: list[float] = pd.read_csv(run.metrics)["train_loss"].tolist()
    return train_losses


@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_half_precision_trains_as_single_precision_does(screen: Screen, tmp_path: Path, half: str) -> None:
    plain = losses(screen, tmp_path / "fp32")
    assert losses(screen, tmp_path / half, f"precision={half}") == pytest.approx(plain, rel=0.06)


def test_an_fp16_run_that_was_stopped_ends_as_if_it_had_not_been(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "stopped"):
        tiny_start(screen, tmp_path / name, "precision=fp16", "checkpointing.every_steps=1", epochs=2)
    finish_run(RunFolder(tmp_path / "whole"))

    calls = 0

    def save_and_stop(*args: Any, **options: Any) -> list[Path]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return save_state(*args, **options)

    monkeypatch.setattr(training, "save_state", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        finish_run(RunFolder(tmp_path / "stopped"))
    monkeypatch.undo()
    finish_run(RunFolder(tmp_path / "stopped"))
    assert fingerprints(tmp_path / "stopped") == fingerprints(tmp_path / "whole")


def state_in_fp16(scale: float) -> TrainingState:
    shape = ModelConfig(backbone="resnet_small", n_channels=1, n_perturbations=3, embedding_size=4)
    model = build_classifier(shape, seed=0).train()
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return TrainingState(0, model, make_optimizer(model, CONFIG), scaler=scaler)


CONFIG = resolve_config("scratch", ["precision=fp16", "channels_last=false"])


def step(state: TrainingState, *, brightness: float = 1.0, config: TrainingConfig = CONFIG, n: int = 1) -> StepResult:
    batch = TrainingBatch(
        pixels=brightness * torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)),
        cell_types=None,
        labels=torch.eye(3)[[0, 1, 2, 0, 1, 2]],
        sites=("E1/1/B02/1",) * 6,
        label_sources=np.zeros(6, np.int8),
    )
    stepper = TrainStep(state, config)
    return stepper.step(iter([batch] * n), range(n), epoch=0, epoch_position=0.0, lr=0.01, where="epoch 1, step 1")


def test_a_gradient_that_overflows_is_left_out_and_the_scale_halved() -> None:
    state = state_in_fp16(2.0**40)
    before = {name: tensor.clone() for name, tensor in state.model.named_parameters()}
    step(state)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.model.named_parameters())
    assert state.scaler.get_scale() == 2.0**39
    state = state_in_fp16(2.0**8)
    step(state)
    assert not all(torch.equal(before[name], tensor) for name, tensor in state.model.named_parameters())
    assert state.scaler.get_scale() == 2.0**8


def test_a_gradient_is_clipped_in_its_own_scale() -> None:
    state = state_in_fp16(2.0**12)
    step(
        state, config=resolve_config("scratch", ["precision=fp16", "channels_last=false", "optim.max_grad_norm=0.001"])
    )
    norm = torch.stack([value.grad.norm() for value in state.model.parameters() if value.grad is not None]).norm()
    assert float(norm) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_batches_of_one_step_drop_different_numbers(dropout: float) -> None:
    shape = ModelConfig(
        backbone="resnet_small", n_channels=1, n_perturbations=3, embedding_size=16, neck_dropout=dropout
    )
    config = resolve_config("scratch", ["precision=fp32", "channels_last=false"])
    losses = []
    for n in (1, 2):
        model = build_classifier(shape, seed=0).train()
        losses.append(step(TrainingState(0, model, make_optimizer(model, config)), config=config, n=n)["loss"])
    assert (losses[0] == pytest.approx(losses[1], rel=1e-6)) == (dropout == 0)


def test_a_value_that_no_scale_helps_stops_the_training() -> None:
    with pytest.raises(RunError, match=r"The loss is not finite in epoch 1, step 1 \(pixels of site E1/1/B02/1"):
        step(state_in_fp16(2.0**8), brightness=float("inf"))


def test_the_scale_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    state = state_in_fp16(2.0**40)
    step(state)
    save_state(state, tmp_path, fingerprint="f")
    second = state_in_fp16(2.0**10)
    load_state(second, tmp_path, fingerprint="f")
    assert second.scaler.state_dict() == state.scaler.state_dict()
    assert second.scaler.get_scale() == 2.0**39
