"""The method that is examined: a network and sites in, a map of places out; here those are called and gathered."""

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
"""Called as `method(model, piece)` with the norms of the plate lent; returns maps [site, height, width] of any size and
sign, larger where the place speaks more for the target."""

LARGEST_SIDE = 16  # places on a side: a curve over thousands of them would take as many more forward passes to differ


def map_method(method: Method = "grad_cam", *, layer: str | None = None, head: Head = "softmax") -> MapMethod:
    """Return a method of `place_maps` as one to examine: what it says before its negatives are cut, at its own size.

    Args:
        method: A name of `PLACE_METHODS`.
        layer: As `place_maps` takes it.
        head: The same.
    """

    def drawn(model: PerturbationClassifier, piece: Piece) -> Tensor:
        return place_maps(
            model,
            piece.images,
            piece.cell_types,
            piece.targets,
            method=method,
            references=piece.references,
            layer=layer,
            head=head,
        ).raw

    return drawn


def maps_of(
    method: MapMethod,
    model: PerturbationClassifier,
    sites: ChosenSites,
    *,
    at_once: int,
    changed: Callable[[Piece], Piece] = lambda piece: piece,
) -> Float[np.ndarray, "site rows columns"]:
    """Return what a method says of every site, on a grid of at most 16 x 16 places, float64.

    Args:
        method: What is examined.
        model: Left as it was found.
        sites: Whose maps.
        at_once: Sites in one call.
        changed: Applied to every piece first.

    Raises:
        ExplanationError: The method does not give one finite map per site.
    """
    device = next(model.parameters()).device
    order: list[int] = []
    found: list[np.ndarray] = []
    for piece in sites.pieces(at_once=at_once, device=device):
        shown = changed(piece)
        with shown.norms_of_plate(model):
            maps = method(model, shown).detach().float().cpu()
        if maps.dim() != 3 or len(maps) != len(piece.rows) or not bool(maps.isfinite().all()):
            message = (
                f"The method gave an array of shape {tuple(maps.shape)} for {len(piece.rows)} sites. Expected one map "
                "[height, width] of finite numbers per site."
            )
            raise ExplanationError(message)
        found.append(on_grid(maps.numpy()))
        order += piece.rows
    return np.concatenate(found)[np.argsort(order)]


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
