"""Stability: whether the maps of the eight views of an image are one map."""

import dataclasses
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distangle.explain.chosen import ChosenSites, Piece
from distangle.explain.faithfulness.likeness import likeness
from distangle.explain.faithfulness.method import MapMethod, maps_of
from distangle.explain.faithfulness.shapley import SiteShapley, shapley_values
from distangle.images import N_VIEWS, undo_view
from distangle.model import PerturbationClassifier


def likeness_of_views(
    model: PerturbationClassifier,
    sites: ChosenSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    at_once: int = 16,
) -> Float[np.ndarray, "view site"]:
    """Return the similarity of the maps of an image and of its other views.

    The views show the same cells, so their maps, turned back, should be the map of the image.

    Args:
        model: The network that the method explains.
        sites: Whose maps.
        maps: Of the images as they are, by the same method.
        method: What is examined.
        at_once: Sites in one call of the method.
    """
    found = []
    for number in range(1, N_VIEWS):
        seen = maps_of(method, model, sites, at_once=at_once, changed=partial(turned, number=number))
        found.append(likeness(maps, np.ascontiguousarray(undo_view(seen, number))))
    return np.stack(found)


def shapley_of_views(
    model: PerturbationClassifier, shapley: SiteShapley, *, numbers: tuple[int, ...]
) -> Float[np.ndarray, "seen few channel"]:
    """Return the Shapley values of the image and of some of its views.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        shapley: Of the images as they are.
        numbers: The other views, 1 to 7.
    """
    views = [
        shapley_values(model, shapley.sites, settings=shapley.settings, changed=partial(turned, number=number))
        for number in numbers
    ]
    return np.stack([shapley.values, *views])


def turned(piece: Piece, *, number: int) -> Piece:
    """Return a view of every image, and of the images that replace its channels.

    The views are those of `images.take_view`.
    """
    controls, others = (None if given is None else _turned(given, number) for given in (piece.controls, piece.others))
    return dataclasses.replace(piece, images=_turned(piece.images, number), controls=controls, others=others)


def _turned(images: Tensor, number: int) -> Tensor:
    images = images.transpose(2, 3) if number & 4 else images
    images = images.flip(2) if number & 1 else images
    return images.flip(3) if number & 2 else images
