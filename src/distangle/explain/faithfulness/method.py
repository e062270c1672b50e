"""The attribution method that is examined, applied to all sites."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from distangle.errors import ExplanationError
from distangle.explain.chosen import ChosenSites, Piece
from distangle.explain.places.activation_map import Head, Method
from distangle.explain.places.door import place_maps
from distangle.model import PerturbationClassifier

MapMethod = Callable[[PerturbationClassifier, Piece], Tensor]
"""Called as `method(model, piece)` with the batch-norm statistics of the plate in use; returns maps
[site, height, width] of any size and sign, larger where the place speaks more for the target."""

LARGEST_SIDE = 16  # places on a side: a curve over thousands of them would take as many more forward passes to differ


def map_method(method: Method = "grad_cam", *, layer: str | None = None, head: Head = "softmax") -> MapMethod:
    """Return a method of `place_maps` that gives signed maps at their own size.

    Args:
        method: A name of `PLACE_METHODS`.
        layer: A layer of the backbone; None for the maps that are pooled, or the pixels.
        head: `softmax` explains the logit, `arc` the cosine.
    """

    def draw(model: PerturbationClassifier, piece: Piece) -> Tensor:
        return place_maps(model, piece, method=method, layer=layer, head=head).raw

    return draw


def maps_of(
    method: MapMethod,
    model: PerturbationClassifier,
    sites: ChosenSites,
    *,
    at_once: int,
    changed: Callable[[Piece], Piece] = lambda piece: piece,
) -> Float[np.ndarray, "site rows columns"]:
    """Return the map of every site, on a grid of at most 16 x 16 places, float64.

    Args:
        method: What is examined.
        model: The network that it explains.
        sites: Whose maps.
        at_once: Sites in one call.
        changed: Applied to every batch first.

    Raises:
        ExplanationError: The method does not give one finite map per site.
    """

    def draw(piece: Piece) -> dict[str, np.ndarray]:
        shown = changed(piece)
        with shown.norms_of_plate(model):
            maps = method(model, shown).detach().float().cpu()
        if maps.dim() != 3 or len(maps) != len(piece) or not bool(maps.isfinite().all()):
            raise ExplanationError(
                f"The method gave an array of shape {tuple(maps.shape)} for {len(piece)} sites. Expected one map "
                "[height, width] of finite numbers per site."
            )
        return {"maps": on_grid(maps.numpy())}

    return sites.map(draw, at_once=at_once, device=next(model.parameters()).device)["maps"]


def on_grid(
    maps: Float[np.ndarray, "site height width"], grid: tuple[int, int] | None = None
) -> Float[np.ndarray, "site rows columns"]:
    """Return the mean of maps over each place of a grid, float64.

    Args:
        maps: Of any size.
        grid: Height and width; None for their own, up to 16 x 16.
    """
    rows, columns = grid or (min(maps.shape[1], LARGEST_SIDE), min(maps.shape[2], LARGEST_SIDE))
    whole = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float64))[:, None]
    return functional.adaptive_avg_pool2d(whole, (rows, columns))[:, 0].numpy()
