"""NaN or infinity at any step: no weight changes, step and cause are named, and the last state can be loaded."""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.errors import RunError
from distangle.images import ImageCache
from distangle.model import ModelConfig, build_classifier
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config, start_run
from distangle.training.checkpointing.checkpoints import load_state, save_state
from distangle.training.config import TrainingConfig
from distangle.training.data.loader import BatchLoader, TrainingBatch
from distangle.training.data.sites import labelled_sites
from distangle.training.loop import make_optimizer
from distangle.training.state import TrainingState
from distangle.training.step import TrainStep
from tiny_run import CLASSES, TRAINING, finish_run, tiny_screen, tiny_start

SITES = ["pixel NaN", "pixel infinite", "loss", "gradient", "weight NaN", "weight infinite"]


@pytest.fixture(scope="module")
def config() -> TrainingConfig:
    return resolve_config("scratch", [*TRAINING, "network.backbone=resnet_small", "gradient_accumulation=1"])


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory, config: TrainingConfig) -> list[TrainingBatch]:
    """Copy four real batches out of the buffers of the loader."""
    screen = tiny_screen(tmp_path_factory.mktemp("numerics"))
    config = config.model_copy(update={"preprocessing": config.preprocessing.model_copy(update={"binning": 1})})
    store = ImageCache(screen, config.preprocessing)
    sites, _ = labelled_sites(store, np.arange(16), sorted(CLASSES), config)
    maker = BatchLoader(store, sites, config, n_perturbations=3)
    networks = [
        dataclasses.replace(batch, pixels=batch.pixels.clone(), labels=batch.labels.clone())
        for batch in maker.epoch(np.arange(16), 0)
    ]
    maker.close()
    store.close()
    return networks


def fresh(config: TrainingConfig) -> TrainingState:
    model_config = ModelConfig(backbone="densenet_small", n_channels=2, n_perturbations=3, embedding_size=4)
    model = build_classifier(model_config, seed=0)
    return TrainingState(epochs_done=0, model=model, optimizer=make_optimizer(model, config))


def step(state: TrainingState, batch: TrainingBatch, config: TrainingConfig, *, number: int) -> None:
    def one() -> Iterator[TrainingBatch]:
        yield batch

    results = TrainStep(state, config).step(
        one(), [number], epoch=0, epoch_position=number / 4, lr=1e-3, where=f"epoch 1, step {number + 1}"
    )
    state.partial_epoch.add(**results, learning_rate=1e-3)


def test_100_injections_stop_before_the_step_and_leave_a_healthy_checkpoint(
    tmp_path: Path, config: TrainingConfig, batches: list[TrainingBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distangle.training import step as step_module

    rng = random.Random(0)
    healthy, folders = fresh(config), []
    for number in range(3):
        step(healthy, batches[number], config, number=number)
        folder = tmp_path / str(number)
        save_state(healthy, folder, fingerprint="f")
        folders.append(folder)
    for trial in range(100):
        kind, after = SITES[trial % len(SITES)], rng.randrange(3)
        state = fresh(config)
        load_state(state, folders[after], fingerprint="f")
        batch = batches[after + 1]
        weights = dict(state.model.named_parameters())
        value = float("nan") if "NaN" in kind else rng.choice([float("inf"), float("-inf")])
        expected = "loss"
        with monkeypatch.context() as patch:
            if kind.startswith("pixel"):
                images = batch.pixels.clone()
                place = rng.randrange(len(batch.sites))
                images[place].view(-1)[rng.randrange(images[place].numel())] = value
                batch = dataclasses.replace(batch, pixels=images)
                text = f"pixels of site {batch.sites[place]}"
            elif kind.startswith("weight"):
                # Not a bias before a norm: the norm removes a constant, and an infinite one gives NaN.
                name = rng.choice([name for name, weight in weights.items() if weight.ndim == 4])
                weights[name].data.view(-1)[0] = value
                text = f"weight {name}"
            elif kind == "loss":
                real = step_module.batch_loss

                def nan_loss(*args: object, real: object = real, **text: object) -> object:
                    result = real(*args, **text)  # type: ignore[operator]
                    return dataclasses.replace(result, loss=result.loss * float("nan"))  # type: ignore[type-var]

                patch.setattr(step_module, "batch_loss", nan_loss)
                text = f"sites {batch.sites[0]}, "
            else:
                name = rng.choice(sorted(weights))
                weights[name].register_hook(lambda gradient, value=value: gradient * value)
                text, expected = f"sites {batch.sites[0]}, ", "gradient"
            before = {name: weight.detach().clone() for name, weight in weights.items()}
            slots = {key: slot["exp_avg"].clone() for key, slot in state.optimizer.state.items()}
            with pytest.raises(RunError) as error:
                step(state, batch, config, number=after + 1)
        message = str(error.value)
        assert message.startswith(f"The {expected} is not finite in epoch 1, step {after + 2} ("), (kind, message)
        assert text in message, (kind, message)
        assert "No weight was changed and the last checkpoint is good. Train again with a lower optim.lr" in message
        for name, weight in weights.items():
            assert torch.equal(weight.nan_to_num(7), before[name].nan_to_num(7)), (kind, name)
        for key, slot in state.optimizer.state.items():
            assert torch.equal(slot["exp_avg"], slots[key])
        assert state.steps_done == after + 1
        second = fresh(config)
        assert load_state(second, folders[after], fingerprint="f").skipped == []
        assert all(bool(weight.isfinite().all()) for weight in second.model.parameters())


def test_an_answer_to_the_held_out_sites_that_is_not_finite_is_named_and_the_epoch_not_saved(tmp_path: Path) -> None:
    screen = tiny_screen(tmp_path)
    # One step per epoch, and a learning rate that gives finite weights with infinite products.
    wild = ("optim.lr=1e30", "optim.warmup_epochs=0", "batch_size=16", "gradient_accumulation=1", "loggers=[]")
    run = tiny_start(screen, tmp_path / "run", *wild, epochs=2)
    with pytest.raises(RunError) as error:
        finish_run(run)
    message = str(error.value)
    assert message.startswith(
        "held_out_loss is nan after the steps of epoch 1: the network has no finite output for the "
    )
    assert "The end of this epoch is not saved; earlier checkpoints are kept." in message
    assert (
        "Train again with a lower optim.lr, optim.max_grad_norm=1 or precision=fp32: `distangle train --from RUN"
        in message
    )
    assert not run.metrics.exists()
    assert not list(run.checkpoints.glob("epoch-0001*"))


def edges(folder: Path, monkeypatch: pytest.MonkeyPatch, paint: dict[int, int]) -> Screen:
    """Make a screen with some constant images."""
    import tiny_run

    real, calls = tiny_run.Image.fromarray, 0

    def write_nan(image: np.ndarray) -> object:
        nonlocal calls
        calls += 1
        return real(np.full_like(image, paint[calls - 1]) if calls - 1 in paint else image)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_run.Image, "fromarray", write_nan)
        return tiny_screen(folder, n_wells=6)


@pytest.mark.parametrize("standardise", ["image", "plate", "experiment_controls"])
@pytest.mark.parametrize("value", [0, 255])
def test_constant_images_and_an_empty_channel_train_without_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standardise: str, value: int
) -> None:
    paint = {0: value, 1: value, 6: value} | dict.fromkeys(
        range(13, 36, 2), 0
    )  # the second stain of E2 and E3 is empty
    screen = edges(tmp_path, monkeypatch, paint)
    changes = [*TRAINING, f"preprocessing.standardize={standardise}"]
    folds = hold_out(screen, column="experiment", values=["E3"])
    run = start_run(screen, folds, resolve_config("scratch", changes, epochs=2), tmp_path / "run")
    finish_run(run)
    text = run.metrics.read_text()
    assert "nan" not in text
    assert "inf" not in text
    assert run.describe()["finished"]
