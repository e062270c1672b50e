"""The backbones by name."""

from collections.abc import Callable
from functools import partial

from distangle.model.densenet import DENSENETS, DenseNet
from distangle.model.efficientnet import StainwiseEfficientNet
from distangle.model.resnet import RESNETS, ResNet

Backbone = DenseNet | ResNet | StainwiseEfficientNet

BACKBONES: dict[str, Callable[..., Backbone]] = {
    **{name: partial(DenseNet, shape) for name, shape in DENSENETS.items()},
    **{name: partial(ResNet, shape) for name, shape in RESNETS.items()},
    "efficientnet_lite0": StainwiseEfficientNet,
}
"""Called as `BACKBONES[name](n_channels=6, recompute=False)`."""
