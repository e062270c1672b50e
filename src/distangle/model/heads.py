"""Define the classification heads: one weight vector (template) per class."""

import contextlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Cosines, Embeddings, Logits


def no_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast on the device of a tensor.

    The meta device has no autocast.
    """
    if torch.amp.is_autocast_available(tensor.device.type):
        return torch.autocast(tensor.device.type, enabled=False)
    return contextlib.nullcontext()


class LinearTemplates(nn.Module):
    """Class weight vectors of the softmax head: logits = W x + b.

    The embedding is not normalized.

    Source: Eq. (13)
    Departs: the text below Eq. (13) says that p_i is proportional to w_i^T x; it is proportional to
        exp(w_i^T x + b_i), with the bias b that Eq. (3) has and Eq. (13) leaves out.

    Attributes:
        weight: W, [perturbation, embedding]; row i is the template w_i.
        bias: b, [perturbation].
    """

    def __init__(self, n_perturbations: int, embedding_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_perturbations, embedding_size))
        self.bias = nn.Parameter(torch.empty(n_perturbations))

    def forward(self, embedding: Embeddings) -> Logits:
        """Return the logits, unbounded."""
        logits: Tensor = functional.linear(embedding, self.weight, self.bias)
        return logits


class CosineTemplates(nn.Module):
    """Class weight vectors of the arc head: cosines of their angles to the embedding.

    Source: Eq. (4)
    Departs: the radius alpha (s of Eqs. 5 and 6) belongs to the loss; here both vectors have length 1.

    Attributes:
        weight: W, [perturbation, embedding]; its rows need not have length 1.
    """

    # Added to the squared length: a vector of zeros has cosine 0 and a finite gradient.
    epsilon = 1e-12

    def __init__(self, n_perturbations: int, embedding_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_perturbations, embedding_size))

    def _normalize(self, vectors: Tensor) -> Tensor:
        precise = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        squared_length = precise.square().sum(dim=1, keepdim=True)
        return precise * (squared_length + self.epsilon).rsqrt()

    def forward(self, embedding: Embeddings) -> Cosines:
        """Return the cosines, in [-1, 1], in float32 also under autocast."""
        # bfloat16 has 8 bits: near cos = 1 it cannot tell 0 from 5 degrees, and the margin is 29.
        with no_autocast(embedding):
            cosines = self._normalize(embedding) @ self._normalize(self.weight).T
            return cosines.clamp(-1.0, 1.0)
