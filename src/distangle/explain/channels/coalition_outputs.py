"""Compute outputs for images with every coalition of their channels."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Images, Pooled
from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.channels.coalitions import Coalitions
from distangle.explain.channels.replacement import Baselines, Removal, baseline_images
from distangle.explain.sites import SiteBatch, check_targets, freeze
from distangle.model import PerChannelEfficientNet, PerturbationClassifier

OutputKind = Literal["log_probability", "logit", "probability"]
# Per forward pass on a CPU: maps of more pixels do not fit into its caches.
MAX_PIXELS_ON_CPU = 2**18


class PooledBlock(NamedTuple):
    """Pooled features of some images with some coalitions of channels.

    Attributes:
        sites: Slice of the images.
        coalitions: Slice of the coalitions.
        features: [site * coalition, feature], coalitions fastest.
        size: Height and width of the maps before the pooling.
    """

    sites: slice
    coalitions: slice
    features: Pooled
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ShapleySettings:
    """Replacement of the removed channels, and the output that is compared.

    Attributes:
        output: The softmax head's `log_probability` (nats), `logit` or `probability` of a perturbation.
        removal: What replaces an absent channel, see `baseline_images`; None: controls if there are any, else the mean.
        max_batch_size: Maximum number of images in one forward pass; bounds the memory.
        bf16: Run the backbone under bfloat16 autocast.
    """

    output: OutputKind = "log_probability"
    removal: Removal | None = None
    max_batch_size: int = 64
    bf16: bool = False


def pooled_coalitions(
    model: PerturbationClassifier, images: Images, baselines: Baselines, present: Coalitions, *, max_batch_size: int
) -> Iterator[PooledBlock]:
    """Yield the pooled features of every image with every coalition of its channels.

    The features equal `model.pool(model.feature_maps(mixture))` for each mixture of an image and its baseline, with
    less work. A per-channel backbone runs once on the images and once on the baselines. Other backbones begin with a
    convolution, which is linear: its maps of a mixture are the sum of the contributions of the channels. Measurements
    depend on one channel or a pair, so six mixtures cover all their states.

    Args:
        model: The network, frozen.
        images: Standardized intensities.
        baselines: One image per site, or one for all.
        present: The coalitions.
        max_batch_size: Maximum number of images in one forward pass; bounds the memory.
    """
    features = _pool_per_channel if isinstance(model.backbone, PerChannelEfficientNet) else _pool_through_convolution
    for block in features(model, images, baselines, present, max_batch_size=max_batch_size):
        if model.measurements is None:
            yield block
            continue
        replacement = baselines if len(baselines) == 1 else baselines[block.sites]
        members = present[block.coalitions]
        measurements = _pool_measurements(
            model, images[block.sites], replacement, members, size=block.size, batch_size=max_batch_size
        )
        yield block._replace(features=torch.cat([block.features, measurements.to(block.features.dtype)], 1))


def covering_coalitions(channels: int) -> Coalitions:
    """Return six coalitions that contain every pair of channels in all four states.

    The states of a pair are both, either one, and none. The first coalition is empty. In the other five, each channel
    is present in a different choice of three. Two such choices differ, so each channel is present without the other,
    and they overlap, so both are present once.
    """
    triples = list(itertools.combinations(range(5), 3))[:channels]
    coalitions = torch.zeros(6, len(triples), dtype=torch.bool)
    for channel, rows in enumerate(triples):
        coalitions[[1 + row for row in rows], channel] = True
    return coalitions


def coalition_outputs(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    present: Coalitions,
    targets: Int[Tensor, " target"] | None = None,
    settings: ShapleySettings | None = None,
) -> Float[Tensor, "site coalition target"]:
    """Return the outputs for every site with every coalition of its channels.

    Cell types and references are never removed.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Sites whose images are mixed with their baselines.
        present: The coalitions.
        targets: Indices of the perturbations whose outputs are returned; None: only the target of each site.
        settings: None for the defaults.

    Returns:
        float64, on the CPU.

    Raises:
        ExplanationError: Unknown output, perturbation out of range, a batch size below 1; missing or
            wrong baseline images.
        ConfigError: Channels, cell types or references do not match the model.
    """
    settings = settings or ShapleySettings()
    images, baselines = sites.images, baseline_images(sites, settings.removal)
    _check(settings.output, max_batch_size=settings.max_batch_size)
    own_column = None
    if targets is None:
        check_targets(model, sites.targets)
        targets, own_column = torch.unique(sites.targets, return_inverse=True)
    check_targets(model, targets)
    model.check_channels(images)
    present = present.to(images.device)
    outputs = torch.empty(len(images), len(present), len(targets), dtype=torch.float64)
    is_empty = ~present.any(1)
    # With one baseline for all sites, the empty coalition is the same for all, so it runs once.
    is_shared = len(baselines) == 1 and bool(is_empty.any()) and not isinstance(model.backbone, PerChannelEfficientNet)
    evaluated = (~is_empty if is_shared else torch.ones_like(is_empty)).nonzero()[:, 0]

    def store_outputs(pooled: Tensor, rows: slice, members: Sequence[int]) -> None:
        cell_types, references = (
            None if site_values is None else site_values[rows].repeat_interleave(len(members), 0)
            for site_values in (sites.cell_types, sites.references)
        )
        logits = model.classify(pooled, cell_types, references).logits.float()
        values = (logits if settings.output == "logit" else logits.log_softmax(1))[:, targets.long()]
        values = values.exp() if settings.output == "probability" else values
        outputs[rows, members] = values.reshape(-1, len(members), len(targets)).double().cpu()

    autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=settings.bf16)
    with freeze(model), sites.plate_statistics(model), torch.no_grad(), autocast:
        if is_shared:
            all_rows = slice(0, len(images))
            for block in pooled_coalitions(model, baselines, baselines, present[is_empty][:1], max_batch_size=1):
                for member in is_empty.nonzero()[:, 0].tolist():
                    store_outputs(block.features.expand(len(images), -1), all_rows, [member])
        batch_size = min(settings.max_batch_size, _device_batch_size(images))
        for block in pooled_coalitions(model, images, baselines, present[evaluated], max_batch_size=batch_size):
            store_outputs(block.features, block.sites, evaluated[block.coalitions].tolist())
    return outputs if own_column is None else outputs[torch.arange(len(sites)), :, own_column.cpu()][:, :, None]


def _blocks(n_sites: int, n_coalitions: int, *, max_batch_size: int) -> Iterator[tuple[slice, slice]]:
    sites_per_block = max(1, max_batch_size // n_coalitions)
    for site in range(0, n_sites, sites_per_block):
        for first in range(0, n_coalitions, max_batch_size):
            yield (
                slice(site, min(site + sites_per_block, n_sites)),
                slice(first, min(first + max_batch_size, n_coalitions)),
            )


def _pool_maps(model: PerturbationClassifier, maps: Tensor) -> Tensor:
    return model.pool(functional.relu(maps) if model.config.final_relu else maps)


def _pool_per_channel(
    model: PerturbationClassifier, images: Tensor, baselines: Tensor, present: Tensor, *, max_batch_size: int
) -> Iterator[PooledBlock]:
    channels = images.shape[1]
    size = (0, 0)
    features = []
    for inputs in (images, baselines):
        parts = []
        for batch in torch.split(inputs, max_batch_size):
            maps = model.backbone(batch)
            size = (int(maps.shape[2]), int(maps.shape[3]))
            parts.append(_pool_maps(model, maps).reshape(len(batch), channels, -1))
        features.append(torch.cat(parts))
    own, replacement = features[0][:, None], features[1].expand_as(features[0])[:, None]
    for sites, members in _blocks(len(images), len(present), max_batch_size=max_batch_size):
        mixed = torch.where(present[members][:, :, None], own[sites], replacement[sites])
        yield PooledBlock(sites, members, mixed.flatten(2).flatten(0, 1), size)


def _pool_through_convolution(
    model: PerturbationClassifier, images: Tensor, baselines: Tensor, present: Tensor, *, max_batch_size: int
) -> Iterator[PooledBlock]:
    first, *rest = model.backbone.features.children()
    if not isinstance(first, nn.Conv2d):
        raise TypeError(f"A backbone that begins with {type(first).__name__} cannot be split into channels.")
    remaining = nn.Sequential(*rest)
    shared_replacement = _channel_contributions(first, baselines) if len(baselines) == 1 else None
    current: slice | None = None
    for sites, members in _blocks(len(images), len(present), max_batch_size=max_batch_size):
        if sites != current:
            current = sites
            replacement = (
                _channel_contributions(first, baselines[sites]) if shared_replacement is None else shared_replacement
            )
            change, none = _channel_contributions(first, images[sites]) - replacement, replacement.sum(1)
        coalition = present[members].to(change)
        mixed = (coalition @ change.flatten(2)).reshape(len(change), len(coalition), *change.shape[2:]) + none[:, None]
        # [site coalition height width feature] -> channels_last, in which convolutions are fastest
        maps = remaining(_as_autocast(mixed.flatten(0, 1).permute(0, 3, 1, 2)))
        yield PooledBlock(sites, members, _pool_maps(model, maps), (int(maps.shape[2]), int(maps.shape[3])))


def _channel_contributions(first: nn.Conv2d, images: Tensor) -> Tensor:
    """Return the contribution of each channel to the maps of the first convolution.

    float32 [site channel height width feature]; the sum over channels equals the maps.
    """
    channels, features = images.shape[1], first.out_channels
    with torch.autocast(images.device.type, enabled=False):
        maps = functional.conv2d(
            images.float(),
            first.weight.float().transpose(0, 1).reshape(channels * features, 1, *first.kernel_size),
            stride=first.stride,
            padding=first.padding,
            dilation=first.dilation,
            groups=channels,
        )
        maps = maps.reshape(len(images), channels, features, *maps.shape[2:])
        if first.bias is not None:
            maps = maps + first.bias[:, None, None] / channels
    return maps.permute(0, 1, 3, 4, 2).contiguous()


def _as_autocast(maps: Tensor) -> Tensor:
    kind = maps.device.type
    return maps.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else maps


def _pool_measurements(
    model: PerturbationClassifier,
    images: Tensor,
    baselines: Tensor,
    present: Tensor,
    *,
    size: tuple[int, int],
    batch_size: int,
) -> Tensor:
    """Return the pooled measurements of every mixture, [site * coalition, map]."""
    if model.measurements is None:
        raise TypeError("This network has no measurements.")
    coalitions = covering_coalitions(images.shape[1]).to(images.device)
    mixed = torch.where(coalitions[:, :, None, None], images[:, None], baselines[:, None]).flatten(0, 1)
    means = torch.cat([model.pool(model.measurements.maps(part, size=size)) for part in torch.split(mixed, batch_size)])
    first, second = torch.tensor(model.measurements.channels, device=images.device).unbind(1)
    # For each coalition and map, the mixture that has the map's channels in the same state.
    same = (coalitions[:, None, first] == present[None, :, first]) & (
        coalitions[:, None, second] == present[None, :, second]
    )
    which = same.to(torch.uint8).argmax(0)
    values = means.reshape(len(images), len(coalitions), -1)
    return torch.gather(values, 1, which.expand(len(images), -1, -1)).flatten(0, 1)


def _device_batch_size(images: Tensor) -> int:
    pixels = images.shape[2] * images.shape[3]
    return max(1, MAX_PIXELS_ON_CPU // pixels) if images.device.type == "cpu" else 2**31


def _check(output: str, *, max_batch_size: int) -> None:
    if output not in get_args(OutputKind):
        raise ExplanationError(f"Unknown output {output!r}. {did_you_mean(output, get_args(OutputKind))}")
    if max_batch_size < 1:
        raise ExplanationError(f"max_batch_size is {max_batch_size}; expected at least 1.")
