"""Select sites of a benchmark and apply every explanation method."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from distangle.errors import ExplanationError
from distangle.explain.channels.coalition_outputs import ShapleySettings
from distangle.explain.channels.map_scores import Scaling, channel_attention, inverse_attention, map_channel_correlation
from distangle.explain.channels.replacement import Removal
from distangle.explain.channels.scores import channel_scores
from distangle.explain.context import ExplanationContext
from distangle.explain.ground_truth import PlantedCircle
from distangle.explain.maps.api import PIXEL_METHODS, attribution_map
from distangle.explain.maps.attribution_map import Head, Method
from distangle.explain.selection import explainable_sites
from distangle.explain.sites import ExplainedSites, NetworkSites, SiteBatch
from distangle.explain.summary import wells_of
from distangle.images import ImageCache
from distangle.inference import store_of
from distangle.model import (
    PerturbationClassifier,
    build_classifier,
    measure_features_of_controls,
    reference_wells,
    set_prior,
)
from distangle.results import Predictions, RunFolder
from distangle.screen import TRAIN, Screen
from distangle.synthetic import Truth

BATCH_SIZE = 16


class MethodMaps(NamedTuple):
    """Maps of one method, [site, height, width], and their layer."""

    maps: np.ndarray
    layer: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkSites:
    """Sites of a benchmark with their planted effects.

    Attributes:
        sites: Sites with their true perturbation as target; only those for which the trained network predicts the site
            or its well correctly.
        site_is_correct: Whether the site is predicted correctly.
        well_is_correct: Whether its well is predicted correctly.
        channel: Index of the planted channel per site; -1 for several or no planted channels.
        regions: Row of the table to the circle of the effect.
        removal: What replaces an absent channel.
        rows: Positions of the sites in the screen.
    """

    sites: ExplainedSites
    site_is_correct: np.ndarray
    well_is_correct: np.ndarray
    channel: np.ndarray
    regions: Mapping[int, PlantedCircle]
    removal: Removal
    rows: Sequence[int]


def scores_by_method(
    model: PerturbationClassifier, sites: ExplainedSites, *, removal: Removal, layer: str | None, head: Head
) -> dict[str, np.ndarray]:
    """Return the channel scores of every method, [site, channel] by name.

    The planted channel should score highest. `eq15` is Eq. (15) as the paper reads it; `eq15_inverse` is its
    reciprocal, so the channel nearest to the map scores highest.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: Sites to explain, with `controls` for `removal="control"`.
        removal: What replaces an absent channel.
        layer: Layer of the Grad-CAM map for Eq. (15) and the correlation.
        head: Head of the output that this map explains.
    """
    device = next(model.parameters()).device
    scaling: Scaling = "raw255" if sites.raw.dtype == np.uint8 else "min_max"
    targets = torch.unique(sites.targets)

    def score(batch: SiteBatch) -> dict[str, np.ndarray]:
        maps = attribution_map(model, batch, layer=layer, head=head, size=sites.size).maps.cpu().numpy()
        scores = channel_scores(model, batch, targets=targets, settings=ShapleySettings(removal=removal))
        raw = sites.raw[list(batch.rows)]
        literal = channel_attention(maps, raw, scaling=scaling)
        return {
            "shapley": scores["shapley"],
            "ablation": scores["ablation"],
            "correlation": map_channel_correlation(maps, raw),
            "eq15": literal,
            "eq15_inverse": inverse_attention(literal),
        }

    return sites.map(score, batch_size=BATCH_SIZE, device=device)


def maps_by_method(
    model: PerturbationClassifier, sites: ExplainedSites, *, method: Method, layer: str | None, head: Head
) -> MethodMaps:
    """Draw the maps of one method at the size of the images.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: Sites to explain.
        method: A name of `MAP_METHODS`.
        layer: Layer of the maps; ignored by methods at the pixels.
        head: Head whose output is explained.
    """
    layers: list[str] = []

    def draw(batch: SiteBatch) -> dict[str, np.ndarray]:
        attribution = attribution_map(
            model, batch, method=method, layer=None if method in PIXEL_METHODS else layer, head=head, size=sites.size
        )
        layers.append(attribution.layer)
        return {"maps": attribution.maps.cpu().numpy()}

    maps = sites.map(draw, batch_size=BATCH_SIZE, device=next(model.parameters()).device)["maps"]
    return MethodMaps(maps, layers[-1])


def planted_rows(run: RunFolder, truth: Truth, *, n_sites: int | None) -> list[int]:
    """Return positions of readable held-out sites with a planted effect.

    The perturbations take turns. If the run held nothing out, these are training sites.

    Args:
        run: A run that has been predicted.
        truth: The planted truth.
        n_sites: Maximum number of sites, local effects first; None for all.

    Raises:
        ExplanationError: No site has a planted effect.
    """
    table = Predictions.read(run.predictions, level="site", views=1, with_logits=False).table
    planted = {name for name, effect in truth.perturbations.items() if effect.channels}
    local = {name for name, effect in truth.perturbations.items() if effect.local}
    eligible = explainable_sites(table) & table["perturbation"].isin(list(planted))
    if not eligible.any():
        raise ExplanationError(
            "No held-out site has a planted effect, so there is nothing to find. Benchmark a run that learned the "
            "perturbations of a synthetic screen; `distangle simulate` or `distangle demo` makes one."
        )
    order = table[eligible].assign(_row=np.flatnonzero(eligible.to_numpy()))
    order["_turn"] = order.sort_values(["Metadata_Site", "_row"]).groupby("perturbation").cumcount()
    order["_wide"] = ~order["perturbation"].isin(list(local))
    order = order.sort_values(["_turn", "_wide", "perturbation"], kind="stable")
    return sorted(order["_row"].head(n_sites or len(order)).tolist())


def select_benchmark_sites(
    context: ExplanationContext, rows: Sequence[int], *, correct_wells: Collection[str]
) -> BenchmarkSites:
    """Keep correctly predicted sites with their planted effects.

    Args:
        context: The run, loaded at `rows`.
        rows: Result of `planted_rows`.
        correct_wells: Names (`wells_of`) of the correctly predicted wells.

    Raises:
        ExplanationError: The run did not learn perturbations, a site is no longer readable, or none is predicted
            correctly.
    """
    if context.channels_of is None:
        raise ExplanationError(
            f"The run learned {context.card.target!r}, but the planted truth is about perturbations. Benchmark a run "
            "that learned perturbations."
        )
    sites = context.sites
    if len(sites) != len(rows):
        raise ExplanationError(
            f"{len(rows) - len(sites)} of {len(rows)} sites with a planted effect can no longer be read. Predict the "
            "run again."
        )
    site_is_correct = (sites.table["predicted"] == sites.table["perturbation"]).to_numpy()
    well_is_correct = np.array([name in correct_wells for name in wells_of(sites.table)])
    selected = np.flatnonzero(site_is_correct | well_is_correct).tolist()
    if not selected:
        raise ExplanationError(
            f"The network predicts none of {len(rows)} held-out sites with a planted effect correctly, so there is "
            "nothing to explain. Train longer, or simulate stronger effects."
        )
    correct_sites = sites.take(selected)
    index = {name: k for k, name in enumerate(correct_sites.perturbations)}
    channels = [list(context.channels_of.get(name, ())) for name in correct_sites.table["perturbation"]]
    regions = context.regions or {}
    return BenchmarkSites(
        sites=replace(
            correct_sites, targets=torch.tensor([index[name] for name in correct_sites.table["perturbation"]])
        ),
        site_is_correct=site_is_correct[selected],
        well_is_correct=well_is_correct[selected],
        channel=np.array([planted[0] - 1 if len(planted) == 1 else -1 for planted in channels]),
        regions={new: regions[old] for new, old in enumerate(selected) if old in regions and site_is_correct[old]},
        removal=context.removal,
        rows=[rows[old] for old in selected],
    )


def untrained_copy(
    context: ExplanationContext, benchmark: BenchmarkSites, run: RunFolder, screen: Screen, *, seed: int
) -> NetworkSites:
    """Return a network with random weights, and the sites with its own references.

    Its norms use their initial statistics (mean 0, variance 1) on every plate. The prior of its references is estimated
    from the training wells, as for the trained network.

    Args:
        context: The run, loaded.
        benchmark: Sites of the benchmark.
        run: Folder of the run.
        screen: The screen of the run.
        seed: Seed of the weights.
    """
    device = next(context.model.parameters()).device
    model = build_classifier(context.model.config, seed=seed).to(device).eval()
    references = benchmark.sites.references
    if references is not None:
        store = store_of(run, screen, context.card)
        try:
            references = _references(model, store, benchmark.rows)
        finally:
            store.close()
    return NetworkSites(model, replace(benchmark.sites, references=references, norms=None))


def _references(model: PerturbationClassifier, store: ImageCache, rows: Sequence[int]) -> torch.Tensor:
    """Return the references of an untrained network, float32 [row, reference]."""
    screen, all_rows = store.screen, np.arange(len(store.screen.sites))
    training = all_rows if store.fold is None else np.flatnonzero(store.fold == TRAIN)
    wells = reference_wells(
        screen,
        np.union1d(training, rows),
        model.config.correction,
        lambda members: measure_features_of_controls(model, store, members),
        fold=store.fold,
        training_rows=training,
    )
    set_prior(model, wells)
    return torch.from_numpy(wells.of(np.asarray(rows)))
