"""Compute null distributions and p-values of channel scores."""

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

    Enlarging is linear, so scores of many random maps are computed on the grid without enlarging the maps.

    Attributes:
        grid: float64 maps on the grid, non-negative; each enlarged map has the maximum 1.
        size: Height and width of the images, in pixels.
    """

    grid: Float[np.ndarray, "draw rows columns"]
    size: tuple[int, int]

    def enlarged(self) -> Float[np.ndarray, "draw height width"]:
        """Return the maps at the size of the images, float32."""
        return enlarge(torch.from_numpy(self.grid), self.size).numpy().astype(np.float32)

    def enlarging(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two matrices [pixel, position] with enlarged = rows @ grid @ columns.T."""
        rows, columns = (
            functional.interpolate(
                torch.eye(cells, dtype=torch.float64)[:, None], size=pixels, mode="linear", align_corners=False
            )[:, 0].T.numpy()
            for cells, pixels in zip(self.grid.shape[1:], self.size, strict=True)
        )
        return rows, columns

    def on_grid(self, pixels: np.ndarray) -> np.ndarray:
        """Apply the adjoint of enlarging to images.

        The result satisfies <enlarged map, pixels> = <map on the grid, result>.

        Args:
            pixels: Images [..., height, width].

        Returns:
            Values on the grid [..., rows, columns].
        """
        rows, columns = self.enlarging()
        return np.asarray(rows.T @ pixels @ columns)


@dataclass(frozen=True, kw_only=True)
class ShapleyNull:
    """Mean score of each channel with its null distribution.

    Attributes:
        means: Observed mean over sites, per channel.
        null: Mean after the shuffle of each draw: of the channels of a group, or of the labels.
        p: Share of draws whose mean for the channel is at least the observed one, (1 + n) / (1 + draws).
        p_family: The same against the largest channel of each draw, which corrects for testing all channels. Report
            it for the top channel.
    """

    means: Float[np.ndarray, " channel"]
    null: Float[np.ndarray, "draw channel"]
    p: Float[np.ndarray, " channel"]
    p_family: Float[np.ndarray, " channel"]


def random_smooth_maps(
    n_maps: int, *, grid: tuple[int, int], size: tuple[int, int], rng: np.random.Generator, smoothness: float = 1.0
) -> RandomMaps:
    """Draw smooth random maps in [0, 1] that are enlarged like attribution maps.

    Args:
        n_maps: Number of maps.
        grid: Height and width of the layer's maps.
        size: Height and width of the images, in pixels.
        rng: Random generator; equal generators give equal maps.
        smoothness: Standard deviation of the Gaussian filter, in grid positions.
    """
    noise = gaussian_filter(rng.standard_normal((n_maps, *grid)), (0, smoothness, smoothness), mode="reflect")
    low, high = (extreme(noise, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    positive = (noise - low) / np.where(high > low, high - low, 1)
    # One map at a time: 1,000 maps of 512 x 512 would take a gigabyte.
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
    """Return the p-value of each score: (1 + draws at least as high) / (1 + draws)."""
    return np.asarray((1 + (null >= observed[:, None]).sum(1)) / (1 + null.shape[1]))


def mean_over_sites(
    null: NullScores, *, rng: np.random.Generator, groups: Sequence[str] | None = None
) -> Float[np.ndarray, "draw channel"]:
    """Return the mean of each draw over sites.

    Each group of sites has its own order of the random maps, because maps shared by all sites would vary together. The
    sites of a well share an order, because their attribution maps may be similar.

    Args:
        null: Scores of every site with the same random maps.
        rng: Random generator; equal generators give equal draws.
        groups: Group of each site, such as its well; None: each site by itself.
    """
    labels = np.arange(len(null)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    orders = [rng.permutation(null.shape[1]) for _ in range(int(labels.max()) + 1)]
    total = np.zeros(null.shape[1:])
    for site, label in zip(null, labels, strict=True):
        total += site[orders[label]]
    return total / len(null)


def shapley_null(
    values: ChannelArray, *, rng: np.random.Generator, groups: Sequence[str] | None = None, n_draws: int = 1000
) -> ShapleyNull:
    """Test whether a channel's mean score exceeds that of a random channel.

    Args:
        values: Scores from `channel_shapley` or `channel_ablation`.
        rng: Random generator; equal generators give equal draws.
        groups: Sites that share one shuffle because they are not independent: those of a well, or of a perturbation
            to test whether one channel stands out over perturbations. None shuffles every site by itself, which
            gives too small p-values for replicate sites.
        n_draws: Number of shuffles; the smallest p-value is 1 / (1 + n_draws).
    """
    labels = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    # One shuffle for all sites of a group equals a shuffle of their sum.
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
    # The order of summation changes the last digit; a draw equal to the observation must count as equal.
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
    """Test channel scores against the scores for permuted labels.

    The question is whether a channel contributes more to the targets of its own images than to random targets. Labels
    of whole groups are permuted, and each image gets the score of the channel for the label of another image. A channel
    that moves all images towards the same outputs, or that only adds noise, does not differ from this null. The p-value
    is exact if images and labels are independent (Phipson and Smyth 2010). If the labels are predictions of the network
    they are not independent, and p only shows whether the channel helped to separate the images.

    Args:
        by_target: Score of every channel for every label that occurs.
        targets: Index of the label of each site.
        rng: Random generator; equal generators give equal draws.
        groups: Sites that share one draw and one label, such as those of a well; None: each site by itself.
        within: Strata, such as experiments: labels are exchanged only within one stratum. If experiments contain
            different perturbations, batch effects would otherwise look like channel effects. None: one stratum.
        n_draws: Number of permutations; the smallest p-value is 1 / (1 + n_draws).

    Returns:
        None if all sites have the same label.
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
    # Tolerance for rounding: a draw equal to the observation must count as equal.
    threshold = means - 1e-12 * np.abs(scores).max()
    return ShapleyNull(
        means=means,
        null=null,
        p=(1 + (null >= threshold).sum(0)) / (1 + n_draws),
        p_family=family_p(threshold, null),
    )


def family_p(scores: Float[np.ndarray, " channel"], null: Float[np.ndarray, "draw channel"]) -> np.ndarray:
    """Return the p-value of each channel against the largest channel of each draw.

    Scores are divided by the standard deviation of each channel, because channels differ in scale.

    Args:
        scores: Observed scores.
        null: Scores of each draw.
    """
    # Under the null hypothesis the observation is one of the draws, so it is included.
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
    control_scores: Float[np.ndarray, "control channel"],
    control_wells: Sequence[str],
) -> ChannelArray:
    """Return the p-value of each site and channel against control wells.

    It is (1 + control wells that score as high) / (1 + control wells). The targets of the control wells follow the same
    rule as those of the sites: the prediction, or the given perturbation. If the site were another control well, its
    rank would be uniform, and so would p. This holds also if the target is the prediction, which makes all scores
    large. With 16 control wells the smallest p is 1 / 17.

    Args:
        scores: Scores from `channel_shapley` or `channel_ablation`.
        wells: Well of each site; a control well is not compared with itself.
        control_scores: Scores of one site of each control well.
        control_wells: Wells of these sites.

    Returns:
        In (0, 1]; NaN if no other control well exists.
    """
    is_other = np.asarray(wells)[:, None] != np.asarray(control_wells)[None, :]
    as_high = (control_scores[None] >= scores[:, None]) & is_other[:, :, None]
    n_others = is_other.sum(1)[:, None]
    p = (1 + as_high.sum(1)) / (1 + n_others)
    return np.asarray(np.where(n_others > 0, p, np.nan))


def control_band(
    wells: Sequence[str],
    *,
    control_scores: Float[np.ndarray, "control channel"],
    control_wells: Sequence[str],
) -> tuple[ChannelArray, ChannelArray, ChannelArray]:
    """Return mean, 2.5th and 97.5th percentile of the control wells of each site.

    They are the control wells of `control_p_value`; the percentiles of few wells are nearly their extremes.

    Args:
        wells: Well of each site; a control well is not compared with itself.
        control_scores: Scores of one site of each control well.
        control_wells: Wells of these sites.

    Returns:
        NaN if no other control well exists.
    """
    shape = (len(wells), control_scores.shape[1])
    mean, low, high = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    bands: dict[str, int] = {}
    own = set(control_wells)
    for site, well in enumerate(wells):
        key = well if well in own else ""
        first = bands.setdefault(key, site)
        if first == site and (others := control_scores[np.asarray(control_wells) != well]).size:
            mean[site] = others.mean(0)
            low[site], high[site] = np.percentile(others, (2.5, 97.5), axis=0)
        mean[site], low[site], high[site] = mean[first], low[first], high[first]
    return mean, low, high


def combine_p_values(p: Float[np.ndarray, "site channel"]) -> Float[np.ndarray, " channel"]:
    """Combine the p-values of several sites: twice their mean, at most 1.

    A single p-value stays as it is. The result is valid for any dependence of the sites, unlike the methods of Fisher
    and Stouffer.

    Source: Rueschendorf 1982, Random variables with maximum sums; Vovk and Wang 2020, Combining p-values via
        averaging.
    """
    return np.asarray(p[0] if len(p) == 1 else np.minimum(1, 2 * p.mean(0)))


def _blocks(strata: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(strata == name) for name in np.unique(strata)]
