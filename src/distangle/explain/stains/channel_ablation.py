"""Ablation of the stains: what the answer loses without each one, and what each one alone gives."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import CellTypes, ChannelScores, Images, Labels, References
from distangle.explain.stains.answers import Of, own_answers
from distangle.explain.stains.removal import Removal, stand_ins
from distangle.model import PerturbationClassifier


@dataclass(frozen=True, kw_only=True)
class ChannelAblation:
    """What taking one stain away costs, beside what one stain by itself brings.

    Attributes:
        values: v(all) - v(all without the stain), in the unit of `of`. Two stains that say the same both get 0.
        alone: v(only the stain) - v(none). A stain that says something only beside another gets 0.
        with_all: v(all), the output for the image as it is.
        with_none: v(none), the output after every stain was removed.
    """

    values: ChannelScores
    alone: ChannelScores
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_ablation(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    of: Of = "log_probability",
    removal: Removal = "mean",
    controls: Float[Tensor, "control _ _ _"] | None = None,
    others: Float[Tensor, "other _ _ _"] | None = None,
    most_at_once: int = 64,
    bf16: bool = False,
) -> ChannelAblation:
    """Take each stain away by itself, and all others but it; look at the target's output.

    These are two of the steps that `channel_shapley` averages, the last and the first; for any number of channels.

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them; never taken away.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them; never taken away.
        of: The softmax head's `log_probability` (nats), `logit` or `probability` of the target.
        removal: What stands in for an absent stain; see `stand_ins`.
        controls: For `control`, as `channel_shapley` takes them.
        others: For `other_well`, the same.
        most_at_once: Images that the network sees together; bounds the memory.
        bf16: Run the backbone under bfloat16 autocast.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting stand-ins.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    one = torch.eye(images.shape[1], dtype=torch.bool)
    none = torch.zeros(1, images.shape[1], dtype=torch.bool)
    table = own_answers(
        model,
        images,
        cell_types,
        targets,
        present=torch.cat([none, ~none, one, ~one]),
        absent=stand_ins(images, removal, controls=controls, others=others),
        references=references,
        of=of,
        most_at_once=most_at_once,
        bf16=bf16,
    )
    with_none, with_all, alone, without = torch.split(table, [1, 1, len(one), len(one)], 1)
    return ChannelAblation(
        values=(with_all - without).float(),
        alone=(alone - with_none).float(),
        with_all=with_all[:, 0].float(),
        with_none=with_none[:, 0].float(),
    )
