"""Model randomisation: whether maps and channel scores follow the weights."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from distangle.explain.chosen import ChosenSites
from distangle.explain.faithfulness.likeness import likeness
from distangle.explain.faithfulness.method import MapMethod, maps_of
from distangle.explain.faithfulness.randomised import cascade, stages_of
from distangle.explain.faithfulness.shapley import SiteShapley, same_top, shapley_values
from distangle.model import PerturbationClassifier


@dataclass(frozen=True, kw_only=True)
class Randomisation:
    """How alike the maps of a network and of its randomised copies are.

    Attributes:
        stages: Names of the parts in the order in which they were drawn anew; each row has all before it too.
        likeness: Spearman's correlation over places with the map of the network, in [-1, 1].
        before_training: Position of the stage after which all parts that training changed are new.
        untrained: Maps of the first copy by stage: at `before_training` and at the last, where they differ.
        stains: Of the same stages and a few sites, the rank correlation of the Shapley values with the network's.
        same_top: Of the same, 1 where the same stain is the largest.
    """

    stages: tuple[str, ...]
    likeness: Float[np.ndarray, "stage network site"]
    before_training: int
    untrained: dict[str, Float[np.ndarray, "site rows columns"]]
    stains: dict[str, Float[np.ndarray, " few"]]
    same_top: dict[str, Float[np.ndarray, " few"]]


def randomisation(
    model: PerturbationClassifier,
    sites: ChosenSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    rng: np.random.Generator,
    shapley: SiteShapley | None = None,
    n_networks: int = 2,
    at_once: int = 16,
) -> Randomisation:
    """Randomise a copy of the network part by part and compare its maps and channels.

    A map that stays is drawn by the image or by the architecture, not by what was learnt.

    Source: Adebayo et al. 2018, arXiv:1810.03292, the cascading randomisation.

    Args:
        model: The network; copies of it are changed.
        sites: Whose maps.
        maps: Of the network, by the same method.
        method: What is examined.
        rng: Of the weights.
        shapley: Shapley values to compare with, at the end only: they are slow. None: of no site.
        n_networks: Copies, each of other weights.
        at_once: Sites in one call of the method.
    """
    names = tuple(name for name, _ in stages_of(model))
    found = np.zeros((len(names), n_networks, len(sites)))
    before_training = len(names) - 1
    kept: dict[str, np.ndarray] = {}
    agreement: dict[str, np.ndarray] = {}
    tops: dict[str, np.ndarray] = {}
    for network, seed in enumerate(rng.integers(2**31, size=n_networks)):
        for position, step in enumerate(cascade(model, seed=int(seed))):
            drawn = maps_of(method, step.model, sites, at_once=at_once, changed=step.fitting)
            found[position, network] = likeness(maps, drawn)
            before_training = position if step.trained_parts else before_training
            if network == 0 and (step.trained_parts or position == len(names) - 1):
                kept[step.stage] = drawn
                if shapley is not None:
                    values = shapley_values(step.model, shapley.sites, settings=shapley.settings, changed=step.fitting)
                    agreement[step.stage] = likeness(shapley.values, values)
                    tops[step.stage] = same_top(shapley.values, values)
    return Randomisation(
        stages=names,
        likeness=found,
        before_training=before_training,
        untrained=kept,
        stains=agreement,
        same_top=tops,
    )
