"""Losses are computed in fp32 whatever half precision comes in."""

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Return `values` in fp32; fp64 stays as it is.

    Autocast need not be switched off around a loss: it lowers matrix products and convolutions only, and no loss
    has any.
    """
    return values if values.dtype == torch.float64 else values.float()
