"""Null distributions of channel scores: permuted labels and control wells."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from distangle.explain.stains.channel_attention import ChannelArray
from distangle.explain.stains.nulls import ShapleyNull


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

    The labels of whole groups are permuted; each image then gets the score of the stain for another image's label. A
    stain that moves every image towards the same answers, or that only brings noise, does not differ from that.
    Under the hypothesis that images and labels have nothing to do with each other the p-value is exact (Phipson and
    Smyth 2010). Where the labels are the network's own predictions that hypothesis is false from the start, and p
    only says whether this stain took part in telling the images apart.

    Args:
        by_target: Score of every stain for every label that occurs.
        targets: Which of them is each site's own.
        rng: Equal generators give equal draws.
        groups: Sites that share one draw, such as those of a well, and that should have one label; None: each alone.
        within: Labels are only exchanged between groups of the same name here, such as an experiment: where experiments
            hold different perturbations, batch effects would else be taken for effects of the stain. None: between all.
        n_draws: Permutations; the smallest p is 1 / (1 + n_draws).

    Returns:
        None where all sites have one label: there is nothing to permute.
    """
    if len(np.unique(targets)) < 2:
        return None
    sites = np.arange(len(targets))
    labels = sites if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(labels == group) for group in range(int(labels.max()) + 1)]
    where = np.zeros(len(targets)) if within is None else np.unique(np.asarray(within), return_inverse=True)[1]
    blocks = _blocks(where[[group[0] for group in members]])
    of_group, sizes = targets[np.concatenate(members)], np.array([len(group) for group in members])
    starts = np.cumsum(sizes) - sizes
    scores = by_target.astype(np.float64)
    means = scores[sites, :, targets].mean(0)
    null = np.empty((n_draws, len(means)))
    for draw in range(n_draws):
        given = np.empty(len(members), dtype=targets.dtype)
        for block in blocks:
            order = rng.permutation(block)
            given[block] = of_group[starts[order] + rng.integers(sizes[order])]
        null[draw] = scores[sites, :, given[labels]].mean(0)
    # Rounding: a draw equal to the observation must count as equal.
    reached = means - 1e-12 * np.abs(scores).max()
    return ShapleyNull(
        means=means,
        null=null,
        p=(1 + (null >= reached).sum(0)) / (1 + n_draws),
        p_family=family_p(reached, null),
    )


def _blocks(where: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(where == name) for name in np.unique(where)]


def family_p(reached: Float[np.ndarray, " channel"], null: Float[np.ndarray, "draw channel"]) -> np.ndarray:
    """Return p of each channel against the largest channel of each draw.

    Scores are taken in units of each channel's spread, as they differ in scale.

    Args:
        reached: Observed scores.
        null: Of each draw.
    """
    # The observation is one of the draws under the hypothesis, so it is among them here too.
    together = np.concatenate([reached[None], null])
    centre, spread = together.mean(0), together.std(0)
    observed, drawn = (
        np.divide(values - centre, spread, out=np.zeros_like(values), where=spread > 1e-12 * np.abs(null).max())
        for values in (reached, null)
    )
    return np.asarray((1 + (drawn.max(1)[:, None] >= observed).sum(0)) / (1 + len(null)))


def untreated_p(
    scores: ChannelArray,
    wells: Sequence[str],
    *,
    untreated: Float[np.ndarray, "untreated channel"],
    untreated_in: Sequence[str],
) -> ChannelArray:
    """Return p of each site and channel against control wells.

    It is (1 + control wells that score as high) / (1 + control wells).

    The untreated wells are explained by the same rule: what was predicted for them, or what was asked for. So if
    the site were just another untreated well, its rank among them would be any with equal chance, and p uniform:
    also when the explained answer is the network's own choice, which makes every score large. It takes many untreated
    wells to make p small: with 16, it is at least 1 / 17.

    Args:
        scores: Of `channel_shapley` or `channel_ablation`.
        wells: The well of each site; an untreated one is not compared with itself.
        untreated: Scores of one site of each untreated well.
        untreated_in: Their wells.

    Returns:
        In (0, 1]; NaN where no untreated well is left to compare with.
    """
    other = np.asarray(wells)[:, None] != np.asarray(untreated_in)[None, :]
    as_high = (untreated[None] >= scores[:, None]) & other[:, :, None]
    n_others = other.sum(1)[:, None]
    p = (1 + as_high.sum(1)) / (1 + n_others)
    return np.asarray(np.where(n_others > 0, p, np.nan))


def joined_p(p: Float[np.ndarray, "site channel"]) -> Float[np.ndarray, " channel"]:
    """Combine the p-values of several sites: twice their mean, at most 1.

    The p-value of one site stays.

    Valid however the sites depend on each other, as those of a well do; Fisher's and Stouffer's ways are not.

    Source: Rueschendorf 1982, Random variables with maximum sums; Vovk and Wang 2020, Combining p-values via
        averaging.
    """
    return np.asarray(p[0] if len(p) == 1 else np.minimum(1, 2 * p.mean(0)))
