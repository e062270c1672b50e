"""Null distributions of channel scores: random maps and shuffled channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from distangle.explain.places.activation_map import enlarge
from distangle.explain.stains.channel_attention import (
    ChannelArray,
    RawImages,
    Scaling,
    max_normalised,
    scaled,
    unit_length,
)

NullScores = Float[np.ndarray, "site draw channel"]
AT_ONCE = 1_000_000  # numbers shuffled together: 8 MB


@dataclass(frozen=True, kw_only=True)
class RandomMaps:
    """Random smooth maps on the grid of attribution maps.

    Enlarging is linear, so scores against many maps are computed on the grid and the enlarged maps need not exist.

    Attributes:
        grid: float64, scaled so that each enlarged map has its maximum at 1 and no negatives.
        size: Height and width of the images, in pixels.
    """

    grid: Float[np.ndarray, "draw rows columns"]
    size: tuple[int, int]

    def enlarged(self) -> Float[np.ndarray, "draw height width"]:
        """Return the maps at the size of the images, float32."""
        return enlarge(torch.from_numpy(self.grid), self.size).numpy().astype(np.float32)

    def enlarging(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two matrices [pixel, cell] with enlarged = rows @ grid @ columns.T."""
        rows, columns = (
            functional.interpolate(
                torch.eye(cells, dtype=torch.float64)[:, None], size=pixels, mode="linear", align_corners=False
            )[:, 0].T.numpy()
            for cells, pixels in zip(self.grid.shape[1:], self.size, strict=True)
        )
        return rows, columns

    def on_grid(self, pixels: np.ndarray) -> np.ndarray:
        """Apply the adjoint of enlarging to images.

        <enlarged map, pixels> = <map on its grid, this>.

        Args:
            pixels: [..., height, width] of the images.

        Returns:
            [..., rows, columns] of the grid.
        """
        rows, columns = self.enlarging()
        return np.asarray(rows.T @ pixels @ columns)


def random_smooth_maps(
    n_maps: int, *, grid: tuple[int, int], size: tuple[int, int], rng: np.random.Generator, smoothness: float = 1.0
) -> RandomMaps:
    """Draw smooth random maps, stretched to [0, 1] and enlarged as maps are.

    Args:
        n_maps: How many.
        grid: Height and width of the layer's maps.
        size: Height and width of the images, in pixels.
        rng: Equal generators give equal maps.
        smoothness: Standard deviation of the Gaussian, in cells of the grid.
    """
    noise = gaussian_filter(rng.standard_normal((n_maps, *grid)), (0, smoothness, smoothness), mode="reflect")
    low, high = (edge(noise, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    positive = (noise - low) / np.where(high > low, high - low, 1)
    # One at a time: 1,000 maps of 512 x 512 would take a gigabyte.
    tops = [float(enlarge(torch.from_numpy(one[None]), size).max()) for one in positive]
    return RandomMaps(grid=positive / np.maximum(tops, np.finfo(float).tiny)[:, None, None], size=size)


def null_channel_attention(maps: RandomMaps, raw: RawImages, *, scaling: Scaling) -> NullScores:
    """Return `channel_attention` of every image with every random map."""
    pixels = scaled(raw, scaling=scaling).astype(np.float64)
    enlarge_rows, enlarge_columns = maps.enlarging()
    map_squares = np.einsum(
        "nij,ik,jl,nkl->n",
        maps.grid,
        enlarge_rows.T @ enlarge_rows,
        enlarge_columns.T @ enlarge_columns,
        maps.grid,
        optimize=True,
    )
    products = np.einsum("nij,scij->snc", maps.grid, maps.on_grid(pixels), optimize=True)
    image_squares = np.square(pixels).sum((2, 3))
    squares = map_squares[None, :, None] - 2 * products + image_squares[:, None, :]
    return max_normalised(np.sqrt(np.maximum(squares, 0)))


def null_correlation(maps: RandomMaps, raw: RawImages) -> NullScores:
    """Return `map_channel_correlation` of every image with every random map."""
    channels = unit_length(raw.reshape(*raw.shape[:2], -1)).reshape(raw.shape)
    enlarge_rows, enlarge_columns = maps.enlarging()
    pixels = maps.size[0] * maps.size[1]
    means = np.einsum("nij,i,j->n", maps.grid, enlarge_rows.sum(0), enlarge_columns.sum(0)) / pixels
    centred = maps.grid - means[:, None, None]
    squares = np.einsum(
        "nij,ik,jl,nkl->n",
        centred,
        enlarge_rows.T @ enlarge_rows,
        enlarge_columns.T @ enlarge_columns,
        centred,
        optimize=True,
    )
    products = np.einsum("nij,scij->snc", centred, maps.on_grid(channels), optimize=True)
    lengths = np.sqrt(np.maximum(squares, 0))[None, :, None]
    correlations: np.ndarray = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return correlations


def p_values(observed: ChannelArray, null: NullScores) -> ChannelArray:
    """Return p of each score, (1 + draws at least as high) / (1 + draws)."""
    return np.asarray((1 + (null >= observed[:, None]).sum(1)) / (1 + null.shape[1]))


def mean_over_sites(
    null: NullScores, *, rng: np.random.Generator, groups: Sequence[str] | None = None
) -> Float[np.ndarray, "draw channel"]:
    """Return the mean of each draw over sites.

    Every group of sites has a random map of its own.

    Maps shared by all sites would vary together. Those of the sites of a well may be alike, so they share one.

    Args:
        null: Of every site with the same random maps.
        rng: Equal generators give equal draws.
        groups: Sites that share a map, such as those of a well; None: each alone.
    """
    labels = np.arange(len(null)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    orders = [rng.permutation(null.shape[1]) for _ in range(int(labels.max()) + 1)]
    total = np.zeros(null.shape[1:])
    for site, label in zip(null, labels, strict=True):
        total += site[orders[label]]
    return total / len(null)


@dataclass(frozen=True, kw_only=True)
class ShapleyNull:
    """The mean score of each channel beside those that would mean nothing.

    Attributes:
        means: Observed mean over sites, per channel.
        null: The same after the shuffle of each draw: of the stains of a group, or of the labels.
        p: Share of draws whose mean for the channel is at least the observed one, (1 + n) / (1 + draws).
        p_family: The same against the largest channel of each draw: corrected for having looked at all channels. It
            is the one to give beside the channel that came out largest.
    """

    means: Float[np.ndarray, " channel"]
    null: Float[np.ndarray, "draw channel"]
    p: Float[np.ndarray, " channel"]
    p_family: Float[np.ndarray, " channel"]


def shapley_null(
    values: ChannelArray, *, rng: np.random.Generator, groups: Sequence[str] | None = None, n_draws: int = 1000
) -> ShapleyNull:
    """Test whether a channel's mean score exceeds that of a random channel.

    Args:
        values: Of `channel_shapley` or `channel_ablation`.
        rng: Equal generators give equal draws.
        groups: Sites that share one shuffle because they are not independent: those of a well, or of a perturbation
            where the question is whether one stain stands out over perturbations. None shuffles every site on its own,
            which finds too much where sites are replicates of each other.
        n_draws: Shuffles; the smallest p is 1 / (1 + n_draws).
    """
    labels = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    # A shuffle of a group's sites together shuffles their sum.
    sums = np.zeros((int(labels.max()) + 1, values.shape[1]))
    np.add.at(sums, labels, values.astype(np.float64))
    means = sums.sum(0) / len(values)
    at_once = max(1, AT_ONCE // sums.size)
    null = np.concatenate(
        [
            rng.permuted(np.broadcast_to(sums, (min(at_once, n_draws - begun), *sums.shape)), axis=2).sum(1)
            for begun in range(0, n_draws, at_once)
        ]
    ) / len(values)
    # Summing in another order moves the last digit: a draw equal to the observation must count as equal.
    reached = means - 1e-12 * np.abs(sums).sum() / len(values)
    return ShapleyNull(
        means=means,
        null=null,
        p=(1 + (null >= reached).sum(0)) / (1 + n_draws),
        p_family=(1 + (null.max(1)[:, None] >= reached).sum(0)) / (1 + n_draws),
    )
