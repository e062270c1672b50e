"""Order of places in a map, and places per step of a curve.

Deletion and insertion curves: places replaced in the order of the map.
"""

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


def order_of(maps: Float[np.ndarray, "*map rows columns"]) -> Int[np.ndarray, "*map place"]:
    """Return the places of each map from the largest value to the smallest.

    Places are counted row by row.

    Places of one value, such as all of a constant map, come in one fixed shuffled order, the same for every map: by
    position they would begin in a corner, which is a map of its own.

    Args:
        maps: Finite.
    """
    flat = maps.reshape(*maps.shape[:-2], -1)
    shuffled = rng_for(0, "places of one value", flat.shape[-1]).permutation(flat.shape[-1])
    return np.asarray(shuffled[np.argsort(-flat[..., shuffled], axis=-1, kind="stable")])


def n_masked(n_places: int, n_steps: int) -> list[int]:
    """Return how many places each step has replaced, from 0 to all.

    The steps are the same from the end as from the start.

    Args:
        n_places: In all.
        n_steps: After the start.
    """
    return [k * n_places // n_steps if 2 * k <= n_steps else n_places - (n_steps - k) * n_places // n_steps
            for k in range(n_steps + 1)]  # fmt: skip


def area(curves: Float[np.ndarray, "*curve step"], counts: list[int]) -> Float[np.ndarray, "*curve"]:
    """Return the mean height of curves, by the trapezium rule.

    Args:
        curves: Values at each step.
        counts: From `taken`.
    """
    return np.asarray(np.trapezoid(curves, np.asarray(counts) / counts[-1], axis=-1))


Replacement = Literal["control", "blur"]
PerSite = Float[np.ndarray, " site"]
Of = Literal["probability", "log_probability"]


@dataclass(frozen=True, kw_only=True)
class DeletionInsertion:
    """What the network says while places are taken away, for one replacement.

    Deleting in the reversed order of a map and inserting in its order pass through the same images, so each is the
    other backwards. A reversed random smooth map is a random smooth map: one null serves both curves.

    Attributes:
        log_probability: Of the target, in nats, [site, order, step]; the orders are that of the map, the reverse, and
            those of random smooth maps.
        counts: Places taken at each step, from none to all.
        replacement: What came in their place.
    """

    log_probability: Float[np.ndarray, "site order step"]
    counts: list[int]
    replacement: Replacement

    def deletion(self, *, of: Of = "probability") -> Float[np.ndarray, "site step"]:
        """Return the deletion curve, the top places of the map replaced first."""
        return self._values(of)[:, 0]

    def insertion(self, *, of: Of = "probability") -> Float[np.ndarray, "site step"]:
        """Return the insertion curve, the top places of the map first; see `put_back`."""
        return self._values(of)[:, 1, ::-1]

    @property
    def put_back(self) -> list[int]:
        """How many places of the image each step of the insertion curve has."""
        return [self.counts[-1] - count for count in reversed(self.counts)]

    def random(self, *, of: Of = "probability") -> Float[np.ndarray, "site step"]:
        """Return the mean deletion curve of random smooth maps."""
        return np.asarray(self._values(of)[:, 2:].mean(1))

    def deletion_area(self, *, of: Of = "probability") -> PerSite:
        """Return the area of the deletion curve: low for a faithful map."""
        return area(self.deletion(of=of), self.counts)

    def insertion_area(self, *, of: Of = "probability") -> PerSite:
        """Return the area of the insertion curve: high for a faithful map."""
        return area(self.insertion(of=of), self.put_back)

    def null_area(self, *, of: Of = "probability") -> Float[np.ndarray, "site draw"]:
        """Return the same of random smooth maps, for both curves."""
        return area(self._values(of)[:, 2:], self.counts)

    def _values(self, of: Of) -> np.ndarray:
        return np.exp(self.log_probability) if of == "probability" else self.log_probability


def deletion_insertion(
    model: PerturbationClassifier,
    sites: ExplainedSites,
    maps: Float[np.ndarray, "site rows columns"],
    *,
    replacement: Replacement,
    rng: np.random.Generator,
    n_null_maps: int = 5,
    n_steps: int = 10,
    at_once: int = 64,
) -> DeletionInsertion:
    """Replace more and more places of every image and ask the network each time.

    Standardised pixels are replaced by standardised pixels. What a network measures over the whole image (the
    measurements, a stain's spread before published filters) changes with every place, whichever it is; the random
    maps replace as many places and share that.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        sites: With `controls` for `control`.
        maps: One per site on the grid of places, of any sign.
        replacement: `control`: the same place of an untreated image of the plate; `blur`: the place without what is
            smaller than a place.
        rng: Of the random maps.
        n_null_maps: Random smooth maps per well.
        n_steps: Of a curve, at most one per place.
        at_once: Images in one forward pass.

    Raises:
        ExplanationError: Maps of other sites, no step or map, or `control` without control images.
    """
    _check(sites, maps, replacement, n_null_maps=n_null_maps, n_steps=n_steps)
    grid = (maps.shape[1], maps.shape[2])
    # The maps of a well may be alike, so its sites share their random maps.
    well = np.unique(wells_of(sites.table), return_inverse=True)[1]
    n_wells = int(well.max()) + 1
    random_maps = random_smooth_maps(n_wells * n_null_maps, grid=grid, size=grid, rng=rng).grid
    order = order_of(maps)[:, None]
    random_orders = order_of(random_maps.reshape(n_wells, n_null_maps, *grid))[well]
    orders = np.concatenate([order, order[..., ::-1], random_orders], 1)
    counts = n_masked(orders.shape[2], min(n_steps, orders.shape[2]))

    def score(piece: SiteBatch) -> dict[str, np.ndarray]:
        chosen = orders[list(piece.rows)]
        values = _asked(model, piece, chosen, grid=grid, counts=counts, replacement=replacement, at_once=at_once)
        return {"log_probability": values}

    found = sites.map(score, at_once=max(1, at_once // 4), device=next(model.parameters()).device)
    return DeletionInsertion(log_probability=found["log_probability"], counts=counts, replacement=replacement)


def remove_detail(images: Images, grid: tuple[int, int]) -> Images:
    """Return images blurred to the means of places, at the same size."""
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

    The p-value counts how often areas drawn anew give as low a mean over sites.

    Were the map no better than a random smooth one, each of the areas at a site could as well be the map's. For high
    areas give both with the opposite sign.

    Args:
        observed: Areas of the maps.
        null: Areas of random maps, for the sites of a group of the same ones.
        rng: Equal generators give equal draws.
        groups: Sites whose maps may be alike, such as those of a well: they are drawn together. None: each alone.
        n_draws: The smallest p is 1 / (1 + n_draws).

    Returns:
        (1 + how many draws) / (1 + draws), never 0.
    """
    pool = np.concatenate([observed[:, None], null], 1)
    labels = np.arange(len(pool)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    drawn = rng.integers(pool.shape[1], size=(n_draws, int(labels.max()) + 1))[:, labels]
    means = pool[np.arange(len(pool)), drawn].mean(1)
    # Summing the same numbers in another order moves the last digit.
    reached = observed.mean() + 1e-12 * np.abs(pool).max()
    return float((1 + (means <= reached).sum()) / (1 + n_draws))


def site_p(observed: PerSite, null: Float[np.ndarray, "site draw"]) -> PerSite:
    """Return p of each site: (1 + random maps with as low an area) / (1 + maps)."""
    return np.asarray((1 + (null <= observed[:, None]).sum(1)) / (1 + null.shape[1]))


def _asked(
    model: PerturbationClassifier,
    piece: SiteBatch,
    orders: Int[np.ndarray, "site order place"],
    *,
    grid: tuple[int, int],
    counts: list[int],
    replacement: Replacement,
    at_once: int,
) -> Float[np.ndarray, "site order step"]:
    """Return the log-probability of every target at every step of every order."""
    device = piece.images.device
    stand_in = _stand_in(piece, grid, replacement)
    turn = torch.from_numpy(np.argsort(orders, axis=2)).to(device)  # when each place is taken
    found = np.empty((*orders.shape[:2], len(counts)))
    # The first and the last image are the same in every order.
    ends = [(site, 0, step) for site in range(len(orders)) for step in (0, len(counts) - 1)]
    between = [(*which, step) for which in np.ndindex(orders.shape[:2]) for step in range(1, len(counts) - 1)]
    jobs = torch.tensor(ends + between, device=device)
    for some in torch.split(jobs, at_once):
        site, order, step = some.unbind(1)
        gone = turn[site, order] < torch.tensor(counts, device=device)[step][:, None]
        mixed = torch.where(_in_pixels(gone, grid, piece.images), stand_in[site], piece.images[site])
        logits = _again(piece, site, mixed).logits(model)
        said = logits.log_softmax(1).gather(1, piece.targets[site].long()[:, None])[:, 0]
        found[tuple(some.T.cpu().numpy())] = said.double().cpu().numpy()
    found[:, 1:, [0, -1]] = found[:, :1, [0, -1]]
    return found


def _again(piece: SiteBatch, site: Tensor, images: Images) -> SiteBatch:
    """The piece with a site as often as it is named, each time with another image."""
    return dataclasses.replace(
        piece,
        rows=[piece.rows[k] for k in site.tolist()],
        images=images,
        cell_types=None if piece.cell_types is None else piece.cell_types[site],
        targets=piece.targets[site],
        references=None if piece.references is None else piece.references[site],
    )


def _in_pixels(
    places: Bool[Tensor, "image place"], grid: tuple[int, int], images: Images
) -> Bool[Tensor, "image 1 _ _"]:
    whole = places.view(-1, 1, *grid).float()
    return functional.interpolate(whole, size=images.shape[2:], mode="nearest") > 0


def _stand_in(piece: SiteBatch, grid: tuple[int, int], replacement: Replacement) -> Images:
    if replacement == "blur":
        return remove_detail(piece.images, grid)
    if piece.controls is None:
        raise ExplanationError(
            "There are no control images to put in the place of what is taken. Use the replacement `blur`."
        )
    return piece.controls.expand_as(piece.images)


def _check(sites: ExplainedSites, maps: np.ndarray, replacement: str, *, n_null_maps: int, n_steps: int) -> None:
    if len(maps) != len(sites):
        raise ExplanationError(f"{len(maps)} maps for {len(sites)} sites. Give one map per site.")
    if replacement not in get_args(Replacement):
        raise ExplanationError(
            f"Nothing is replaced by {replacement!r}. {did_you_mean(replacement, get_args(Replacement))}"
        )
    if n_null_maps < 1 or n_steps < 1:
        raise ExplanationError(f"{n_null_maps} random maps and {n_steps} steps: a curve needs at least one of each.")
