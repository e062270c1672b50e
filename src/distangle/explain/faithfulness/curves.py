"""Compute deletion and insertion curves of attribution maps."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from distangle.axes import Images
from distangle.core.random import rng_for
from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.channels.nulls import random_smooth_maps
from distangle.explain.maps.attribution_map import enlarge
from distangle.explain.sites import ExplainedSites, SiteBatch
from distangle.explain.summary import wells_of
from distangle.model import PerturbationClassifier

Replacement = Literal["control", "blur"]
PerSite = Float[np.ndarray, " site"]
OutputScale = Literal["probability", "log_probability"]


@dataclass(frozen=True, kw_only=True)
class DeletionInsertion:
    """Output of the network while image regions are replaced.

    Deletion in the reverse order of a map and insertion in its order have the same images in reverse. A reversed random
    smooth map is again a random smooth map, so both curves share one null.

    Attributes:
        log_probability: Log-probability of the target, in nats, [site, order, step]. The orders are those of the map,
            of its reverse, and of random smooth maps.
        counts: Number of replaced regions at each step, from none to all.
        replacement: Replacement of the regions.
    """

    log_probability: Float[np.ndarray, "site order step"]
    counts: list[int]
    replacement: Replacement

    def deletion(self, *, scale: OutputScale = "probability") -> Float[np.ndarray, "site step"]:
        """Return the deletion curve, the top regions of the map replaced first."""
        return self._values(scale)[:, 0]

    def insertion(self, *, scale: OutputScale = "probability") -> Float[np.ndarray, "site step"]:
        """Return the insertion curve by `insertion_counts`, top regions first."""
        return self._values(scale)[:, 1, ::-1]

    @property
    def insertion_counts(self) -> list[int]:
        """Number of image regions at each step of the insertion curve."""
        return [self.counts[-1] - count for count in reversed(self.counts)]

    def random(self, *, scale: OutputScale = "probability") -> Float[np.ndarray, "site step"]:
        """Return the mean deletion curve of random smooth maps."""
        return np.asarray(self._values(scale)[:, 2:].mean(1))

    def deletion_area(self, *, scale: OutputScale = "probability") -> PerSite:
        """Return the area of the deletion curve: low for a faithful map."""
        return area(self.deletion(scale=scale), self.counts)

    def insertion_area(self, *, scale: OutputScale = "probability") -> PerSite:
        """Return the area of the insertion curve: high for a faithful map."""
        return area(self.insertion(scale=scale), self.insertion_counts)

    def null_area(self, *, scale: OutputScale = "probability") -> Float[np.ndarray, "site draw"]:
        """Return the areas for random smooth maps, the null of both curves."""
        return area(self._values(scale)[:, 2:], self.counts)

    def _values(self, scale: OutputScale) -> np.ndarray:
        return np.exp(self.log_probability) if scale == "probability" else self.log_probability


def order_of(maps: Float[np.ndarray, "*map rows columns"]) -> Int[np.ndarray, "*map region"]:
    """Return the regions of each map from the largest value to the smallest.

    Regions are numbered row by row. Ties, such as all regions of a constant map, have one fixed random order for all
    maps; sorted by position they would start in a corner, which would be a map of its own.

    Args:
        maps: Maps with finite values.
    """
    flat = maps.reshape(*maps.shape[:-2], -1)
    shuffled = rng_for(0, "places of one value", flat.shape[-1]).permutation(flat.shape[-1])
    return np.asarray(shuffled[np.argsort(-flat[..., shuffled], axis=-1, kind="stable")])


def n_replaced(n_regions: int, n_steps: int) -> list[int]:
    """Return the number of regions that each step has replaced, from 0 to all.

    The steps are symmetric: counted from the end they are the same as from the start.

    Args:
        n_regions: Number of regions.
        n_steps: Number of steps after the start.
    """
    return [k * n_regions // n_steps if 2 * k <= n_steps else n_regions - (n_steps - k) * n_regions // n_steps
            for k in range(n_steps + 1)]  # fmt: skip


def area(curves: Float[np.ndarray, "*curve step"], counts: list[int]) -> Float[np.ndarray, "*curve"]:
    """Return the mean height of curves, by the trapezoidal rule.

    Args:
        curves: Values at each step.
        counts: Result of `n_replaced`.
    """
    return np.asarray(np.trapezoid(curves, np.asarray(counts) / counts[-1], axis=-1))


def deletion_insertion(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    replacement: Replacement,
    rng: np.random.Generator,
    n_null_maps: int = 5,
    n_steps: int = 10,
    batch_size: int = 64,
) -> DeletionInsertion:
    """Replace more and more regions of every image and evaluate the network.

    Standardized pixels are replaced by standardized pixels. Quantities of the whole image, such as the measurements,
    change with every replaced region. The random maps replace as many regions and share this effect.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: Sites to explain, with `controls` for the replacement `control`.
        maps: One map per site on the grid of regions, of any sign.
        replacement: `control`: the same region of a control image of the plate; `blur`: the region without details
            smaller than a region.
        rng: Random generator for the random maps.
        n_null_maps: Number of random smooth maps per well.
        n_steps: Number of steps of a curve, at most one per region.
        batch_size: Images in one forward pass.

    Raises:
        ExplanationError: Maps and sites differ in number, a number is below 1, or `control` has no control images.
    """
    _check(sites, maps, replacement, n_null_maps=n_null_maps, n_steps=n_steps)
    grid = (maps.shape[1], maps.shape[2])
    # The maps of a well may be similar, so its sites share their random maps.
    well = np.unique(wells_of(sites.table), return_inverse=True)[1]
    n_wells = int(well.max()) + 1
    random_maps = random_smooth_maps(n_wells * n_null_maps, grid=grid, size=grid, rng=rng).grid
    order = order_of(maps)[:, None]
    random_orders = order_of(random_maps.reshape(n_wells, n_null_maps, *grid))[well]
    orders = np.concatenate([order, order[..., ::-1], random_orders], 1)
    counts = n_replaced(orders.shape[2], min(n_steps, orders.shape[2]))

    def score(batch: SiteBatch) -> dict[str, np.ndarray]:
        site_orders = orders[list(batch.rows)]
        values = _score_orders(
            model, batch, site_orders, grid=grid, counts=counts, replacement=replacement, batch_size=batch_size
        )
        return {"log_probability": values}

    scores = sites.map(score, batch_size=max(1, batch_size // 4), device=next(model.parameters()).device)
    return DeletionInsertion(log_probability=scores["log_probability"], counts=counts, replacement=replacement)


def remove_detail(images: Images, grid: tuple[int, int]) -> Images:
    """Return images blurred to the means of regions, at the same size."""
    rows, columns = (min(cells, side) for cells, side in zip(grid, images.shape[2:], strict=True))
    means = functional.adaptive_avg_pool2d(images, (rows, columns))
    return enlarge(means.flatten(0, 1), (images.shape[2], images.shape[3])).view_as(images)


def null_p(
    observed: PerSite,
    null: Float[np.ndarray, "site draw"],
    *,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
    n_draws: int = 1000,
) -> float:
    """Test a mean area against the areas of random maps.

    The p-value counts how often one random area per site gives as low a mean over sites. If the map were no better than
    a random smooth map, any of the areas of a site could be the area of the map. To test for high areas, pass both
    arguments with the opposite sign.

    Args:
        observed: Areas of the maps.
        null: Areas of random maps; the sites of a group share the maps.
        rng: Random generator; equal generators give equal draws.
        groups: Sites with possibly similar maps, such as those of a well, which are drawn together. None: each site by
            itself.
        n_draws: Number of draws; the smallest p-value is 1 / (1 + n_draws).

    Returns:
        (1 + number of draws with as low a mean) / (1 + draws), never 0.
    """
    pool = np.concatenate([observed[:, None], null], 1)
    labels = np.arange(len(pool)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    draws = rng.integers(pool.shape[1], size=(n_draws, int(labels.max()) + 1))[:, labels]
    means = pool[np.arange(len(pool)), draws].mean(1)
    # The order of summation changes the last digit.
    threshold = observed.mean() + 1e-12 * np.abs(pool).max()
    return float((1 + (means <= threshold).sum()) / (1 + n_draws))


def site_p(observed: PerSite, null: Float[np.ndarray, "site draw"]) -> PerSite:
    """Return the p-values: (1 + random maps with as low an area) / (1 + maps)."""
    return np.asarray((1 + (null <= observed[:, None]).sum(1)) / (1 + null.shape[1]))


def _score_orders(
    model: PerturbationClassifier,
    batch: SiteBatch,
    orders: Int[np.ndarray, "site order region"],
    *,
    grid: tuple[int, int],
    counts: list[int],
    replacement: Replacement,
    batch_size: int,
) -> Float[np.ndarray, "site order step"]:
    """Return the log-probability of every target at every step of every order."""
    device = batch.images.device
    replacement_images = _replacement_images(batch, grid, replacement)
    rank = torch.from_numpy(np.argsort(orders, axis=2)).to(device)  # step order in which each region is replaced
    log_probabilities = np.empty((*orders.shape[:2], len(counts)))
    # The first and the last image are the same in every order.
    ends = [(site, 0, step) for site in range(len(orders)) for step in (0, len(counts) - 1)]
    inner = [(*which, step) for which in np.ndindex(orders.shape[:2]) for step in range(1, len(counts) - 1)]
    jobs = torch.tensor(ends + inner, device=device)
    for part in torch.split(jobs, batch_size):
        site, order, step = part.unbind(1)
        replaced = rank[site, order] < torch.tensor(counts, device=device)[step][:, None]
        mixed = torch.where(_enlarge_mask(replaced, grid, batch.images), replacement_images[site], batch.images[site])
        logits = _repeat_sites(batch, site, mixed).logits(model)
        values = logits.log_softmax(1).gather(1, batch.targets[site].long()[:, None])[:, 0]
        log_probabilities[tuple(part.T.cpu().numpy())] = values.double().cpu().numpy()
    log_probabilities[:, 1:, [0, -1]] = log_probabilities[:, :1, [0, -1]]
    return log_probabilities


def _repeat_sites(batch: SiteBatch, site: Tensor, images: Images) -> SiteBatch:
    """Return the batch with its sites repeated, each time with another image."""
    return dataclasses.replace(
        batch,
        rows=[batch.rows[k] for k in site.tolist()],
        images=images,
        cell_types=None if batch.cell_types is None else batch.cell_types[site],
        targets=batch.targets[site],
        references=None if batch.references is None else batch.references[site],
    )


def _enlarge_mask(
    mask: Bool[Tensor, "image region"], grid: tuple[int, int], images: Images
) -> Bool[Tensor, "image 1 _ _"]:
    cells = mask.view(-1, 1, *grid).float()
    return functional.interpolate(cells, size=images.shape[2:], mode="nearest") > 0


def _replacement_images(batch: SiteBatch, grid: tuple[int, int], replacement: Replacement) -> Images:
    if replacement == "blur":
        return remove_detail(batch.images, grid)
    if batch.controls is None:
        raise ExplanationError(
            "The replacement `control` needs control images, but there are none. Use the replacement `blur`."
        )
    return batch.controls.expand_as(batch.images)


def _check(sites: ExplainedSites, maps: np.ndarray, replacement: str, *, n_null_maps: int, n_steps: int) -> None:
    if len(maps) != len(sites):
        raise ExplanationError(f"{len(maps)} maps for {len(sites)} sites. Give one map per site.")
    if replacement not in get_args(Replacement):
        raise ExplanationError(
            f"Unknown replacement {replacement!r}. {did_you_mean(replacement, get_args(Replacement))}"
        )
    if n_null_maps < 1 or n_steps < 1:
        raise ExplanationError(f"{n_null_maps} random maps and {n_steps} steps; expected at least one of each.")
