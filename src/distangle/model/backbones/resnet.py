"""Define ResNet with torchvision's parameter names and any number of channels."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from distangle.axes import Images
from distangle.model.modes import activation_checkpointing


@dataclass(frozen=True, kw_only=True)
class ResNetShape:
    """Dimensions of a ResNet: blocks per stage, width of the first, bottleneck."""

    blocks: tuple[int, ...]
    bottleneck: bool
    width: int = 64
    stem_kernel: int = 7
    stem_pool: bool = True


RESNETS = {
    "resnet18": ResNetShape(blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet50": ResNetShape(blocks=(3, 4, 6, 3), bottleneck=True),
    # For images of 64 to 128 pixels and no accelerator.
    "resnet_small": ResNetShape(blocks=(1, 1, 1, 1), bottleneck=False, width=32, stem_kernel=3, stem_pool=False),
}


class ResidualBlock(nn.Module):
    """Residual block: x_l = H_l(x_{l-1}) + x_{l-1}, then ReLU.

    H_l is two 3x3 convolutions, or 1x1, 3x3, 1x1 with a bottleneck; the shortcut is a 1x1 convolution (`downsample`)
    if the shape changes. The stride is in the 3x3 convolution, as in torchvision.

    Source: Eq. (1)
    """

    def __init__(self, n_inputs: int, width: int, *, stride: int, bottleneck: bool, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.n_outputs = width * 4 if bottleneck else width
        self.relu = nn.ReLU()
        if bottleneck:
            self.conv1 = nn.Conv2d(n_inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
            self.conv3: nn.Module = nn.Conv2d(width, self.n_outputs, 1, bias=False)
            self.bn3: nn.Module = nn.BatchNorm2d(self.n_outputs)
        else:
            self.conv1 = nn.Conv2d(n_inputs, width, 3, stride=stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.bottleneck = bottleneck
        self.downsample: nn.Module | None = None
        if stride != 1 or n_inputs != self.n_outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_inputs, self.n_outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(self.n_outputs),
            )

    def _step(self, maps: Tensor) -> Tensor:
        change = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        if self.bottleneck:
            change = self.bn3(self.conv3(self.relu(change)))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        output: Tensor = self.relu(change + shortcut)
        return output

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps after the block."""
        return activation_checkpointing(self, self._step, maps) if self.recompute else self._step(maps)


class ResNet(nn.Module):
    """The convolutional part of a ResNet.

    Args:
        shape: Which ResNet.
        n_channels: Channels of an image.
        recompute: Recompute the inner activations of each block in the backward pass instead of storing them.

    Attributes:
        features: torchvision's modules `conv1, bn1, relu, maxpool, layer1 ... layer4` in order. A key of torchvision
            such as `layer1.0.conv1.weight` is `features.layer1.0.conv1.weight` here. It ends in a ReLU.
        n_features: Feature maps of the output.
    """

    def __init__(self, shape: ResNetShape, *, n_channels: int, recompute: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential()
        kernel = shape.stem_kernel
        self.features.conv1 = nn.Conv2d(n_channels, shape.width, kernel, stride=2, padding=kernel // 2, bias=False)
        self.features.bn1 = nn.BatchNorm2d(shape.width)
        self.features.relu = nn.ReLU()
        if shape.stem_pool:
            self.features.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        n_features = shape.width
        for index, n_blocks in enumerate(shape.blocks):
            stage = nn.Sequential()
            for position in range(n_blocks):
                block = ResidualBlock(
                    n_features,
                    shape.width * 2**index,
                    stride=2 if index > 0 and position == 0 else 1,
                    bottleneck=shape.bottleneck,
                    recompute=recompute,
                )
                stage.append(block)
                n_features = block.n_outputs
            self.features.add_module(f"layer{index + 1}", stage)
        self.n_features = n_features

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def forward(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the maps of the last block, all at least 0."""
        maps: Tensor = self.features(images)
        return maps
