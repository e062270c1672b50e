"""Train the embedding against a second network that predicts the experiment."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Embeddings, Scalar
from distangle.core.random import rng_for
from distangle.training.config import Adversary


class DomainClassifier(nn.Module):
    """Predicts the experiment of an image from its embedding, with one hidden layer.

    It is used in training only.

    Args:
        embedding_size: Size of an embedding.
        n_experiments: Number of experiments of the training fold.
        hidden: Width of the hidden layer.
        seed: Seed of the initial weights.
    """

    def __init__(self, embedding_size: int, n_experiments: int, *, hidden: int, seed: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(embedding_size, hidden)
        self.answer = nn.Linear(hidden, n_experiments)
        rng = torch.Generator().manual_seed(int(rng_for(seed, "adversary").integers(2**63)))
        with torch.no_grad():
            for layer in (self.hidden, self.answer):
                layer.weight.normal_(0, math.sqrt(2 / layer.in_features), generator=rng)
                layer.bias.zero_()

    def forward(self, embedding: Embeddings) -> Float[Tensor, "site experiment"]:
        """Return the logits of the experiments."""
        logits: Tensor = self.answer(functional.relu(self.hidden(embedding)))
        return logits


def adversary_weight(settings: Adversary, progress: float) -> float:
    """Compute lambda, which rises from 0 during the training.

    So the network first learns features before the adversary acts on them.

    Source: Ganin and Lempitsky 2015, Unsupervised domain adaptation by backpropagation (arXiv:1409.7495), Sec. 4.

    Args:
        settings: Final value and steepness of the rise.
        progress: Share of the training that is done, in [0, 1].
    """
    return settings.weight * (2 / (1 + math.exp(-settings.steepness * progress)) - 1)


def adversary_loss(
    classifier: DomainClassifier,
    embedding: Embeddings,
    experiments: Float[Tensor, "site experiment"],
    *,
    weight: float,
) -> tuple[Scalar, float]:
    """Compute the loss of the domain classifier, with its gradient reversed.

    Source: Ganin and Lempitsky 2015 (arXiv:1409.7495), Sec. 3.

    Args:
        classifier: The domain classifier.
        embedding: Embeddings of the images of a batch.
        experiments: One-hot, or a mixture under CutMix.
        weight: lambda, of the reversed gradient; the domain classifier itself learns at full weight.

    Returns:
        The cross-entropy in nats, and the share of images whose experiment is predicted correctly, in [0, 1]. At the
        share of the largest experiment, the embedding no longer reveals the experiment.
    """
    reversed_embedding: Tensor = GradientReversal.apply(embedding.float(), weight)  # type: ignore[no-untyped-call]
    logits = classifier(reversed_embedding)
    loss = functional.cross_entropy(logits, experiments)
    accuracy = experiments.gather(1, logits.detach().argmax(1, keepdim=True)).mean()
    return loss, float(accuracy)


class GradientReversal(torch.autograd.Function):
    """The identity, with a gradient of the opposite sign."""

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, weight: float) -> Tensor:
        """Return the embedding unchanged."""
        ctx.weight = weight
        return embedding.view_as(embedding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient times -weight."""
        return -ctx.weight * gradient, None
