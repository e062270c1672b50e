"""Do one optimiser step over the batches of all ranks."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import nn

from distangle.errors import RunError
from distangle.ranks import every_rank, n_ranks, share, sum_gradients
from distangle.training.batches.maker import Batch
from distangle.training.config import TrainingConfig
from distangle.training.objective import objective
from distangle.training.running_statistics import RunningStatistics
from distangle.training.state import TrainingState

AGAIN = (
    "Train again with a lower optim.lr, optim.clip=1 or precision=fp32: `distangle train --from RUN --out runs/NEW "
    "--optim.clip 1`."
)
SMALLEST_SCALE = 1.0  # of the loss in fp16: a gradient that overflows even here is no matter of precision


class StepDone(TypedDict):
    """What the metrics take from a step; the same on every rank."""

    loss: float  # mean over the batches
    right: float
    counted: int
    parts: dict[str, float]


class Stepper:
    """Does optimiser steps.

    The ranks together do what one process does on all batches in turn.

    Args:
        state: Network, optimiser and scaler; changed by every step.
        config: How to train.
    """

    def __init__(self, state: TrainingState, config: TrainingConfig) -> None:
        self._model, self._state, self._config = state.classifier, state, config
        self._statistics = RunningStatistics(state.model)
        self._parameters = [*state.model.parameters(), *(state.reader.parameters() if state.reader else ())]

    def step(
        self, batches: Iterator[Batch], numbers: Sequence[int], *, epoch: int, done: float, rate: float, where: str
    ) -> StepDone:
        """Do one step.

        Args:
            batches: Gives those of this rank.
            numbers: Which batches of the epoch the step is made of, over all ranks.
            epoch: Which epoch, from 0.
            done: Epochs done so far, with a fraction.
            rate: The learning rate.
            where: For the message of an error.

        Raises:
            RunError: A loss or gradient is not finite: nothing was stepped; or a rank did not come.
        """
        optimiser, scaler = self._state.optimiser, self._state.scaler
        for parameters in optimiser.param_groups:
            parameters["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        self._statistics.remember()
        answers: list[dict[str, Any]] = []
        for number in share(numbers):
            batch = next(batches)
            # Dropout draws from torch's own stream: seeded per batch, it knows of no resume and of no ranks.
            _seed(_stream(self._config.seed, epoch, number))
            found = objective(self._model, batch, self._config, epoch=done, reader=self._state.reader)
            scaler.scale(found.loss / len(numbers)).backward()  # type: ignore[no-untyped-call]
            answer = {"loss": float(found.loss.detach()), "right": found.right, "counted": found.counted}
            broken = [] if math.isfinite(answer["loss"]) else self._broken(batch)
            answers.append({**answer, "parts": found.parts, "sites": batch.sites[:4], "broken": broken})
        sum_gradients(self._parameters, where=where)
        answers = [answer for answers_of_rank in every_rank(answers, where=where) for answer in answers_of_rank]
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.optim.clip or float("inf"))
        self._check(answers, is_finite=bool(torch.isfinite(norm)), where=where)
        scaler.step(optimiser)
        scaler.update()
        self._statistics.join([len(share(numbers, of=one)) for one in range(n_ranks())], where=where)
        return _summed(answers)

    def _broken(self, batch: Batch) -> list[str]:
        """Name what went into a loss that is not finite and was not finite itself."""
        weights = [name for name, weight in self._model.named_parameters() if not bool(weight.isfinite().all())]
        seen = batch.images(torch.device("cpu")) if batch.numbers is None else batch.numbers
        fine = seen.isfinite().flatten(1).all(1).tolist()
        sites = [name for name, is_fine in zip(batch.sites, fine, strict=False) if not is_fine]
        return [f"weight {name}" for name in weights[:4]] + [f"pixels of site {name}" for name in sites[:4]]

    def _check(self, answers: Sequence[Mapping[str, Any]], *, is_finite: bool, where: str) -> None:
        bad = [answer for answer in answers if not math.isfinite(answer["loss"])]
        # In fp16 a gradient may overflow: the scaler leaves that step out and scales the next losses by half.
        overflows = self._state.scaler.is_enabled() and self._state.scaler.get_scale() > SMALLEST_SCALE
        if not bad and (is_finite or overflows):
            return
        sites = ", ".join(site for answer in (bad or answers) for site in answer["sites"])
        broken = ", ".join(dict.fromkeys(name for answer in bad for name in answer["broken"]))
        raise RunError(
            f"The {'loss' if bad else 'gradient'} is not finite in {where} ({broken or f'sites {sites}, ...'}). "
            f"Nothing was stepped and the last checkpoint is healthy. {AGAIN}"
        )


def _summed(answers: Sequence[Mapping[str, Any]]) -> StepDone:
    parts = Counter[str]()
    for answer in answers:
        parts.update({name: value / len(answers) for name, value in answer["parts"].items()})
    return StepDone(
        loss=sum(answer["loss"] for answer in answers) / len(answers),
        right=sum(answer["right"] for answer in answers),
        counted=sum(answer["counted"] for answer in answers),
        parts=dict(parts),
    )


def _seed(number: int) -> None:
    """Seed torch's own stream; without a GPU its lazy start, which notes a traceback every time, is left out."""
    if torch.cuda.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


def _stream(seed: int, epoch: int, batch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}:{batch}:torch".encode()).digest()[:7], "big")
