"""Networks of other seeds, or trained on shuffled labels, on the same sites."""

import dataclasses
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from distangle.errors import ExplanationError
from distangle.explain.chosen import ChosenSites, NetworkSites
from distangle.explain.faithfulness.likeness import likeness, mean_of_random, random_likeness
from distangle.explain.faithfulness.method import MapMethod, map_method, maps_of
from distangle.explain.faithfulness.shapley import same_top, shapley_values
from distangle.explain.stains.answers import Taking

SITE = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site")


def examine_seeds(
    networks: Sequence[NetworkSites],
    *,
    rng: np.random.Generator,
    method: MapMethod | None = None,
    n_shapley_sites: int = 4,
    at_once: int = 16,
    shapley: Taking | None = None,
) -> dict[str, Any]:
    """Compare maps and channel scores of networks that differ in their seed.

    All explain the targets of the first. Given a network trained on shuffled labels instead, the same numbers say how
    much of a map needs the right labels.

    Args:
        networks: At least two, each with the same sites in the same order and the same perturbations.
        rng: Of the random maps beside them.
        method: What is examined; None for Grad-CAM of the pooled maps.
        n_shapley_sites: How many sites' stains are compared; from the first.
        at_once: Sites in one call of the method.
        shapley: How channels are taken away; None for the defaults.

    Returns:
        Ready for JSON: `networks`, `sites`; `likeness`: its `mean`, that of each pair (`pairs`) and `null` [low, high],
        the central 95 % of random smooth maps; `top_stain`: `sites`, the `same` share over pairs and its `chance`.

    Raises:
        ExplanationError: Fewer than two networks, other sites, or other perturbations.
    """
    method = method or map_method()
    shown = _aligned(networks)
    maps = [maps_of(method, model, sites, at_once=at_once) for model, sites in shown]
    if len({one.shape for one in maps}) > 1:
        raise ExplanationError(
            f"The networks have maps of {[one.shape[1:] for one in maps]} places, which cannot be compared. Compare "
            "runs of one architecture and preparation."
        )
    shapley = shapley or Taking()
    pairs = list(combinations(range(len(maps)), 2))
    alike = [float(likeness(maps[a], maps[b]).mean()) for a, b in pairs]
    null = random_likeness(grid=(maps[0].shape[1], maps[0].shape[2]), rng=rng)
    low, high = mean_of_random(null, n_sites=len(maps[0]), rng=rng)
    said: dict[str, Any] = {
        "networks": len(shown),
        "sites": len(maps[0]),
        "likeness": {"mean": float(np.mean(alike)), "pairs": alike, "null": [low, high]},
        "top_stain": None,
    }
    n_few = min(n_shapley_sites, len(maps[0]))
    if n_few:
        stains = [shapley_values(model, sites.take(range(n_few)), settings=shapley) for model, sites in shown]
        same = float(np.mean([same_top(stains[a], stains[b]).mean() for a, b in pairs]))
        said["top_stain"] = {"sites": n_few, "same": same, "chance": 1 / stains[0].shape[1]}
    return said


def _aligned(networks: Sequence[NetworkSites]) -> list[NetworkSites]:
    """Return the same sites for every network, each with the targets of the first."""
    if len(networks) < 2:
        raise ExplanationError(f"{len(networks)} network(s) to compare; give at least two, each with its sites.")
    first = networks[0].sites
    names = [first.perturbations[int(target)] for target in first.targets]
    aligned = []
    for position, (model, sites) in enumerate(networks):
        sites.fit(model)
        if _places(sites) != _places(first):
            raise ExplanationError(
                f"Network {position + 1} was given other sites than the first ({len(sites)} and {len(first)}). Open "
                "both runs with the same rows of the screen."
            )
        unknown = sorted(set(names) - set(sites.perturbations))
        if unknown:
            raise ExplanationError(f"Network {position + 1} has no output for {unknown[:3]}, which the first explains.")
        outputs = list(sites.perturbations)
        targets = first.targets.new_tensor([outputs.index(name) for name in names])
        aligned.append(NetworkSites(model, dataclasses.replace(sites, targets=targets)))
    return aligned


def _places(sites: ChosenSites) -> list[tuple[str, ...]]:
    known = [name for name in SITE if name in sites.table.columns]
    return list(sites.table[known].astype(str).itertuples(index=False, name=None))
