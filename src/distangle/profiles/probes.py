"""Predict a property of held-out groups from features, with a shuffled null."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from distangle.core.random import rng_for
from distangle.errors import ProfileError

N_FOLDS = 5
_N_BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Probe:
    """Accuracy of a cross-validated prediction.

    Attributes:
        accuracy: Share of rows predicted right, each by a fold without its group.
        interval: Central 95 % of the accuracy over draws of groups with replacement.
        chance: Mean accuracy with shuffled targets.
        chance_range: Central 95 % of the accuracies with shuffled targets.
        n: Number of rows.
        n_groups: Number of groups.
    """

    accuracy: float
    interval: tuple[float, float]
    chance: float
    chance_range: tuple[float, float]
    n: int
    n_groups: int


def probe(
    features: Float[np.ndarray, "row feature"],
    target: Sequence[object] | np.ndarray,
    groups: Sequence[object] | np.ndarray,
    *,
    seed: int,
    n_shuffles: int,
) -> Probe:
    """Predict a target by the nearest class mean, cross-validated over groups.

    A fold holds whole groups. Features are standardized with the mean and standard deviation of the training rows of
    the fold. Targets that are constant within groups are shuffled between groups, others within each group: the number
    of independent units stays as it is.

    Args:
        features: One vector per row.
        target: Class of every row.
        groups: Group of every row, such as its plate.
        seed: Seed of the folds, shuffles and bootstraps.
        n_shuffles: Number of shuffles of the targets, at least 1.

    Raises:
        ProfileError: The sizes differ, there are fewer than two classes or groups, or every class lies in one group.
    """
    if not len(features) == len(target) == len(groups):
        raise ProfileError(
            f"{len(features)} vectors, {len(target)} targets and {len(groups)} groups; expected equal numbers. "
            "Give one target and one group per vector."
        )
    if n_shuffles < 1:
        raise ProfileError(f"{n_shuffles} shuffles; expected at least 1. Ask for more shuffles.")
    classes, group = _codes(target), _codes(groups)
    n_classes, n_groups = int(classes.max(initial=-1)) + 1, int(group.max(initial=-1)) + 1
    if n_classes < 2 or n_groups < 2:
        raise ProfileError(
            f"{n_classes} class(es) in {n_groups} group(s); expected at least 2 of both. Add rows or choose a target "
            "that varies."
        )
    if len({*zip(classes.tolist(), group.tolist(), strict=True)}) == n_classes:
        raise ProfileError(
            "Every class lies in one group, so none can be learned without it; expected a class in several groups. "
            "Choose smaller groups."
        )
    rng = rng_for(seed, "probe")
    fold = (rng.permutation(n_groups) % min(N_FOLDS, n_groups))[group]
    targets = np.stack([classes, *(_shuffle(classes, group, rng) for _ in range(n_shuffles))])
    hits = _hits(features, targets, fold)
    rates = hits.mean(axis=1)
    right, sizes = np.bincount(group, weights=hits[0]), np.bincount(group)
    draws = rng.integers(n_groups, size=(_N_BOOTSTRAPS, n_groups))
    return Probe(
        accuracy=float(rates[0]),
        interval=_central(right[draws].sum(axis=1) / sizes[draws].sum(axis=1)),
        chance=float(rates[1:].mean()),
        chance_range=_central(rates[1:]),
        n=len(features),
        n_groups=n_groups,
    )


def _hits(
    features: Float[np.ndarray, "row feature"], targets: Int[np.ndarray, "draw row"], fold: Int[np.ndarray, " row"]
) -> Bool[np.ndarray, "draw row"]:
    """Return which rows are predicted right, for several targets."""
    hits = np.zeros(targets.shape, dtype=bool)
    for number in np.unique(fold):
        test = fold == number
        train = features[~test].astype(np.float64)
        mean, scale = train.mean(axis=0), train.std(axis=0)
        scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1)] = 1
        train, rest = (train - mean) / scale, (features[test] - mean) / scale
        for draw, classes in enumerate(targets):
            known, codes = np.unique(classes[~test], return_inverse=True)
            member = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(len(known), len(codes)))
            means = (member @ train) / np.bincount(codes)[:, None]
            nearest = (2 * rest @ means.T - (means**2).sum(axis=1)).argmax(axis=1)
            hits[draw, test] = known[nearest] == classes[test]
    return hits


def _shuffle(
    classes: Int[np.ndarray, " row"], group: Int[np.ndarray, " row"], rng: np.random.Generator
) -> Int[np.ndarray, " row"]:
    """Shuffle classes between groups of one class each, otherwise within groups."""
    _, first = np.unique(group, return_index=True)
    if (classes == classes[first][group]).all():
        return np.asarray(rng.permutation(classes[first])[group])
    shuffled = classes.copy()
    rows = np.argsort(group, kind="stable")
    shuffled[rows] = classes[np.lexsort((rng.random(len(group)), group))]
    return shuffled


def _codes(values: Sequence[object] | np.ndarray) -> Int[np.ndarray, " row"]:
    return np.asarray(np.unique(np.asarray(values).astype(str), return_inverse=True)[1], dtype=np.int64)


def _central(draws: Float[np.ndarray, " draw"]) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
