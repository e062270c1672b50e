"""Pooled features of images with some of their channels replaced."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Images, Pooled
from distangle.explain.stains.coalitions import Coalitions
from distangle.explain.stains.removal import StandIns
from distangle.model import PerturbationClassifier, StainwiseEfficientNet


class PooledBlock(NamedTuple):
    """Pooled features of some mixtures.

    Attributes:
        sites: Which images.
        coalitions: Which coalitions of their channels.
        features: [site * coalition, feature], coalitions fastest.
        size: Height and width of the maps that were pooled.
    """

    sites: slice
    coalitions: slice
    features: Pooled
    size: tuple[int, int]


def pooled_mixtures(
    model: PerturbationClassifier, images: Images, absent: StandIns, present: Coalitions, *, most_at_once: int
) -> Iterator[PooledBlock]:
    """Give the pooled features of every image with every coalition of its channels.

    The numbers are those of `model.pool(model.feature_maps(mixture))`, for less work: a backbone that looks at each
    stain by itself sees the stains of the images and of the stand-ins once; any other begins with a convolution, whose
    maps of a mixture are the sum of what each stain adds to them; measurements belong to one stain or to a pair, so
    that a handful of mixtures shows them in all states.

    Args:
        model: Held still.
        images: Standardised intensities.
        absent: One per site, or one for all.
        present: Which coalitions.
        most_at_once: Images that the network sees together; bounds the memory.
    """
    features = _stainwise if isinstance(model.backbone, StainwiseEfficientNet) else _convolved
    for block in features(model, images, absent, present, most_at_once=most_at_once):
        if model.measurements is None:
            yield block
            continue
        stand_in = absent if len(absent) == 1 else absent[block.sites]
        chosen = present[block.coalitions]
        measured = _measured(model, images[block.sites], stand_in, chosen, size=block.size, at_once=most_at_once)
        yield block._replace(features=torch.cat([block.features, measured.to(block.features.dtype)], 1))


def _pieces(n_sites: int, n_coalitions: int, *, most_at_once: int) -> Iterator[tuple[slice, slice]]:
    together = max(1, most_at_once // n_coalitions)
    for site in range(0, n_sites, together):
        for first in range(0, n_coalitions, most_at_once):
            yield (
                slice(site, min(site + together, n_sites)),
                slice(first, min(first + most_at_once, n_coalitions)),
            )


def _seen(model: PerturbationClassifier, maps: Tensor) -> Tensor:
    return model.pool(functional.relu(maps) if model.config.final_relu else maps)


def _stainwise(
    model: PerturbationClassifier, images: Tensor, absent: Tensor, present: Tensor, *, most_at_once: int
) -> Iterator[PooledBlock]:
    channels = images.shape[1]
    size = (0, 0)
    looked = []
    for shown in (images, absent):
        parts = []
        for piece in torch.split(shown, most_at_once):
            maps = model.backbone(piece)
            size = (int(maps.shape[2]), int(maps.shape[3]))
            parts.append(_seen(model, maps).reshape(len(piece), channels, -1))
        looked.append(torch.cat(parts))
    own, instead = looked[0][:, None], looked[1].expand_as(looked[0])[:, None]
    for sites, members in _pieces(len(images), len(present), most_at_once=most_at_once):
        chosen = torch.where(present[members][:, :, None], own[sites], instead[sites])
        yield PooledBlock(sites, members, chosen.flatten(2).flatten(0, 1), size)


def _convolved(
    model: PerturbationClassifier, images: Tensor, absent: Tensor, present: Tensor, *, most_at_once: int
) -> Iterator[PooledBlock]:
    first, *rest = model.backbone.features.children()
    if not isinstance(first, nn.Conv2d):
        raise TypeError(f"A backbone that begins with {type(first).__name__} cannot be split into stains.")
    behind = nn.Sequential(*rest)
    shared = _added(first, absent) if len(absent) == 1 else None
    known: slice | None = None
    for sites, members in _pieces(len(images), len(present), most_at_once=most_at_once):
        if sites != known:
            known = sites
            instead = _added(first, absent[sites]) if shared is None else shared
            change, none = _added(first, images[sites]) - instead, instead.sum(1)
        chosen = present[members].to(change)
        mixed = (chosen @ change.flatten(2)).reshape(len(change), len(chosen), *change.shape[2:]) + none[:, None]
        # [site coalition height width feature] -> channels_last, in which convolutions are fastest
        maps = behind(_as_autocast(mixed.flatten(0, 1).permute(0, 3, 1, 2)))
        yield PooledBlock(sites, members, _seen(model, maps), (int(maps.shape[2]), int(maps.shape[3])))


def _added(first: nn.Conv2d, images: Tensor) -> Tensor:
    """Return what each channel adds to the first maps.

    float32 [site channel height width feature]; the sum over channels is the maps.
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


def _measured(
    model: PerturbationClassifier,
    images: Tensor,
    absent: Tensor,
    present: Tensor,
    *,
    size: tuple[int, int],
    at_once: int,
) -> Tensor:
    """Return the means of the maps of the measurements, [site * coalition, map]."""
    if model.measurements is None:
        raise TypeError("This network has no measurements.")
    tried = covering(images.shape[1]).to(images.device)
    mixed = torch.where(tried[:, :, None, None], images[:, None], absent[:, None]).flatten(0, 1)
    means = torch.cat([model.pool(model.measurements.maps(some, size=size)) for some in torch.split(mixed, at_once)])
    first, second = torch.tensor(model.measurements.stains, device=images.device).unbind(1)
    # For each coalition and map, the mixture that has the map's stains in the same state.
    same = (tried[:, None, first] == present[None, :, first]) & (tried[:, None, second] == present[None, :, second])
    which = same.to(torch.uint8).argmax(0)
    found = means.reshape(len(images), len(tried), -1)
    return torch.gather(found, 1, which.expand(len(images), -1, -1)).flatten(0, 1)


def covering(channels: int) -> Coalitions:
    """Return six coalitions that show every pair of channels in all states.

    A pair is there as both, either one, and none. The first coalition is empty. In the others each channel is a
    different choice of three out of five: two such choices differ, so each of the two is somewhere alone, and share
    one.
    """
    chosen = list(itertools.combinations(range(5), 3))[:channels]
    tried = torch.zeros(6, len(chosen), dtype=torch.bool)
    for channel, rows in enumerate(chosen):
        tried[[1 + row for row in rows], channel] = True
    return tried
