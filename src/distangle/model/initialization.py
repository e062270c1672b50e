"""Initialize parameters as a pure function of a seed and of their names."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.core.random import rng_for
from distangle.model.heads import CosineTemplates, LinearTemplates


def _torch_generator(seed: int, name: str) -> torch.Generator:
    drawn = rng_for(seed, "model", "first values", name).integers(2**63 - 1)
    return torch.Generator().manual_seed(int(drawn))


def _fill_uniform(tensor: Tensor, *, bound: float, seed: int, name: str) -> None:
    nn.init.uniform_(tensor, -bound, bound, generator=_torch_generator(seed, name))


def initialize(module: nn.Module, *, seed: int) -> None:
    """Give every parameter and buffer of a module its first value, in place.

    Convolutions are normal with standard deviation sqrt(2 / fan-in); norms are the identity with fresh statistics;
    linear maps and templates are uniform in ±1/sqrt(inputs). The values of one parameter do not depend on what
    else the module holds, and the global generator is neither read nor moved.

    Args:
        module: Its tensors may be uninitialised.
        seed: Of the model.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            weights = f"{name}.weight"
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=_torch_generator(seed, weights))
        elif isinstance(part, _BatchNorm):
            part.reset_parameters()
        elif isinstance(part, nn.Linear | LinearTemplates | CosineTemplates):
            bound = 1.0 / math.sqrt(part.weight.shape[1])
            for parameter_name, parameter in part.named_parameters():
                _fill_uniform(parameter, bound=bound, seed=seed, name=f"{name}.{parameter_name}")
