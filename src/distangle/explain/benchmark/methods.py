"""Channel scores and maps of every method at the sites of a benchmark.

Sites of a benchmark, and what was planted in them.
"""

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
from distangle.explain.maps.api import AT_IMAGE, attribution_map
from distangle.explain.maps.attribution_map import Head, Method
from distangle.explain.selection import requested_sites
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

AT_ONCE = 16


def scores_by_method(
    model: PerturbationClassifier, sites: ExplainedSites, *, removal: Removal, layer: str | None, head: Head
) -> dict[str, np.ndarray]:
    """Return the channel scores of every method, [site, channel] by name.

    The channel that matters should score highest. `eq15` is Eq. (15) as the paper reads it, `eq15_inverse` its
    reciprocal: the nearest channel scores highest.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: With `controls` for `removal="control"`.
        removal: What stands in for an absent stain.
        layer: Of the Grad-CAM map that Eq. (15) and the correlation compare the stains with.
        head: Whose output that map explains.
    """
    device = next(model.parameters()).device
    scaling: Scaling = "raw255" if sites.raw.dtype == np.uint8 else "min_max"
    asked = torch.unique(sites.targets)

    def score(piece: SiteBatch) -> dict[str, np.ndarray]:
        maps = attribution_map(model, piece, layer=layer, head=head, size=sites.size).maps.cpu().numpy()
        scores = channel_scores(model, piece, asked=asked, settings=ShapleySettings(removal=removal))
        raw = sites.raw[list(piece.rows)]
        literal = channel_attention(maps, raw, scaling=scaling)
        return {
            "shapley": scores["shapley"],
            "ablation": scores["ablation"],
            "correlation": map_channel_correlation(maps, raw),
            "eq15": literal,
            "eq15_inverse": inverse_attention(literal),
        }

    return sites.map(score, at_once=AT_ONCE, device=device)


class MethodMaps(NamedTuple):
    """Maps of one method, [site, height, width], and the layer it looked at."""

    maps: np.ndarray
    layer: str


def maps_by(
    model: PerturbationClassifier, sites: ExplainedSites, *, method: Method, layer: str | None, head: Head
) -> MethodMaps:
    """Draw the maps of one method at the size of the images.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: What to explain.
        method: A name of `PLACE_METHODS`.
        layer: Ignored by methods that look at the pixels.
        head: Whose output is explained.
    """
    layers: list[str] = []

    def draw(piece: SiteBatch) -> dict[str, np.ndarray]:
        drawn = attribution_map(
            model, piece, method=method, layer=None if method in AT_IMAGE else layer, head=head, size=sites.size
        )
        layers.append(drawn.layer)
        return {"maps": drawn.maps.cpu().numpy()}

    maps = sites.map(draw, at_once=AT_ONCE, device=next(model.parameters()).device)["maps"]
    return MethodMaps(maps, layers[-1])


@dataclass(frozen=True, kw_only=True)
class BenchmarkSites:
    """Sites of a benchmark and what was planted in them.

    Attributes:
        sites: With their true perturbation as target; only those that the trained network predicts correctly, by
            themselves or as a well.
        site_is_right: Which of them it predicts rightly by themselves.
        well_is_right: Of which of them it predicts the well rightly.
        channel: Index of the one planted channel per site; -1 where several or none are planted.
        places: Row of the table to a circle.
        removal: What stands in for an absent stain.
        rows: Positions of the sites in the screen.
    """

    sites: ExplainedSites
    site_is_right: np.ndarray
    well_is_right: np.ndarray
    channel: np.ndarray
    places: Mapping[int, PlantedCircle]
    removal: Removal
    rows: Sequence[int]


def planted_rows(run: RunFolder, truth: Truth, *, n_sites: int | None) -> list[int]:
    """Return positions of readable held-out sites with a planted effect.

    They are spread over the perturbations.

    Of a run that held nothing out, these are sites that it was trained on.

    Args:
        run: A run that has been predicted.
        truth: What was planted.
        n_sites: How many at most, those of effects with a place first; None for all.

    Raises:
        ExplanationError: There is none.
    """
    table = Predictions.read(run.predictions, level="site", views=1).table
    planted = {name for name, known in truth.perturbations.items() if known.channels}
    local = {name for name, known in truth.perturbations.items() if known.local}
    fine = requested_sites(table) & table["perturbation"].isin(list(planted))
    if not fine.any():
        raise ExplanationError(
            "No held-out site has a planted effect, so there is nothing to find. Benchmark a run that learnt the "
            "perturbations of a synthetic screen: `distangle simulate`, or `distangle demo`."
        )
    order = table[fine].assign(_row=np.flatnonzero(fine.to_numpy()))
    order["_turn"] = order.sort_values(["Metadata_Site", "_row"]).groupby("perturbation").cumcount()
    order["_wide"] = ~order["perturbation"].isin(list(local))
    order = order.sort_values(["_turn", "_wide", "perturbation"], kind="stable")
    return sorted(order["_row"].head(n_sites or len(order)).tolist())


def select_benchmark_sites(
    opened: ExplanationContext, rows: Sequence[int], *, right_wells: Collection[str]
) -> BenchmarkSites:
    """Keep correctly predicted sites, with what was planted there.

    Args:
        opened: The run, opened at `rows`.
        rows: From `planted_rows`.
        right_wells: Names (`wells_of`) of the wells that the network predicts rightly.

    Raises:
        ExplanationError: The run learnt something else, a site cannot be read any more, or none is predicted rightly.
    """
    if opened.channels_of is None:
        raise ExplanationError(
            f"The run learnt {opened.about.target!r}, and what was planted are perturbations. Benchmark a run that "
            "learnt those."
        )
    sites = opened.sites
    if len(sites) != len(rows):
        raise ExplanationError(
            f"{len(rows) - len(sites)} of {len(rows)} sites with a planted effect cannot be read any more. Predict the "
            "run again."
        )
    site_is_right = (sites.table["predicted"] == sites.table["perturbation"]).to_numpy()
    well_is_right = np.array([name in right_wells for name in wells_of(sites.table)])
    kept = np.flatnonzero(site_is_right | well_is_right).tolist()
    if not kept:
        raise ExplanationError(
            f"The network predicts none of {len(rows)} held-out sites with a planted effect: there is nothing to "
            "explain. Train longer, or simulate stronger effects."
        )
    chosen = sites.take(kept)
    index = {name: k for k, name in enumerate(chosen.perturbations)}
    channels = [list(opened.channels_of.get(name, ())) for name in chosen.table["perturbation"]]
    places = opened.places or {}
    return BenchmarkSites(
        sites=replace(chosen, targets=torch.tensor([index[name] for name in chosen.table["perturbation"]])),
        site_is_right=site_is_right[kept],
        well_is_right=well_is_right[kept],
        channel=np.array([found[0] - 1 if len(found) == 1 else -1 for found in channels]),
        places={new: places[old] for new, old in enumerate(kept) if old in places and site_is_right[old]},
        removal=opened.removal,
        rows=[rows[old] for old in kept],
    )


def untrained_copy(
    opened: ExplanationContext, asked: BenchmarkSites, run: RunFolder, screen: Screen, *, seed: int
) -> NetworkSites:
    """Return a network with random weights, and the sites with its own references.

    Its norms use the statistics that it was made with (mean 0, variance 1), for every plate; how much groups differ
    for it is estimated from the training wells, as for the trained one.

    Args:
        opened: The run.
        asked: The sites.
        run: The run.
        screen: Its screen.
        seed: Of the weights.
    """
    device = next(opened.model.parameters()).device
    model = build_classifier(opened.model.config, seed=seed).to(device).eval()
    references = asked.sites.references
    if references is not None:
        store = store_of(run, screen, opened.about)
        try:
            references = _references(model, store, asked.rows)
        finally:
            store.close()
    return NetworkSites(model, replace(asked.sites, references=references, norms=None))


def _references(model: PerturbationClassifier, store: ImageCache, rows: Sequence[int]) -> torch.Tensor:
    """Return the references of an untrained network, float32 [row, reference]."""
    screen, everybody = store.screen, np.arange(len(store.screen.sites))
    training = everybody if store.fold is None else np.flatnonzero(store.fold == TRAIN)
    wells = reference_wells(
        screen,
        np.union1d(training, rows),
        model.config.correction,
        lambda chosen: measure_features_of_controls(model, store, chosen),
        fold=store.fold,
        training_rows=training,
    )
    set_prior(model, wells)
    return torch.from_numpy(wells.of(np.asarray(rows)))
