"""Compute maps and Shapley values of all sites, and their similarity."""

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
MapMethod = Callable[[PerturbationClassifier, SiteBatch], Tensor]
"""Called as `method(model, batch)` with the batch-norm statistics of the plate in use; returns maps
[site, height, width] of any size and sign, larger where the position speaks more for the target."""
MAX_GRID_SIDE = 16  # positions per side; more would make curves slow
ChannelValues = Float[np.ndarray, "few channel"]


@dataclass(frozen=True, kw_only=True)
class SiteShapley:
    """A few sites with the Shapley values to compare with.

    Attributes:
        sites: A few sites; each needs one forward pass per coalition of channels.
        values: Shapley values of the network for the original images.
        settings: How channels are removed.
    """

    sites: ExplainedSites
    values: ChannelValues
    settings: ShapleySettings


def similarity(first: Float[np.ndarray, "site *position"], second: Float[np.ndarray, "site *position"]) -> PerSite:  # noqa: F821 - axes
    """Return Spearman's correlation of each pair of maps, in [-1, 1].

    Rows of Shapley values are compared the same way.

    Args:
        first: One map per site, of any sign.
        second: Maps to compare with, position by position.

    Returns:
        The correlation; 0 if one of the two maps is constant.
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
        n_draws: Number of pairs.
    """
    random_maps = random_smooth_maps(2 * n_draws, grid=grid, size=grid, rng=rng).grid
    return similarity(random_maps[:n_draws], random_maps[n_draws:])


def mean_of_random(
    null: Float[np.ndarray, " draw"], *, n_sites: int, rng: np.random.Generator, n_draws: int = 1000
) -> tuple[float, float]:
    """Return the central 95 % of the mean similarity of random maps.

    Each of the `n_sites` sites has its own draw.
    """
    means = null[rng.integers(len(null), size=(n_draws, n_sites))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def map_method(method: Method = "grad_cam", *, layer: str | None = None, head: Head = "softmax") -> MapMethod:
    """Return a method of `attribution_map` that gives signed maps on their own grid.

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
        model: The network to explain.
        sites: Sites of the maps.
        batch_size: Sites in one call of the method.
        transform: Function applied to every batch first.

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
    """Average maps over the positions of a grid, float64.

    Args:
        maps: Maps of any size.
        grid: Height and width; None for the size of the maps, up to 16 x 16.
    """
    rows, columns = grid or (min(maps.shape[1], MAX_GRID_SIDE), min(maps.shape[2], MAX_GRID_SIDE))
    tensor = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float64))[:, None]
    return functional.adaptive_avg_pool2d(tensor, (rows, columns))[:, 0].numpy()


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
        sites: A few sites; each needs one forward pass per coalition of channels.
        settings: How channels are removed; `max_batch_size` is also the number of sites per batch.
        transform: Function applied to every batch first.
    """

    def values_of(batch: SiteBatch) -> dict[str, np.ndarray]:
        return {"values": channel_shapley(model, transform(batch), settings).values.double().cpu().numpy()}

    return sites.map(values_of, batch_size=settings.max_batch_size, device=next(model.parameters()).device)["values"]


def same_top(first: ChannelValues, second: ChannelValues) -> Float[np.ndarray, " few"]:
    """Return 1 where the top channel of both is the same, else 0."""
    return np.asarray(first.argmax(1) == second.argmax(1), dtype=np.float64)
