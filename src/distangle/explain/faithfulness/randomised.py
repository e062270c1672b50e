"""Copies of a network with random weights, from the output to the input."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distangle.explain.chosen import Piece
from distangle.explain.frozen import frozen
from distangle.model import PerturbationClassifier, build_classifier

TEMPLATES = ("linear_templates", "cosine_templates")
LARGEST_SHARE = 0.9  # of the backbone's parameters in one child: it is taken child by child


@dataclass(frozen=True, kw_only=True)
class Randomised:
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

    def fitting(self, piece: Piece) -> Piece:
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

    def _references(self, piece: Piece, references: Tensor) -> Tensor:
        if piece.controls is None:
            return torch.zeros_like(references)
        with frozen(self.model), torch.no_grad(), piece.norms_of_plate(self.model):
            numbers = self.model.numbers(self.model.pool(self.model.feature_maps(piece.controls)))
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


def cascade(model: PerturbationClassifier, *, seed: int) -> Iterator[Randomised]:
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
        last_trained = stage == "neck" if model.config.frozen else position == len(stages) - 1
        yield Randomised(stage=stage, model=changed, parts=parts, trained_parts=last_trained)


def _fresh(name: str, values: Sequence[float] | Tensor) -> Tensor:
    like = torch.as_tensor(values)
    return torch.ones_like(like) if name.endswith(".variance") else torch.zeros_like(like)
