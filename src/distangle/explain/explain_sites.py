"""Explain a table of sites: maps, channel scores, nulls and summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.progress import Advance, begin_step, no_progress, show_action
from distangle.explain.aggregate import perturbation_scores, well_scores
from distangle.explain.channels.coalition_outputs import OutputKind, ShapleySettings
from distangle.explain.channels.map_scores import Scaling, channel_attention, inverse_attention, map_channel_correlation
from distangle.explain.channels.nulls import (
    RandomMaps,
    control_band,
    control_p_value,
    null_channel_attention,
    null_correlation,
    p_values,
    random_smooth_maps,
)
from distangle.explain.channels.replacement import Removal, default_removal
from distangle.explain.channels.scores import channel_scores, control_scores
from distangle.explain.ground_truth import PlantedCircle, compare_with_truth
from distangle.explain.maps.api import attribution_map
from distangle.explain.maps.attribution_map import Head, Method
from distangle.explain.sites import ExplainedSites, SiteBatch
from distangle.explain.summary import SCORES, summarize, wells_of
from distangle.model import PerturbationClassifier
from distangle.results import Explanation


class ExplainSettings(BaseModel):
    """Settings of an explanation; stored with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(default="grad_cam", description="attribution method of the maps")
    layer: str | None = Field(default=None, description="layer of the maps; none: the maps before the pooling")
    head: Head = Field(default="softmax", description="head whose output the maps explain")
    score: OutputKind = Field(
        default="log_probability", description="output that the Shapley values distribute over the channels"
    )
    removal: Removal | None = Field(
        default=None, description="replacement of an absent channel; none: control if every plate has one, else mean"
    )
    scaling: Scaling | None = Field(
        default=None, description="scaling of the pixels in Eq. 15; none: raw255 for 8-bit images, else min_max"
    )
    n_null_maps: int = Field(default=200, ge=1, description="random maps per site")
    n_draws: int = Field(default=1000, ge=1, description="shuffles")
    sites_at_once: int = Field(default=16, ge=1, description="sites in one forward pass for the maps")
    max_at_once: int = Field(default=64, ge=1, description="images in one forward pass for the Shapley values")
    bf16: bool = Field(default=False, description="bfloat16 autocast for the Shapley values")


@dataclass(kw_only=True)
class _Explainer:
    """Explains one batch after the other with the same random maps.

    Attributes:
        layer: Layer of the maps; set by the first batch.
        random_maps: Random maps on the grid of the maps; drawn with the first batch.
    """

    model: PerturbationClassifier
    sites: ExplainedSites
    settings: ExplainSettings
    rng: np.random.Generator
    advance: Advance
    layer: str = ""
    random_maps: RandomMaps | None = None
    n_explained: int = 0

    @property
    def explained_targets(self) -> torch.Tensor:
        """Sorted indices of the explained perturbations, each once."""
        indices: torch.Tensor = torch.unique(self.sites.targets)
        return indices

    @property
    def scaling(self) -> Scaling:
        """Scaling of the pixels in Eq. (15)."""
        return self.settings.scaling or ("raw255" if self.sites.raw.dtype == np.uint8 else "min_max")

    def explain(self, batch: SiteBatch) -> dict[str, np.ndarray]:
        """Return maps, scores and nulls of a batch, one row per site."""
        settings = self.settings
        attribution = attribution_map(
            self.model, batch, method=settings.method, layer=settings.layer, head=settings.head, size=self.sites.size
        )
        self.layer = attribution.layer
        if self.random_maps is None:
            grid = (attribution.raw.shape[1], attribution.raw.shape[2])
            self.random_maps = random_smooth_maps(settings.n_null_maps, grid=grid, size=self.sites.size, rng=self.rng)
        maps, raw = attribution.maps.cpu().numpy(), self.sites.raw[list(batch.rows)]
        attention = channel_attention(maps, raw, scaling=self.scaling)
        attention_null = null_channel_attention(self.random_maps, raw, scaling=self.scaling)
        probabilities = attribution.outputs.logits.float().softmax(1).gather(1, batch.targets.long()[:, None])[:, 0]
        scores = {
            "maps": maps,
            "probability": probabilities.cpu().numpy(),
            **channel_scores(self.model, batch, targets=self.explained_targets, settings=_shapley_settings(settings)),
            "eq15": attention,
            "eq15_null": attention_null,
            "eq15_inverse": inverse_attention(attention),
            "eq15_inverse_null": inverse_attention(attention_null),
            "correlation": map_channel_correlation(maps, raw),
            "correlation_null": null_correlation(self.random_maps, raw),
        }
        self.n_explained += len(batch)
        self.advance(f"{self.n_explained} sites")
        return scores


def explain_sites(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    *,
    rng: np.random.Generator,
    settings: ExplainSettings | None = None,
    channels_of: Mapping[str, Sequence[int]] | None = None,
    regions: Mapping[int, PlantedCircle] | None = None,
    advance: Advance = no_progress,
) -> Explanation:
    """Return maps and channel scores of every site, each score with its null.

    Args:
        model: The network; its mode, gradient flags and hooks are restored. Images are copied to its device in batches.
        sites: Sites to explain, with `controls` or `other_wells` if the removal needs them, and `control_sites` for
            the p-values of single sites.
        rng: Random generator for the random maps and shuffles.
        settings: None for the defaults.
        channels_of: Planted truth: perturbation to its channels, counted from 1. None on a real screen.
        regions: Planted truth: row of the table to the circle of the effect, in pixels of `sites.raw`.
        advance: Called after each batch of `sites_at_once` sites.

    Raises:
        ExplanationError: The sites do not belong to the network, or a method refuses them.
    """
    settings = settings or ExplainSettings()
    settings = settings.model_copy(update={"removal": settings.removal or default_removal(sites)})
    sites.check_model(model)
    channels = sites.channels
    begin_step(advance, "maps and channel scores", sites.n_batches(batch_size=settings.sites_at_once), unit="batch")
    explainer = _Explainer(model=model, sites=sites, settings=settings, rng=rng, advance=advance)
    scores = sites.map(explainer.explain, batch_size=settings.sites_at_once, device=next(model.parameters()).device)
    show_action("scoring the channels of control wells and drawing the nulls")
    table = sites.table.reset_index(drop=True).assign(
        explained=[sites.perturbations[int(index)] for index in sites.targets], probability=scores["probability"]
    )
    scores["target"] = torch.searchsorted(explainer.explained_targets, sites.targets).numpy()
    scores |= _site_p_values(model, sites, scores, settings=settings)
    columns = {
        f"{name}_{k + 1}": scores[name][:, k]
        for score in SCORES
        for name in (score, f"{score}_p", f"{score}_null_mean", f"{score}_null_low", f"{score}_null_high")
        if name in scores
        for k in range(len(channels))
    }
    table = table.assign(**columns)
    planted = None
    if channels_of is not None:
        planted = compare_with_truth(table, scores["maps"], channels_of=channels_of, regions=regions or {})
    grid = None if explainer.random_maps is None else list(explainer.random_maps.grid.shape[1:])
    wells = well_scores(table, scores["maps"], scores, rng=rng)
    perturbations = perturbation_scores(table, scores["maps"], scores)
    return Explanation(
        table=table,
        maps=scores["maps"],
        settings={
            **settings.model_dump(),
            "layer": explainer.layer,
            "scaling": explainer.scaling,
            "channels": list(channels),
            "map_grid": grid,
            "n_control_wells": 0 if sites.control_sites is None else len(sites.control_sites),
        },
        summary=summarize(table, scores, channels=channels, rng=rng, n_draws=settings.n_draws),
        planted=planted,
        interactions=scores["interactions"],
        wells=wells.table,
        well_maps=wells.maps,
        perturbations=perturbations.table,
        perturbation_maps=perturbations.maps,
    )


def _shapley_settings(settings: ExplainSettings) -> ShapleySettings:
    """Return the settings of the Shapley values."""
    return ShapleySettings(
        output=settings.score, removal=settings.removal, max_batch_size=settings.max_at_once, bf16=settings.bf16
    )


def _site_p_values(
    model: PerturbationClassifier, sites: ExplainedSites, scores: Mapping[str, np.ndarray], *, settings: ExplainSettings
) -> dict[str, np.ndarray]:
    """Return the p-values `NAME_p` [site, channel] of every score with a null.

    Shapley values also have `shapley_null_mean`, `shapley_null_low` and `shapley_null_high`, see `control_band`.
    """
    p = {f"{name}_p": p_values(scores[name], scores[f"{name}_null"]) for name in SCORES if f"{name}_null" in scores}
    if sites.control_sites is None:
        return p
    null_scores = control_scores(
        model, sites.control_sites, settings=_shapley_settings(settings), batch_size=settings.sites_at_once
    )
    wells, control_wells = wells_of(sites.table), wells_of(sites.control_sites.table)
    band = control_band(wells, control_scores=null_scores["shapley"], control_wells=control_wells)
    p |= {f"shapley_null_{part}": values for part, values in zip(("mean", "low", "high"), band, strict=True)}
    return p | {
        f"{name}_p": control_p_value(scores[name], wells, control_scores=controls, control_wells=control_wells)
        for name, controls in null_scores.items()
    }
