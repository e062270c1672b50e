"""Ablation of the channels: the output without each one, and with each one alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import ChannelScores
from distangle.explain.chosen import Piece
from distangle.explain.stains.answers import Taking, coalition_answers
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


def channel_ablation(model: PerturbationClassifier, sites: Piece, settings: Taking | None = None) -> ChannelAblation:
    """Compare the target's output with, without and with only each channel.

    Each channel is taken away by itself, and all others but it. These are two of the steps that `channel_shapley`
    averages, the last and the first; for any number of channels.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Whose targets are explained; their cell types and references are never taken away.
        settings: How channels are taken away; None for the defaults.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting stand-ins.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    channels = sites.images.shape[1]
    one = torch.eye(channels, dtype=torch.bool)
    none = torch.zeros(1, channels, dtype=torch.bool)
    table = coalition_answers(model, sites, present=torch.cat([none, ~none, one, ~one]), settings=settings)[:, :, 0]
    with_none, with_all, alone, without = torch.split(table, [1, 1, len(one), len(one)], 1)
    return ChannelAblation(
        values=(with_all - without).float(),
        alone=(alone - with_none).float(),
        with_all=with_all[:, 0].float(),
        with_none=with_none[:, 0].float(),
    )
