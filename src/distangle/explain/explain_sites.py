"""Explain a table of sites: maps, channel scores, their nulls and their summary."""

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
    """How sites are explained; written beside the explanation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(default="grad_cam", description="what draws the maps")
    layer: str | None = Field(default=None, description="layer of the maps; none: the maps that are pooled")
    head: Head = Field(default="softmax", description="head whose output the maps explain")
    score: OutputKind = Field(
        default="log_probability", description="what the Shapley values share out between the stains"
    )
    removal: Removal | None = Field(
        default=None, description="what replaces an absent channel; none: control where every plate has one, else mean"
    )
    scaling: Scaling | None = Field(
        default=None, description="of pixels in Eq. 15; none: raw255 for 8-bit, else min_max"
    )
    n_null_maps: int = Field(default=200, ge=1, description="random maps per site")
    n_draws: int = Field(default=1000, ge=1, description="shuffles")
    sites_at_once: int = Field(default=16, ge=1, description="sites in one forward pass for the maps")
    max_at_once: int = Field(default=64, ge=1, description="images in one forward pass for the Shapley values")
    bf16: bool = Field(default=False, description="bfloat16 autocast for the Shapley values")


def explain_sites(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    *,
    rng: np.random.Generator,
    settings: ExplainSettings | None = None,
    channels_of: Mapping[str, Sequence[int]] | None = None,
    places: Mapping[int, PlantedCircle] | None = None,
    advance: Advance = no_progress,
) -> Explanation:
    """Return maps and channel scores of every site, with the null of each.

    Args:
        model: The network; its mode, gradient flags and hooks are restored. Images are moved to its device in batches.
        sites: What to explain; with `controls` or `others` where the removal needs them, and `untreated` for the
            p-values of single sites.
        rng: Of the random maps and shuffles.
        settings: None for the defaults.
        channels_of: Planted truth: perturbation to its channels, counted from 1. None on a real screen.
        places: Planted truth: row of the table to a circle in pixels of `sites.raw`.
        advance: Called after each batch of `sites_at_once` sites.

    Raises:
        ExplanationError: A model that these sites do not belong to, and whatever the parts refuse.
    """
    settings = settings or ExplainSettings()
    settings = settings.model_copy(update={"removal": settings.removal or default_removal(sites)})
    sites.fit(model)
    channels = sites.channels
    begin_step(advance, "maps and stains", sites.n_pieces(at_once=settings.sites_at_once), unit="piece")
    explainer = _Explainer(model=model, sites=sites, settings=settings, rng=rng, advance=advance)
    found = sites.map(explainer.explain, at_once=settings.sites_at_once, device=next(model.parameters()).device)
    show_action("valuing the stains of untreated wells, and drawing what chance gives")
    explained = sites.table.reset_index(drop=True).assign(
        explained=[sites.perturbations[int(index)] for index in sites.targets], probability=found["probability"]
    )
    found["target"] = torch.searchsorted(explainer.asked, sites.targets).numpy()
    found |= _p_of_sites(model, sites, found, settings=settings)
    columns = {
        f"{name}_{k + 1}": found[name][:, k]
        for score in SCORES
        for name in (score, f"{score}_p")
        if name in found
        for k in range(len(channels))
    }
    explained = explained.assign(**columns)
    planted = None
    if channels_of is not None:
        planted = compare_with_truth(explained, found["maps"], channels_of=channels_of, places=places or {})
    grid = None if explainer.random_maps is None else list(explainer.random_maps.grid.shape[1:])
    wells = well_scores(explained, found["maps"], found, rng=rng)
    perturbations = perturbation_scores(explained, found["maps"], found)
    return Explanation(
        table=explained,
        maps=found["maps"],
        settings={
            **settings.model_dump(),
            "layer": explainer.layer,
            "scaling": explainer.scaling,
            "channels": list(channels),
            "map_grid": grid,
            "n_control_wells": 0 if sites.untreated is None else len(sites.untreated),
        },
        summary=summarize(explained, found, channels=channels, rng=rng, n_draws=settings.n_draws),
        planted=planted,
        interactions=found["interactions"],
        wells=wells.table,
        well_maps=wells.maps,
        perturbations=perturbations.table,
        perturbation_maps=perturbations.maps,
    )


@dataclass(kw_only=True)
class _Explainer:
    """Explains batch after batch; all are compared with the same random maps.

    Attributes:
        layer: Whose activations the maps weight, known after the first batch.
        random_maps: At the size of the maps, drawn with the first batch.
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
    def asked(self) -> torch.Tensor:
        """Indices of the explained perturbations, each once."""
        indices: torch.Tensor = torch.unique(self.sites.targets)
        return indices

    @property
    def scaling(self) -> Scaling:
        """How pixels become comparable with maps in Eq. (15)."""
        return self.settings.scaling or ("raw255" if self.sites.raw.dtype == np.uint8 else "min_max")

    def explain(self, piece: SiteBatch) -> dict[str, np.ndarray]:
        """Return maps, scores and nulls of a batch, one row per site."""
        chosen = self.settings
        looked = attribution_map(
            self.model, piece, method=chosen.method, layer=chosen.layer, head=chosen.head, size=self.sites.size
        )
        self.layer = looked.layer
        if self.random_maps is None:
            grid = (looked.raw.shape[1], looked.raw.shape[2])
            self.random_maps = random_smooth_maps(chosen.n_null_maps, grid=grid, size=self.sites.size, rng=self.rng)
        maps, raw = looked.maps.cpu().numpy(), self.sites.raw[list(piece.rows)]
        attention = channel_attention(maps, raw, scaling=self.scaling)
        attention_null = null_channel_attention(self.random_maps, raw, scaling=self.scaling)
        probabilities = looked.outputs.logits.float().softmax(1).gather(1, piece.targets.long()[:, None])[:, 0]
        scores = {
            "maps": maps,
            "probability": probabilities.cpu().numpy(),
            **channel_scores(self.model, piece, asked=self.asked, settings=_taking(chosen)),
            "eq15": attention,
            "eq15_null": attention_null,
            "eq15_inverse": inverse_attention(attention),
            "eq15_inverse_null": inverse_attention(attention_null),
            "correlation": map_channel_correlation(maps, raw),
            "correlation_null": null_correlation(self.random_maps, raw),
        }
        self.n_explained += len(piece)
        self.advance(f"{self.n_explained} sites")
        return scores


def _taking(settings: ExplainSettings) -> ShapleySettings:
    """Return how the settings take channels away."""
    return ShapleySettings(
        of=settings.score, removal=settings.removal, most_at_once=settings.max_at_once, bf16=settings.bf16
    )


def _p_of_sites(
    model: PerturbationClassifier, sites: ExplainedSites, found: Mapping[str, np.ndarray], *, settings: ExplainSettings
) -> dict[str, np.ndarray]:
    """Return `NAME_p` [site, channel] of every score with a null."""
    p = {f"{name}_p": p_values(found[name], found[f"{name}_null"]) for name in SCORES if f"{name}_null" in found}
    if sites.untreated is None:
        return p
    controls = control_scores(model, sites.untreated, settings=_taking(settings), at_once=settings.sites_at_once)
    wells, untreated_in = wells_of(sites.table), wells_of(sites.untreated.table)
    return p | {
        f"{name}_p": control_p_value(found[name], wells, untreated=scores, untreated_in=untreated_in)
        for name, scores in controls.items()
    }
