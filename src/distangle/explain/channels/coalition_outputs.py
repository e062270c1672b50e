"""Pooled features of images with some of their channels replaced.

The network's outputs for an image with every coalition of its channels.
"""

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
from distangle.explain.channels.replacement import Removal, StandIns, baseline_images
from distangle.explain.sites import SiteBatch, check_targets, freeze
from distangle.model import PerChannelEfficientNet, PerturbationClassifier


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


def pooled_coalitions(
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
    features = _stainwise if isinstance(model.backbone, PerChannelEfficientNet) else _convolved
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
    first, second = torch.tensor(model.measurements.channels, device=images.device).unbind(1)
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


OutputKind = Literal["log_probability", "logit", "probability"]
# In one pass on a CPU: the maps of more pixels fall out of its caches and of what the allocator keeps.
PIXELS_AT_ONCE = 2**18


@dataclass(frozen=True, kw_only=True)
class ShapleySettings:
    """How channels are taken away, and which output is looked at then.

    Attributes:
        of: The softmax head's `log_probability` (nats), `logit` or `probability` of a perturbation.
        removal: What replaces an absent channel, see `stand_ins`; None: controls where there are any, else the mean.
        most_at_once: Images that the network sees together, at most; bounds the memory.
        bf16: Run the backbone under bfloat16 autocast.
    """

    of: OutputKind = "log_probability"
    removal: Removal | None = None
    most_at_once: int = 64
    bf16: bool = False


def coalition_answers(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    present: Coalitions,
    asked: Int[Tensor, " asked"] | None = None,
    settings: ShapleySettings | None = None,
) -> Float[Tensor, "site coalition asked"]:
    """Return outputs for every site with every coalition of its channels.

    Cell types and references are never taken away.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Whose images are mixed with their stand-ins.
        present: The coalitions.
        asked: Indices of the perturbations whose output is returned; None: of every site its own target alone.
        settings: None for the defaults.

    Returns:
        float64, on the CPU.

    Raises:
        ExplanationError: Unknown output, perturbation out of range, fewer than one image at once; missing or
            misfitting stand-ins.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    settings = settings or ShapleySettings()
    images, absent = sites.images, baseline_images(sites, settings.removal)
    _check(settings.of, most_at_once=settings.most_at_once)
    own = None
    if asked is None:
        check_targets(model, sites.targets)
        asked, own = torch.unique(sites.targets, return_inverse=True)
    check_targets(model, asked)
    model.check_channels(images)
    present = present.to(images.device)
    answers = torch.empty(len(images), len(present), len(asked), dtype=torch.float64)
    none = ~present.any(1)
    # With one stand-in for all, the image without any channel is the same for all; channel by channel it is so anyway.
    shared = len(absent) == 1 and bool(none.any()) and not isinstance(model.backbone, PerChannelEfficientNet)
    run = (~none if shared else torch.ones_like(none)).nonzero()[:, 0]

    def write(pooled: Tensor, rows: slice, members: Sequence[int]) -> None:
        cell_types, references = (
            None if given is None else given[rows].repeat_interleave(len(members), 0)
            for given in (sites.cell_types, sites.references)
        )
        logits = model.classify(pooled, cell_types, references).logits.float()
        values = logits if settings.of == "logit" else logits.log_softmax(1)
        chosen = values[:, asked.long()]
        chosen = chosen.exp() if settings.of == "probability" else chosen
        answers[rows, members] = chosen.reshape(-1, len(members), len(asked)).double().cpu()

    autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=settings.bf16)
    with freeze(model), sites.norms_of_plate(model), torch.no_grad(), autocast:
        if shared:
            every = slice(0, len(images))
            for block in pooled_coalitions(model, absent, absent, present[none][:1], most_at_once=1):
                for member in none.nonzero()[:, 0].tolist():
                    write(block.features.expand(len(images), -1), every, [member])
        together = min(settings.most_at_once, _fit(images))
        for block in pooled_coalitions(model, images, absent, present[run], most_at_once=together):
            write(block.features, block.sites, run[block.coalitions].tolist())
    return answers if own is None else answers[torch.arange(len(sites)), :, own.cpu()][:, :, None]


def _fit(images: Tensor) -> int:
    pixels = images.shape[2] * images.shape[3]
    return max(1, PIXELS_AT_ONCE // pixels) if images.device.type == "cpu" else 2**31


def _check(of: str, *, most_at_once: int) -> None:
    if of not in get_args(OutputKind):
        raise ExplanationError(f"No output is called {of!r}. {did_you_mean(of, get_args(OutputKind))}")
    if most_at_once < 1:
        raise ExplanationError(f"{most_at_once} images at once were asked for; give at least 1.")
