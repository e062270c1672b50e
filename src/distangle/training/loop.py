"""Run the training loop: order, batch, step, average, validate, checkpoint."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distangle.core.distributed import n_ranks, shard
from distangle.core.progress import count_items
from distangle.errors import RunError
from distangle.training.config import TrainingConfig
from distangle.training.data.loader import BatchLoader
from distangle.training.pseudo_labels.rounds import Assignment, interleave
from distangle.training.schedule import epoch_order, learning_rate, step_batches
from distangle.training.state import TrainingState, averaged_tensors, constant_tensors
from distangle.training.step import RETRY, TrainStep

Validate = Callable[[Any], dict[str, int | float]]
After = Callable[[TrainingState], None]
BeforeEpoch = Callable[[TrainingState], Assignment | None]


def no_pseudo_labels(state: TrainingState) -> Assignment | None:
    """Return no pseudo labels, for any state."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that the loop calls.

    Attributes:
        validate: Called after an epoch, with the weights that prediction will use; returns more metrics.
        after_epoch: Called with the state after an epoch, to log and save it.
        after_step: Called with the state after every optimizer step; a saved state resumes after that step.
        before_epoch: Called with the state before an epoch and after a resume within one. Returns the pseudo labels
            of the epoch, and keeps its decisions in the state.
    """

    validate: Validate
    after_epoch: After
    after_step: After = lambda _: None
    before_epoch: BeforeEpoch = no_pseudo_labels


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer; AdamW does not decay norms and biases."""
    optim = config.optim
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if optim.name == "adam":
        return torch.optim.Adam(trained, lr=optim.lr, weight_decay=optim.weight_decay)
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    not_decayed = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": not_decayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optim.lr)


def run_epochs(
    state: TrainingState, loader: BatchLoader, labels: np.ndarray, config: TrainingConfig, *, callbacks: Callbacks
) -> None:
    """Train from the state's step to the last epoch of the configuration.

    Args:
        state: Network, optimizer and position; changed in place.
        loader: Makes the batches.
        labels: int [site], the class of every labelled site; the unlabelled sites of the loader follow them.
        config: Configuration of the training.
        callbacks: Called around every step and epoch.

    Raises:
        RunError: A loss or gradient is not finite; the message names epoch, step and sites. Or a metric of the epoch
            is not finite; the epoch is not saved.
    """
    train_step, model = TrainStep(state, config), state.model
    n_together = config.gradient_accumulation * n_ranks()
    first_order = epoch_order(labels, balance=config.class_balance, seed=config.seed, epoch=0)
    per_epoch = max(1, len(loader.split(first_order, 0)) // n_together)
    for epoch in range(state.epochs_done, config.epochs):
        order = epoch_order(labels, balance=config.class_balance, seed=config.seed, epoch=epoch)
        assignment = callbacks.before_epoch(state)
        if assignment is not None:
            order = interleave(order, assignment, batch_size=loader.batch_size, config=config, epoch=epoch)
        model.train()
        steps = step_batches(len(loader.split(order, epoch)), n_together)[state.steps_done :]
        n_done, n_steps = state.steps_done, state.steps_done + len(steps)
        show_progress = count_items("training", n_steps, "steps", where=f"epoch {epoch + 1} of {config.epochs}")
        batches = loader.epoch(order, epoch, assignment, numbers=[n for numbers in steps for n in shard(numbers)])
        for n, numbers in enumerate(steps, start=n_done + 1):
            step = epoch * per_epoch + state.steps_done
            lr = learning_rate(config, step=step, per_epoch=per_epoch)
            where = f"epoch {epoch + 1}, step {step + 1}"
            result = train_step.step(batches, numbers, epoch=epoch, epoch_position=step / per_epoch, lr=lr, where=where)
            _update_ema(state, config.ema_decay, step)
            state.partial_epoch.add(**result, learning_rate=lr)
            callbacks.after_step(state)
            show_progress(n)
        row: dict[str, int | float] = {"epoch": epoch + 1, **state.partial_epoch.row()}
        row |= state.hook_values.get("pseudo_labels", {}).get("counts", {})
        with use_averaged_weights(model, state.ema):
            row |= callbacks.validate(model)
        _check_finite(row)
        state.end_epoch(row)
        callbacks.after_epoch(state)


def _check_finite(row: Mapping[str, int | float]) -> None:
    problems = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
    if problems:
        raise RunError(
            f"{', '.join(problems)} after the steps of epoch {row['epoch']}: the network has no finite output for "
            f"the held-out sites. The end of this epoch is not saved; earlier checkpoints are kept. {RETRY}"
        )


def _update_ema(state: TrainingState, decay: float, step: int) -> None:
    if decay == 0:
        return
    if not state.ema:
        constant = constant_tensors(state.model)
        weights = state.model.state_dict()
        state.ema = {name: tensor.detach().clone() for name, tensor in weights.items() if name not in constant}
        return
    weights = averaged_tensors(state.model)
    # A young average follows faster, or it would keep the random initial weights.
    decay = min(decay, (1 + step) / (10 + step))
    for name, mean in state.ema.items():
        if mean.is_floating_point():
            mean.lerp_(weights[name].detach(), 1 - decay)
        else:
            mean.copy_(weights[name])


class use_averaged_weights:  # noqa: N801 - a context manager is used like a function
    """Give a network its averaged weights within a `with` block.

    An empty average changes nothing.
    """

    def __init__(self, model: nn.Module, ema: dict[str, Tensor]) -> None:
        self._model, self._ema = model, ema

    def __enter__(self) -> None:
        if self._ema:
            weights = self._model.state_dict()
            self._own = {name: weights[name].detach().clone() for name in self._ema}
            self._model.load_state_dict(self._ema, strict=False)

    def __exit__(self, *exception: object) -> None:
        if self._ema:
            self._model.load_state_dict(self._own, strict=False)
