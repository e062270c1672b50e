"""Modes of a network for a while: evaluation, memory format, activation checkpointing."""

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
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


class FrozenStatistics(contextlib.AbstractContextManager[None]):
    """Lets the norms of a module run in training mode without moving their buffers.

    Inside, each norm writes to copies of its running mean, running variance and number of steps; outside, the
    originals are back, bit for bit. It can be entered again, as a second backward pass over one graph does.
    """

    def __init__(self, module: nn.Module) -> None:
        self._norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
        self._kept: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        """Put copies in place of the buffers."""
        self._kept = [(norm, name, buffer) for norm in self._norms for name, buffer in norm.named_buffers()]
        for norm, name, buffer in self._kept:
            setattr(norm, name, buffer.clone())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the statistics back."""
        for norm, name, buffer in self._kept:
            setattr(norm, name, buffer)
        self._kept = []


def activation_checkpointing(module: nn.Module, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `function(*inputs)`, and compute inner activations again when needed.

    Only the inputs are kept for the backward pass.

    The backward pass computes them again. Only in training with gradients; otherwise a plain call, so that
    hooks of an explanation see each activation once.

    Departs: torchvision's `memory_efficient` runs the norms of the second pass on their own buffers, so that
        their running statistics move twice a step (pytorch issue 96136); here they move once.

    Args:
        module: Owns the norms that `function` calls, and says whether we train.
        function: Has no randomness of its own (no dropout): the generator's state is not put back.
        inputs: What `function` takes.
    """
    if not (module.training and torch.is_grad_enabled()):
        return function(*inputs)
    result: Tensor = checkpoint(
        function,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (contextlib.nullcontext(), FrozenStatistics(module)),
    )
    return result
