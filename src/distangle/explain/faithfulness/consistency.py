"""Compare the maps of a site over networks, augmentations and targets."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distangle.errors import ExplanationError
from distangle.explain.channels.coalition_outputs import ShapleySettings
from distangle.explain.faithfulness.map_similarity import (
    MapMethod,
    SiteShapley,
    map_method,
    maps_of,
    mean_of_random,
    random_similarity,
    same_top,
    shapley_values,
    similarity,
)
from distangle.explain.sites import ExplainedSites, NetworkSites, SiteBatch
from distangle.images import N_VIEWS, invert_augmentation
from distangle.model import PerturbationClassifier

SITE = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site")


def examine_seeds(
    networks: Sequence[NetworkSites],
    *,
    rng: np.random.Generator,
    method: MapMethod | None = None,
    n_shapley_sites: int = 4,
    batch_size: int = 16,
    shapley: ShapleySettings | None = None,
) -> dict[str, Any]:
    """Compare maps and channel scores of networks that differ in their seed.

    All networks explain the targets of the first one. With a network trained on shuffled labels, the result shows how
    much of a map depends on correct labels.

    Args:
        networks: At least two, each with the same sites in the same order and the same perturbations.
        rng: Random generator for the random maps.
        method: Attribution method to examine; None for Grad-CAM of the pooled maps.
        n_shapley_sites: Number of sites, from the first, whose Shapley values are compared.
        batch_size: Sites in one call of the method.
        shapley: How channels are removed; None for the defaults.

    Returns:
        For JSON: `networks`, `sites`; `similarity`: the `mean` similarity, that of each pair (`pairs`), and `null`
        [low, high], the central 95 % of random smooth maps; `top_channel`: `sites`, the `same` share over pairs and its
        `chance`.

    Raises:
        ExplanationError: There are fewer than two networks, or their sites or perturbations differ.
    """
    method = method or map_method()
    aligned = _align_sites(networks)
    maps = [maps_of(method, model, sites, batch_size=batch_size) for model, sites in aligned]
    if len({network_maps.shape for network_maps in maps}) > 1:
        raise ExplanationError(
            f"The maps of the networks have different shapes ({[network_maps.shape[1:] for network_maps in maps]}), so "
            "they cannot be compared. Compare runs with the same architecture and preprocessing."
        )
    shapley = shapley or ShapleySettings()
    pairs = list(combinations(range(len(maps)), 2))
    similarities = [float(similarity(maps[a], maps[b]).mean()) for a, b in pairs]
    null = random_similarity(grid=(maps[0].shape[1], maps[0].shape[2]), rng=rng)
    low, high = mean_of_random(null, n_sites=len(maps[0]), rng=rng)
    result: dict[str, Any] = {
        "networks": len(aligned),
        "sites": len(maps[0]),
        "similarity": {"mean": float(np.mean(similarities)), "pairs": similarities, "null": [low, high]},
        "top_channel": None,
    }
    n_few = min(n_shapley_sites, len(maps[0]))
    if n_few:
        values = [shapley_values(model, sites.take(range(n_few)), settings=shapley) for model, sites in aligned]
        same = float(np.mean([same_top(values[a], values[b]).mean() for a, b in pairs]))
        result["top_channel"] = {"sites": n_few, "same": same, "chance": 1 / values[0].shape[1]}
    return result


def similarity_of_augmentations(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    batch_size: int = 16,
) -> Float[np.ndarray, "augmentation site"]:
    """Return the similarity of the maps of an image and of its augmentations.

    The augmentations show the same cells, so their maps, transformed back, should equal the map of the image.

    Args:
        model: The network that the method explains.
        sites: Sites of the maps.
        maps: Maps of the original images by the same method.
        method: Attribution method to examine.
        batch_size: Sites in one call of the method.
    """
    similarities = []
    for number in range(1, N_VIEWS):
        augmented_maps = maps_of(
            method, model, sites, batch_size=batch_size, transform=partial(augment_batch, number=number)
        )
        similarities.append(similarity(maps, np.ascontiguousarray(invert_augmentation(augmented_maps, number))))
    return np.stack(similarities)


def shapley_of_augmentations(
    model: PerturbationClassifier, shapley: SiteShapley, *, numbers: tuple[int, ...]
) -> Float[np.ndarray, "image few channel"]:
    """Return the Shapley values of the original image and of some augmentations.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        shapley: Shapley values of the original images.
        numbers: Numbers of the augmentations, 1 to 7.
    """
    augmented = [
        shapley_values(model, shapley.sites, settings=shapley.settings, transform=partial(augment_batch, number=number))
        for number in numbers
    ]
    return np.stack([shapley.values, *augmented])


def augment_batch(batch: SiteBatch, *, number: int) -> SiteBatch:
    """Return the batch with every image and baseline image augmented.

    The augmentations are those of `images.augment`.
    """
    controls, other_wells = (
        None if replacement is None else _transform(replacement, number)
        for replacement in (batch.controls, batch.other_wells)
    )
    return dataclasses.replace(
        batch, images=_transform(batch.images, number), controls=controls, other_wells=other_wells
    )


def similarity_to_other_targets(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    rng: np.random.Generator,
    n_targets: int = 3,
    batch_size: int = 16,
) -> Float[np.ndarray, "draw site"] | None:
    """Return the similarity of the maps for the targets and for other perturbations.

    The targets change after the training. `examine_seeds` compares with a network trained on shuffled labels.

    Args:
        model: The network that the method explains.
        sites: Sites of the maps.
        maps: Maps for the targets of the sites by the same method.
        method: Attribution method to examine.
        rng: Random generator for the other targets.
        n_targets: Number of other targets per site, drawn with replacement.
        batch_size: Sites in one call of the method.

    Returns:
        None for a network with a single perturbation.
    """
    n_outputs = model.config.n_perturbations
    if n_outputs < 2:
        return None
    similarities = []
    for _ in range(n_targets):
        steps = torch.from_numpy(rng.integers(1, n_outputs, len(sites)))
        other = dataclasses.replace(sites, targets=(sites.targets + steps) % n_outputs)
        similarities.append(similarity(maps, maps_of(method, model, other, batch_size=batch_size)))
    return np.stack(similarities)


def _align_sites(networks: Sequence[NetworkSites]) -> list[NetworkSites]:
    """Return the sites of every network with the targets of the first network."""
    if len(networks) < 2:
        raise ExplanationError(f"{len(networks)} network(s) to compare; expected at least two, each with its sites.")
    first = networks[0].sites
    names = [first.perturbations[int(target)] for target in first.targets]
    aligned = []
    for position, (model, sites) in enumerate(networks):
        sites.check_model(model)
        if _site_keys(sites) != _site_keys(first):
            raise ExplanationError(
                f"Network {position + 1} has other sites than the first ({len(sites)} and {len(first)}). Open "
                "both runs with the same rows of the screen."
            )
        unknown = sorted(set(names) - set(sites.perturbations))
        if unknown:
            raise ExplanationError(f"Network {position + 1} has no output for {unknown[:3]}, which the first explains.")
        outputs = list(sites.perturbations)
        targets = first.targets.new_tensor([outputs.index(name) for name in names])
        aligned.append(NetworkSites(model, dataclasses.replace(sites, targets=targets)))
    return aligned


def _site_keys(sites: ExplainedSites) -> list[tuple[str, ...]]:
    columns = [name for name in SITE if name in sites.table.columns]
    return list(sites.table[columns].astype(str).itertuples(index=False, name=None))


def _transform(images: Tensor, number: int) -> Tensor:
    images = images.transpose(2, 3) if number & 4 else images
    images = images.flip(2) if number & 1 else images
    return images.flip(3) if number & 2 else images
