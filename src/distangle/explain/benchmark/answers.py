"""What every method answers about the sites of a benchmark."""

import numpy as np
import torch

from distangle.explain.chosen import ChosenSites
from distangle.explain.places.activation_map import Head, Method
from distangle.explain.places.door import AT_IMAGE, place_maps
from distangle.explain.stains.channel_attention import (
    Scaling,
    channel_attention,
    inverse_attention,
    map_channel_correlation,
)
from distangle.explain.stains.removal import Removal
from distangle.explain.stains.scores import Taking, stain_scores
from distangle.model import PerturbationClassifier

AT_ONCE = 16


def scores_by_method(
    model: PerturbationClassifier, sites: ChosenSites, *, removal: Removal, layer: str | None, head: Head
) -> dict[str, np.ndarray]:
    """Return the scores of every method of stain: name to [site, channel], high for the stain that matters.

    `eq15` is Eq. (15) as the paper reads it, `eq15_inverse` its reciprocal: the nearest channel scores highest.

    Args:
        model: Left as it was found.
        sites: With `controls` for `removal="control"`.
        removal: What stands in for an absent stain.
        layer: Of the Grad-CAM map that Eq. (15) and the correlation compare the stains with.
        head: Whose output that map explains.
    """
    device = next(model.parameters()).device
    scaling: Scaling = "raw255" if sites.raw.dtype == np.uint8 else "min_max"
    asked = torch.unique(sites.targets)
    pieces, order = [], []
    for piece in sites.pieces(at_once=AT_ONCE, device=device):
        given = (model, piece.images, piece.cell_types, piece.targets)
        with piece.norms_of_plate(model):
            maps = place_maps(*given, references=piece.references, layer=layer, head=head, size=sites.size).maps
        taken = stain_scores(model, piece, asked=asked, taking=Taking(removal=removal))
        raw = sites.raw[piece.rows]
        literal = channel_attention(maps.cpu().numpy(), raw, scaling=scaling)
        pieces.append(
            {
                "shapley": taken["shapley"],
                "ablation": taken["ablation"],
                "correlation": map_channel_correlation(maps.cpu().numpy(), raw),
                "eq15": literal,
                "eq15_inverse": inverse_attention(literal),
            }
        )
        order += piece.rows
    back = np.argsort(order)
    return {name: np.concatenate([piece[name] for piece in pieces])[back] for name in pieces[0]}


def maps_by(
    model: PerturbationClassifier, sites: ChosenSites, *, method: Method, layer: str | None, head: Head
) -> tuple[np.ndarray, str]:
    """Return the maps of one method of place, at the size of the images, and the layer it looked at.

    Args:
        model: Left as it was found.
        sites: What to explain.
        method: A name of `PLACE_METHODS`.
        layer: Ignored by methods that look at the pixels.
        head: Whose output is explained.
    """
    device = next(model.parameters()).device
    pieces, order, named = [], [], ""
    for piece in sites.pieces(at_once=AT_ONCE, device=device):
        with piece.norms_of_plate(model):
            found = place_maps(
                model,
                piece.images,
                piece.cell_types,
                piece.targets,
                method=method,
                references=piece.references,
                layer=None if method in AT_IMAGE else layer,
                head=head,
                size=sites.size,
            )
        pieces.append(found.maps.cpu().numpy())
        order += piece.rows
        named = found.layer
    return np.concatenate(pieces)[np.argsort(order)], named
