"""The training loop, one page: order, batch, loss, step, average, validate, checkpoint."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from distangle.errors import RunError
from distangle.model import PerturbationClassifier
from distangle.training.assignment import Assignment, mixed_order
from distangle.training.batches import Batch, BatchMaker
from distangle.training.config import TrainingConfig
from distangle.training.objective import objective
from distangle.training.schedule import epoch_order, learning_rate
from distangle.training.state import TrainingState

Validate = Callable[[PerturbationClassifier], dict[str, int | float]]
After = Callable[[TrainingState], None]
BeforeEpoch = Callable[[TrainingState], Assignment | None]


def no_pseudo_labels(state: TrainingState) -> Assignment | None:
    """Give no pseudo labels, whatever the state."""


@dataclass(frozen=True)
class Moments:
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


def make_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser; AdamW leaves norms and biases undecayed."""
    optim = config.optim
    if optim.name == "adam":
        return torch.optim.Adam(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optim.lr)


def run_epochs(
    state: TrainingState, maker: BatchMaker, labels: np.ndarray, config: TrainingConfig, *, moments: Moments
) -> None:
    """Train from the state's step to the last epoch of the configuration.

    Args:
        state: Network, optimiser and what was done so far; changed in place.
        maker: Makes the batches.
        labels: int [site], the class of every labelled site; the maker's unlabelled sites come behind them.
        config: How to train.
        moments: Called after every step and epoch.

    Raises:
        RunError: A loss or gradient is not finite: nothing was stepped; names epoch, step and sites.
    """
    model = state.model
    if not isinstance(model, PerturbationClassifier):
        message = f"expected a PerturbationClassifier, got {type(model).__name__}"
        raise TypeError(message)
    per_epoch = max(1, len(labels) // maker.batch_size // config.accumulate)
    for epoch in range(state.epochs_done, config.epochs):
        order = epoch_order(labels, balance=config.balance, seed=config.seed, epoch=epoch)
        assignment = moments.before_epoch(state)
        if assignment is not None:
            order = mixed_order(order, assignment, batch_size=maker.batch_size, config=config, epoch=epoch)
        model.train()
        batches = maker.epoch(order, epoch, assignment, skip=state.steps_done * config.accumulate)
        for group in _groups(batches, config.accumulate):
            step = epoch * per_epoch + state.steps_done
            # Dropout draws from torch's own stream: seeded per step, it does not know of a resume.
            torch.manual_seed(_stream(config.seed, epoch, state.steps_done))
            rate = learning_rate(config, step=step, per_epoch=per_epoch)
            for parameters in state.optimiser.param_groups:
                parameters["lr"] = rate
            where = f"epoch {epoch + 1}, step {step + 1}"
            done = _step(model, state.optimiser, group, config, epoch=step / per_epoch, where=where)
            _average(state, config.average, step)
            state.so_far.add(**done, learning_rate=rate)
            moments.after_step(state)
        row: dict[str, int | float] = {"epoch": epoch + 1, **state.so_far.row()}
        row |= state.notes.get("pseudo_labels", {}).get("counted", {})
        with averaged_weights(model, state.average):
            row |= moments.validate(model)
        state.end_epoch(row)
        moments.after_epoch(state)


class _Step(TypedDict):
    loss: float  # mean over the batches
    right: float
    counted: int
    parts: dict[str, float]


def _step(
    model: PerturbationClassifier,
    optimiser: torch.optim.Optimizer,
    group: Sequence[Batch],
    config: TrainingConfig,
    *,
    epoch: float,
    where: str,
) -> _Step:
    """Do one optimiser step over the batches of a group."""
    optimiser.zero_grad(set_to_none=True)
    losses, right, counted, parts = 0.0, 0.0, 0, collections.Counter[str]()
    for batch in group:
        found = objective(model, batch, config, epoch=epoch)
        (found.loss / len(group)).backward()  # type: ignore[no-untyped-call]
        losses += float(found.loss.detach())
        right, counted = right + found.right, counted + found.counted
        parts.update({name: value / len(group) for name, value in found.parts.items()})
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip or float("inf"))
    if not (np.isfinite(losses) and bool(torch.isfinite(norm))):
        sites = ", ".join(site for batch in group for site in batch.sites[:4])
        message = (
            f"The {'loss' if not np.isfinite(losses) else 'gradient'} is not finite in {where} (sites {sites}, ...). "
            f"Nothing was stepped and the last checkpoint is healthy. Lower optim.lr, set optim.clip=1, or use "
            f"precision=fp32, then resume."
        )
        raise RunError(message)
    optimiser.step()
    return _Step(loss=losses / len(group), right=right, counted=counted, parts=dict(parts))


def _groups(batches: Iterable[Batch], size: int) -> Iterable[list[Batch]]:
    """Gather batches of one step; their buffers are reused, so what waits is copied."""
    group: list[Batch] = []
    whole = 0
    for batch in batches:
        group.append(batch if size == 1 else dataclasses.replace(batch, images=batch.images.clone()))
        if len(group) == size:
            yield group
            group, whole = [], whole + 1
    # A last, smaller group only where the fold is too small for a whole one.
    if group and not whole:
        yield group


def _average(state: TrainingState, decay: float, step: int) -> None:
    if decay == 0:
        return
    weights = state.model.state_dict()
    if not state.average:
        state.average = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return
    # Young averages follow faster, or they would remember the random start.
    keep = min(decay, (1 + step) / (10 + step))
    for name, tensor in weights.items():
        kept = state.average[name]
        if kept.is_floating_point():
            kept.lerp_(tensor.detach(), 1 - keep)
        else:
            kept.copy_(tensor)


class averaged_weights:  # noqa: N801 - a context manager is used like a function
    """Lend a network its averaged weights for the length of a `with`; an empty average changes nothing."""

    def __init__(self, model: nn.Module, average: dict[str, Tensor]) -> None:
        self._model, self._average = model, average

    def __enter__(self) -> None:
        if self._average:
            self._own = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
            self._model.load_state_dict(self._average)

    def __exit__(self, *raised: object) -> None:
        if self._average:
            self._model.load_state_dict(self._own)


def _stream(seed: int, epoch: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}:{step}:torch".encode()).digest()[:7], "big")
