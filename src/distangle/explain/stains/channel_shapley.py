"""Exact Shapley values of the stains: how much each one moved the network's answer."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import CellTypes, ChannelScores, Images, Labels, References
from distangle.errors import ExplanationError, nearest
from distangle.explain.frozen import check_targets, frozen
from distangle.model import PerturbationClassifier

Of = Literal["log_probability", "logit", "probability"]
Removal = Literal["mean", "control"]
MOST_CHANNELS = 8


@dataclass(frozen=True, kw_only=True)
class ChannelShapley:
    """What each stain added to the target's output, beside the output with all stains and with none.

    Attributes:
        values: In the unit of `of` (nats for `log_probability`); the sum of a row is `with_all - with_none`.
        with_all: The output for the image as it is.
        with_none: The output after every stain was removed.
    """

    values: ChannelScores
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_shapley(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    of: Of = "log_probability",
    removal: Removal = "mean",
    controls: Float[Tensor, "control _ _ _"] | None = None,
    most_at_once: int = 64,
    bf16: bool = False,
) -> ChannelShapley:
    r"""Average, over all orders in which stains could be added, what each one adds to the target's output.

    All 2^channels coalitions are run, so the values are exact, not sampled:

    $$ \phi_c = \sum_{S \not\ni c} \frac{|S|!\,(C-|S|-1)!}{C!} \big(v(S \cup c) - v(S)\big) $$

    Answers the question that Eq. (15) was meant for by intervention: it takes stains away and looks at the output.

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them; never taken away.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them; never taken away.
        of: The softmax head's `log_probability` (nats), `logit` or `probability` of the target.
        removal: What stands in for an absent stain: `mean` puts its mean everywhere (0 after standardisation), which
            no real well looks like; `control` puts the same stain of a control image there, which stays closer to
            what the network was trained on.
        controls: For `control`: standardised images of untreated wells of the same plate, one per site or one for all.
        most_at_once: Images in one forward pass; bounds the memory.
        bf16: Run the network under bfloat16 autocast.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting controls, over 8 channels.
    """
    sites, channels = images.shape[:2]
    check_targets(model, targets)
    _check(of, removal, channels=channels, most_at_once=most_at_once)
    absent = _stand_in(images, removal, controls)
    present = coalitions(channels).to(images.device)
    n_coalitions = len(present)
    answers = torch.empty(sites * n_coalitions, dtype=torch.float64)
    with frozen(model), torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(answers), most_at_once):
            pairs = torch.arange(start, min(start + most_at_once, len(answers)), device=images.device)
            site, coalition = pairs // n_coalitions, pairs % n_coalitions
            mixed = torch.where(present[coalition][:, :, None, None], images[site], absent[site])
            logits = model(
                mixed,
                None if cell_types is None else cell_types[site],
                None if references is None else references[site],
            ).logits.float()
            values = logits if of == "logit" else logits.log_softmax(1)
            chosen = values.gather(1, targets[site].long()[:, None])[:, 0]
            answers[start : start + len(pairs)] = (chosen.exp() if of == "probability" else chosen).cpu()
    table = answers.view(sites, n_coalitions)
    return ChannelShapley(
        values=(table @ shapley_weights(channels)).float(),
        with_all=table[:, -1].float(),
        with_none=table[:, 0].float(),
    )


def coalitions(channels: int) -> Tensor:
    """Return which channels each coalition has: bool [2^channels, channel], none first, all last."""
    return (torch.arange(2**channels)[:, None] >> torch.arange(channels)) % 2 == 1


def shapley_weights(channels: int) -> Tensor:
    """Return the matrix that takes the coalitions' outputs to Shapley values: float64 [2^channels, channel]."""
    present = coalitions(channels)
    size = present.sum(1)
    weight = [math.factorial(s) * math.factorial(channels - s - 1) / math.factorial(channels) for s in range(channels)]
    # v(S) enters with + where S has the channel (its size without it is |S| - 1), with - where it lacks it.
    of_size = torch.tensor([0.0, *weight, 0.0], dtype=torch.float64)
    return torch.where(present, of_size[size][:, None], -of_size[size + 1][:, None])


def _check(of: str, removal: str, *, channels: int, most_at_once: int) -> None:
    for given, choice, what in ((of, Of, "output"), (removal, Removal, "removal")):
        if given not in get_args(choice):
            message = f"No {what} is called {given!r}. {nearest(given, get_args(choice))}"
            raise ExplanationError(message)
    if channels > MOST_CHANNELS:
        message = (
            f"{channels} channels need {2**channels:,} forward passes per site; exact Shapley values stop at "
            f"{MOST_CHANNELS} channels ({2**MOST_CHANNELS}). Sample instead: captum.attr.ShapleyValueSampling with a "
            "feature_mask of one number per channel."
        )
        raise ExplanationError(message)
    if most_at_once < 1:
        message = f"{most_at_once} images at once were asked for; give at least 1."
        raise ExplanationError(message)


def _stand_in(images: Tensor, removal: Removal, controls: Tensor | None) -> Tensor:
    if removal == "mean":
        if controls is not None:
            message = "Control images were given, but removal is 'mean'. Say removal='control' to use them."
            raise ExplanationError(message)
        return torch.zeros_like(images[:1]).expand_as(images)
    if controls is None:
        message = (
            "Removal 'control' needs the images of control wells. Give `controls`, one per site or one for all, or "
            "say removal='mean'."
        )
        raise ExplanationError(message)
    if controls.shape[1:] != images.shape[1:] or len(controls) not in (1, len(images)):
        message = (
            f"Controls of shape {tuple(controls.shape)} do not fit images of shape {tuple(images.shape)}. Give one "
            "control image per site, or one for all, with the same channels, height and width."
        )
        raise ExplanationError(message)
    return controls.to(images).expand_as(images)
