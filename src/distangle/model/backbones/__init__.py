"""Provide the backbones by name."""

from collections.abc import Callable
from functools import partial

from distangle.model.backbones.densenet import DENSENETS, DenseNet
from distangle.model.backbones.efficientnet import PerChannelEfficientNet
from distangle.model.backbones.resnet import RESNETS, ResNet

Backbone = DenseNet | ResNet | PerChannelEfficientNet

BACKBONES: dict[str, Callable[..., Backbone]] = {
    **{name: partial(DenseNet, shape) for name, shape in DENSENETS.items()},
    **{name: partial(ResNet, shape) for name, shape in RESNETS.items()},
    "efficientnet_lite0": PerChannelEfficientNet,
}
"""Use as `BACKBONES[name](n_channels=6, recompute=False)`."""
