"""The network's outputs for an image with every coalition of its channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distangle.errors import ExplanationError, nearest
from distangle.explain.chosen import Piece
from distangle.explain.frozen import check_targets, frozen
from distangle.explain.stains.coalitions import Coalitions
from distangle.explain.stains.mixtures import pooled_mixtures
from distangle.explain.stains.removal import Removal, stand_ins
from distangle.model import PerturbationClassifier, StainwiseEfficientNet

Of = Literal["log_probability", "logit", "probability"]
# In one pass on a CPU: the maps of more pixels fall out of its caches and of what the allocator keeps.
PIXELS_AT_ONCE = 2**18


@dataclass(frozen=True, kw_only=True)
class Taking:
    """How channels are taken away, and which output is looked at then.

    Attributes:
        of: The softmax head's `log_probability` (nats), `logit` or `probability` of a perturbation.
        removal: What replaces an absent channel, see `stand_ins`; None: controls where there are any, else the mean.
        most_at_once: Images that the network sees together, at most; bounds the memory.
        bf16: Run the backbone under bfloat16 autocast.
    """

    of: Of = "log_probability"
    removal: Removal | None = None
    most_at_once: int = 64
    bf16: bool = False


def coalition_answers(
    model: PerturbationClassifier,
    sites: Piece,
    *,
    present: Coalitions,
    asked: Int[Tensor, " asked"] | None = None,
    settings: Taking | None = None,
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
    settings = settings or Taking()
    images, absent = sites.images, stand_ins(sites, settings.removal)
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
    shared = len(absent) == 1 and bool(none.any()) and not isinstance(model.backbone, StainwiseEfficientNet)
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
    with frozen(model), sites.norms_of_plate(model), torch.no_grad(), autocast:
        if shared:
            every = slice(0, len(images))
            for block in pooled_mixtures(model, absent, absent, present[none][:1], most_at_once=1):
                for member in none.nonzero()[:, 0].tolist():
                    write(block.features.expand(len(images), -1), every, [member])
        together = min(settings.most_at_once, _fit(images))
        for block in pooled_mixtures(model, images, absent, present[run], most_at_once=together):
            write(block.features, block.sites, run[block.coalitions].tolist())
    return answers if own is None else answers[torch.arange(len(sites)), :, own.cpu()][:, :, None]


def _fit(images: Tensor) -> int:
    pixels = images.shape[2] * images.shape[3]
    return max(1, PIXELS_AT_ONCE // pixels) if images.device.type == "cpu" else 2**31


def _check(of: str, *, most_at_once: int) -> None:
    if of not in get_args(Of):
        raise ExplanationError(f"No output is called {of!r}. {nearest(of, get_args(Of))}")
    if most_at_once < 1:
        raise ExplanationError(f"{most_at_once} images at once were asked for; give at least 1.")
