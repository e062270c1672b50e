"""Class vectors: one learnt vector per class, compared with the embedding.

They are compared by product or by angle.
"""

import contextlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Cosines, Embeddings, Logits


def no_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast on the device of a tensor.

    Shapes alone (device meta) have no autocast.
    """
    if torch.amp.is_autocast_available(tensor.device.type):
        return torch.autocast(tensor.device.type, enabled=False)
    return contextlib.nullcontext()


class LinearTemplates(nn.Module):
    """Class vectors of the softmax head: logits = W x + b.

    The embedding is not normalised.

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
    """Class vectors of the arc head: the cosine of their angle to the embedding.

    Source: Eq. (4)
    Departs: the radius alpha (s of Eqs. 5 and 6) belongs to the loss; here both vectors have length 1.

    Attributes:
        weight: W, [perturbation, embedding]; its rows need not have length 1.
    """

    # Added to the squared length: a vector of zeros has cosine 0 and a finite gradient.
    smallest_squared_length = 1e-12

    def __init__(self, n_perturbations: int, embedding_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_perturbations, embedding_size))

    def _unit(self, vectors: Tensor) -> Tensor:
        wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        squared = wide.square().sum(dim=1, keepdim=True)
        return wide * (squared + self.smallest_squared_length).rsqrt()

    def forward(self, embedding: Embeddings) -> Cosines:
        """Return the cosines, in [-1, 1], in float32 also under autocast."""
        # bfloat16 has 8 bits: near cos = 1 it cannot tell 0 from 5 degrees, and the margin is 29.
        with no_autocast(embedding):
            cosines = self._unit(embedding) @ self._unit(self.weight).T
            return cosines.clamp(-1.0, 1.0)
