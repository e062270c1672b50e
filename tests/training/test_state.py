from pathlib import Path

import pytest
import torch
from torch import nn

from distangle.errors import RunError
from distangle.training.checkpointing.checkpoints import ResumeReport, load_state, save_state
from distangle.training.state import TrainingState


def train_state(steps: int, *, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = TrainingState(epochs_done=0, model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.1))
    go_on(state, steps)
    return state


def go_on(state: TrainingState, steps: int) -> None:
    for _ in range(steps):
        torch.manual_seed(state.epochs_done)
        state.model(torch.randn(5, 3)).square().sum().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.end_epoch({"epoch": state.epochs_done + 1, "train_loss": 1.0})
        state.ema = {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}


def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path) -> None:
    whole_state, first = train_state(6), train_state(3)
    save_state(first, tmp_path, fingerprint="f")
    second = train_state(0, seed=9)
    assert load_state(second, tmp_path, fingerprint="f") == ResumeReport(skipped=[], environment_changes=[])
    go_on(second, 3)
    for name, tensor in whole_state.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert second.metrics == whole_state.metrics


def test_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over_aloud(tmp_path: Path) -> None:
    state = train_state(0)
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
    second = train_state(0)
    (message,) = load_state(second, tmp_path, fingerprint="f").skipped
    assert second.epochs_done == 3
    assert message.startswith("checkpoint epoch-0004 is damaged: the SHA-256 of epoch-0004.safetensors is not ")
    assert message.endswith(" Using the one before it.")
    (tmp_path / "epoch-0003.json").write_text("{")
    with pytest.raises(RunError, match="No undamaged checkpoint in"):
        load_state(train_state(0), tmp_path, fingerprint="f")


def half_an_epoch(state: TrainingState, steps: int) -> None:
    for _ in range(steps):
        state.partial_epoch.add(loss=0.1, n_correct=1.5, n_scored=4, learning_rate=0.01, components={"arc": 0.3})


def test_a_step_is_a_position_of_its_own_with_the_sums_of_its_epoch(tmp_path: Path) -> None:
    state = train_state(2)
    half_an_epoch(state, 3)
    paths = save_state(state, tmp_path, fingerprint="f")
    assert [path.name for path in paths] == ["epoch-0002-step-000003.safetensors", "epoch-0002-step-000003.json"]
    second = train_state(0)
    load_state(second, tmp_path, fingerprint="f")
    assert (second.epochs_done, second.steps_done, second.position) == (2, 3, "step 3 of epoch 3")
    half_an_epoch(second, 1)
    half_an_epoch(state, 1)
    assert second.partial_epoch == state.partial_epoch
    assert second.partial_epoch.row() == {
        "train_loss": pytest.approx(0.1),
        "train_accuracy": 6 / 16,
        "learning_rate": 0.01,
        "arc": pytest.approx(0.3),
    }
    second.end_epoch({"epoch": 3})
    assert (second.steps_done, second.position) == (0, "epoch 3")


def test_what_stays_depends_on_the_position_alone(tmp_path: Path) -> None:
    state = train_state(0)
    for _ in range(2):
        go_on(state, 1)
        save_state(state, tmp_path, fingerprint="f")
        for _ in range(2):
            half_an_epoch(state, 2)
            save_state(state, tmp_path, fingerprint="f")
        names = sorted(path.stem for path in tmp_path.glob("*.json"))
        last = state.epochs_done
        epochs = [f"epoch-{epoch:04d}" for epoch in (last - 1, last) if epoch]
        assert names == [*epochs, f"epoch-{last:04d}-step-000004"]
    go_on(state, 1)
    save_state(state, tmp_path, fingerprint="f")
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["epoch-0002", "epoch-0003"]


def test_the_last_step_is_newer_than_the_epoch_before_it_and_older_than_its_own(tmp_path: Path) -> None:
    state = train_state(1)
    save_state(state, tmp_path, fingerprint="f")
    half_an_epoch(state, 12)
    save_state(state, tmp_path, fingerprint="f")
    for damaged_file in (tmp_path / "epoch-0001-step-000012.safetensors", tmp_path / "epoch-0001.safetensors"):
        second = train_state(0)
        load_state(second, tmp_path, fingerprint="f")
        assert second.steps_done == (12 if damaged_file.stem.endswith("12") else 0)
        damaged_file.write_bytes(b"")
    with pytest.raises(RunError, match="No undamaged checkpoint"):
        load_state(train_state(0), tmp_path, fingerprint="f")


def test_a_checkpoint_of_another_format_is_refused_by_its_number(tmp_path: Path) -> None:
    _, card = save_state(train_state(1), tmp_path, fingerprint="f")
    card.write_text(card.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(RunError, match=r"epoch-0001\.json has format 3; this version of distangle reads format 2"):
        load_state(train_state(0), tmp_path, fingerprint="f")


def test_tensors_lie_in_memory_as_before_the_stop(tmp_path: Path) -> None:
    def convolution() -> TrainingState:
        model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        state = TrainingState(epochs_done=0, model=model, optimizer=torch.optim.Adam(model.parameters()))
        model(torch.ones(1, 3, 5, 5)).sum().backward()
        state.optimizer.step()
        state.ema = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return state

    first, second = convolution(), convolution()
    save_state(first, tmp_path, fingerprint="f")
    load_state(second, tmp_path, fingerprint="f")
    tensors = [second.ema["weight"], second.optimizer.state_dict()["state"][0]["exp_avg"]]
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors)
    assert torch.equal(tensors[1], first.optimizer.state_dict()["state"][0]["exp_avg"])


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    save_state(train_state(1), tmp_path, fingerprint="f")
    with pytest.raises(RunError, match="another configuration, fold or class list"):
        load_state(train_state(0), tmp_path, fingerprint="g")


def test_what_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    state = train_state(1)
    with torch.no_grad():
        next(state.model.parameters())[0] = float("nan")
    with pytest.raises(RunError, match=r"model\.0\.weight is not finite after epoch 1"):
        save_state(state, tmp_path, fingerprint="f")
    assert list(tmp_path.iterdir()) == []
