"""Shapley values of the stains of a few sites, of a network or a changed copy of it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from distangle.explain.chosen import ChosenSites, Piece
from distangle.explain.stains.channel_shapley import channel_shapley
from distangle.model import PerturbationClassifier

StainValues = Float[np.ndarray, "few channel"]


def shapley_values(
    model: PerturbationClassifier,
    sites: ChosenSites,
    *,
    at_once: int,
    changed: Callable[[Piece], Piece] = lambda piece: piece,
) -> StainValues:
    """Return the Shapley values of every site in nats, absent stains replaced by those of controls where there are any.

    Args:
        model: Left as it was found.
        sites: Few: each takes as many forward passes as there are coalitions of stains.
        at_once: Images in one forward pass.
        changed: Applied to every piece first.
    """
    device = next(model.parameters()).device
    found = np.zeros((len(sites), len(sites.channels)))
    for piece in sites.pieces(at_once=at_once, device=device):
        shown = changed(piece)
        with shown.norms_of_plate(model):
            values = channel_shapley(
                model,
                shown.images,
                shown.cell_types,
                shown.targets,
                references=shown.references,
                removal="mean" if shown.controls is None else "control",
                controls=shown.controls,
                most_at_once=at_once,
            ).values
        found[piece.rows] = values.double().cpu().numpy()
    return found


def same_top(first: StainValues, second: StainValues) -> Float[np.ndarray, " few"]:
    """Return 1 where both name the same stain as the largest, else 0."""
    return np.asarray(first.argmax(1) == second.argmax(1), dtype=np.float64)
