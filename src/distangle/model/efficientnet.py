"""The first five stages of EfficientNet-Lite0, applied to each stain by itself: published filters for small screens."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Images
from distangle.model.recompute import recomputed
from distangle.model.templates import full_precision

EPSILON = 1e-3  # of the norms, as published
STAINED = 0.7  # spread of a stain that goes in; photographs scaled to [-1, 1] have about this
# Stage by stage: blocks, maps, kernel, stride, how much wider the inside is. The published network has two more
# stages, whose filters tell dogs from cats rather than textures.
STAGES = ((1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6), (3, 112, 5, 1, 6))
STEM = 32
N_PUBLISHED = 16  # blocks of the whole network


def _padded(maps: Tensor, *, kernel: int, stride: int) -> Tensor:
    # TensorFlow's "same": with a stride of 2 the odd row of zeros goes to the bottom and right.
    before = (kernel - stride) // 2
    after = kernel - stride - before
    return functional.pad(maps, (before, after, before, after))


class InvertedBottleneck(nn.Module):
    """Widen by a 1x1 convolution, filter each map by itself, narrow again; added to its input where shapes allow."""

    def __init__(self, n_inputs: int, n_outputs: int, *, kernel: int, stride: int, wider: int, recompute: bool) -> None:
        super().__init__()
        inner = n_inputs * wider
        self.kernel, self.stride, self.recompute = kernel, stride, recompute
        self.adds = stride == 1 and n_inputs == n_outputs
        if wider > 1:
            self.expand_conv: nn.Module | None = nn.Conv2d(n_inputs, inner, 1, bias=False)
            self.bn0: nn.Module | None = nn.BatchNorm2d(inner, eps=EPSILON)
        else:
            self.expand_conv, self.bn0 = None, None
        self.depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self.bn1 = nn.BatchNorm2d(inner, eps=EPSILON)
        self.project_conv = nn.Conv2d(inner, n_outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_outputs, eps=EPSILON)

    def _step(self, maps: Tensor) -> Tensor:
        inside = maps
        if self.expand_conv is not None and self.bn0 is not None:
            inside = functional.relu6(self.bn0(self.expand_conv(inside)))
        inside = _padded(inside, kernel=self.kernel, stride=self.stride)
        inside = functional.relu6(self.bn1(self.depthwise_conv(inside)))
        change: Tensor = self.bn2(self.project_conv(inside))
        return maps + change if self.adds else change

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps after the block."""
        return recomputed(self, self._step, maps) if self.recompute else self._step(maps)


class Stem(nn.Conv2d):
    """The first convolution, with TensorFlow's padding; halves the image."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the filtered image."""
        return super().forward(_padded(input, kernel=3, stride=2))


class StainwiseEfficientNet(nn.Module):
    """The convolutional part of EfficientNet-Lite0 up to its fifth stage, the same for every stain.

    Each stain is a gray image of its own, standardised over the image: filters learnt on photographs then fit any
    number of stains, and a stain's maps do not know the other stains. Brightness is left to the measurements.

    Departs: the paper's backbone mixes six channels in its first convolution and is trained as a whole. With some
        hundred images that is not enough to learn filters: docs/real-runs.md has the figures.

    Args:
        n_channels: Channels of an image.
        recompute: Compute the inner activations of each block again in the backward pass.

    Attributes:
        features: `conv_stem, bn0, relu, blocks`; a published key `_blocks.3._bn1.weight` is
            `features.blocks.3.bn1.weight` here.
        n_features: Feature maps that come out, 112 per channel in their order.
        beyond: Beginnings of published keys that belong to the layers left out.
    """

    beyond = tuple(f"blocks.{block}." for block in range(11, N_PUBLISHED)) + ("conv_head.", "bn1.", "fc.")

    def __init__(self, *, n_channels: int, recompute: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.conv_stem = Stem(1, STEM, 3, stride=2, bias=False)
        self.features.bn0 = nn.BatchNorm2d(STEM, eps=EPSILON)
        self.features.relu = nn.ReLU6()
        self.features.blocks = nn.Sequential(*_blocks(recompute=recompute))
        self.n_features = n_channels * STAGES[-1][1]

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def forward(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the maps of the last block, of either sign."""
        n_sites, _, height, width = images.shape
        with full_precision(images):
            spread, mean = torch.std_mean(images.float(), (2, 3), correction=0, keepdim=True)
            stains = (images - mean) * (STAINED / spread.clamp_min(EPSILON))
        maps: Tensor = self.features(stains.reshape(-1, 1, height, width))
        return maps.reshape(n_sites, self.n_features, *maps.shape[2:])


def _blocks(*, recompute: bool) -> Iterator[InvertedBottleneck]:
    n_inputs = STEM
    for n_blocks, n_outputs, kernel, stride, wider in STAGES:
        for position in range(n_blocks):
            yield InvertedBottleneck(
                n_inputs,
                n_outputs,
                kernel=kernel,
                stride=stride if position == 0 else 1,
                wider=wider,
                recompute=recompute,
            )
            n_inputs = n_outputs
