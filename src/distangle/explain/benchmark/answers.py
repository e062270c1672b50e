"""Channel scores and maps of every method at the sites of a benchmark."""

from typing import NamedTuple

import numpy as np
import torch

from distangle.explain.chosen import ChosenSites, Piece
from distangle.explain.places.activation_map import Head, Method
from distangle.explain.places.door import AT_IMAGE, place_maps
from distangle.explain.stains.answers import Taking
from distangle.explain.stains.channel_attention import (
    Scaling,
    channel_attention,
    inverse_attention,
    map_channel_correlation,
)
from distangle.explain.stains.removal import Removal
from distangle.explain.stains.scores import stain_scores
from distangle.model import PerturbationClassifier

AT_ONCE = 16


def scores_by_method(
    model: PerturbationClassifier, sites: ChosenSites, *, removal: Removal, layer: str | None, head: Head
) -> dict[str, np.ndarray]:
    """Return the channel scores of every method, [site, channel] by name.

    The channel that matters should score highest. `eq15` is Eq. (15) as the paper reads it, `eq15_inverse` its
    reciprocal: the nearest channel scores highest.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: With `controls` for `removal="control"`.
        removal: What stands in for an absent stain.
        layer: Of the Grad-CAM map that Eq. (15) and the correlation compare the stains with.
        head: Whose output that map explains.
    """
    device = next(model.parameters()).device
    scaling: Scaling = "raw255" if sites.raw.dtype == np.uint8 else "min_max"
    asked = torch.unique(sites.targets)

    def score(piece: Piece) -> dict[str, np.ndarray]:
        maps = place_maps(model, piece, layer=layer, head=head, size=sites.size).maps.cpu().numpy()
        scores = stain_scores(model, piece, asked=asked, settings=Taking(removal=removal))
        raw = sites.raw[list(piece.rows)]
        literal = channel_attention(maps, raw, scaling=scaling)
        return {
            "shapley": scores["shapley"],
            "ablation": scores["ablation"],
            "correlation": map_channel_correlation(maps, raw),
            "eq15": literal,
            "eq15_inverse": inverse_attention(literal),
        }

    return sites.map(score, at_once=AT_ONCE, device=device)


class MethodMaps(NamedTuple):
    """Maps of one method, [site, height, width], and the layer it looked at."""

    maps: np.ndarray
    layer: str


def maps_by(
    model: PerturbationClassifier, sites: ChosenSites, *, method: Method, layer: str | None, head: Head
) -> MethodMaps:
    """Draw the maps of one method at the size of the images.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: What to explain.
        method: A name of `PLACE_METHODS`.
        layer: Ignored by methods that look at the pixels.
        head: Whose output is explained.
    """
    layers: list[str] = []

    def draw(piece: Piece) -> dict[str, np.ndarray]:
        drawn = place_maps(
            model, piece, method=method, layer=None if method in AT_IMAGE else layer, head=head, size=sites.size
        )
        layers.append(drawn.layer)
        return {"maps": drawn.maps.cpu().numpy()}

    maps = sites.map(draw, at_once=AT_ONCE, device=next(model.parameters()).device)["maps"]
    return MethodMaps(maps, layers[-1])
