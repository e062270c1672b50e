"""Losses are computed in fp32 whatever half precision comes in.

Softmax loss: Eq. (3).
"""

import torch
from torch import Tensor
from torch.nn import functional

from distangle.axes import Labels, Logits, Scalar, SoftLabels


def to_float32(values: Tensor) -> Tensor:
    """Return `values` in fp32; fp64 stays as it is.

    Autocast need not be switched off around a loss: it lowers matrix products and convolutions only, and no loss
    has any.
    """
    return values if values.dtype == torch.float64 else values.float()


def softmax_loss(logits: Logits, labels: Labels | SoftLabels) -> Scalar:
    r"""Compute the cross-entropy of labels and softmax of logits, in fp32.

    $$ -\frac1N \sum_i \log \frac{e^{W_{y_i}^T x_i + b_{y_i}}}{\sum_k e^{W_k^T x_i + b_k}} $$

    Source: Eq. (3)

    Args:
        logits: W x + b of each site, any real number.
        labels: Index of the true perturbation, or the share of each one (rows sum to 1).

    Returns:
        Mean over sites, in nats.
    """
    exact = to_float32(logits)
    return functional.cross_entropy(exact, labels.to(exact.dtype) if labels.is_floating_point() else labels.long())
