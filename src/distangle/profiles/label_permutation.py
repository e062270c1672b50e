"""Test by permutation whether perturbations of a label find each other."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.profiles.block_permutation import EXACT_DRAWS

_TOLERANCE = 1e-9


class LabelPermutation:
    """Orders of similarity in which the labels of perturbations trade places.

    The labels of a perturbation stay together, and so do the rows of a perturbation: they are not independent.

    Args:
        similarity: Cosine of every pair of rows.
        perturbations: Code of the perturbation of every row, from 0.
        has: Whether a perturbation has a label.
        blocks: Code of a block in which positives must differ too.
    """

    def __init__(
        self,
        similarity: Float[np.ndarray, "row row"],
        perturbations: Int[np.ndarray, " row"],
        has: Bool[np.ndarray, "perturbation label"],
        blocks: Int[np.ndarray, " row"] | None = None,
    ) -> None:
        n = len(similarity)
        keys = -similarity.astype(np.float32)
        np.fill_diagonal(keys, np.inf)
        self._order = np.argsort(keys, axis=1, kind="stable")[:, : n - 1]
        self._perturbations, self._has = perturbations, has
        allowed = perturbations[self._order] != perturbations[:, None]
        if blocks is not None:
            allowed &= blocks[self._order] != blocks[:, None]
        self._allowed = allowed

    def mean_precision(self, places: Int[np.ndarray, " perturbation"]) -> Float[np.ndarray, " label"]:
        """Return the mean average precision of every label.

        Args:
            places: Perturbation whose labels each perturbation takes.

        Returns:
            NaN for a label without a query that has positives and negatives.
        """
        has = self._has[places][self._perturbations]
        counts = has.astype(np.float32)
        result = np.full(has.shape[1], np.nan)
        for label in range(has.shape[1]):
            rows = np.flatnonzero(has[:, label])
            order = self._order[rows]
            shares = np.take_along_axis(counts[rows] @ counts.T > 0, order, axis=1)
            positive = has[order, label] & self._allowed[rows]
            rank = np.cumsum(positive | ~shares, axis=1)
            n_positive = positive.sum(axis=1)
            usable = (n_positive > 0) & ~shares.all(axis=1)
            if usable.any():
                above = np.cumsum(positive, axis=1) * positive / np.maximum(rank, 1)
                result[label] = (above.sum(axis=1)[usable] / n_positive[usable]).mean()
        return result

    def p_values(self, n_draws: int, *, rng: np.random.Generator) -> Float[np.ndarray, " label"]:
        """Return the p-value of every label; NaN where there is no value.

        It is exact if there are at most `EXACT_DRAWS` ways to assign the labels. Draws that equal the observed value
        count; a draw without a value does not.

        Args:
            n_draws: Number of random permutations, if there are more ways.
            rng: Random numbers.
        """
        n = len(self._has)
        observed = self.mean_precision(np.arange(n))
        is_exact = self.n_assignments() <= EXACT_DRAWS
        all_places = self._assignments() if is_exact else (rng.permutation(n) for _ in range(n_draws))
        reached, counted = np.zeros(len(observed), dtype=int), np.zeros(len(observed), dtype=int)
        for places in all_places:
            drawn = self.mean_precision(places)
            counted += np.isfinite(drawn)
            reached += np.nan_to_num(drawn, nan=-1.0) >= observed - _TOLERANCE
        # The observed assignment is one of all, and is added to random ones.
        own = 0 if is_exact else 1
        return np.where(np.isfinite(observed), (own + reached) / np.maximum(own + counted, 1), np.nan)

    def n_assignments(self) -> int:
        """Return in how many ways the perturbations can share out the sets of labels."""
        n, n_ways = 0, 1
        for size in np.unique(self._has, axis=0, return_counts=True)[1].tolist():
            n += size
            n_ways *= math.comb(n, size)
        return n_ways

    def _assignments(self) -> Iterator[Int[np.ndarray, " perturbation"]]:
        """Yield one order of the perturbations for each way to share out the sets of labels."""
        _, first, codes = np.unique(self._has, axis=0, return_index=True, return_inverse=True)
        for order in _distinct_orders(sorted(codes.ravel().tolist())):
            yield first[order]


def _distinct_orders(codes: list[int]) -> Iterator[list[int]]:
    """Yield every distinct order of numbers, in lexicographic order, from the sorted one."""
    codes = list(codes)
    while True:
        yield list(codes)
        rise = next((k for k in range(len(codes) - 2, -1, -1) if codes[k] < codes[k + 1]), None)
        if rise is None:
            return
        larger = next(k for k in range(len(codes) - 1, rise, -1) if codes[k] > codes[rise])
        codes[rise], codes[larger] = codes[larger], codes[rise]
        codes[rise + 1 :] = codes[:rise:-1]


def labels_of_perturbations(
    labels: Sequence[Sequence[str]], perturbations: Int[np.ndarray, " row"], vocabulary: Sequence[str]
) -> Bool[np.ndarray, "perturbation label"]:
    """Return which perturbation has which label in any of its rows."""
    number = {label: column for column, label in enumerate(vocabulary)}
    has = np.zeros((int(perturbations.max(initial=-1)) + 1, len(vocabulary)), dtype=bool)
    for own, perturbation in zip(labels, perturbations, strict=True):
        has[perturbation, [number[label] for label in own]] = True
    return has
