"""Apply the first five stages of EfficientNet-Lite0 to each channel by itself.

Their published filters serve small screens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook

from distangle.axes import Images
from distangle.model.heads import no_autocast
from distangle.model.modes import activation_checkpointing

EPSILON = 1e-3  # of the norms, as published
STAINED = 0.7  # spread of a stain that goes in; photographs scaled to [-1, 1] have about this
# Stage by stage: blocks, maps, kernel, stride, how much wider the inside is. The published network has two more
# stages, whose filters tell dogs from cats rather than textures.
STAGES = ((1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6), (3, 112, 5, 1, 6))
STEM = 32
N_PUBLISHED = 16  # blocks of the whole network
AT_ONCE_PX = 2**17  # of gray images, through all layers: their widest maps (50 MB a million pixels) stay in the cache


def _border(*, kernel: int, stride: int) -> tuple[int, int]:
    # TensorFlow's "same": with a stride of 2 the odd row of zeros goes to the bottom and right.
    before = (kernel - stride) // 2
    return before, kernel - stride - before


def _padded(maps: Tensor, *, kernel: int, stride: int) -> Tensor:
    return functional.pad(maps, _border(kernel=kernel, stride=stride) * 2)


def _rectified(maps: Tensor, *, kernel: int, stride: int) -> tuple[Tensor, int]:
    """Return maps cut to [0, 6], and the border of zeros that they still lack on every side.

    An even border is left to the convolution, and the maps are cut in place; an uneven one is laid around them in the
    same pass over memory.
    """
    before, after = _border(kernel=kernel, stride=stride)
    if before == after:
        return maps.clamp_(0, 6), before
    n, n_maps, height, width = maps.shape
    room = maps.new_empty(n, before + height + after, before + width + after, n_maps).permute(0, 3, 1, 2)
    for axis, length in ((2, height), (3, width)):
        room.narrow(axis, 0, before).zero_()
        room.narrow(axis, before + length, after).zero_()
    torch.clamp(maps, 0, 6, out=room[:, :, before : before + height, before : before + width])
    return room, 0


@dataclass(frozen=True)
class _FoldedChannels:
    """A convolution and the norm behind it, which goes by its running statistics, as one convolution."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> "_FoldedChannels":
        precise = torch.promote_types(conv.weight.dtype, torch.float32)
        scale = torch.rsqrt(cast("Tensor", norm.running_var).to(precise) + norm.eps) * norm.weight
        bias = norm.bias - cast("Tensor", norm.running_mean) * scale
        weight = (conv.weight * scale[:, None, None, None]).to(conv.weight.dtype)
        # Not `contiguous`: a kernel of one map counts as contiguous in either order, and its strides decide that of
        # the maps that come out.
        weight = weight.clone(memory_format=torch.channels_last)
        return cls(weight, bias.to(conv.weight.dtype), int(conv.stride[0]), conv.groups)

    def __call__(self, maps: Tensor, *, padding: int = 0) -> Tensor:
        return functional.conv2d(maps, self.weight, self.bias, self.stride, padding, groups=self.groups)


def _folds(part: nn.Module) -> bool:
    """Whether nothing looks at this layer, nor, if it is a norm, at the statistics of the batch."""
    if part._forward_hooks or part._forward_pre_hooks:
        return False
    return not isinstance(part, _BatchNorm) or not (part.training or part.running_var is None)


class InvertedBottleneck(nn.Module):
    """Widens by a 1x1 convolution, filters each map by itself, and narrows again.

    The input is added where shapes allow.
    """

    def __init__(self, n_inputs: int, n_outputs: int, *, kernel: int, stride: int, wider: int, recompute: bool) -> None:
        super().__init__()
        inner = n_inputs * wider
        self.kernel, self.stride, self.recompute = kernel, stride, recompute
        self.adds = stride == 1 and n_inputs == n_outputs
        if wider > 1:
            self.expand_conv: nn.Conv2d | None = nn.Conv2d(n_inputs, inner, 1, bias=False)
            self.bn0: nn.BatchNorm2d | None = nn.BatchNorm2d(inner, eps=EPSILON)
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

    def folded(self) -> tuple[_FoldedChannels | None, _FoldedChannels, _FoldedChannels]:
        """Return its convolutions in their order, each with its norm.

        None where it does not widen.
        """
        widen = None
        if self.expand_conv is not None and self.bn0 is not None:
            widen = _FoldedChannels.of(self.expand_conv, self.bn0)
        return widen, _FoldedChannels.of(self.depthwise_conv, self.bn1), _FoldedChannels.of(self.project_conv, self.bn2)

    def at_once(self, maps: Tensor, parts: tuple[_FoldedChannels | None, _FoldedChannels, _FoldedChannels]) -> Tensor:
        """Compute the maps after the block with the fewest passes over memory.

        Args:
            maps: Not written to.
            parts: From `folded`.
        """
        widen, depthwise, project = parts
        if widen is None:
            inside, missing = _padded(maps, kernel=self.kernel, stride=self.stride), 0
        else:
            inside, missing = _rectified(widen(maps), kernel=self.kernel, stride=self.stride)
        change = project(depthwise(inside, padding=missing).clamp_(0, 6))
        return change.add_(maps) if self.adds else change

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps after the block."""
        return activation_checkpointing(self, self._step, maps) if self.recompute else self._step(maps)


class Stem(nn.Conv2d):
    """The first convolution, with TensorFlow's padding; halves the image."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the filtered image."""
        return super().forward(_padded(input, kernel=3, stride=2))


class FeatureBlocks(nn.Sequential):
    """Stem, norm, ReLU6 and blocks.

    In evaluation mode without gradients they are computed at once, else one after the other.
    """

    conv_stem: Stem
    bn0: nn.BatchNorm2d
    blocks: nn.Sequential

    def forward(self, input: Float[Tensor, "image 1 _ _"]) -> Float[Tensor, "image feature _ _"]:
        """Return the maps of the last block.

        The layers are called one by one where somebody looks at them or wants gradients; otherwise each norm and the
        convolution before it are one. Both ways agree to some 1e-6 of the largest value.

        Args:
            input: Gray images.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not self._is_unwatched():
            maps: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return maps
        # Folded at every call, which costs less than one image: weights and statistics may change in any way between.
        stem = _FoldedChannels.of(self.conv_stem, self.bn0)
        blocks = [(block, block.folded()) for block in cast("list[InvertedBottleneck]", list(self.blocks))]
        n_at_once = len(input)
        if input.device.type == "cpu":  # elsewhere the launches cost, not the way to memory
            n_at_once = max(1, AT_ONCE_PX // (input.shape[2] * input.shape[3]))
        found = []
        for piece in torch.split(input, n_at_once):
            maps = stem(_padded(piece, kernel=3, stride=2)).clamp_(0, 6)
            for block, parts in blocks:
                maps = block.at_once(maps, parts)
            found.append(maps)
        return torch.cat(found)

    def _is_unwatched(self) -> bool:
        return not _has_any_global_hook() and all(_folds(part) for part in self.modules())  # type: ignore[no-untyped-call]


class PerChannelEfficientNet(nn.Module):
    """EfficientNet-Lite0 up to its fifth stage, the same for every channel.

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
        self.features = FeatureBlocks()
        self.features.conv_stem = Stem(1, STEM, 3, stride=2, bias=False)
        self.features.bn0 = nn.BatchNorm2d(STEM, eps=EPSILON)
        self.features.relu = nn.ReLU6()
        self.features.blocks = nn.Sequential(*_blocks(recompute=recompute))
        self.n_features = n_channels * STAGES[-1][1]

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def forward(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the maps of the last block, of either sign."""
        n_sites, _, height, width = images.shape
        with no_autocast(images):
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
