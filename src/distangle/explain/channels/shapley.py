"""Ablation of the channels: the output without each one, and with each one alone.

Exact Shapley values of the channels and of their pairs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import ChannelScores
from distangle.explain.channels.coalition_outputs import ShapleySettings, coalition_outputs
from distangle.explain.channels.coalitions import check_channels, coalitions, interactions_of, shapley_of
from distangle.explain.sites import SiteBatch
from distangle.model import PerturbationClassifier


@dataclass(frozen=True, kw_only=True)
class ChannelAblation:
    """What taking one channel away costs, beside what one channel by itself brings.

    Attributes:
        values: v(all) - v(all without the channel), in the unit of `of`. Two channels that say the same both get 0.
        alone: v(only the channel) - v(none). A channel that says something only beside another gets 0.
        with_all: v(all), the output for the image as it is.
        with_none: v(none), the output after every channel was removed.
    """

    values: ChannelScores
    alone: ChannelScores
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_ablation(
    model: PerturbationClassifier, sites: SiteBatch, settings: ShapleySettings | None = None
) -> ChannelAblation:
    """Compare the target's output with, without and with only each channel.

    Each channel is removed by itself, and all others but it. These are two of the steps that `channel_shapley`
    averages, the last and the first; for any number of channels.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Sites to explain; their cell types and references are never removed.
        settings: How channels are removed; None for the defaults.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting baseline images.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    channels = sites.images.shape[1]
    single = torch.eye(channels, dtype=torch.bool)
    none = torch.zeros(1, channels, dtype=torch.bool)
    outputs = coalition_outputs(model, sites, present=torch.cat([none, ~none, single, ~single]), settings=settings)[
        :, :, 0
    ]
    with_none, with_all, alone, without = torch.split(outputs, [1, 1, len(single), len(single)], 1)
    return ChannelAblation(
        values=(with_all - without).float(),
        alone=(alone - with_none).float(),
        with_all=with_all[:, 0].float(),
        with_none=with_none[:, 0].float(),
    )


@dataclass(frozen=True, kw_only=True)
class ChannelShapley:
    """What each channel added to the target's output.

    Attributes:
        values: In the unit of `of` (nats for `log_probability`); the sum of a row is `with_all - with_none`.
        interactions: What two channels did together beyond what each did alone; see `interaction_weights`, also for
            the diagonal.
        with_all: The output for the image as it is.
        with_none: The output after every channel was removed.
    """

    values: ChannelScores
    interactions: Float[Tensor, "site channel channel"]
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_shapley(
    model: PerturbationClassifier, sites: SiteBatch, settings: ShapleySettings | None = None
) -> ChannelShapley:
    r"""Average what each channel adds to the output over all orders.

    All 2^channels coalitions are run, so the values are exact, not sampled:

    $$ \phi_c = \sum_{S \not\ni c} \frac{|S|!\,(C-|S|-1)!}{C!} \big(v(S \cup c) - v(S)\big) $$

    Answers the question that Eq. (15) was meant for by intervention: it takes channels away and looks at the output.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Sites to explain; their cell types and references are never removed.
        settings: How channels are removed; None for the defaults.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting baseline images, over 8 channels.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    channels = sites.images.shape[1]
    check_channels(channels)
    outputs = coalition_outputs(model, sites, present=coalitions(channels), settings=settings)[:, :, 0]
    return ChannelShapley(
        values=shapley_of(outputs).float(),
        interactions=interactions_of(outputs).float(),
        with_all=outputs[:, -1].float(),
        with_none=outputs[:, 0].float(),
    )
