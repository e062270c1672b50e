"""Sensitivity to the target: whether another perturbation has another map."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float

from distangle.explain.chosen import ChosenSites
from distangle.explain.faithfulness.likeness import likeness
from distangle.explain.faithfulness.method import MapMethod, maps_of
from distangle.model import PerturbationClassifier


def likeness_to_other_targets(
    model: PerturbationClassifier,
    sites: ChosenSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    rng: np.random.Generator,
    n_targets: int = 3,
    at_once: int = 16,
) -> Float[np.ndarray, "draw site"] | None:
    """Return the similarity of the right maps and the maps of other perturbations.

    The labels are shuffled after the training, not before it: a network trained on shuffled labels is another
    training, and `examine_seeds` compares with it where there is one.

    Args:
        model: The network that the method explains.
        sites: Whose maps.
        maps: Of the right targets, by the same method.
        method: What is examined.
        rng: Of the other targets.
        n_targets: Other targets per site, drawn with replacement from all but its own.
        at_once: Sites in one call of the method.

    Returns:
        None for a network with a single perturbation.
    """
    known = model.config.n_perturbations
    if known < 2:
        return None
    found = []
    for _ in range(n_targets):
        steps = torch.from_numpy(rng.integers(1, known, len(sites)))
        other = dataclasses.replace(sites, targets=(sites.targets + steps) % known)
        found.append(likeness(maps, maps_of(method, model, other, at_once=at_once)))
    return np.stack(found)
