"""Randomize the weights of a network, and compare maps and channel scores."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distangle.explain.faithfulness.map_similarity import (
    MapMethod,
    SiteShapley,
    maps_of,
    same_top,
    shapley_values,
    similarity,
)
from distangle.explain.sites import ExplainedSites, SiteBatch, freeze
from distangle.model import PerturbationClassifier, build_classifier

TEMPLATES = ("linear_templates", "cosine_templates")
MAX_CHILD_SHARE = 0.9  # of the backbone's parameters; a larger child is randomized child by child


@dataclass(frozen=True, kw_only=True)
class RandomizedNetwork:
    """A copy of the network with some of its parts randomized.

    Attributes:
        stage: Name of the last randomized part, such as `features.layer4`.
        model: The copy; the next stage changes it further.
        parts: Names of all parts randomized so far, as prefixes of parameter names.
        trained_parts: Whether exactly the trained parts are randomized: the network before training.
    """

    stage: str
    model: PerturbationClassifier
    parts: tuple[str, ...]
    trained_parts: bool

    def adapt(self, batch: SiteBatch) -> SiteBatch:
        """Return the batch with norm statistics and references of the copy.

        The plate statistics of a randomized part belong to other weights, so the part keeps its initial statistics. The
        references of a randomized backbone are computed from the controls of the batch; without controls they are 0.
        """
        bn_statistics = batch.bn_statistics
        if bn_statistics is not None:
            bn_statistics = {
                name: _initial_statistics(name, values) if self._is_new(name) else values
                for name, values in bn_statistics.items()
            }
        references = batch.references
        if references is not None and any(part.startswith("backbone.") for part in self.parts):
            references = self._references(dataclasses.replace(batch, bn_statistics=bn_statistics), references)
        return dataclasses.replace(batch, bn_statistics=bn_statistics, references=references)

    def _is_new(self, name: str) -> bool:
        return any(name.startswith(f"{part}.") for part in self.parts)

    def _references(self, batch: SiteBatch, references: Tensor) -> Tensor:
        if batch.controls is None:
            return torch.zeros_like(references)
        with freeze(self.model), torch.no_grad(), batch.plate_statistics(self.model):
            numbers = self.model.image_features(self.model.pool(self.model.feature_maps(batch.controls)))
        offsets = numbers.to(references).expand(len(references), -1)
        scales = references.new_zeros(len(references), references.shape[1] - offsets.shape[1])
        return torch.cat([offsets, scales], 1)


@dataclass(frozen=True, kw_only=True)
class RandomizationResult:
    """Similarity of the maps of a network and of its randomized copies.

    Attributes:
        stages: Names of the parts in the order of their randomization, which is cumulative.
        similarity: Spearman's correlation over positions with the map of the network, in [-1, 1].
        before_training: Position of the stage after which all trained parts are randomized.
        untrained_maps: Maps of the first copy by stage: at `before_training` and at the last stage.
        shapley_similarity: At these stages, for a few sites, the rank correlation of the Shapley values with those of
            the network.
        same_top: For the same sites, 1 if the top channel is the same, else 0.
    """

    stages: tuple[str, ...]
    similarity: Float[np.ndarray, "stage network site"]
    before_training: int
    untrained_maps: dict[str, Float[np.ndarray, "site rows columns"]]
    shapley_similarity: dict[str, Float[np.ndarray, " few"]]
    same_top: dict[str, Float[np.ndarray, " few"]]


def stages_of(model: PerturbationClassifier) -> list[tuple[str, tuple[str, ...]]]:
    """Return the name and tensor prefixes of each part, from output to input."""
    stages: list[tuple[str, tuple[str, ...]]] = [("templates", TEMPLATES), ("neck", ("neck",))]
    layers = dict(model.backbone.features.named_children())
    size = {name: sum(p.numel() for p in part.parameters()) for name, part in layers.items()}
    for name, part in reversed(layers.items()):
        children = dict(part.named_children())
        if size[name] > MAX_CHILD_SHARE * sum(size.values()) and len(children) > 1:
            paths = [f"features.{name}.{child}" for child in reversed(children)]
        else:
            paths = [f"features.{name}"] if size[name] else []
        stages += [(path, (f"backbone.{path}",)) for path in paths]
    return stages


def cascade(model: PerturbationClassifier, *, seed: int) -> Iterator[RandomizedNetwork]:
    """Randomize the parts of a copy of the network, from its output to its input.

    The values are initial values (`build_classifier`): random weights, norms that are the identity.

    Source: Adebayo et al. 2018, arXiv:1810.03292.

    Args:
        model: The network to copy.
        seed: Equal seeds give equal networks.
    """
    randomized = copy.deepcopy(model)
    fresh = build_classifier(model.config, seed=seed).state_dict()
    stages, parts = stages_of(model), tuple[str, ...]()
    for position, (stage, prefixes) in enumerate(stages):
        parts += prefixes
        tensors = {name: value for name, value in fresh.items() if name.startswith(tuple(f"{p}." for p in prefixes))}
        randomized.load_state_dict(tensors, strict=False)
        is_last_trained = stage == "neck" if model.config.freeze_backbone else position == len(stages) - 1
        yield RandomizedNetwork(stage=stage, model=randomized, parts=parts, trained_parts=is_last_trained)


def model_randomization(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    rng: np.random.Generator,
    shapley: SiteShapley | None = None,
    n_networks: int = 2,
    batch_size: int = 16,
) -> RandomizationResult:
    """Randomize a copy of the network part by part and compare its maps and channels.

    A map that does not change comes from the image or the architecture, not from the training.

    Source: Adebayo et al. 2018, arXiv:1810.03292, the cascading randomisation.

    Args:
        model: The network; copies of it are changed.
        sites: Sites of the maps.
        maps: Maps of the network by the same method.
        method: Attribution method to examine.
        rng: Random generator for the weights.
        shapley: Shapley values to compare with at the last stages; None for no comparison.
        n_networks: Number of copies with different weights.
        batch_size: Sites in one call of the method.
    """
    names = tuple(name for name, _ in stages_of(model))
    similarities = np.zeros((len(names), n_networks, len(sites)))
    before_training = len(names) - 1
    untrained_maps: dict[str, np.ndarray] = {}
    agreement: dict[str, np.ndarray] = {}
    top_agreement: dict[str, np.ndarray] = {}
    for network, seed in enumerate(rng.integers(2**31, size=n_networks)):
        for position, randomized in enumerate(cascade(model, seed=int(seed))):
            maps_of_copy = maps_of(method, randomized.model, sites, batch_size=batch_size, transform=randomized.adapt)
            similarities[position, network] = similarity(maps, maps_of_copy)
            before_training = position if randomized.trained_parts else before_training
            if network == 0 and (randomized.trained_parts or position == len(names) - 1):
                untrained_maps[randomized.stage] = maps_of_copy
                if shapley is not None:
                    values = shapley_values(
                        randomized.model, shapley.sites, settings=shapley.settings, transform=randomized.adapt
                    )
                    agreement[randomized.stage] = similarity(shapley.values, values)
                    top_agreement[randomized.stage] = same_top(shapley.values, values)
    return RandomizationResult(
        stages=names,
        similarity=similarities,
        before_training=before_training,
        untrained_maps=untrained_maps,
        shapley_similarity=agreement,
        same_top=top_agreement,
    )


def _initial_statistics(name: str, values: Sequence[float] | Tensor) -> Tensor:
    template = torch.as_tensor(values)
    return torch.ones_like(template) if name.endswith(".variance") else torch.zeros_like(template)
