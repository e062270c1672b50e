"""What one batch asks of the network: its loss, and how many answers were right."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from distangle.axes import Scalar
from distangle.losses import composite_loss, pseudo_weight, semi_supervised_loss
from distangle.model import PerturbationClassifier
from distangle.training.adversary import ExperimentReader, adversary_loss, adversary_weight
from distangle.training.batches.kinds import Kind
from distangle.training.batches.maker import Batch
from distangle.training.config import PseudoLabels, TrainingConfig

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Objective:
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


def objective(
    model: PerturbationClassifier,
    batch: Batch,
    config: TrainingConfig,
    *,
    epoch: float,
    reader: ExperimentReader | None = None,
) -> Objective:
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

    labelled = torch.from_numpy(np.flatnonzero(batch.kinds == Kind.LABELLED)).to(device)
    pseudo = torch.from_numpy(np.flatnonzero(batch.kinds == Kind.PSEUDO_LABELLED)).to(device)
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
    return Objective(loss=loss, right=right, counted=len(labelled), parts=parts)


def _weight(settings: PseudoLabels, epoch: float, *, n_labelled: int, n_pseudo: int) -> float:
    if settings.strategy == "progressive":
        return n_pseudo / n_labelled  # each image counts the same, whoever labelled it
    first, full = float(settings.from_epoch), float(settings.full_epoch)
    return pseudo_weight(epoch, from_epoch=first, full_epoch=full, final=settings.weight)


def _smooth(labels: Tensor, share: float) -> Tensor:
    return labels if share == 0 else labels * (1 - share) + share / labels.shape[1]
