"""The randomisation test: do maps and stains change when the weights that made them are drawn anew?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from distangle.explain.chosen import ChosenSites
from distangle.explain.faithfulness.likeness import likeness
from distangle.explain.faithfulness.method import MapMethod, maps_of
from distangle.explain.faithfulness.randomised import cascade, stages_of
from distangle.explain.faithfulness.shapley import StainValues, same_top, shapley_values
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
    few: ChosenSites | None = None,
    stains: StainValues | None = None,
    n_networks: int = 2,
    at_once: int = 16,
    most_at_once: int = 64,
) -> Randomisation:
    """Draw a copy of the network anew, part by part from its output, and compare maps and stains after each.

    A map that stays is drawn by the image or by the architecture, not by what was learnt.

    Source: Adebayo et al. 2018, arXiv:1810.03292, the cascading randomisation.

    Args:
        model: Left as it was found.
        sites: Whose maps.
        maps: Of the network, by the same method.
        method: What is examined.
        rng: Of the weights.
        few: Sites whose Shapley values are compared, at the end only: they are dear. None: no sites.
        stains: Their Shapley values of the network.
        n_networks: Copies, each of other weights.
        at_once: Sites in one call of the method.
        most_at_once: Images in one forward pass of the Shapley values.
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
                if few is not None and stains is not None:
                    values = shapley_values(step.model, few, at_once=most_at_once, changed=step.fitting)
                    agreement[step.stage], tops[step.stage] = likeness(stains, values), same_top(stains, values)
    return Randomisation(
        stages=names,
        likeness=found,
        before_training=before_training,
        untrained=kept,
        stains=agreement,
        same_top=tops,
    )
