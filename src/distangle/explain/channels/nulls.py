"""Null distributions of channel scores: random maps and shuffled channels.

Null distributions of channel scores: permuted labels and control wells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from distangle.explain.channels.map_scores import (
    ChannelArray,
    RawImages,
    Scaling,
    max_normalized,
    scale_maps,
    unit_length,
)
from distangle.explain.maps.attribution_map import enlarge

NullScores = Float[np.ndarray, "site draw channel"]
MAX_SHUFFLE_SIZE = 1_000_000  # numbers shuffled together: 8 MB


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
    low, high = (extreme(noise, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    positive = (noise - low) / np.where(high > low, high - low, 1)
    # One at a time: 1,000 maps of 512 x 512 would take a gigabyte.
    tops = [float(enlarge(torch.from_numpy(single[None]), size).max()) for single in positive]
    return RandomMaps(grid=positive / np.maximum(tops, np.finfo(float).tiny)[:, None, None], size=size)


def null_channel_attention(maps: RandomMaps, raw: RawImages, *, scaling: Scaling) -> NullScores:
    """Return `channel_attention` of every image with every random map."""
    pixels = scale_maps(raw, scaling=scaling).astype(np.float64)
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
    return max_normalized(np.sqrt(np.maximum(squares, 0)))


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
        groups: Sites that share a map, such as those of a well; None: each site by itself.
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
        null: The same after the shuffle of each draw: of the channels of a group, or of the labels.
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
            where the question is whether one channel stands out over perturbations. None shuffles every site on its own,
            which finds too much where sites are replicates of each other.
        n_draws: Shuffles; the smallest p is 1 / (1 + n_draws).
    """
    labels = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    # A shuffle of a group's sites together shuffles their sum.
    sums = np.zeros((int(labels.max()) + 1, values.shape[1]))
    np.add.at(sums, labels, values.astype(np.float64))
    means = sums.sum(0) / len(values)
    block = max(1, MAX_SHUFFLE_SIZE // sums.size)
    null = np.concatenate(
        [
            rng.permuted(np.broadcast_to(sums, (min(block, n_draws - start), *sums.shape)), axis=2).sum(1)
            for start in range(0, n_draws, block)
        ]
    ) / len(values)
    # Summing in another order moves the last digit: a draw equal to the observation must count as equal.
    threshold = means - 1e-12 * np.abs(sums).sum() / len(values)
    return ShapleyNull(
        means=means,
        null=null,
        p=(1 + (null >= threshold).sum(0)) / (1 + n_draws),
        p_family=(1 + (null.max(1)[:, None] >= threshold).sum(0)) / (1 + n_draws),
    )


def labels_null(
    by_target: Float[np.ndarray, "site channel target"],
    targets: Int[np.ndarray, " site"],
    *,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
    within: Sequence[str] | None = None,
    n_draws: int = 1000,
) -> ShapleyNull | None:
    """Test channel scores against those for permuted labels.

    The question is whether a channel moved its own targets more than random ones.

    The labels of whole groups are permuted; each image then gets the score of the channel for another image's label. A
    channel that moves every image towards the same answers, or that only brings noise, does not differ from that.
    Under the hypothesis that images and labels have nothing to do with each other the p-value is exact (Phipson and
    Smyth 2010). Where the labels are the network's own predictions that hypothesis is false from the start, and p
    only says whether this channel took part in telling the images apart.

    Args:
        by_target: Score of every channel for every label that occurs.
        targets: Which of them is each site's own.
        rng: Equal generators give equal draws.
        groups: Sites that share one draw, such as those of a well, and that should have one label; None: each site by itself.
        within: Labels are only exchanged between groups of the same name here, such as an experiment: where experiments
            hold different perturbations, batch effects would else be taken for effects of the channel. None: between all.
        n_draws: Permutations; the smallest p is 1 / (1 + n_draws).

    Returns:
        None where all sites have one label: there is nothing to permute.
    """
    if len(np.unique(targets)) < 2:
        return None
    sites = np.arange(len(targets))
    labels = sites if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(labels == group) for group in range(int(labels.max()) + 1)]
    stratum = np.zeros(len(targets)) if within is None else np.unique(np.asarray(within), return_inverse=True)[1]
    blocks = _blocks(stratum[[group[0] for group in members]])
    group_targets, sizes = targets[np.concatenate(members)], np.array([len(group) for group in members])
    starts = np.cumsum(sizes) - sizes
    scores = by_target.astype(np.float64)
    means = scores[sites, :, targets].mean(0)
    null = np.empty((n_draws, len(means)))
    for draw in range(n_draws):
        permuted = np.empty(len(members), dtype=targets.dtype)
        for block in blocks:
            order = rng.permutation(block)
            permuted[block] = group_targets[starts[order] + rng.integers(sizes[order])]
        null[draw] = scores[sites, :, permuted[labels]].mean(0)
    # Rounding: a draw equal to the observation must count as equal.
    threshold = means - 1e-12 * np.abs(scores).max()
    return ShapleyNull(
        means=means,
        null=null,
        p=(1 + (null >= threshold).sum(0)) / (1 + n_draws),
        p_family=family_p(threshold, null),
    )


def _blocks(strata: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(strata == name) for name in np.unique(strata)]


def family_p(scores: Float[np.ndarray, " channel"], null: Float[np.ndarray, "draw channel"]) -> np.ndarray:
    """Return p of each channel against the largest channel of each draw.

    Scores are taken in units of each channel's spread, as they differ in scale.

    Args:
        scores: Observed scores.
        null: Of each draw.
    """
    # The observation is one of the draws under the hypothesis, so it is among them here too.
    all_draws = np.concatenate([scores[None], null])
    centre, scale = all_draws.mean(0), all_draws.std(0)
    observed, null_scores = (
        np.divide(values - centre, scale, out=np.zeros_like(values), where=scale > 1e-12 * np.abs(null).max())
        for values in (scores, null)
    )
    return np.asarray((1 + (null_scores.max(1)[:, None] >= observed).sum(0)) / (1 + len(null)))


def control_p_value(
    scores: ChannelArray,
    wells: Sequence[str],
    *,
    control_scores: Float[np.ndarray, "untreated channel"],
    control_wells: Sequence[str],
) -> ChannelArray:
    """Return p of each site and channel against control wells.

    It is (1 + control wells that score as high) / (1 + control wells).

    The control wells are explained by the same rule: what was predicted for them, or what was asked for. So if
    the site were just another control well, its rank among them would be any with equal chance, and p uniform:
    also when the explained answer is the network's own choice, which makes every score large. It takes many control
    wells to make p small: with 16, it is at least 1 / 17.

    Args:
        scores: Of `channel_shapley` or `channel_ablation`.
        wells: The well of each site; a control one is not compared with itself.
        control_scores: Scores of one site of each control well.
        control_wells: Their wells.

    Returns:
        In (0, 1]; NaN where no control well is left to compare with.
    """
    is_other = np.asarray(wells)[:, None] != np.asarray(control_wells)[None, :]
    as_high = (control_scores[None] >= scores[:, None]) & is_other[:, :, None]
    n_others = is_other.sum(1)[:, None]
    p = (1 + as_high.sum(1)) / (1 + n_others)
    return np.asarray(np.where(n_others > 0, p, np.nan))


def combine_p_values(p: Float[np.ndarray, "site channel"]) -> Float[np.ndarray, " channel"]:
    """Combine the p-values of several sites: twice their mean, at most 1.

    The p-value of one site stays.

    Valid however the sites depend on each other, as those of a well do; Fisher's and Stouffer's ways are not.

    Source: Rueschendorf 1982, Random variables with maximum sums; Vovk and Wang 2020, Combining p-values via
        averaging.
    """
    return np.asarray(p[0] if len(p) == 1 else np.minimum(1, 2 * p.mean(0)))
