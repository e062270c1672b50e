from pathlib import Path

import pytest
import torch
from torch import nn

from distangle.errors import RunError
from distangle.training.state import TrainingState, load_state, save_state


def trained(steps: int, *, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = TrainingState(epochs_done=0, model=model, optimiser=torch.optim.AdamW(model.parameters(), lr=0.1))
    go_on(state, steps)
    return state


def go_on(state: TrainingState, steps: int) -> None:
    for _ in range(steps):
        torch.manual_seed(state.epochs_done)
        state.model(torch.randn(5, 3)).square().sum().backward()
        state.optimiser.step()
        state.optimiser.zero_grad()
        state.epochs_done += 1
        state.metrics.append({"epoch": state.epochs_done, "train_loss": 1.0})
        state.average = {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}


def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path) -> None:
    whole, first = trained(6), trained(3)
    save_state(first, tmp_path, fingerprint="f")
    resumed = trained(0, seed=9)
    assert load_state(resumed, tmp_path, fingerprint="f") == []
    go_on(resumed, 3)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert resumed.metrics == whole.metrics


def test_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over_aloud(tmp_path: Path) -> None:
    state = trained(0)
    for _ in range(4):
        go_on(state, 1)
        save_state(state, tmp_path, fingerprint="f")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-0003.json",
        "epoch-0003.safetensors",
        "epoch-0004.json",
        "epoch-0004.safetensors",
    ]
    newest = tmp_path / "epoch-0004.safetensors"
    damaged = bytearray(newest.read_bytes())
    damaged[-3] ^= 1
    newest.write_bytes(damaged)
    resumed = trained(0)
    said = load_state(resumed, tmp_path, fingerprint="f")
    assert resumed.epochs_done == 3
    assert said == ["epoch-0004.safetensors is damaged (its SHA-256 is not the one written); using the one before it."]
    (tmp_path / "epoch-0003.json").write_text("{")
    with pytest.raises(RunError, match="No whole checkpoint in"):
        load_state(trained(0), tmp_path, fingerprint="f")


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    save_state(trained(1), tmp_path, fingerprint="f")
    with pytest.raises(RunError, match="another configuration, fold or class list"):
        load_state(trained(0), tmp_path, fingerprint="g")


def test_what_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    state = trained(1)
    with torch.no_grad():
        next(state.model.parameters())[0] = float("nan")
    with pytest.raises(RunError, match=r"model\.0\.weight is not finite after epoch 1"):
        save_state(state, tmp_path, fingerprint="f")
    assert list(tmp_path.iterdir()) == []
