"""A checkpoint that is damaged, of another network, newer, or not finite is named and never loaded in part."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_kill import state_after
from torch import nn

from distangle.core.io import sha256_of, write_json
from distangle.errors import RunError
from distangle.results import RunFolder, verify_run
from distangle.training.checkpointing.checkpoints import _digest, load_state, rename_newer, save_state
from distangle.training.state import TrainingState
from tiny_run import fingerprints, finish_run, tiny_screen, tiny_start


def save_two(folder: Path) -> tuple[Path, Path]:
    """Save two checkpoints; return weights and JSON of the newer."""
    save_state(state_after(1), folder, fingerprint="f")
    weights, card = save_state(state_after(2), folder, fingerprint="f")
    return weights, card


def rewrite(weights: Path, card: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors of a checkpoint (None removes one) and update every hash."""
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    tensors = {name: tensor for name, tensor in {**tensors, **changes}.items() if tensor is not None}
    save_file(tensors, weights)
    edit_card(card, sha256=sha256_of(weights))


def edit_card(card: Path, **changes: object) -> None:
    content = {**json.loads(card.read_text()), **changes}
    content.pop("sha256_of_this")
    write_json(card, {**content, "sha256_of_this": _digest(content)})


def load_latest(folder: Path) -> tuple[int, list[str]]:
    state = state_after(0)
    messages = load_state(state, folder, fingerprint="f").skipped
    rename_newer(state, folder)
    return state.epochs_done, messages


def test_any_flipped_bit_in_either_file_is_found_and_the_one_before_is_used(tmp_path: Path) -> None:
    weights, card = save_two(tmp_path)
    rng = random.Random(0)
    for k in range(120):
        path = (weights, card)[k % 2]
        content = path.read_bytes()
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        try:
            state = state_after(0)
            report = load_state(state, tmp_path, fingerprint="f")
            assert (state.epochs_done, len(report.skipped)) == (1, 1), (path.name, place, bit)
            assert "checkpoint epoch-0002 is damaged: " in report.skipped[0]
        except RunError as error:
            # A flip in these two numbers makes it a checkpoint of another format or configuration.
            assert "has format" in str(error) or "another configuration" in str(error), str(error)  # noqa: PT017
        path.write_bytes(content)
    assert load_latest(tmp_path) == (2, [])


@pytest.mark.parametrize("keep", [0, 1, 100, -20])
def test_a_file_cut_short_or_filled_with_zeros_is_found(tmp_path: Path, keep: int) -> None:
    weights, card = save_two(tmp_path)
    for path in (weights, card):
        content = path.read_bytes()
        for remainder in (content[:keep], content[:keep] + bytes(len(content) - len(content[:keep]))):
            path.write_bytes(remainder)
            state = state_after(0)
            (message,) = load_state(state, tmp_path, fingerprint="f").skipped
            assert state.epochs_done == 1
            assert message.endswith("Using the one before it.")
        path.write_bytes(content)


def test_what_is_damaged_is_set_aside_and_does_not_push_out_what_is_written_next(tmp_path: Path) -> None:
    weights, _ = save_two(tmp_path)
    late = state_after(2)
    late.partial_epoch.add(loss=1.0, n_correct=1.0, n_scored=1, learning_rate=1.0, components={})
    late_weights, _ = save_state(late, tmp_path, fingerprint="f")
    for path in (weights, late_weights):
        path.write_bytes(b"gone")
    epochs, messages = load_latest(tmp_path)
    assert epochs == 1
    assert [sentence.split()[1] for sentence in messages] == ["epoch-0002-step-000001", "epoch-0002"]
    save_state(state_after(2), tmp_path, fingerprint="f")
    assert load_latest(tmp_path) == (2, [])
    assert (tmp_path / "damaged-epoch-0002.safetensors").read_bytes() == b"gone"


def test_weights_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    weights, _ = save_two(tmp_path)
    weights.unlink()
    assert load_latest(tmp_path) == (
        1,
        ["checkpoint epoch-0002 is damaged: its weights epoch-0002.safetensors are missing. Using the one before it."],
    )


def test_a_tensor_that_is_not_finite_is_passed_over_by_name(tmp_path: Path) -> None:
    weights, card = save_two(tmp_path)
    rewrite(weights, card, **{"model.bias": torch.tensor([1.0, float("nan"), 2.0])})
    epochs, (message,) = load_latest(tmp_path)
    assert epochs == 1
    assert message == "checkpoint epoch-0002 is damaged: model.bias is not finite. Using the one before it."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.bias": None}, "it lacks model.bias"),
        ({"model.bias": torch.zeros(4)}, r"it has model.bias as \(4,\) instead of \(3,\)"),
        ({"model.extra": torch.zeros(1)}, "it has model.extra, which the network lacks"),
        ({"average.weight": None}, "it lacks average.weight"),
        ({"optim.0.exp_avg": torch.zeros(7)}, "it has optim.0.exp_avg, which fits no parameter"),
        ({"optim.9.exp_avg": torch.zeros(3)}, "it has optim.9.exp_avg, which fits no parameter"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_with_the_tensor(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    weights, card = save_two(tmp_path)
    rewrite(weights, card, **changes)
    with pytest.raises(
        RunError, match=rf"epoch-0002\.safetensors belongs to another network: {message}\. Train into a new"
    ):
        load_state(state_after(0), tmp_path, fingerprint="f")


def test_a_whole_other_network_is_refused_with_the_first_tensors_and_their_number(tmp_path: Path) -> None:
    save_two(tmp_path)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    other = TrainingState(epochs_done=0, model=model, optimizer=torch.optim.Adam(model.parameters()))
    with pytest.raises(RunError, match=r"it lacks model\.0\.weight, lacks model\.0\.bias, .* \(\d+ in all\)"):
        load_state(other, tmp_path, fingerprint="f")


def test_a_newer_format_and_another_configuration_are_refused_not_passed_over(tmp_path: Path) -> None:
    _, card = save_two(tmp_path)
    before = card.read_text()
    edit_card(card, format=99)
    with pytest.raises(
        RunError, match="has format 99; this version of distangle reads format 2. Resume with the version that"
    ):
        load_state(state_after(0), tmp_path, fingerprint="f")
    card.write_text(before)
    with pytest.raises(RunError, match="belongs to another configuration, fold or class list"):
        load_state(state_after(0), tmp_path, fingerprint="g")


def test_a_network_that_is_not_finite_is_not_saved_and_the_one_before_stays(tmp_path: Path) -> None:
    save_two(tmp_path)
    for name, spoil in {
        "model.weight": lambda state: state.model.weight.data.view(-1)[3:4].fill_(float("inf")),
        "average.bias": lambda state: state.ema["bias"].fill_(float("nan")),
        "optim.1.exp_avg": lambda state: list(state.optimizer.state.values())[1]["exp_avg"].fill_(float("nan")),
    }.items():
        state = state_after(3)
        spoil(state)
        with pytest.raises(RunError, match=rf"{name} is not finite after epoch 3. This checkpoint was not written"):
            save_state(state, tmp_path, fingerprint="f")
    assert load_latest(tmp_path) == (2, [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    screen = tiny_screen(root)
    for name in ("whole", "threads", "damaged"):
        tiny_start(screen, root / "runs" / name, epochs=2)
    finish_run(RunFolder.open(root / "runs/whole"))
    return root


def interrupt(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train one epoch."""
    real = RunFolder.record

    def record(self: RunFolder, *paths: Path) -> None:
        real(self, *paths)
        if any(path.name == "epoch-0001.json" for path in paths):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", record)
        with pytest.raises(KeyboardInterrupt):
            finish_run(run)


def test_another_number_of_threads_is_said_and_recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.open(folder / "runs/threads")
    threads = torch.get_num_threads()
    interrupt(run, monkeypatch)
    assert "not_bit_exact" not in run.describe()
    torch.set_num_threads(threads + 1)
    messages: list[str] = []
    try:
        finish_run(run, say=messages.append)
    finally:
        torch.set_num_threads(threads)
    sentence = f"not bit-exact from epoch 1 on: threads {threads}, now {threads + 1}"
    assert messages[0] == "resumed after epoch 1"
    assert messages[1].startswith(f"{sentence}. The result is as good")
    assert run.describe()["not_bit_exact"] == [sentence]
    assert run.describe()["finished"]
    assert verify_run(run).differences == ()


def test_another_torch_and_other_ranks_are_said(tmp_path: Path) -> None:
    _, card = save_two(tmp_path)
    made_with = json.loads(card.read_text())["environment"]
    edit_card(card, environment={**made_with, "torch": "2.11.0", "device": "NVIDIA H200", "ranks": 2})
    changes = load_state(state_after(0), tmp_path, fingerprint="f").environment_changes
    assert changes == [
        f"torch 2.11.0, now {torch.__version__}",
        f"device NVIDIA H200, now {made_with['device']}",
        "ranks 2, now 1",
    ]


def test_a_run_whose_last_checkpoint_is_damaged_ends_as_if_it_were_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.open(folder / "runs/damaged")
    finish_run(run)
    newest = run.checkpoints / "epoch-0002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    messages: list[str] = []
    finish_run(run, say=messages.append)
    assert messages[0].startswith("checkpoint epoch-0002 is damaged: the SHA-256 of epoch-0002.safetensors is not ")
    assert messages[1] == "resumed after epoch 1"
    result = fingerprints(run.root)
    extra = {name for name in result if "damaged-" in name}
    assert len(extra) == 2
    assert {name: value for name, value in result.items() if name not in extra} == fingerprints(folder / "runs/whole")
    assert {difference.name: difference.kind for difference in verify_run(run).differences} == dict.fromkeys(
        extra, "extra"
    )
