"""Explain a table of sites: maps, stains, the nulls beside them and what they say together."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict, Field

from distangle.axes import CellTypes, Images, Labels, References
from distangle.errors import ExplanationError
from distangle.explain.places.grad_cam import Head, activation_maps
from distangle.explain.planted import compare_with_truth
from distangle.explain.stains.channel_attention import (
    Scaling,
    channel_attention,
    map_channel_correlation,
)
from distangle.explain.stains.channel_shapley import Of, Removal, channel_shapley
from distangle.explain.stains.nulls import (
    RandomMaps,
    null_channel_attention,
    null_correlation,
    p_values,
    random_smooth_maps,
)
from distangle.explain.summary import summarise
from distangle.model import NormStatistics, PerturbationClassifier, lent_statistics
from distangle.progress import Advance, no_progress
from distangle.results import Explanation


class ExplainSettings(BaseModel):
    """How sites are explained; written beside the explanation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str | None = Field(default=None, description="layer of the maps; none: the maps that are pooled")
    head: Head = Field(default="softmax", description="head whose output the maps explain")
    of: Of = Field(default="log_probability", description="what the Shapley values share out between the stains")
    removal: Removal = Field(default="mean", description="what stands in for an absent stain")
    scaling: Scaling | None = Field(
        default=None, description="of pixels in Eq. 15; none: raw255 for 8-bit, else min_max"
    )
    n_null_maps: int = Field(default=200, ge=1, description="random maps per site")
    n_draws: int = Field(default=1000, ge=1, description="shuffles and bootstrap draws")
    sites_at_once: int = Field(default=16, ge=1, description="sites in one forward pass for the maps")
    most_at_once: int = Field(default=64, ge=1, description="images in one forward pass for the Shapley values")
    bf16: bool = Field(default=False, description="bfloat16 autocast for the Shapley values")


def explain_sites(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    table: pd.DataFrame,
    *,
    raw: Shaped[np.ndarray, "site channel _ _"],
    channels: Sequence[str],
    perturbations: Sequence[str],
    rng: np.random.Generator,
    settings: ExplainSettings | None = None,
    references: References | None = None,
    controls: Float[torch.Tensor, "control _ _ _"] | None = None,
    channels_of: Mapping[str, Sequence[int]] | None = None,
    places: Mapping[int, tuple[float, float, float]] | None = None,
    norms: Sequence[tuple[list[int], NormStatistics | None]] | None = None,
    advance: Advance = no_progress,
) -> Explanation:
    """Say for every site where the network looked and which stain moved it, with the nulls beside both.

    Args:
        model: Left as it was found; the images are moved to its device in pieces.
        images: Standardised as the model was trained, one per row of `table`.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        table: The `Metadata_*` columns, `perturbation` and `predicted`.
        raw: The same images as they were read; the maps get their size.
        channels: Names of the channels.
        perturbations: Names of the model's logits.
        rng: Of the random maps, shuffles and bootstrap draws.
        settings: None for the defaults.
        references: As the model takes them.
        controls: Standardised control images for `removal="control"`: one per site or one for all.
        channels_of: Planted truth: perturbation to its channels, counted from 1. None on a real screen.
        places: Planted truth: row of the table to row, column and radius of a circle in pixels of `raw`.
        norms: Rows of the table with the norm statistics of their plate, every row once; None: the running ones.
        advance: Called after each piece of `sites_at_once` sites.

    Raises:
        ExplanationError: Rows, images, targets or names that do not belong together, and whatever the parts refuse.
    """
    settings = settings or ExplainSettings()
    _check(images, targets, table, raw, channels=channels, perturbations=perturbations, model=model)
    scaling = settings.scaling or ("raw255" if raw.dtype == np.uint8 else "min_max")
    device = next(model.parameters()).device
    pieces: list[dict[str, np.ndarray]] = []
    random_maps: RandomMaps | None = None
    layer = ""
    order: list[int] = []
    for part, lent in _parts(norms or [(list(range(len(table))), None)], at_once=settings.sites_at_once):
        asked = targets[part].to(device)
        seen = images[part].to(device)
        kinds = None if cell_types is None else cell_types[part].to(device)
        beside = None if references is None else references[part].to(device)
        shared = controls is None or len(controls) == 1
        with lent_statistics(model, lent):
            looked = activation_maps(
                model,
                seen,
                kinds,
                asked,
                references=beside,
                layer=settings.layer,
                head=settings.head,
                size=(raw.shape[2], raw.shape[3]),
            )
            stains = channel_shapley(
                model,
                seen,
                kinds,
                asked,
                references=beside,
                of=settings.of,
                removal=settings.removal,
                controls=controls if shared or controls is None else controls[part],
                most_at_once=settings.most_at_once,
                bf16=settings.bf16,
            )
        layer = looked.layer
        if random_maps is None:
            random_maps = random_smooth_maps(
                settings.n_null_maps,
                grid=(looked.raw.shape[1], looked.raw.shape[2]),
                size=(raw.shape[2], raw.shape[3]),
                rng=rng,
            )
        maps = looked.maps.cpu().numpy()
        correlation = map_channel_correlation(maps, raw[part])
        correlation_null = null_correlation(random_maps, raw[part])
        probabilities = looked.outputs.logits.float().softmax(1).gather(1, asked.long()[:, None])[:, 0]
        pieces.append(
            {
                "maps": maps,
                "probability": probabilities.cpu().numpy(),
                "shapley": stains.values.numpy(),
                "eq15": channel_attention(maps, raw[part], scaling=scaling),
                "eq15_null": null_channel_attention(random_maps, raw[part], scaling=scaling),
                "correlation": correlation,
                "correlation_null": correlation_null,
                "correlation_p": p_values(correlation, correlation_null),
            }
        )
        order += part
        advance(f"{len(order)} sites")
    back = np.argsort(order)
    found = {name: np.concatenate([piece[name] for piece in pieces])[back] for name in pieces[0]}
    explained = table.reset_index(drop=True).assign(
        explained=[perturbations[int(index)] for index in targets], probability=found["probability"]
    )
    for name in ("shapley", "eq15", "correlation", "correlation_p"):
        for k in range(len(channels)):
            explained[f"{name}_{k + 1}"] = found[name][:, k]
    planted = None
    if channels_of is not None:
        planted = compare_with_truth(explained, found["maps"], channels_of=channels_of, places=places or {})
    grid = None if random_maps is None else list(random_maps.grid.shape[1:])
    return Explanation(
        table=explained,
        maps=found["maps"],
        settings={
            **settings.model_dump(),
            "layer": layer,
            "scaling": scaling,
            "channels": list(channels),
            "map_grid": grid,
        },
        summary=summarise(explained, found, channels=channels, rng=rng, n_draws=settings.n_draws),
        planted=planted,
    )


def _parts(
    norms: Sequence[tuple[list[int], NormStatistics | None]], *, at_once: int
) -> Iterator[tuple[list[int], NormStatistics | None]]:
    for members, lent in norms:
        for start in range(0, len(members), at_once):
            yield members[start : start + at_once], lent


def _check(
    images: torch.Tensor,
    targets: torch.Tensor,
    table: pd.DataFrame,
    raw: np.ndarray,
    *,
    channels: Sequence[str],
    perturbations: Sequence[str],
    model: PerturbationClassifier,
) -> None:
    rows = {"rows": len(table), "images": len(images), "targets": len(targets), "raw images": len(raw)}
    if len(set(rows.values())) > 1 or not len(table):
        message = f"Expected one image and one target per row and at least one row, found {rows}."
        raise ExplanationError(message)
    if not images.shape[1] == raw.shape[1] == len(channels):
        message = f"{len(channels)} channel names, {images.shape[1]} channels of images, {raw.shape[1]} of raw images."
        raise ExplanationError(message)
    if len(perturbations) != model.config.n_perturbations:
        message = f"{len(perturbations)} names of perturbations for a model of {model.config.n_perturbations}."
        raise ExplanationError(message)
    needed = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "perturbation", "predicted")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        message = f"The table of sites lacks {missing}. Give the rows of `Predictions.table`."
        raise ExplanationError(message)
