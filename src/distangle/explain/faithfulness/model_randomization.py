"""Copies of a network with random weights, from the output to the input.

Model randomisation: whether maps and channel scores follow the weights.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distangle.explain.faithfulness.similarity import (
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
LARGEST_SHARE = 0.9  # of the backbone's parameters in one child: it is taken child by child


@dataclass(frozen=True, kw_only=True)
class RandomizedNetwork:
    """A copy of the network after one more of its parts was drawn anew.

    Attributes:
        stage: Name of that part, such as `features.layer4`.
        model: The copy; the next stage changes it further.
        parts: Names of all parts drawn anew so far, as prefixes of parameter names.
        trained_parts: Whether all parts that training changes are new now, and no other: the network before training.
    """

    stage: str
    model: PerturbationClassifier
    parts: tuple[str, ...]
    trained_parts: bool

    def fitting(self, piece: SiteBatch) -> SiteBatch:
        """Return the piece as the copy takes it.

        Norm statistics lent for a part that is new were those of other weights, so the part keeps its fresh ones. What
        a new backbone says of untreated sites is asked of the piece's controls; where there are none, nothing is
        subtracted.
        """
        lent = piece.lent
        if lent is not None:
            lent = {name: _fresh(name, values) if self._is_new(name) else values for name, values in lent.items()}
        references = piece.references
        if references is not None and any(part.startswith("backbone.") for part in self.parts):
            references = self._references(dataclasses.replace(piece, lent=lent), references)
        return dataclasses.replace(piece, lent=lent, references=references)

    def _is_new(self, name: str) -> bool:
        return any(name.startswith(f"{part}.") for part in self.parts)

    def _references(self, piece: SiteBatch, references: Tensor) -> Tensor:
        if piece.controls is None:
            return torch.zeros_like(references)
        with freeze(self.model), torch.no_grad(), piece.norms_of_plate(self.model):
            numbers = self.model.image_features(self.model.pool(self.model.feature_maps(piece.controls)))
        offsets = numbers.to(references).expand(len(references), -1)
        scales = references.new_zeros(len(references), references.shape[1] - offsets.shape[1])
        return torch.cat([offsets, scales], 1)


def stages_of(model: PerturbationClassifier) -> list[tuple[str, tuple[str, ...]]]:
    """Return the name and tensor prefixes of each part, from the output to the input."""
    stages: list[tuple[str, tuple[str, ...]]] = [("templates", TEMPLATES), ("neck", ("neck",))]
    inside = dict(model.backbone.features.named_children())
    size = {name: sum(p.numel() for p in part.parameters()) for name, part in inside.items()}
    for name, part in reversed(inside.items()):
        children = dict(part.named_children())
        if size[name] > LARGEST_SHARE * sum(size.values()) and len(children) > 1:
            paths = [f"features.{name}.{child}" for child in reversed(children)]
        else:
            paths = [f"features.{name}"] if size[name] else []
        stages += [(path, (f"backbone.{path}",)) for path in paths]
    return stages


def cascade(model: PerturbationClassifier, *, seed: int) -> Iterator[RandomizedNetwork]:
    """Randomise the parts of a copy of the network, from its output to its input.

    Values are drawn as before a training (`build_classifier`): weights random, norms the identity.

    Source: Adebayo et al. 2018, arXiv:1810.03292.

    Args:
        model: What is copied.
        seed: Equal seeds give equal networks.
    """
    changed = copy.deepcopy(model)
    fresh = build_classifier(model.config, seed=seed).state_dict()
    stages, parts = stages_of(model), tuple[str, ...]()
    for position, (stage, prefixes) in enumerate(stages):
        parts += prefixes
        tensors = {name: value for name, value in fresh.items() if name.startswith(tuple(f"{p}." for p in prefixes))}
        changed.load_state_dict(tensors, strict=False)
        last_trained = stage == "neck" if model.config.freeze_backbone else position == len(stages) - 1
        yield RandomizedNetwork(stage=stage, model=changed, parts=parts, trained_parts=last_trained)


def _fresh(name: str, values: Sequence[float] | Tensor) -> Tensor:
    like = torch.as_tensor(values)
    return torch.ones_like(like) if name.endswith(".variance") else torch.zeros_like(like)


@dataclass(frozen=True, kw_only=True)
class RandomizationResult:
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


def model_randomization(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    method: MapMethod,
    rng: np.random.Generator,
    shapley: SiteShapley | None = None,
    n_networks: int = 2,
    at_once: int = 16,
) -> RandomizationResult:
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
            found[position, network] = similarity(maps, drawn)
            before_training = position if step.trained_parts else before_training
            if network == 0 and (step.trained_parts or position == len(names) - 1):
                kept[step.stage] = drawn
                if shapley is not None:
                    values = shapley_values(step.model, shapley.sites, settings=shapley.settings, changed=step.fitting)
                    agreement[step.stage] = similarity(shapley.values, values)
                    tops[step.stage] = same_top(shapley.values, values)
    return RandomizationResult(
        stages=names,
        likeness=found,
        before_training=before_training,
        untrained=kept,
        stains=agreement,
        same_top=tops,
    )
