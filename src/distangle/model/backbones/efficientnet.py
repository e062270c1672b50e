"""Apply the first five stages of EfficientNet-Lite0 to each channel separately."""

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
INPUT_STD = 0.7  # standard deviation of an input channel; about that of photographs scaled to [-1, 1]
# By stage: blocks, maps, kernel, stride, expansion. The published network has two more stages, whose filters
# distinguish objects rather than textures.
STAGES = ((1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6), (3, 112, 5, 1, 6))
STEM = 32
N_BLOCKS = 16  # blocks of the whole network
AT_ONCE_PX = (
    2**17
)  # pixels of gray images per forward pass: their widest maps (50 MB per million pixels) fit in the cache


@dataclass(frozen=True)
class _ConvWithNorm:
    """A convolution with the batch norm behind it folded in (running statistics)."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> "_ConvWithNorm":
        precise = torch.promote_types(conv.weight.dtype, torch.float32)
        scale = torch.rsqrt(cast("Tensor", norm.running_var).to(precise) + norm.eps) * norm.weight
        bias = norm.bias - cast("Tensor", norm.running_mean) * scale
        weight = (conv.weight * scale[:, None, None, None]).to(conv.weight.dtype)
        # Not `contiguous`: a kernel of one map is contiguous in either order, and its strides decide the format
        # of the output.
        weight = weight.clone(memory_format=torch.channels_last)
        return cls(weight, bias.to(conv.weight.dtype), int(conv.stride[0]), conv.groups)

    def __call__(self, maps: Tensor, *, padding: int = 0) -> Tensor:
        return functional.conv2d(maps, self.weight, self.bias, self.stride, padding, groups=self.groups)


class InvertedBottleneck(nn.Module):
    """Block of a 1x1 expansion, a depthwise convolution and a 1x1 projection.

    The input is added if the shapes match.
    """

    def __init__(self, n_inputs: int, n_outputs: int, *, kernel: int, stride: int, wider: int, recompute: bool) -> None:
        super().__init__()
        n_inner = n_inputs * wider
        self.kernel, self.stride, self.recompute = kernel, stride, recompute
        self.adds = stride == 1 and n_inputs == n_outputs
        if wider > 1:
            self.expand_conv: nn.Conv2d | None = nn.Conv2d(n_inputs, n_inner, 1, bias=False)
            self.bn0: nn.BatchNorm2d | None = nn.BatchNorm2d(n_inner, eps=EPSILON)
        else:
            self.expand_conv, self.bn0 = None, None
        self.depthwise_conv = nn.Conv2d(n_inner, n_inner, kernel, stride, groups=n_inner, bias=False)
        self.bn1 = nn.BatchNorm2d(n_inner, eps=EPSILON)
        self.project_conv = nn.Conv2d(n_inner, n_outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_outputs, eps=EPSILON)

    def _step(self, maps: Tensor) -> Tensor:
        inside = maps
        if self.expand_conv is not None and self.bn0 is not None:
            inside = functional.relu6(self.bn0(self.expand_conv(inside)))
        inside = _pad(inside, kernel=self.kernel, stride=self.stride)
        inside = functional.relu6(self.bn1(self.depthwise_conv(inside)))
        change: Tensor = self.bn2(self.project_conv(inside))
        return maps + change if self.adds else change

    def fold_norms(self) -> tuple[_ConvWithNorm | None, _ConvWithNorm, _ConvWithNorm]:
        """Return the convolutions in order, each with its batch norm folded in.

        The first is None if the block does not expand.
        """
        widen = None
        if self.expand_conv is not None and self.bn0 is not None:
            widen = _ConvWithNorm.of(self.expand_conv, self.bn0)
        return widen, _ConvWithNorm.of(self.depthwise_conv, self.bn1), _ConvWithNorm.of(self.project_conv, self.bn2)

    def forward_folded(
        self, maps: Tensor, convolutions: tuple[_ConvWithNorm | None, _ConvWithNorm, _ConvWithNorm]
    ) -> Tensor:
        """Compute the maps after the block with the fewest passes over memory.

        Args:
            maps: Not changed.
            convolutions: From `fold_norms`.
        """
        widen, depthwise, project = convolutions
        if widen is None:
            inside, padding = _pad(maps, kernel=self.kernel, stride=self.stride), 0
        else:
            inside, padding = _relu6_and_pad(widen(maps), kernel=self.kernel, stride=self.stride)
        change = project(depthwise(inside, padding=padding).clamp_(0, 6))
        return change.add_(maps) if self.adds else change

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps after the block."""
        return activation_checkpointing(self, self._step, maps) if self.recompute else self._step(maps)


class Stem(nn.Conv2d):
    """The first convolution, with TensorFlow's padding; halves height and width."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the filtered image."""
        return super().forward(_pad(input, kernel=3, stride=2))


class FeatureBlocks(nn.Sequential):
    """Stem, batch norm, ReLU6 and blocks.

    In evaluation mode without gradients, batch norms are folded into the convolutions.
    """

    conv_stem: Stem
    bn0: nn.BatchNorm2d
    blocks: nn.Sequential

    def forward(self, input: Float[Tensor, "image 1 _ _"]) -> Float[Tensor, "image feature _ _"]:
        """Return the maps of the last block.

        With hooks or gradients, the layers are called one by one; otherwise each batch norm is folded into the
        convolution before it. Both agree to about 1e-6 of the largest value.

        Args:
            input: Gray images.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not self._can_fold():
            maps: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return maps
        # Folded at every call, because weights and statistics may have changed; it costs less than one image.
        stem = _ConvWithNorm.of(self.conv_stem, self.bn0)
        blocks = [(block, block.fold_norms()) for block in cast("list[InvertedBottleneck]", list(self.blocks))]
        n_at_once = len(input)
        if input.device.type == "cpu":  # on a GPU kernel launches dominate, not memory traffic
            n_at_once = max(1, AT_ONCE_PX // (input.shape[2] * input.shape[3]))
        outputs = []
        for chunk in torch.split(input, n_at_once):
            maps = stem(_pad(chunk, kernel=3, stride=2)).clamp_(0, 6)
            for block, convolutions in blocks:
                maps = block.forward_folded(maps, convolutions)
            outputs.append(maps)
        return torch.cat(outputs)

    def _can_fold(self) -> bool:
        return not _has_any_global_hook() and all(_is_foldable(layer) for layer in self.modules())  # type: ignore[no-untyped-call]


class PerChannelEfficientNet(nn.Module):
    """EfficientNet-Lite0 up to its fifth stage, the same for every channel.

    Each channel is a gray image, standardized by itself: filters learned on photographs then work for any number of
    channels, and the maps of a channel depend on no other channel. Brightness is left to the handcrafted features.

    Departs: the paper's backbone mixes six channels in its first convolution and is trained as a whole. With some
        hundred images that is not enough to learn filters: docs/real-runs.md has the figures.

    Args:
        n_channels: Channels of an image.
        recompute: Recompute the inner activations of each block in the backward pass instead of storing them.

    Attributes:
        features: `conv_stem, bn0, relu, blocks`; a published key `_blocks.3._bn1.weight` is
            `features.blocks.3.bn1.weight` here.
        n_features: Feature maps of the output, 112 per channel, in the order of the channels.
        unused_prefixes: Prefixes of published keys that belong to the omitted layers.
    """

    unused_prefixes = tuple(f"blocks.{block}." for block in range(11, N_BLOCKS)) + ("conv_head.", "bn1.", "fc.")

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
            std, mean = torch.std_mean(images.float(), (2, 3), correction=0, keepdim=True)
            channels = (images - mean) * (INPUT_STD / std.clamp_min(EPSILON))
        maps: Tensor = self.features(channels.reshape(-1, 1, height, width))
        return maps.reshape(n_sites, self.n_features, *maps.shape[2:])


def _padding(*, kernel: int, stride: int) -> tuple[int, int]:
    # TensorFlow's "same" padding: with a stride of 2 the odd row of zeros is at the bottom and right.
    before = (kernel - stride) // 2
    return before, kernel - stride - before


def _pad(maps: Tensor, *, kernel: int, stride: int) -> Tensor:
    return functional.pad(maps, _padding(kernel=kernel, stride=stride) * 2)


def _relu6_and_pad(maps: Tensor, *, kernel: int, stride: int) -> tuple[Tensor, int]:
    """Return maps clipped to [0, 6], and the zero padding they still lack.

    Even padding is left to the convolution, and the maps are clipped in place. Uneven padding is added in the same
    pass over memory.
    """
    before, after = _padding(kernel=kernel, stride=stride)
    if before == after:
        return maps.clamp_(0, 6), before
    n, n_maps, height, width = maps.shape
    output = maps.new_empty(n, before + height + after, before + width + after, n_maps).permute(0, 3, 1, 2)
    for axis, length in ((2, height), (3, width)):
        output.narrow(axis, 0, before).zero_()
        output.narrow(axis, before + length, after).zero_()
    torch.clamp(maps, 0, 6, out=output[:, :, before : before + height, before : before + width])
    return output, 0


def _is_foldable(layer: nn.Module) -> bool:
    """Return whether a layer has no hooks and no batch statistics."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    return not isinstance(layer, _BatchNorm) or not (layer.training or layer.running_var is None)


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
