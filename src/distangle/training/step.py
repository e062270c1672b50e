"""What one batch asks of the network: its loss, and how many answers were right.

Merge the running statistics of norms over ranks, as one process has them.

Do one optimiser step over the batches of all ranks.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.axes import Scalar
from distangle.core.distributed import all_gather, n_ranks, rank, shard, sum_gradients, sum_tensor
from distangle.errors import RunError
from distangle.losses import composite_loss, pseudo_weight, semi_supervised_loss
from distangle.model import PerturbationClassifier
from distangle.training.adversary import DomainClassifier, adversary_loss, adversary_weight
from distangle.training.config import PseudoLabels, TrainingConfig
from distangle.training.data.loader import TrainingBatch
from distangle.training.data.sites import LabelSource
from distangle.training.state import TrainingState

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class BatchLoss:
    """What a batch amounts to.

    Attributes:
        loss: To be differentiated.
        right: Mass of the labels that the softmax head put first, in [0, `counted`].
        counted: Images that carry a label.
        parts: Terms of the loss by name, for the metrics.
    """

    loss: Scalar
    right: float
    counted: int
    parts: dict[str, float] = field(default_factory=dict)


def batch_loss(
    model: PerturbationClassifier,
    batch: TrainingBatch,
    config: TrainingConfig,
    *,
    epoch: float,
    reader: DomainClassifier | None = None,
) -> BatchLoss:
    """Run the network on a batch and weigh what it says.

    Args:
        model: In training mode, on its device.
        batch: Anywhere; moved to the device of the network.
        config: How to train.
        epoch: Epochs done so far, with a fraction: the time of everything that is ramped.
        reader: Reads the experiment from the embedding, against the network; None: nobody does.
    """
    device = next(model.parameters()).device
    cell_types = None if batch.cell_types is None else batch.cell_types.to(device)
    references = None if batch.references is None else batch.references.to(device)
    labels = batch.labels.to(device)
    half = HALF.get(config.precision)
    with torch.autocast(device.type, half, enabled=half is not None):
        if batch.numbers is not None:
            outputs = model.classify_numbers(batch.numbers.to(device), cell_types, references)
        else:
            images = batch.images(device)
            if config.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            outputs = model(images, cell_types, references)
    smoothed = _smooth(labels, config.loss.label_smoothing)

    def mean_loss(chosen: Tensor) -> Scalar:
        return composite_loss(
            outputs.logits[chosen],
            outputs.cosines[chosen],
            smoothed[chosen],
            margin_share=config.loss.margin_share,
            scale=config.loss.scale,
            margin=config.loss.margin,
            arc_scale=config.loss.arc_scale,
        )

    labelled = torch.from_numpy(np.flatnonzero(batch.kinds == LabelSource.LABELLED)).to(device)
    pseudo = torch.from_numpy(np.flatnonzero(batch.kinds == LabelSource.PSEUDO_LABELLED)).to(device)
    parts: dict[str, float] = {}
    if len(pseudo):
        weight = _weight(config.pseudo_labels, epoch, n_labelled=len(labelled), n_pseudo=len(pseudo))
        loss = semi_supervised_loss(mean_loss, labelled, pseudo, weight=weight)
        parts = {"pseudo_weight": weight}
    else:
        loss = mean_loss(labelled)
    if reader is not None and batch.experiments is not None:
        weight = adversary_weight(config.adversary, epoch / config.epochs)
        # Against all images of the batch: an experiment needs no label.
        against, named = adversary_loss(reader, outputs.embedding, batch.experiments.to(device), weight=weight)
        loss = loss + against
        read = {"adversary_loss": float(against.detach()), "adversary_accuracy": named, "adversary_weight": weight}
        parts |= read
    answered = outputs.logits.detach()[labelled].argmax(1, keepdim=True)
    right = float(labels[labelled].gather(1, answered).sum())
    return BatchLoss(loss=loss, right=right, counted=len(labelled), parts=parts)


def _weight(settings: PseudoLabels, epoch: float, *, n_labelled: int, n_pseudo: int) -> float:
    if settings.strategy == "progressive":
        return n_pseudo / n_labelled  # each image counts the same, whoever labelled it
    first, full = float(settings.from_epoch), float(settings.full_epoch)
    return pseudo_weight(epoch, from_epoch=first, full_epoch=full, final=settings.weight)


def _smooth(labels: Tensor, share: float) -> Tensor:
    return labels if share == 0 else labels * (1 - share) + share / labels.shape[1]


class RunningStatistics:
    """Remembers the statistics of norms before a step, and merges ranks after it.

    One process sees the batches of a step in turn, each moving r to (1 - m) r + m b. A rank sees only its own, so it
    moves by c = s - (1 - m)^a r over its a batches. As the rule is linear, the end of the turn is exactly
    (1 - m)^(a_1 + ... + a_n) r + sum over ranks of (1 - m)^(batches of later ranks) c.

    Args:
        model: Whose norms; the same on every rank before a step.
    """

    def __init__(self, model: nn.Module) -> None:
        tracking = (part for part in model.modules() if isinstance(part, _BatchNorm))
        self._norms = [norm for norm in tracking if norm.running_mean is not None and norm.momentum is not None]
        self._before = torch.empty(0)

    def remember(self) -> None:
        """Take down the statistics before a step."""
        if n_ranks() > 1 and self._norms:
            self._before = self._flat()

    def join(self, batches: Sequence[int], *, where: str) -> None:
        """Give every rank the statistics that one process would have after the step.

        Args:
            batches: How many batches each rank saw, in the order that one process would see them.
            where: The step, for the message of an error.

        Raises:
            RunError: A rank did not come.
        """
        if n_ranks() == 1 or not self._norms:
            return
        kept = 1 - self._momenta()
        own, later = batches[rank()], sum(batches[rank() + 1 :])
        joined = kept**later * (self._flat() - kept**own * self._before)
        sum_tensor(joined, where=where)
        joined += kept ** sum(batches) * self._before
        sizes = [norm.num_features for norm in self._norms for _ in ("mean", "variance")]
        pieces = iter(torch.split(joined.to(torch.float32), sizes))
        for norm in self._norms:
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(next(pieces))
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += sum(batches) - own

    def _flat(self) -> Tensor:
        statistics = [one for norm in self._norms for one in (norm.running_mean, norm.running_var) if one is not None]
        return torch.cat(statistics).to(torch.float64) if statistics else torch.empty(0)

    def _momenta(self) -> Tensor:
        return torch.cat(
            [
                torch.full((2 * norm.num_features,), float(norm.momentum or 0.0), dtype=torch.float64)
                for norm in self._norms
            ]
        ).to(self._before.device)


AGAIN = (
    "Train again with a lower optim.lr, optim.clip=1 or precision=fp32: `distangle train --from RUN --out runs/NEW "
    "--optim.clip 1`."
)
SMALLEST_SCALE = 1.0  # of the loss in fp16: a gradient that overflows even here is no matter of precision


class StepResult(TypedDict):
    """What the metrics take from a step; the same on every rank."""

    loss: float  # mean over the batches
    right: float
    counted: int
    parts: dict[str, float]


class TrainStep:
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
        self,
        batches: Iterator[TrainingBatch],
        numbers: Sequence[int],
        *,
        epoch: int,
        done: float,
        rate: float,
        where: str,
    ) -> StepResult:
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
        for number in shard(numbers):
            batch = next(batches)
            # Dropout draws from torch's own stream: seeded per batch, it knows of no resume and of no ranks.
            _seed(_stream(self._config.seed, epoch, number))
            found = batch_loss(self._model, batch, self._config, epoch=done, reader=self._state.reader)
            scaler.scale(found.loss / len(numbers)).backward()  # type: ignore[no-untyped-call]
            answer = {"loss": float(found.loss.detach()), "right": found.right, "counted": found.counted}
            broken = [] if math.isfinite(answer["loss"]) else self._broken(batch)
            answers.append({**answer, "parts": found.parts, "sites": batch.sites[:4], "broken": broken})
        sum_gradients(self._parameters, where=where)
        answers = [answer for answers_of_rank in all_gather(answers, where=where) for answer in answers_of_rank]
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.optim.clip or float("inf"))
        self._check(answers, is_finite=bool(torch.isfinite(norm)), where=where)
        scaler.step(optimiser)
        scaler.update()
        self._statistics.join([len(shard(numbers, of=one)) for one in range(n_ranks())], where=where)
        return _summed(answers)

    def _broken(self, batch: TrainingBatch) -> list[str]:
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


def _summed(answers: Sequence[Mapping[str, Any]]) -> StepResult:
    parts = Counter[str]()
    for answer in answers:
        parts.update({name: value / len(answers) for name, value in answer["parts"].items()})
    return StepResult(
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
