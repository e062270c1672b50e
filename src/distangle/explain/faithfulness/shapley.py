"""Shapley values of the channels at a few sites, also of changed networks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from distangle.explain.chosen import ChosenSites, Piece
from distangle.explain.stains.answers import Taking
from distangle.explain.stains.channel_shapley import channel_shapley
from distangle.model import PerturbationClassifier

StainValues = Float[np.ndarray, "few channel"]


@dataclass(frozen=True, kw_only=True)
class SiteShapley:
    """A few sites with the Shapley values that others are compared with.

    Attributes:
        sites: Few: each takes as many forward passes as there are coalitions of channels.
        values: Of the network and the images as they are.
        settings: How channels are taken away.
    """

    sites: ChosenSites
    values: StainValues
    settings: Taking


def shapley_values(
    model: PerturbationClassifier,
    sites: ChosenSites,
    *,
    settings: Taking,
    changed: Callable[[Piece], Piece] = lambda piece: piece,
) -> StainValues:
    """Return the Shapley values of every site, float64.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Few: each takes as many forward passes as there are coalitions of channels.
        settings: How channels are taken away; as many sites as images go together.
        changed: Applied to every batch first.
    """

    def values_of(piece: Piece) -> dict[str, np.ndarray]:
        return {"values": channel_shapley(model, changed(piece), settings).values.double().cpu().numpy()}

    return sites.map(values_of, at_once=settings.most_at_once, device=next(model.parameters()).device)["values"]


def same_top(first: StainValues, second: StainValues) -> Float[np.ndarray, " few"]:
    """Return 1 where both name the same channel as the largest, else 0."""
    return np.asarray(first.argmax(1) == second.argmax(1), dtype=np.float64)
