"""The network's answers to an image with every coalition of its stains."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distangle.axes import CellTypes, Images, Labels, References
from distangle.errors import ExplanationError, nearest
from distangle.explain.frozen import check_targets, frozen
from distangle.explain.stains.coalitions import Coalitions
from distangle.explain.stains.mixtures import pooled_mixtures
from distangle.explain.stains.removal import StandIns
from distangle.model import PerturbationClassifier, StainwiseEfficientNet

Of = Literal["log_probability", "logit", "probability"]
# In one pass on a CPU: the maps of more pixels fall out of its caches and of what the allocator keeps.
PIXELS_AT_ONCE = 2**18


def coalition_answers(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    *,
    asked: Int[Tensor, " asked"],
    present: Coalitions,
    absent: StandIns,
    references: References | None = None,
    of: Of = "log_probability",
    most_at_once: int = 64,
    bf16: bool = False,
) -> Float[Tensor, "site coalition asked"]:
    """Return the network's output for some perturbations, for every image with every coalition of its stains.

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them; never taken away.
        asked: Indices of the perturbations.
        present: The coalitions.
        absent: What stands in for absent stains, from `stand_ins`.
        references: As the model takes them; never taken away.
        of: The softmax head's `log_probability` (nats), `logit` or `probability`.
        most_at_once: Images that the network sees together, at most; bounds the memory.
        bf16: Run the backbone under bfloat16 autocast.

    Returns:
        float64, on the CPU.

    Raises:
        ExplanationError: Unknown output, perturbation out of range, fewer than one image at once.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    _check(of, most_at_once=most_at_once)
    check_targets(model, asked)
    model.check_channels(images)
    present = present.to(images.device)
    answers = torch.empty(len(images), len(present), len(asked), dtype=torch.float64)
    none = ~present.any(1)
    # With one stand-in for all, the image without any stain is the same for all; stain by stain that is so anyway.
    shared = len(absent) == 1 and bool(none.any()) and not isinstance(model.backbone, StainwiseEfficientNet)
    run = (~none if shared else torch.ones_like(none)).nonzero()[:, 0]

    def say(pooled: Tensor, sites: slice, members: Sequence[int]) -> None:
        kinds, beside = (
            None if rows is None else rows[sites].repeat_interleave(len(members), 0)
            for rows in (cell_types, references)
        )
        logits = model.classify(pooled, kinds, beside).logits.float()
        values = logits if of == "logit" else logits.log_softmax(1)
        chosen = values[:, asked.long()]
        chosen = chosen.exp() if of == "probability" else chosen
        answers[sites, members] = chosen.reshape(-1, len(members), len(asked)).double().cpu()

    with frozen(model), torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        if shared:
            every = slice(0, len(images))
            for _, _, pooled in pooled_mixtures(model, absent, absent, present[none][:1], most_at_once=1):
                for member in none.nonzero()[:, 0].tolist():
                    say(pooled.expand(len(images), -1), every, [member])
        together = min(most_at_once, _fit(images))
        for sites, members, pooled in pooled_mixtures(model, images, absent, present[run], most_at_once=together):
            say(pooled, sites, run[members].tolist())
    return answers


def own_answers(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    present: Coalitions,
    absent: StandIns,
    references: References | None = None,
    of: Of = "log_probability",
    most_at_once: int = 64,
    bf16: bool = False,
) -> Float[Tensor, "site coalition"]:
    """Return what `coalition_answers` does for every site's own target alone; takes and raises the same."""
    check_targets(model, targets)
    asked, which = torch.unique(targets, return_inverse=True)
    answers = coalition_answers(
        model,
        images,
        cell_types,
        asked=asked,
        present=present,
        absent=absent,
        references=references,
        of=of,
        most_at_once=most_at_once,
        bf16=bf16,
    )
    return answers[torch.arange(len(images)), :, which.cpu()]


def _fit(images: Tensor) -> int:
    pixels = images.shape[2] * images.shape[3]
    return max(1, PIXELS_AT_ONCE // pixels) if images.device.type == "cpu" else 2**31


def _check(of: str, *, most_at_once: int) -> None:
    if of not in get_args(Of):
        message = f"No output is called {of!r}. {nearest(of, get_args(Of))}"
        raise ExplanationError(message)
    if most_at_once < 1:
        message = f"{most_at_once} images at once were asked for; give at least 1."
        raise ExplanationError(message)
