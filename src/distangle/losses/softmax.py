"""Compute the softmax loss, Eq. (3), in fp32."""

import torch
from torch import Tensor
from torch.nn import functional

from distangle.axes import Labels, Logits, Scalar, SoftLabels


def to_float32(values: Tensor) -> Tensor:
    """Return `values` in fp32; fp64 stays as it is.

    Autocast need not be disabled around a loss: it affects only matrix products and convolutions, and no loss has any.
    """
    return values if values.dtype == torch.float64 else values.float()


def softmax_loss(logits: Logits, labels: Labels | SoftLabels) -> Scalar:
    r"""Compute the cross-entropy between labels and softmax of logits, in fp32.

    $$ -\frac1N \sum_i \log \frac{e^{W_{y_i}^T x_i + b_{y_i}}}{\sum_k e^{W_k^T x_i + b_k}} $$

    Source: Eq. (3)

    Args:
        logits: W x + b of each site, unbounded.
        labels: Index of the true perturbation, or the share of each one (rows sum to 1).

    Returns:
        Mean over sites, in nats.
    """
    precise = to_float32(logits)
    return functional.cross_entropy(precise, labels.to(precise.dtype) if labels.is_floating_point() else labels.long())
