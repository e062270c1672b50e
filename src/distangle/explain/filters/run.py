"""Analysis of the 1x1 filters of a run, and of the claim on two layers."""

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
    """How filters are examined; written beside what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float = Field(default=0.25, gt=0, description="coefficient of variation of a nearly constant filter")
    flat: float = Field(default=0.1, gt=0, description="share of the layer's spread up to which a filter is one colour")
    duplicate: float = Field(default=0.95, gt=0, le=1, description="cosine from which two filters are duplicates")
    n_draws: int = Field(default=39, ge=1, description="sets of shuffled and of initial weights of a shown layer")
    n_draws_others: int = Field(default=5, ge=1, description="the same of every other layer")
    n_random: int = Field(default=2, ge=0, description="random prunings beside each one that is suggested")
    seed: int = Field(default=0, description="of all draws")

    @property
    def thresholds(self) -> Thresholds:
        """What counts as a band, and as a duplicate."""
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

    Pruning is tested where a screen is given.

    Args:
        run: A finished run.
        screen: Its screen, to predict the held-out sites without the filters that could be left out; None: not tried.
        layers: Whose weights to keep for a figure; None for those of Fig. 10, or the nearest this network has.
        settings: None for the defaults.
        advance: Called after every layer and every prediction.

    Raises:
        RunError: The run is not finished.
        ExplanationError: No such layer.
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
        shown=[layer.name for layer in figure_layers],
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
        model: Whose.
        settings: Thresholds and draws.
        figure_layers: Layers with more draws: their p-values are read, of the others only how they rank.
        advance: Called after every layer.

    Returns:
        The `layers` of `FilterBands`, from input to output.
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
    """Draw shuffled weights, and normal ones as before training.

    The norm before them stays as it is.

    Initial weights are given up to a factor, which no number here depends on.
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

    The rank counts what is more banded than the layer's own shuffled weights.
    """
    dense = [row for row in measurements if row["dense"]]
    if not dense:
        return None
    names = list(PRINTED) if {row["layer"] for row in dense} >= set(PRINTED) else list(figure_layers)
    ranks: dict[str, dict[str, dict[str, int]]] = {}
    for kind in ("printed", "gamma"):
        of_kind = [row for row in dense if row["weights"] == kind]
        for number, sign in MORE_BANDED.items():
            # Wide layers have smaller cosines by themselves: what counts is the excess over their shuffled weights.
            excess = {
                row["layer"]: sign * (row[number]["value"] - row[number]["shuffled"]["random"]) for row in of_kind
            }
            ranks.setdefault(kind, {})[number] = {
                name: 1 + sum(other > excess[name] + 1e-12 for other in excess.values()) for name in names
            }
    return {"layers": names, "of": len({row["layer"] for row in dense}), "printed_names": names == list(PRINTED)} | {
        "rank": ranks
    }
