"""Explain a table of sites: maps, stains, the nulls beside them and what they say together."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from distangle.explain.aggregate import perturbation_scores, well_scores
from distangle.explain.chosen import ChosenSites
from distangle.explain.places.activation_map import Head, Method
from distangle.explain.places.door import place_maps
from distangle.explain.planted import compare_with_truth
from distangle.explain.stains.answers import Of
from distangle.explain.stains.channel_attention import (
    Scaling,
    channel_attention,
    inverse_attention,
    map_channel_correlation,
)
from distangle.explain.stains.label_nulls import untreated_p
from distangle.explain.stains.nulls import (
    RandomMaps,
    null_channel_attention,
    null_correlation,
    p_values,
    random_smooth_maps,
)
from distangle.explain.stains.removal import Removal
from distangle.explain.stains.scores import Taking, stain_scores, untreated_scores
from distangle.explain.summary import SCORES, summarise, wells_of
from distangle.model import PerturbationClassifier
from distangle.progress import Advance, begin_step, doing, no_progress
from distangle.results import Explanation


class ExplainSettings(BaseModel):
    """How sites are explained; written beside the explanation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(default="grad_cam", description="what draws the maps")
    layer: str | None = Field(default=None, description="layer of the maps; none: the maps that are pooled")
    head: Head = Field(default="softmax", description="head whose output the maps explain")
    of: Of = Field(default="log_probability", description="what the Shapley values share out between the stains")
    removal: Removal = Field(default="mean", description="what stands in for an absent stain")
    scaling: Scaling | None = Field(
        default=None, description="of pixels in Eq. 15; none: raw255 for 8-bit, else min_max"
    )
    n_null_maps: int = Field(default=200, ge=1, description="random maps per site")
    n_draws: int = Field(default=1000, ge=1, description="shuffles")
    sites_at_once: int = Field(default=16, ge=1, description="sites in one forward pass for the maps")
    most_at_once: int = Field(default=64, ge=1, description="images in one forward pass for the Shapley values")
    bf16: bool = Field(default=False, description="bfloat16 autocast for the Shapley values")


def explain_sites(
    model: PerturbationClassifier,
    sites: ChosenSites,
    *,
    rng: np.random.Generator,
    settings: ExplainSettings | None = None,
    channels_of: Mapping[str, Sequence[int]] | None = None,
    places: Mapping[int, tuple[float, float, float]] | None = None,
    advance: Advance = no_progress,
) -> Explanation:
    """Say for every site where the network looked and which stain moved it, with the nulls beside both.

    Args:
        model: Left as it was found; the images are moved to its device in pieces.
        sites: What to explain; with `controls` or `others` where the removal needs them, and `untreated` for the
            p-values of single sites.
        rng: Of the random maps, shuffles.
        settings: None for the defaults.
        channels_of: Planted truth: perturbation to its channels, counted from 1. None on a real screen.
        places: Planted truth: row of the table to row, column and radius of a circle in pixels of `sites.raw`.
        advance: Called after each piece of `sites_at_once` sites.

    Raises:
        ExplanationError: A model that these sites do not belong to, and whatever the parts refuse.
    """
    settings = settings or ExplainSettings()
    sites.fit(model)
    raw, channels = sites.raw, sites.channels
    scaling = settings.scaling or ("raw255" if raw.dtype == np.uint8 else "min_max")
    device = next(model.parameters()).device
    taking = Taking(of=settings.of, removal=settings.removal, most_at_once=settings.most_at_once, bf16=settings.bf16)
    asked = torch.unique(sites.targets)
    pieces: list[dict[str, np.ndarray]] = []
    random_maps: RandomMaps | None = None
    layer = ""
    order: list[int] = []
    begin_step(advance, "maps and stains", sites.n_pieces(at_once=settings.sites_at_once), unit="piece")
    for piece in sites.pieces(at_once=settings.sites_at_once, device=device):
        with piece.norms_of_plate(model):
            looked = place_maps(
                model,
                piece.images,
                piece.cell_types,
                piece.targets,
                method=settings.method,
                references=piece.references,
                layer=settings.layer,
                head=settings.head,
                size=sites.size,
            )
        layer = looked.layer
        if random_maps is None:
            random_maps = random_smooth_maps(
                settings.n_null_maps,
                grid=(looked.raw.shape[1], looked.raw.shape[2]),
                size=sites.size,
                rng=rng,
            )
        maps, seen = looked.maps.cpu().numpy(), raw[piece.rows]
        correlation = map_channel_correlation(maps, seen)
        correlation_null = null_correlation(random_maps, seen)
        attention = channel_attention(maps, seen, scaling=scaling)
        attention_null = null_channel_attention(random_maps, seen, scaling=scaling)
        probabilities = looked.outputs.logits.float().softmax(1).gather(1, piece.targets.long()[:, None])[:, 0]
        pieces.append(
            {
                "maps": maps,
                "probability": probabilities.cpu().numpy(),
                **stain_scores(model, piece, asked=asked, taking=taking),
                "eq15": attention,
                "eq15_null": attention_null,
                "eq15_inverse": inverse_attention(attention),
                "eq15_inverse_null": inverse_attention(attention_null),
                "correlation": correlation,
                "correlation_null": correlation_null,
            }
        )
        order += piece.rows
        advance(f"{len(order)} sites")
    doing("valuing the stains of untreated wells, and drawing what chance gives")
    back = np.argsort(order)
    found = {name: np.concatenate([piece[name] for piece in pieces])[back] for name in pieces[0]}
    explained = sites.table.reset_index(drop=True).assign(
        explained=[sites.perturbations[int(index)] for index in sites.targets], probability=found["probability"]
    )
    found["target"] = torch.searchsorted(asked, sites.targets).numpy()
    found |= _p_of_sites(model, sites, found, taking=taking, at_once=settings.sites_at_once)
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
    grid = None if random_maps is None else list(random_maps.grid.shape[1:])
    wells = well_scores(explained, found["maps"], found, rng=rng)
    perturbations = perturbation_scores(explained, found["maps"], found)
    return Explanation(
        table=explained,
        maps=found["maps"],
        settings={
            **settings.model_dump(),
            "layer": layer,
            "scaling": scaling,
            "channels": list(channels),
            "map_grid": grid,
            "untreated_wells": 0 if sites.untreated is None else len(sites.untreated),
        },
        summary=summarise(explained, found, channels=channels, rng=rng, n_draws=settings.n_draws),
        planted=planted,
        interactions=found["interactions"],
        wells=wells.table,
        well_maps=wells.maps,
        perturbations=perturbations.table,
        perturbation_maps=perturbations.maps,
    )


def _p_of_sites(
    model: PerturbationClassifier, sites: ChosenSites, found: Mapping[str, np.ndarray], *, taking: Taking, at_once: int
) -> dict[str, np.ndarray]:
    """`NAME_p` [site, channel] of every score that has a null: of random maps, or of untreated wells."""
    said = {f"{name}_p": p_values(found[name], found[f"{name}_null"]) for name in SCORES if f"{name}_null" in found}
    if sites.untreated is None:
        return said
    beside = untreated_scores(model, sites.untreated, taking=taking, at_once=at_once)
    wells, untreated_in = wells_of(sites.table), wells_of(sites.untreated.table)
    return said | {
        f"{name}_p": untreated_p(found[name], wells, untreated=scores, untreated_in=untreated_in)
        for name, scores in beside.items()
    }
