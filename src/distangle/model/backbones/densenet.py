"""Define DenseNet with torchvision's parameter names and any number of channels."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distangle.axes import Images
from distangle.model.modes import activation_checkpointing


@dataclass(frozen=True, kw_only=True)
class DenseNetShape:
    """Dimensions of a DenseNet.

    Each layer adds `growth` features, `blocks` holds the layers of each block, and `bottleneck * growth` features lie
    between the 1x1 and the 3x3 convolution. The stem is one convolution (`stem_features`, `stem_kernel` and
    `stem_stride` in pixels), then a 3x3 max-pool of stride 2 if `stem_pool`.
    """

    growth: int
    blocks: tuple[int, ...]
    stem_features: int
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    bottleneck: int = 4


DENSENETS = {
    "densenet121": DenseNetShape(growth=32, blocks=(6, 12, 24, 16), stem_features=64),
    "densenet161": DenseNetShape(growth=48, blocks=(6, 12, 36, 24), stem_features=96),
    "densenet169": DenseNetShape(growth=32, blocks=(6, 12, 32, 32), stem_features=64),
    "densenet201": DenseNetShape(growth=32, blocks=(6, 12, 48, 32), stem_features=64),
    # For images of 64 to 128 pixels and no accelerator.
    "densenet_small": DenseNetShape(
        growth=16, blocks=(3, 3, 3), stem_features=32, stem_kernel=3, stem_stride=2, stem_pool=False
    ),
}


class DenseLayer(nn.Module):
    """H_l: batch norm, ReLU, 1x1 convolution, batch norm, ReLU, 3x3 convolution.

    Its input is all earlier maps.
    """

    def __init__(self, n_inputs: int, *, growth: int, bottleneck: int, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.norm1 = nn.BatchNorm2d(n_inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(n_inputs, bottleneck * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)

    def _narrow(self, *earlier: Tensor) -> Tensor:
        narrow = self.conv1(self.relu1(self.norm1(torch.cat(earlier, 1))))
        active: Tensor = self.relu2(self.norm2(narrow))
        return active

    def forward(self, earlier: list[Tensor]) -> Tensor:
        """Return `growth` new maps, computed from all earlier maps of the block."""
        # All but the 3x3 convolution: recomputing that would cost more time than its memory is worth.
        narrow = activation_checkpointing(self, self._narrow, *earlier) if self.recompute else self._narrow(*earlier)
        maps: Tensor = self.conv2(narrow)
        return maps


class DenseBlock(nn.ModuleDict):
    """Layers with all earlier maps as input: x_l = H_l([x_0, ..., x_{l-1}]).

    Source: Eq. (2), Table 2.
    """

    def __init__(self, n_layers: int, n_inputs: int, *, growth: int, bottleneck: int, recompute: bool) -> None:
        super().__init__()
        for layer in range(n_layers):
            n_earlier = n_inputs + layer * growth
            self[f"denselayer{layer + 1}"] = DenseLayer(
                n_earlier, growth=growth, bottleneck=bottleneck, recompute=recompute
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the input maps followed by those of each layer."""
        earlier = [maps]
        for layer in self.values():
            earlier.append(layer(earlier))
        return torch.cat(earlier, 1)


class Transition(nn.Sequential):
    """Transition between two blocks: halves features, height and width.

    Departs: Table 2 has the 1x1 convolution before the 2x2 mean-pool. Both are linear and act on different axes,
        so they commute: here the pool comes first and the convolution sees a quarter of the pixels. `pool_first`
        False gives the printed order; parameters and names are the same.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.pool_first = True
        self.norm = nn.BatchNorm2d(n_inputs)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(n_inputs, n_inputs // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps with half the features, height and width."""
        active = self.relu(self.norm(maps))
        output: Tensor = self.conv(self.pool(active)) if self.pool_first else self.pool(self.conv(active))
        return output


class DenseNet(nn.Module):
    """The convolutional part of a DenseNet, up to its last batch norm.

    Args:
        shape: Which DenseNet.
        n_channels: Channels of an image.
        recompute: Recompute the widest activations in the backward pass instead of storing them.

    Attributes:
        features: The network under torchvision's names (`conv0` ... `denseblock4`, `norm5`). As there, it ends in
            a batch norm without ReLU, so its maps have both signs.
        n_features: Feature maps of the output.
    """

    def __init__(self, shape: DenseNetShape, *, n_channels: int, recompute: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential()
        n_features = shape.stem_features
        self.features.conv0 = nn.Conv2d(
            n_channels,
            n_features,
            shape.stem_kernel,
            stride=shape.stem_stride,
            padding=shape.stem_kernel // 2,
            bias=False,
        )
        self.features.norm0 = nn.BatchNorm2d(n_features)
        self.features.relu0 = nn.ReLU()
        if shape.stem_pool:
            self.features.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        for index, n_layers in enumerate(shape.blocks, start=1):
            block = DenseBlock(
                n_layers, n_features, growth=shape.growth, bottleneck=shape.bottleneck, recompute=recompute
            )
            self.features.add_module(f"denseblock{index}", block)
            n_features += n_layers * shape.growth
            if index < len(shape.blocks):
                self.features.add_module(f"transition{index}", Transition(n_features))
                n_features //= 2
        # Called norm5 after three blocks too, as in torchvision.
        self.features.norm5 = nn.BatchNorm2d(n_features)
        self.n_features = n_features

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def forward(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the maps of the last batch norm."""
        maps: Tensor = self.features(images)
        return maps
