"""Similarity of maps: rank correlation over positions, with its null.

The attribution method that is examined, applied to all sites.

Shapley values of the channels at a few sites, also of changed networks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from distangle.errors import ExplanationError
from distangle.explain.channels.coalition_outputs import ShapleySettings
from distangle.explain.channels.nulls import random_smooth_maps
from distangle.explain.channels.shapley import channel_shapley
from distangle.explain.maps.api import attribution_map
from distangle.explain.maps.attribution_map import Head, Method
from distangle.explain.sites import ExplainedSites, SiteBatch
from distangle.model import PerturbationClassifier

PerSite = Float[np.ndarray, " site"]


def similarity(first: Float[np.ndarray, "site *place"], second: Float[np.ndarray, "site *place"]) -> PerSite:  # noqa: F821 - axes
    """Return Spearman's correlation of each pair of maps, in [-1, 1].

    Rows of Shapley values are compared the same way.

    Args:
        first: One per site, of any sign.
        second: To be compared with it, place by position.

    Returns:
        0 where one of the two is constant: it names no place.
    """
    ranks = [rankdata(values.reshape(len(values), -1), axis=1) for values in (first, second)]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    length = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray(np.divide((a * b).sum(1), length, out=np.zeros(len(a)), where=length > 0))


def random_similarity(
    *, grid: tuple[int, int], rng: np.random.Generator, n_draws: int = 1000
) -> Float[np.ndarray, " draw"]:
    """Return the similarity of pairs of unrelated random smooth maps.

    Args:
        grid: Height and width of the maps.
        rng: Random generator; equal generators give equal draws.
        n_draws: Pairs.
    """
    random_maps = random_smooth_maps(2 * n_draws, grid=grid, size=grid, rng=rng).grid
    return similarity(random_maps[:n_draws], random_maps[n_draws:])


def mean_of_random(
    null: Float[np.ndarray, " draw"], *, n_sites: int, rng: np.random.Generator, n_draws: int = 1000
) -> tuple[float, float]:
    """Return the central 95 % of the mean similarity of random maps.

    Each of `n_sites` sites has a draw of its own.
    """
    means = null[rng.integers(len(null), size=(n_draws, n_sites))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


MapMethod = Callable[[PerturbationClassifier, SiteBatch], Tensor]
"""Called as `method(model, piece)` with the batch-norm statistics of the plate in use; returns maps
[site, height, width] of any size and sign, larger where the position speaks more for the target."""

MAX_GRID_SIDE = (
    16  # positions on a side: a curve over thousands of them would take as many more forward passes to differ
)


def map_method(method: Method = "grad_cam", *, layer: str | None = None, head: Head = "softmax") -> MapMethod:
    """Return a method of `place_maps` that gives signed maps at their own size.

    Args:
        method: A name of `MAP_METHODS`.
        layer: A layer of the backbone; None for the maps before the pooling, or the pixels.
        head: `softmax` explains the logit, `arc` the cosine.
    """

    def draw(model: PerturbationClassifier, batch: SiteBatch) -> Tensor:
        return attribution_map(model, batch, method=method, layer=layer, head=head).raw

    return draw


def maps_of(
    method: MapMethod,
    model: PerturbationClassifier,
    sites: ExplainedSites,
    *,
    batch_size: int,
    transform: Callable[[SiteBatch], SiteBatch] = lambda batch: batch,
) -> Float[np.ndarray, "site rows columns"]:
    """Return the map of every site, on a grid of at most 16 x 16 positions, float64.

    Args:
        method: Attribution method to examine.
        model: The network that it explains.
        sites: Sites of the maps.
        batch_size: Sites in one call.
        transform: Applied to every batch first.

    Raises:
        ExplanationError: The method does not give one finite map per site.
    """

    def draw(batch: SiteBatch) -> dict[str, np.ndarray]:
        changed = transform(batch)
        with changed.plate_statistics(model):
            maps = method(model, changed).detach().float().cpu()
        if maps.dim() != 3 or len(maps) != len(batch) or not bool(maps.isfinite().all()):
            raise ExplanationError(
                f"The method gave an array of shape {tuple(maps.shape)} for {len(batch)} sites. Expected one map "
                "[height, width] of finite numbers per site."
            )
        return {"maps": on_grid(maps.numpy())}

    return sites.map(draw, batch_size=batch_size, device=next(model.parameters()).device)["maps"]


def on_grid(
    maps: Float[np.ndarray, "site height width"], grid: tuple[int, int] | None = None
) -> Float[np.ndarray, "site rows columns"]:
    """Return the mean of maps over each position of a grid, float64.

    Args:
        maps: Of any size.
        grid: Height and width; None for their own, up to 16 x 16.
    """
    rows, columns = grid or (min(maps.shape[1], MAX_GRID_SIDE), min(maps.shape[2], MAX_GRID_SIDE))
    whole = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float64))[:, None]
    return functional.adaptive_avg_pool2d(whole, (rows, columns))[:, 0].numpy()


ChannelValues = Float[np.ndarray, "few channel"]


@dataclass(frozen=True, kw_only=True)
class SiteShapley:
    """A few sites with the Shapley values that others are compared with.

    Attributes:
        sites: Few: each takes as many forward passes as there are coalitions of channels.
        values: Of the network and the images as they are.
        settings: How channels are removed.
    """

    sites: ExplainedSites
    values: ChannelValues
    settings: ShapleySettings


def shapley_values(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    *,
    settings: ShapleySettings,
    transform: Callable[[SiteBatch], SiteBatch] = lambda batch: batch,
) -> ChannelValues:
    """Return the Shapley values of every site, float64.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Few: each takes as many forward passes as there are coalitions of channels.
        settings: How channels are removed; as many sites as images go together.
        transform: Applied to every batch first.
    """

    def values_of(batch: SiteBatch) -> dict[str, np.ndarray]:
        return {"values": channel_shapley(model, transform(batch), settings).values.double().cpu().numpy()}

    return sites.map(values_of, batch_size=settings.max_batch_size, device=next(model.parameters()).device)["values"]


def same_top(first: ChannelValues, second: ChannelValues) -> Float[np.ndarray, " few"]:
    """Return 1 where both name the same channel as the largest, else 0."""
    return np.asarray(first.argmax(1) == second.argmax(1), dtype=np.float64)
