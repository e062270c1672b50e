"""Losses are computed in fp32 inside whatever autocast or half precision surrounds them."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


@contextlib.contextmanager
def full_precision(values: Tensor) -> Iterator[Tensor]:
    """Give `values` in fp32 (fp64 stays as it is) with autocast off for as long as the context lasts."""
    with torch.autocast(values.device.type, enabled=False):
        yield values if values.dtype == torch.float64 else values.float()
