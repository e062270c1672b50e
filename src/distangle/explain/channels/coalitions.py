"""Enumerate coalitions of channels and compute channel scores from their outputs."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distangle.errors import ExplanationError

MAX_CHANNELS = 8
Coalitions = Bool[Tensor, "coalition channel"]
CoalitionOutputs = Float[Tensor, "site coalition"]


def coalitions(channels: int) -> Coalitions:
    """Return the channels of all 2^channels coalitions, none first, all last."""
    return (torch.arange(2**channels)[:, None] >> torch.arange(channels)) % 2 == 1


def check_channels(channels: int) -> None:
    """Refuse more channels than exact Shapley values allow.

    Raises:
        ExplanationError: Too many channels; the message names the forward passes and an alternative.
    """
    if channels > MAX_CHANNELS:
        raise ExplanationError(
            f"{channels} channels need {2**channels:,} forward passes per site; exact Shapley values stop at "
            f"{MAX_CHANNELS} channels ({2**MAX_CHANNELS}). Sample instead: captum.attr.ShapleyValueSampling with a "
            "feature_mask of one number per channel."
        )


def shapley_weights(channels: int) -> Float[Tensor, "coalition channel"]:
    """Return the matrix from outputs of `coalitions` to Shapley values, float64."""
    present = coalitions(channels)
    size = present.sum(1)
    weight = [math.factorial(s) * math.factorial(channels - s - 1) / math.factorial(channels) for s in range(channels)]
    # v(S) enters with + where S has the channel (its size without it is |S| - 1), with - where it lacks it.
    of_size = torch.tensor([0.0, *weight, 0.0], dtype=torch.float64)
    return torch.where(present, of_size[size][:, None], -of_size[size + 1][:, None])


def interaction_weights(channels: int) -> Float[Tensor, "coalition channel channel"]:
    r"""Return the array from outputs of `coalitions` to interactions, float64.

    Off the diagonal, the Shapley interaction index: the joint effect of two channels beyond their single effects,
    averaged over the sets of the other channels,

    $$ I_{ij} = \sum_{S \not\ni i,j} \frac{|S|!\,(C-|S|-2)!}{(C-1)!}
       \big(v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S)\big) $$

    On the diagonal, the rest of the Shapley value when every interaction is split equally between its two channels:
    $I_{ii} = \phi_i - \frac12 \sum_{j \ne i} I_{ij}$. So $\phi_i$ is the diagonal and half the rest of the row, and
    the diagonal and half of everything else adds up to all channels minus none.

    Source: Grabisch and Roubens 1999, An axiomatic approach to the concept of interaction among players in
        cooperative games, International Journal of Game Theory 28, 547-565.
    """
    present = coalitions(channels)
    size = present.sum(1)
    weights = torch.zeros(len(present), channels, channels, dtype=torch.float64)
    for i in range(channels):
        for j in range(channels):
            if i == j:
                continue
            others = size - present[:, i].long() - present[:, j].long()
            share = [
                math.factorial(s) * math.factorial(channels - s - 2) / math.factorial(channels - 1)
                for s in range(channels - 1)
            ]
            sign = torch.where(present[:, i] == present[:, j], 1.0, -1.0).double()
            weights[:, i, j] = sign * torch.tensor(share, dtype=torch.float64)[others]
    alone = shapley_weights(channels) - weights.sum(2) / 2
    return weights + torch.diag_embed(alone)


def shapley_of(outputs: CoalitionOutputs) -> Float[Tensor, "site channel"]:
    """Return the Shapley value of every channel.

    Args:
        outputs: Outputs of all `coalitions`, in their order; float64.
    """
    return outputs @ shapley_weights(_n_channels(outputs))


def interactions_of(outputs: CoalitionOutputs) -> Float[Tensor, "site channel channel"]:
    """Return the symmetric matrix of interactions; see `interaction_weights`.

    Args:
        outputs: Outputs of all `coalitions`, in their order; float64.
    """
    return torch.einsum("sk,kij->sij", outputs, interaction_weights(_n_channels(outputs)))


def ablation_of(outputs: CoalitionOutputs) -> Float[Tensor, "site channel"]:
    """Return v(all) - v(all without a channel), for every channel.

    Args:
        outputs: Outputs of all `coalitions`, in their order; float64.
    """
    last = outputs.shape[1] - 1
    without = [last ^ (1 << channel) for channel in range(_n_channels(outputs))]
    return outputs[:, -1:] - outputs[:, without]


def alone_of(outputs: CoalitionOutputs) -> Float[Tensor, "site channel"]:
    """Return v(a channel alone) - v(none), for every channel.

    Args:
        outputs: Outputs of all `coalitions`, in their order; float64.
    """
    return outputs[:, [1 << channel for channel in range(_n_channels(outputs))]] - outputs[:, :1]


def _n_channels(outputs: Tensor) -> int:
    return int(outputs.shape[1]).bit_length() - 1
