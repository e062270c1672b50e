"""Prepare networks for a CPU: fold norms, multiply in bfloat16."""

import copy
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from distangle.axes import Images
from distangle.errors import ConfigError
from distangle.model.backbones import Backbone
from distangle.model.backbones.densenet import DenseLayer
from distangle.model.backbones.efficientnet import PerChannelEfficientNet
from distangle.model.backbones.resnet import ResidualBlock
from distangle.model.classifier import PerturbationClassifier
from distangle.model.device import multiplies_bf16


class Bf16Backbone(nn.Module):
    """A backbone whose convolutions multiply in bfloat16 on a CPU.

    Norms keep their float32 parameters, and the maps it returns are float32, so that pooling, handcrafted features
    and neck stay in float32.

    Args:
        backbone: In evaluation mode.

    Attributes:
        backbone: The backbone.
        n_features: Feature maps of the output.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.n_features = backbone.n_features

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def forward(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the maps of the backbone, float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps: Tensor = self.backbone(images)
        return maps.float()


def fold_norms(model: PerturbationClassifier) -> PerturbationClassifier:
    """Return a copy for inference with folded batch norms, channels last.

    Each batch norm of the backbone that follows a convolution is folded into its weights: norm(Wx) = (sW)x + b with
    s = gamma / sqrt(variance + epsilon) and b = beta - s mean. In a DenseNet these are the norm of the stem and the
    second norm of each layer; the first norm of a layer precedes a ReLU and stays. EfficientNet folds its norms at
    each call and is not changed. The copy is in evaluation mode and has no gradients of its weights.

    Args:
        model: The running statistics it has now are folded. For statistics of a plate, call this inside
            `use_statistics`: later changes of the statistics have no effect on folded norms.
    """
    inference = copy.deepcopy(model).eval().requires_grad_(False)  # noqa: FBT003 - as torch has it
    if not isinstance(inference.backbone, PerChannelEfficientNet):
        for layer in list(inference.backbone.modules()):
            for conv, norm in _foldable_pairs(layer):
                setattr(layer, conv, fuse_conv_bn_eval(getattr(layer, conv), getattr(layer, norm)))
                setattr(layer, norm, nn.Identity())
            if isinstance(layer, nn.ReLU):
                layer.inplace = True  # its input is a new tensor everywhere: the output of a norm, convolution or sum
    inference.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return inference


def prepare_bf16(model: PerturbationClassifier) -> PerturbationClassifier:
    """Return a copy whose backbone multiplies in bfloat16, or the same model.

    Norms are folded as in `fold_norms`. The model itself is returned where the CPU has no instruction for bfloat16,
    which would be slower than float32, and for an EfficientNet, whose embeddings would be too different (cosine of
    0.996 with those in float32 for random weights; DenseNet and ResNet above 0.999).

    Args:
        model: On the CPU, normalizing by its running statistics. Statistics of a plate amplify the rounding: those of
            seven sites gave a cosine of 0.93.

    Raises:
        ConfigError: The network is on another device.
    """
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise ConfigError(f"The network is on {device}, and bf16 is for the CPU. Use device=cpu, or precision=fp32.")
    if not multiplies_bf16(device) or isinstance(model.backbone, PerChannelEfficientNet):
        return model
    inference = fold_norms(model)
    for layer in inference.backbone.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(torch.bfloat16)
    inference.add_module("backbone", Bf16Backbone(inference.backbone))
    return inference


def _foldable_pairs(layer: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield names of convolutions inside a layer with the batch norm behind each."""
    pairs: list[tuple[str, str]] = []
    if isinstance(layer, DenseLayer):
        pairs = [("conv1", "norm2")]
    elif isinstance(layer, ResidualBlock):
        pairs = [("conv1", "bn1"), ("conv2", "bn2"), *([("conv3", "bn3")] if layer.bottleneck else [])]
    elif isinstance(layer, nn.Sequential):
        names = [name for name, _ in layer.named_children()]
        pairs = list(zip(names[:-1], names[1:], strict=True))
    for conv, norm in pairs:
        first, second = getattr(layer, conv), getattr(layer, norm)
        has_statistics = isinstance(second, nn.BatchNorm2d) and second.running_var is not None
        if isinstance(first, nn.Conv2d) and has_statistics:
            yield conv, norm
