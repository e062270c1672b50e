"""Compute the loss of a batch, and do one optimizer step over all ranks."""

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

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class BatchLoss:
    """Loss and accuracy of one batch.

    Attributes:
        loss: The loss, with its graph.
        n_correct: Label mass of the classes that the softmax head predicts, in [0, `n_scored`].
        n_scored: Number of labelled images.
        components: Terms of the loss by name, for the metrics.
    """

    loss: Scalar
    n_correct: float
    n_scored: int
    components: dict[str, float] = field(default_factory=dict)


def batch_loss(
    model: PerturbationClassifier,
    batch: TrainingBatch,
    config: TrainingConfig,
    *,
    epoch: float,
    domain_classifier: DomainClassifier | None = None,
) -> BatchLoss:
    """Run the network on a batch and compute the loss.

    Args:
        model: Network in training mode, on its device.
        batch: Batch on any device.
        config: Configuration of the training.
        epoch: Epochs done so far, with a fraction; ramps depend on it.
        domain_classifier: Predicts the experiment from the embedding, against the network; None without an adversary.
    """
    device = next(model.parameters()).device
    cell_types = None if batch.cell_types is None else batch.cell_types.to(device)
    references = None if batch.references is None else batch.references.to(device)
    labels = batch.labels.to(device)
    dtype = AUTOCAST_DTYPES.get(config.precision)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        if batch.features is not None:
            outputs = model.classify_features(batch.features.to(device), cell_types, references)
        else:
            images = batch.images(device)
            if config.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            outputs = model(images, cell_types, references)
    smooth_labels = _smooth(labels, config.loss.label_smoothing)

    def mean_loss(rows: Tensor) -> Scalar:
        return composite_loss(
            outputs.logits[rows],
            outputs.cosines[rows],
            smooth_labels[rows],
            margin_share=config.loss.margin_share,
            scale=config.loss.scale,
            margin=config.loss.margin,
            arc_scale=config.loss.arc_scale,
        )

    labelled = torch.from_numpy(np.flatnonzero(batch.label_sources == LabelSource.LABELLED)).to(device)
    pseudo = torch.from_numpy(np.flatnonzero(batch.label_sources == LabelSource.PSEUDO_LABELLED)).to(device)
    components: dict[str, float] = {}
    if len(pseudo):
        weight = _weight(config.pseudo_labels, epoch, n_labelled=len(labelled), n_pseudo=len(pseudo))
        loss = semi_supervised_loss(mean_loss, labelled, pseudo, weight=weight)
        components = {"pseudo_weight": weight}
    else:
        loss = mean_loss(labelled)
    if domain_classifier is not None and batch.experiments is not None:
        weight = adversary_weight(config.adversary, epoch / config.epochs)
        # All images of the batch take part: an experiment needs no label.
        domain_loss, domain_accuracy = adversary_loss(
            domain_classifier, outputs.embedding, batch.experiments.to(device), weight=weight
        )
        loss = loss + domain_loss
        components |= {
            "adversary_loss": float(domain_loss.detach()),
            "adversary_accuracy": domain_accuracy,
            "adversary_weight": weight,
        }
    predicted = outputs.logits.detach()[labelled].argmax(1, keepdim=True)
    n_correct = float(labels[labelled].gather(1, predicted).sum())
    return BatchLoss(loss=loss, n_correct=n_correct, n_scored=len(labelled), components=components)


def _weight(settings: PseudoLabels, epoch: float, *, n_labelled: int, n_pseudo: int) -> float:
    if settings.strategy == "progressive":
        return n_pseudo / n_labelled  # each image counts the same, with a label or a pseudo label
    ramp_start, ramp_end = float(settings.from_epoch), float(settings.full_epoch)
    return pseudo_weight(epoch, from_epoch=ramp_start, full_epoch=ramp_end, final=settings.weight)


def _smooth(labels: Tensor, share: float) -> Tensor:
    return labels if share == 0 else labels * (1 - share) + share / labels.shape[1]


class RunningStatistics:
    """Merges the running statistics of batch norms over ranks after a step.

    One process sees the batches of a step in turn; each moves r to (1 - m) r + m b. A rank sees only its own batches,
    so it moves r by c = s - (1 - m)^a r over its a batches. The rule is linear, so the final value is exactly
    (1 - m)^(a_1 + ... + a_n) r + sum over ranks of (1 - m)^(batches of later ranks) c.

    Args:
        model: Network with the norms; equal on every rank before a step.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = (module for module in model.modules() if isinstance(module, _BatchNorm))
        self._norms = [norm for norm in modules if norm.running_mean is not None and norm.momentum is not None]
        self._before = torch.empty(0)

    def snapshot(self) -> None:
        """Store the statistics before a step."""
        if n_ranks() > 1 and self._norms:
            self._before = self._concatenate()

    def merge(self, batches: Sequence[int], *, where: str) -> None:
        """Give every rank the statistics that one process would have after the step.

        Args:
            batches: Number of batches of each rank, in the order in which one process would see them.
            where: The step, for error messages.

        Raises:
            RunError: A rank did not answer.
        """
        if n_ranks() == 1 or not self._norms:
            return
        decay = 1 - self._momenta()
        n_own, n_later = batches[rank()], sum(batches[rank() + 1 :])
        merged = decay**n_later * (self._concatenate() - decay**n_own * self._before)
        sum_tensor(merged, where=where)
        merged += decay ** sum(batches) * self._before
        sizes = [norm.num_features for norm in self._norms for _ in ("mean", "variance")]
        chunks = iter(torch.split(merged.to(torch.float32), sizes))
        for norm in self._norms:
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(next(chunks))
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += sum(batches) - n_own

    def _concatenate(self) -> Tensor:
        statistics = [
            buffer for norm in self._norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None
        ]
        return torch.cat(statistics).to(torch.float64) if statistics else torch.empty(0)

    def _momenta(self) -> Tensor:
        return torch.cat(
            [
                torch.full((2 * norm.num_features,), float(norm.momentum or 0.0), dtype=torch.float64)
                for norm in self._norms
            ]
        ).to(self._before.device)


RETRY = (
    "Train again with a lower optim.lr, optim.max_grad_norm=1 or precision=fp32: `distangle train --from RUN "
    "--out runs/NEW --optim.max_grad_norm 1`."
)
MIN_SCALE = 1.0  # scale of the loss in fp16; an overflow at this scale is not due to precision


class StepResult(TypedDict):
    """Results of a step for the metrics; equal on every rank."""

    loss: float  # mean over the batches
    n_correct: float
    n_scored: int
    components: dict[str, float]


class TrainStep:
    """Does optimizer steps.

    All ranks together compute what one process computes on all batches in turn.

    Args:
        state: Network, optimizer and scaler; changed by every step.
        config: Configuration of the training.
    """

    def __init__(self, state: TrainingState, config: TrainingConfig) -> None:
        self._model, self._state, self._config = state.classifier, state, config
        self._statistics = RunningStatistics(state.model)
        self._parameters = [
            *state.model.parameters(),
            *(state.domain_classifier.parameters() if state.domain_classifier else ()),
        ]

    def step(
        self,
        batches: Iterator[TrainingBatch],
        numbers: Sequence[int],
        *,
        epoch: int,
        epoch_position: float,
        lr: float,
        where: str,
    ) -> StepResult:
        """Do one step.

        Args:
            batches: Batches of this rank.
            numbers: Numbers of the batches of this step within the epoch, over all ranks.
            epoch: Number of the epoch, from 0.
            epoch_position: Epochs done so far, with a fraction.
            lr: The learning rate.
            where: The step, for error messages.

        Raises:
            RunError: A loss or gradient is not finite, and no weight was changed; or a rank did not answer.
        """
        optimizer, scaler = self._state.optimizer, self._state.scaler
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
        self._statistics.snapshot()
        results: list[dict[str, Any]] = []
        for number in shard(numbers):
            batch = next(batches)
            # Dropout draws from torch's global stream: a seed per batch makes it independent of resumes and ranks.
            _seed(_batch_seed(self._config.seed, epoch, number))
            loss = batch_loss(
                self._model, batch, self._config, epoch=epoch_position, domain_classifier=self._state.domain_classifier
            )
            scaler.scale(loss.loss / len(numbers)).backward()  # type: ignore[no-untyped-call]
            result = {"loss": float(loss.loss.detach()), "n_correct": loss.n_correct, "n_scored": loss.n_scored}
            causes = [] if math.isfinite(result["loss"]) else self._non_finite_causes(batch)
            results.append({**result, "components": loss.components, "sites": batch.sites[:4], "causes": causes})
        sum_gradients(self._parameters, where=where)
        results = [result for results_of_rank in all_gather(results, where=where) for result in results_of_rank]
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.optim.max_grad_norm or float("inf"))
        self._check_finite(results, is_finite=bool(torch.isfinite(norm)), where=where)
        scaler.step(optimizer)
        scaler.update()
        self._statistics.merge([len(shard(numbers, of=other_rank)) for other_rank in range(n_ranks())], where=where)
        return _combine_results(results)

    def _non_finite_causes(self, batch: TrainingBatch) -> list[str]:
        """Return the weights and sites that are not finite in a batch whose loss is not."""
        weights = [name for name, weight in self._model.named_parameters() if not bool(weight.isfinite().all())]
        inputs = batch.images(torch.device("cpu")) if batch.features is None else batch.features
        is_finite_site = inputs.isfinite().flatten(1).all(1).tolist()
        sites = [name for name, is_finite in zip(batch.sites, is_finite_site, strict=False) if not is_finite]
        return [f"weight {name}" for name in weights[:4]] + [f"pixels of site {name}" for name in sites[:4]]

    def _check_finite(self, results: Sequence[Mapping[str, Any]], *, is_finite: bool, where: str) -> None:
        failed = [result for result in results if not math.isfinite(result["loss"])]
        # In fp16 a gradient may overflow: the scaler skips that step and halves the scale.
        overflows = self._state.scaler.is_enabled() and self._state.scaler.get_scale() > MIN_SCALE
        if not failed and (is_finite or overflows):
            return
        sites = ", ".join(site for result in (failed or results) for site in result["sites"])
        causes = ", ".join(dict.fromkeys(name for result in failed for name in result["causes"]))
        raise RunError(
            f"The {'loss' if failed else 'gradient'} is not finite in {where} ({causes or f'sites {sites}, ...'}). "
            f"No weight was changed and the last checkpoint is good. {RETRY}"
        )


def _combine_results(results: Sequence[Mapping[str, Any]]) -> StepResult:
    components = Counter[str]()
    for result in results:
        components.update({name: value / len(results) for name, value in result["components"].items()})
    return StepResult(
        loss=sum(result["loss"] for result in results) / len(results),
        n_correct=sum(result["n_correct"] for result in results),
        n_scored=sum(result["n_scored"] for result in results),
        components=dict(components),
    )


def _seed(seed: int) -> None:
    """Seed torch's global stream; without a GPU skip its slow lazy initialization."""
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _batch_seed(seed: int, epoch: int, batch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}:{batch}:torch".encode()).digest()[:7], "big")
