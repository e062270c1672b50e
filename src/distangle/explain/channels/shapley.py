"""Ablation scores and exact Shapley values of the channels and of their pairs."""

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
    """Change of the output without each channel, and with each channel alone.

    Attributes:
        values: v(all) - v(all without the channel), in the unit of the output. Two redundant channels both get 0.
        alone: v(only the channel) - v(none). A channel that is informative only together with another gets 0.
        with_all: v(all), the output for the image as it is.
        with_none: v(none), the output without any channel.
    """

    values: ChannelScores
    alone: ChannelScores
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


@dataclass(frozen=True, kw_only=True)
class ChannelShapley:
    """Contribution of each channel to the output of the target.

    Attributes:
        values: Shapley values in the unit of the output (nats for `log_probability`); the sum of a row is `with_all -
            with_none`.
        interactions: Joint effect of two channels beyond their single effects; see `interaction_weights`, also for
            the diagonal.
        with_all: The output for the image as it is.
        with_none: The output without any channel.
    """

    values: ChannelScores
    interactions: Float[Tensor, "site channel channel"]
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_ablation(
    model: PerturbationClassifier, sites: SiteBatch, settings: ShapleySettings | None = None
) -> ChannelAblation:
    """Compare the target's output with, without and with only each channel.

    These are the last and the first of the steps that `channel_shapley` averages. The number of channels is not
    limited.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Sites to explain; their cell types and references are never removed.
        settings: How channels are removed; None for the defaults.

    Raises:
        ExplanationError: A setting is unknown, a target is out of range, or baseline images are missing or wrong.
        ConfigError: Channels, cell types or references do not match the model.
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


def channel_shapley(
    model: PerturbationClassifier, sites: SiteBatch, settings: ShapleySettings | None = None
) -> ChannelShapley:
    r"""Average the contribution of each channel to the output over all orders.

    All 2^channels coalitions are run, so the values are exact, not sampled:

    $$ \phi_c = \sum_{S \not\ni c} \frac{|S|!\,(C-|S|-1)!}{C!} \big(v(S \cup c) - v(S)\big) $$

    It answers the question of Eq. (15) by intervention: it removes channels and compares the outputs.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Sites to explain; their cell types and references are never removed.
        settings: How channels are removed; None for the defaults.

    Raises:
        ExplanationError: A setting is unknown, a target is out of range, baseline images are missing or wrong, or there
            are more than 8 channels.
        ConfigError: Channels, cell types or references do not match the model.
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
