"""Put a network into evaluation mode or another memory format for a while."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode; give each part its own mode back."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Lay out the weights of a network by pixel; give them their own memory back.

    The same sums in another order of memory: a third to half the time on a CPU.
    """
    before = [(tensor, tensor.data) for tensor in (*model.parameters(), *model.buffers()) if tensor.ndim == 4]
    try:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        yield
    finally:
        for tensor, data in before:
            tensor.data = data
