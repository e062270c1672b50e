"""Analyze the 1x1 filters of a run, and the claim of Sec. 4.6 on two layers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.progress import Advance, begin_step, no_progress, show_action
from distangle.core.random import rng_for
from distangle.explain.filters.layers import PRINTED, FilterLayer, Filters, choose_layers, filter_layers
from distangle.explain.filters.pruning import prune_effect
from distangle.explain.filters.similarity import MORE_BANDED, Thresholds, compare_with_nulls, shuffle_filters
from distangle.explain.text import filter_sentences
from distangle.inference import open_model
from distangle.model import PerturbationClassifier
from distangle.results import FilterAnalysis, RunFolder
from distangle.screen import Screen


class FilterSettings(BaseModel):
    """Settings of the filter analysis; stored with the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float = Field(default=0.25, gt=0, description="coefficient of variation of a nearly constant filter")
    flat: float = Field(
        default=0.1, gt=0, description="share of the layer's standard deviation up to which a filter looks uniform"
    )
    duplicate: float = Field(default=0.95, gt=0, le=1, description="cosine from which two filters are duplicates")
    n_draws: int = Field(
        default=39, ge=1, description="sets of shuffled and of initial weights for a layer of the figure"
    )
    n_draws_others: int = Field(default=5, ge=1, description="the same for every other layer")
    n_random: int = Field(default=2, ge=0, description="random prunings per suggested pruning")
    seed: int = Field(default=0, description="seed of all draws")

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds for bands and duplicates."""
        return Thresholds(constant=self.constant, flat=self.flat, duplicate=self.duplicate)


def examine_filters(
    run: RunFolder,
    *,
    screen: Screen | None = None,
    layers: Sequence[str] | None = None,
    settings: FilterSettings | None = None,
    advance: Advance = no_progress,
) -> FilterAnalysis:
    """Measure bands and blocks of all 1x1 filters of a run.

    Pruning is tested if a screen is given.

    Args:
        run: A finished run.
        screen: The screen of the run, to predict the held-out sites without redundant filters; None for no pruning.
        layers: Layers whose weights are stored for the figure; None for the layers of Fig. 10, or similar ones.
        settings: None for the defaults.
        advance: Called after every layer and every prediction.

    Raises:
        RunError: The run is not finished.
        ExplanationError: The network has no such layer.
        WeightsError: The weights of the run are damaged.
    """
    settings = settings or FilterSettings()
    model, _ = open_model(run)
    figure_layers = choose_layers(model, layers)
    measurements = survey(model, settings, figure_layers=[layer.name for layer in figure_layers], advance=advance)
    prune = []
    if screen is not None and any(layer.next_layers is not None for layer in filter_layers(model)):
        show_action("predicting without some filters")
        prune = prune_effect(
            run,
            screen,
            thresholds=settings.thresholds,
            n_random=settings.n_random,
            seed=settings.seed,
            advance=advance,
        )
    claim = _claim(measurements, [layer.name for layer in figure_layers])
    weights = {f"{layer.name}|{kind}": array for layer in figure_layers for kind, array in _kinds(layer).items()}
    return FilterAnalysis(
        weights={name: array.astype(np.float32) for name, array in weights.items() if not name.endswith("_over_sd")},
        stored_layers=[layer.name for layer in figure_layers],
        layers=measurements,
        claim=claim,
        prune=prune,
        settings=settings.model_dump(mode="json"),
        sentences=filter_sentences(measurements, [layer.name for layer in figure_layers], claim=claim, prune=prune),
    )


def survey(
    model: PerturbationClassifier,
    settings: FilterSettings,
    *,
    figure_layers: Sequence[str],
    advance: Advance = no_progress,
) -> list[dict[str, Any]]:
    """Return bands and blocks of every 1x1 convolution, with their nulls.

    Args:
        model: The network.
        settings: Thresholds and numbers of draws.
        figure_layers: Layers with more draws, because their p-values are reported.
        advance: Called after every layer.

    Returns:
        The `layers` of a `FilterAnalysis`, from input to output.
    """
    measurements: list[dict[str, Any]] = []
    layers = filter_layers(model)
    begin_step(advance, "filters", len(layers), unit="layer", alike=False)
    for layer in layers:
        for kind, filters in _kinds(layer).items():
            rng = rng_for(settings.seed, "filters", layer.name, kind)
            n_draws = settings.n_draws if layer.name in figure_layers else settings.n_draws_others
            draws = _nulls(layer, kind, n_draws, rng)
            bands = compare_with_nulls(filters, settings.thresholds, nulls=draws)
            n_filters, n_inputs = filters.shape
            description = {"layer": layer.name, "weights": kind, "filters": n_filters, "inputs": n_inputs}
            measurements.append({**description, "dense": layer.is_dense, **bands})
        advance(layer.name)
    return measurements


def _kinds(layer: FilterLayer) -> dict[str, Filters]:
    kinds = {"printed": layer.filters, "gamma": layer.folded(), "gamma_over_sd": layer.folded(spread=True)}
    return {kind: filters for kind, filters in kinds.items() if filters is not None}


def _nulls(layer: FilterLayer, kind: str, n_draws: int, rng: np.random.Generator) -> dict[str, Iterator[Filters]]:
    """Draw shuffled weights, and normal weights as before training.

    The norm before the filters is unchanged. Initial weights are drawn without their scale, which no result depends on.
    """
    own, gain = layer.filters, np.ones(layer.filters.shape[1])
    norm_gain = layer.gain(spread=kind == "gamma_over_sd") if kind != "printed" else None
    gain = gain if norm_gain is None else norm_gain
    return {
        "shuffled": (shuffle_filters(own, rng) * gain for _ in range(n_draws)),
        "initial": (rng.standard_normal(own.shape) * gain for _ in range(n_draws)),
    }


def _claim(measurements: Sequence[Mapping[str, Any]], figure_layers: Sequence[str]) -> dict[str, Any] | None:
    """Rank the layers of Fig. 10 among all dense layers.

    The rank uses the excess over the shuffled weights of each layer.
    """
    dense = [row for row in measurements if row["dense"]]
    if not dense:
        return None
    names = list(PRINTED) if {row["layer"] for row in dense} >= set(PRINTED) else list(figure_layers)
    ranks: dict[str, dict[str, dict[str, int]]] = {}
    for kind in ("printed", "gamma"):
        of_kind = [row for row in dense if row["weights"] == kind]
        for number, sign in MORE_BANDED.items():
            # Wide layers have smaller cosines by construction, so ranks use the excess over their shuffled weights.
            excess = {
                row["layer"]: sign * (row[number]["value"] - row[number]["shuffled"]["random"]) for row in of_kind
            }
            ranks.setdefault(kind, {})[number] = {
                name: 1 + sum(other > excess[name] + 1e-12 for other in excess.values()) for name in names
            }
    return {
        "layers": names,
        "n_total": len({row["layer"] for row in dense}),
        "printed_names": names == list(PRINTED),
    } | {"rank": ranks}
