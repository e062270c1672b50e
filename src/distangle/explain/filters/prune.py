"""Filters that could be left out of a network, and the network without them."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from distangle.errors import ExplanationError
from distangle.explain.filters.bands import Thresholds, are_bands, duplicate_groups
from distangle.explain.filters.layers import FilterLayer, filter_layers
from distangle.explain.templates.geometry import cosines
from distangle.model import PerturbationClassifier

Kind = Literal["merge_duplicates", "zero_bands"]


@dataclass(frozen=True)
class Removal:
    """A filter to be left out.

    Attributes:
        layer: Name of its layer.
        filter: Which one, from 0.
        into: The filter that takes over what it gave to the next layer, and how much of it; None where nobody does.
    """

    layer: str
    filter: int
    into: tuple[int, float] | None = None


def suggest_removals(layers: Sequence[FilterLayer], kind: Kind, thresholds: Thresholds) -> list[Removal]:
    """Return duplicate and banded filters of layers that can be pruned.

    Leaving a filter out means that the next convolution no longer listens to it. Filters are compared with the norm
    before them folded in, where there is one.

    Args:
        layers: Those without a norm, a ReLU and a convolution behind them are passed over.
        kind: What to suggest.
        thresholds: What counts as such.
    """
    found: list[Removal] = []
    for layer in layers:
        if layer.behind is None:
            continue
        folded = layer.folded()
        filters = layer.filters if folded is None else folded
        if kind == "zero_bands":
            found += [Removal(layer.name, int(k)) for k in np.flatnonzero(are_bands(filters, thresholds))]
            continue
        first = duplicate_groups(cosines(filters), above=thresholds.duplicate)
        for k in np.flatnonzero(first != np.arange(len(first))):
            kept = int(first[k])
            found.append(Removal(layer.name, int(k), into=(kept, _share(layer, int(k), kept))))
    return found


def _share(layer: FilterLayer, removed: int, kept: int) -> float:
    """Return the share of the kept filter's output that best replaces the other.

    Outputs are compared behind norm and ReLU.

    Both filters look in one direction, so the norm makes one standardised map of both; only gamma and beta differ.
    The share has the least squared error over a standard normal map, and is exact where they are proportional.
    """
    norm = layer.behind[0]  # type: ignore[index]
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)

    def output(k: int) -> np.ndarray:
        gain, shift = (float(tensor[k]) for tensor in (norm.weight.detach(), norm.bias.detach()))
        return np.maximum(gain * nodes + shift, 0.0)

    of_kept, of_removed = output(kept), output(removed)
    power = float(weights @ np.square(of_kept))
    return float(weights @ (of_kept * of_removed)) / power if power > 0 else 0.0


def random_removals(
    layers: Sequence[FilterLayer], removals: Sequence[Removal], rng: np.random.Generator
) -> list[Removal]:
    """Draw as many random filters of each layer, without replacements.

    Args:
        layers: Those of the removals.
        removals: What is to be matched.
        rng: Equal generators give equal draws.
    """
    found = []
    for layer in layers:
        n = sum(one.layer == layer.name for one in removals)
        chosen = rng.choice(layer.convolution.out_channels, size=n, replace=False)
        found += [Removal(layer.name, int(k)) for k in np.sort(chosen)]
    return found


@contextlib.contextmanager
def pruned(model: PerturbationClassifier, removals: Sequence[Removal]) -> Iterator[None]:
    """Leave filters out of a network; put its weights back afterwards.

    Args:
        model: Changed in place.
        removals: Of layers with a convolution behind them.

    Raises:
        ExplanationError: A layer has none.
    """
    layers = {layer.name: layer for layer in filter_layers(model)}
    before: dict[str, torch.Tensor] = {}
    try:
        with torch.no_grad():
            for one in removals:
                behind = layers[one.layer].behind
                if behind is None:
                    raise ExplanationError(
                        f"{one.layer} has no norm, ReLU and convolution of its own behind it, so its filters cannot be "
                        "left out one by one. Those of dense layers and of bottlenecks (conv1) can."
                    )
                weight = behind[1].weight
                before.setdefault(one.layer, weight.clone())
                if one.into is not None:
                    kept, share = one.into
                    weight[:, kept] += share * weight[:, one.filter]
            for one in removals:
                layers[one.layer].behind[1].weight[:, one.filter] = 0  # type: ignore[index]
        yield
    finally:
        with torch.no_grad():
            for name, weight in before.items():
                layers[name].behind[1].weight.copy_(weight)  # type: ignore[index]
