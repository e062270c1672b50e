"""Initialize parameters as a pure function of a seed and of their names."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.core.random import rng_for
from distangle.model.heads import CosineTemplates, LinearTemplates


def initialize(module: nn.Module, *, seed: int) -> None:
    """Set every parameter and buffer of a module to its initial value, in place.

    Convolutions are normal with standard deviation sqrt(2 / fan-in); batch norms are the identity with fresh
    statistics; linear layers and templates are uniform in ±1/sqrt(inputs). The values of a parameter depend only on
    its name and the seed, and the global random generator is not used.

    Args:
        module: Its tensors may be uninitialized.
        seed: Of the model.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            weight_name = f"{name}.weight"
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=_torch_generator(seed, weight_name))
        elif isinstance(layer, _BatchNorm):
            layer.reset_parameters()
        elif isinstance(layer, nn.Linear | LinearTemplates | CosineTemplates):
            bound = 1.0 / math.sqrt(layer.weight.shape[1])
            for parameter_name, parameter in layer.named_parameters():
                _fill_uniform(parameter, bound=bound, seed=seed, name=f"{name}.{parameter_name}")


def _torch_generator(seed: int, name: str) -> torch.Generator:
    torch_seed = rng_for(seed, "model", "first values", name).integers(2**63 - 1)
    return torch.Generator().manual_seed(int(torch_seed))


def _fill_uniform(tensor: Tensor, *, bound: float, seed: int, name: str) -> None:
    nn.init.uniform_(tensor, -bound, bound, generator=_torch_generator(seed, name))
