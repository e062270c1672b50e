"""The training loop: order, batch, step, average, validate, checkpoint."""

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
from distangle.training.step import AGAIN, TrainStep

Validate = Callable[[Any], dict[str, int | float]]
After = Callable[[TrainingState], None]
BeforeEpoch = Callable[[TrainingState], Assignment | None]


def no_pseudo_labels(state: TrainingState) -> Assignment | None:
    """Give no pseudo labels, whatever the state."""


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls at its named moments.

    Attributes:
        validate: After an epoch, with the weights that prediction will use; returns more metrics.
        after_epoch: With the whole state, to log and save it.
        after_step: With the whole state after every optimiser step; what it saves is resumed after that step.
        before_epoch: With the whole state, also when it lies within the epoch; gives the pseudo labels of the epoch,
            and keeps in the state what it must not decide anew.
    """

    validate: Validate
    after_epoch: After
    after_step: After = lambda _: None
    before_epoch: BeforeEpoch = no_pseudo_labels


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser; AdamW leaves norms and biases undecayed."""
    optim = config.optim
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if optim.name == "adam":
        return torch.optim.Adam(moving, lr=optim.lr, weight_decay=optim.weight_decay)
    decayed = [parameter for parameter in moving if parameter.ndim > 1]
    plain = [parameter for parameter in moving if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optim.lr)


def run_epochs(
    state: TrainingState, maker: BatchLoader, labels: np.ndarray, config: TrainingConfig, *, moments: Callbacks
) -> None:
    """Train from the state's step to the last epoch of the configuration.

    Args:
        state: Network, optimiser and what was done so far; changed in place.
        maker: Makes the batches.
        labels: int [site], the class of every labelled site; the maker's unlabelled sites come behind them.
        config: How to train.
        moments: Called after every step and epoch.

    Raises:
        RunError: A loss or gradient is not finite: nothing was stepped; names epoch, step and sites. Or a metric of
            the epoch is not: the epoch is not saved.
    """
    stepper, model = TrainStep(state, config), state.model
    n_together = config.gradient_accumulation * n_ranks()
    first = epoch_order(labels, balance=config.class_balance, seed=config.seed, epoch=0)
    per_epoch = max(1, len(maker.cut(first, 0)) // n_together)
    for epoch in range(state.epochs_done, config.epochs):
        order = epoch_order(labels, balance=config.class_balance, seed=config.seed, epoch=epoch)
        assignment = moments.before_epoch(state)
        if assignment is not None:
            order = interleave(order, assignment, batch_size=maker.batch_size, config=config, epoch=epoch)
        model.train()
        steps = step_batches(len(maker.cut(order, epoch)), n_together)[state.steps_done :]
        n_before, n_steps = state.steps_done, state.steps_done + len(steps)
        far = count_items("training", n_steps, "steps", where=f"epoch {epoch + 1} of {config.epochs}")
        batches = maker.epoch(order, epoch, assignment, numbers=[n for numbers in steps for n in shard(numbers)])
        for k, numbers in enumerate(steps, start=n_before + 1):
            step = epoch * per_epoch + state.steps_done
            rate = learning_rate(config, step=step, per_epoch=per_epoch)
            where = f"epoch {epoch + 1}, step {step + 1}"
            done = stepper.step(batches, numbers, epoch=epoch, done=step / per_epoch, rate=rate, where=where)
            _average(state, config.ema_decay, step)
            state.partial_epoch.add(**done, learning_rate=rate)
            moments.after_step(state)
            far(k)
        row: dict[str, int | float] = {"epoch": epoch + 1, **state.partial_epoch.row()}
        row |= state.hook_values.get("pseudo_labels", {}).get("counts", {})
        with use_averaged_weights(model, state.average):
            row |= moments.validate(model)
        _check_finite(row)
        state.end_epoch(row)
        moments.after_epoch(state)


def _check_finite(row: Mapping[str, int | float]) -> None:
    broken = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
    if broken:
        raise RunError(
            f"{', '.join(broken)} after the steps of epoch {row['epoch']}: the network has no finite answer to the "
            f"held-out sites. The end of this epoch is not saved; what was saved before is kept. {AGAIN}"
        )


def _average(state: TrainingState, decay: float, step: int) -> None:
    if decay == 0:
        return
    if not state.average:
        still = constant_tensors(state.model)
        weights = state.model.state_dict()
        state.average = {name: tensor.detach().clone() for name, tensor in weights.items() if name not in still}
        return
    weights = averaged_tensors(state.model)
    # Young averages follow faster, or they would remember the random start.
    keep = min(decay, (1 + step) / (10 + step))
    for name, kept in state.average.items():
        if kept.is_floating_point():
            kept.lerp_(weights[name].detach(), 1 - keep)
        else:
            kept.copy_(weights[name])


class use_averaged_weights:  # noqa: N801 - a context manager is used like a function
    """Give a network its averaged weights for a `with`.

    An empty average changes nothing.
    """

    def __init__(self, model: nn.Module, average: dict[str, Tensor]) -> None:
        self._model, self._average = model, average

    def __enter__(self) -> None:
        if self._average:
            weights = self._model.state_dict()
            self._own = {name: weights[name].detach().clone() for name in self._average}
            self._model.load_state_dict(self._average, strict=False)

    def __exit__(self, *raised: object) -> None:
        if self._average:
            self._model.load_state_dict(self._own, strict=False)
