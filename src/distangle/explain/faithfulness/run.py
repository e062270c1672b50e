"""Test whether maps reflect their network, and give a verdict on each test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.progress import Advance, begin_step, no_progress, show_action
from distangle.errors import ExplanationError
from distangle.explain.channels.coalition_outputs import ShapleySettings
from distangle.explain.channels.replacement import Removal, default_removal
from distangle.explain.faithfulness.consistency import (
    examine_seeds,
    shapley_of_augmentations,
    similarity_of_augmentations,
    similarity_to_other_targets,
)
from distangle.explain.faithfulness.curves import DeletionInsertion, Replacement, deletion_insertion, site_p
from distangle.explain.faithfulness.map_similarity import (
    MapMethod,
    SiteShapley,
    map_method,
    maps_of,
    on_grid,
    shapley_values,
)
from distangle.explain.faithfulness.model_randomization import RandomizationResult, model_randomization
from distangle.explain.faithfulness.verdicts import FaithfulnessResults, summarize_faithfulness, verdicts
from distangle.explain.maps.attribution_map import enlarge, normalized_maps
from distangle.explain.sites import ExplainedSites, NetworkSites
from distangle.explain.text import faithfulness_sentences
from distangle.model import PerturbationClassifier
from distangle.results import Faithfulness
from distangle.screen import NEGATIVE

AUGMENTATIONS = (
    4,
    3,
    7,
    1,
    6,
    2,
    5,
)  # the transpose first, then half a turn: the most different augmentations


class FaithfulnessSettings(BaseModel):
    """Settings of the faithfulness tests; stored with the result.

    The defaults need a few thousand forward passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_sites: int = Field(default=24, ge=1, description="sites whose maps are compared")
    n_curve_sites: int = Field(default=8, ge=1, description="of these, sites with deletion and insertion curves")
    n_channel_sites: int = Field(default=3, ge=0, description="of these, sites whose Shapley values are compared too")
    n_stored_maps: int = Field(
        default=6, ge=0, description="of these, sites whose maps of an untrained network are stored"
    )
    n_null_maps: int = Field(default=4, ge=1, description="random maps per site, the null of its curves")
    n_steps: int = Field(default=10, ge=1, description="steps of a curve")
    n_networks: int = Field(default=2, ge=1, description="draws of random weights")
    n_targets: int = Field(default=3, ge=1, description="other perturbations explained per site")
    channel_augmentations: int = Field(
        default=1, ge=1, le=7, description="augmentations whose Shapley values are compared"
    )
    removal: Removal | None = Field(
        default=None, description="replacement of an absent channel; none: control if there are controls, else mean"
    )
    n_draws: int = Field(default=1000, ge=1, description="draws of each null")
    sites_at_once: int = Field(default=16, ge=1, description="sites in one forward pass for the maps")
    max_at_once: int = Field(default=64, ge=1, description="images in one forward pass for curves and Shapley values")


@dataclass(frozen=True, kw_only=True)
class OtherNetworks:
    """Networks for a comparison of maps at the same sites.

    Attributes:
        seeds: Networks trained with other seeds.
        shuffled: A network trained on shuffled labels, or None.
    """

    seeds: Sequence[NetworkSites] = ()
    shuffled: NetworkSites | None = None


def examine(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site height width"],
    *,
    rng: np.random.Generator,
    settings: FaithfulnessSettings | None = None,
    method: MapMethod | None = None,
    other_networks: OtherNetworks | None = None,
    advance: Advance = no_progress,
) -> Faithfulness:
    """Test whether maps reflect their network.

    Deletion and insertion use `maps`. The other tests apply the method to changed networks, targets and augmentations,
    and compare signed maps, before the ReLU.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: The explained sites.
        maps: One map per site, in [0, 1], of any size.
        rng: Random generator.
        settings: None for the defaults.
        method: Attribution method of the maps, such as a `map_method`; None for Grad-CAM of the maps before the
            pooling.
        other_networks: Other networks to compare with, or None.
        advance: Called after each test.

    Raises:
        ExplanationError: Network, maps and sites do not match, or the method refuses them.
    """
    settings, other_networks = settings or FaithfulnessSettings(), other_networks or OtherNetworks()
    settings = settings.model_copy(update={"removal": settings.removal or default_removal(sites)})
    shapley_settings = ShapleySettings(removal=settings.removal, max_batch_size=settings.max_at_once)
    sites.check_model(model)
    if len(maps) != len(sites):
        raise ExplanationError(f"{len(maps)} maps for {len(sites)} sites. Give the maps of the same explanation.")
    method_settings = (
        {"method": "grad_cam", "layer": None, "head": "softmax"} if method is None else {"method": "given"}
    )
    method = method or map_method()
    rows = _order_rows(sites, n_sites=settings.n_sites, rng=rng)
    chosen = sites.take(rows)
    n_tests = (
        len(_replacements(sites))
        + bool(settings.n_channel_sites)
        + 3
        + bool(other_networks.seeds)
        + (other_networks.shuffled is not None)
    )
    begin_step(advance, "tests of the maps", n_tests, unit="test", alike=False)
    own = maps_of(method, model, chosen, batch_size=settings.sites_at_once)
    curve_sites = chosen.take(range(min(settings.n_curve_sites, len(rows))))
    curve_maps = on_grid(maps[rows[: len(curve_sites)]], (own.shape[1], own.shape[2]))
    curves: dict[Replacement, DeletionInsertion] = {}
    for replacement in _replacements(sites):
        show_action(f"deleting and inserting regions ({replacement})")
        curves[replacement] = deletion_insertion(
            model,
            curve_sites,
            curve_maps,
            replacement=replacement,
            rng=rng,
            n_null_maps=settings.n_null_maps,
            n_steps=settings.n_steps,
            batch_size=settings.max_at_once,
        )
        advance(f"curves, {replacement}")
    shapley, augmented_shapley = None, None
    if settings.n_channel_sites:
        show_action("scoring the channels of augmented images")
        shapley_sites = chosen.take(range(min(settings.n_channel_sites, len(rows))))
        shapley = SiteShapley(
            sites=shapley_sites,
            values=shapley_values(model, shapley_sites, settings=shapley_settings),
            settings=shapley_settings,
        )
        augmented_shapley = shapley_of_augmentations(
            model, shapley, numbers=AUGMENTATIONS[: settings.channel_augmentations]
        )
        advance("channels of augmented images")
    show_action("drawing maps of networks with random weights")
    randomization = model_randomization(
        model,
        chosen,
        own,
        method=method,
        rng=rng,
        shapley=shapley,
        n_networks=settings.n_networks,
        batch_size=settings.sites_at_once,
    )
    advance("randomized weights")
    show_action("drawing maps for other perturbations")
    targets = similarity_to_other_targets(
        model, chosen, own, method=method, rng=rng, n_targets=settings.n_targets, batch_size=settings.sites_at_once
    )
    advance("other targets")
    show_action("drawing maps of augmented images")
    results = FaithfulnessResults(
        curves=curves,
        randomization=randomization,
        targets=targets,
        augmentations=similarity_of_augmentations(model, chosen, own, method=method, batch_size=settings.sites_at_once),
        augmented_shapley=augmented_shapley,
    )
    advance("augmented images")
    show_action("drawing the nulls")
    summary = summarize_faithfulness(
        chosen.table, results, grid=(own.shape[1], own.shape[2]), rng=rng, n_draws=settings.n_draws
    )
    for name, networks in (
        ("seeds", other_networks.seeds),
        ("shuffled", [other_networks.shuffled] if other_networks.shuffled else []),
    ):
        summary[name] = None
        if networks:
            show_action(f"comparing with the runs of --{name}")
            compared = [
                NetworkSites(model, chosen),
                *(NetworkSites(network.model, network.sites.take(rows)) for network in networks),
            ]
            summary[name] = examine_seeds(
                compared,
                rng=rng,
                method=method,
                n_shapley_sites=settings.n_channel_sites,
                batch_size=settings.sites_at_once,
                shapley=shapley_settings,
            )
            advance(name)
    summary["verdicts"] = verdicts(summary)
    return Faithfulness(
        table=_table(rows, results),
        arrays={
            **_curve_arrays(curves),
            **_map_arrays(own, randomization, size=sites.size, n_kept=settings.n_stored_maps),
        },
        settings={**settings.model_dump(), **method_settings},
        summary=summary,
        sentences=faithfulness_sentences(summary),
    )


def _order_rows(sites: ExplainedSites, *, n_sites: int, rng: np.random.Generator) -> list[int]:
    """Return rows in the order of the tests, controls last.

    The explained perturbations take turns.
    """
    order = pd.DataFrame({"row": rng.permutation(len(sites))})
    order["target"] = sites.targets.cpu().numpy()[order["row"]]
    order["turn"] = order.groupby("target").cumcount()
    order["control"] = False
    if "Metadata_Role" in sites.table:
        is_control = sites.table["Metadata_Role"].isin(NEGATIVE).to_numpy()
        order["control"] = is_control[order["row"]]
    ordered = order.sort_values(["control", "turn"], kind="stable")["row"]
    return [int(row) for row in ordered.head(n_sites)]


def _replacements(sites: ExplainedSites) -> tuple[Replacement, ...]:
    return ("blur",) if sites.controls is None else ("control", "blur")


def _table(rows: list[int], results: FaithfulnessResults) -> pd.DataFrame:
    main = next(iter(results.curves.values()))
    table = pd.DataFrame({"row": rows})
    deletion, insertion, null = main.deletion_area(), main.insertion_area(), main.null_area()
    for name, values in (
        ("deletion_auc", deletion),
        ("insertion_auc", insertion),
        ("deletion_p", site_p(deletion, null)),
        ("insertion_p", site_p(-insertion, -null)),
        ("stability", results.augmentations.mean(0)),
        ("after_randomization", results.randomization.similarity[-1].mean(0)),
        ("other_targets", None if results.targets is None else results.targets.mean(0)),
    ):
        table[name] = np.nan
        if values is not None:
            table.loc[: len(values) - 1, name] = values
    return table


def _curve_arrays(curves: dict[Replacement, DeletionInsertion]) -> dict[str, np.ndarray]:
    arrays = {}
    for replacement, result in curves.items():
        for name, values in (
            ("deletion", result.deletion()),
            ("insertion", result.insertion()),
            ("random", result.random()),
        ):
            arrays[f"curves/{replacement}/{name}"] = values
    return arrays


def _map_arrays(
    own: np.ndarray, randomization: RandomizationResult, *, size: tuple[int, int], n_kept: int
) -> dict[str, Any]:
    """Return the maps of the first sites for the network and for untrained copies."""
    maps = {
        "maps/trained": own,
        **{f"maps/untrained/{stage}": maps_of_stage for stage, maps_of_stage in randomization.untrained_maps.items()},
    }
    return {
        name: normalized_maps(enlarge(torch.from_numpy(values[:n_kept]).clamp(min=0), size)).numpy()
        for name, values in maps.items()
        if n_kept
    }
