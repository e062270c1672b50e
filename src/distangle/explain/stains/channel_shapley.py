"""Exact Shapley values of the channels and of their pairs."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from distangle.axes import ChannelScores
from distangle.explain.chosen import Piece
from distangle.explain.stains.answers import Taking, coalition_answers
from distangle.explain.stains.coalitions import check_channels, coalitions, interactions_of, shapley_of
from distangle.model import PerturbationClassifier


@dataclass(frozen=True, kw_only=True)
class ChannelShapley:
    """What each channel added to the target's output.

    Attributes:
        values: In the unit of `of` (nats for `log_probability`); the sum of a row is `with_all - with_none`.
        interactions: What two stains did together beyond what each did alone; see `interaction_weights`, also for
            the diagonal.
        with_all: The output for the image as it is.
        with_none: The output after every stain was removed.
    """

    values: ChannelScores
    interactions: Float[Tensor, "site channel channel"]
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_shapley(model: PerturbationClassifier, sites: Piece, settings: Taking | None = None) -> ChannelShapley:
    r"""Average what each channel adds to the output over all orders.

    All 2^channels coalitions are run, so the values are exact, not sampled:

    $$ \phi_c = \sum_{S \not\ni c} \frac{|S|!\,(C-|S|-1)!}{C!} \big(v(S \cup c) - v(S)\big) $$

    Answers the question that Eq. (15) was meant for by intervention: it takes stains away and looks at the output.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Whose targets are explained; their cell types and references are never taken away.
        settings: How channels are taken away; None for the defaults.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting stand-ins, over 8 channels.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    channels = sites.images.shape[1]
    check_channels(channels)
    table = coalition_answers(model, sites, present=coalitions(channels), settings=settings)[:, :, 0]
    return ChannelShapley(
        values=shapley_of(table).float(),
        interactions=interactions_of(table).float(),
        with_all=table[:, -1].float(),
        with_none=table[:, 0].float(),
    )
