"""Measure by mean average precision whether replicates find each other."""

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.geometry import unit
from distangle.profiles.multiple_testing import benjamini_hochberg

Features = Float[np.ndarray, "row feature"]
EXACT_DRAWS = 10_000
"""Up to so many draws all are enumerated."""
ENOUGH = 100
"""Random draws end when so many have reached the observed value: p is known to a tenth of itself."""
_FIRST_DRAWS = 250
_TOLERANCE = 1e-9
DECIMALS = 6  # cosines closer than this are ties
_ROWS = 512  # rows of the similarity matrix at once
_ENTRIES = 2_000_000  # entries of a batch of draws


def expected_average_precision(n_positives: int, n_negatives: int) -> float:
    """Return the mean average precision of a random order.

    With L = M + N: E = ((M - 1) / (L - 1) * (L - H_L) + H_L) / L, where H_L is the L-th harmonic number.

    Raises:
        ProfileError: There is no positive, or a number is negative.

    Source:
        Bestgen 2015, The Prague Bulletin of Mathematical Linguistics 103, 131.
    """
    if n_positives < 1 or n_negatives < 0:
        raise ProfileError(
            f"{n_positives} positives and {n_negatives} negatives. Expected at least 1 and 0. "
            "Leave out queries without a positive."
        )
    total = n_positives + n_negatives
    harmonic = float((1 / np.arange(1, total + 1)).sum())
    share = (n_positives - 1) / (total - 1) if total > 1 else 0.0
    return (share * (total - harmonic) + harmonic) / total


def normalise(average_precision: float, expected: float) -> float:
    """Scale an average precision to 0 for a random and 1 for a perfect order."""
    if expected >= 1 - _TOLERANCE:
        return 0.0
    return float(np.clip((average_precision - expected) / (1 - expected), -1, 1))


def average_precision(positives: Float[np.ndarray, " positive"], negatives: Float[np.ndarray, " negative"]) -> float:
    """Return the mean over positives of (positives so far) / rank.

    Args:
        positives: Similarity of the query with every positive, at least one.
        negatives: Similarity of the query with every negative. A negative that ties with a positive comes first.
    """
    ordered = np.sort(positives)[::-1]
    above = len(negatives) - np.searchsorted(np.sort(negatives), ordered, side="left")
    count = np.arange(1, len(ordered) + 1)
    return float((count / (count + above)).mean())


@dataclass(frozen=True)
class _Pool:
    """Replicates of one perturbation with the controls of their plates, by block.

    Attributes:
        rank: Position of a column among all others of the pool, as seen from the row.
        above: Members of the row's own block, without the row, that come before the column.
        block: Block of every row.
        members: Number of members of every block.
        sizes: Number of rows of every block.
    """

    rank: Int[np.ndarray, "row row"]
    above: Int[np.ndarray, "row row"]
    block: Int[np.ndarray, " row"]
    members: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, directions: Float[np.ndarray, "row feature"], members: Sequence[int], sizes: Sequence[int]) -> "_Pool":
        """Rank the rows of a pool; ties count against replicates."""
        block = np.repeat(np.arange(len(sizes)), sizes)
        n = len(directions)
        is_control = np.concatenate([np.arange(s) < s - m for m, s in zip(members, sizes, strict=True)])
        # Equal cosines: controls first. All keys differ, so that any sort gives one order.
        tie = np.empty(n, np.int64)
        tie[np.argsort(~is_control, kind="stable")] = np.arange(n)
        rank, above = np.empty((n, n), np.int32), np.empty((n, n), np.int32)
        for start, similarity in similarity_rows(directions):
            rows = np.arange(start, start + len(similarity))
            order = np.argsort(np.rint(similarity * -(10.0**DECIMALS)).astype(np.int64) * n + tie, axis=1)
            own = (block[order] == block[rows][:, None]) & (order != rows[:, None])
            np.put_along_axis(rank[rows[0] : rows[-1] + 1], order, np.arange(n, dtype=np.int32)[None], axis=1)
            np.put_along_axis(
                above[rows[0] : rows[-1] + 1], order, (np.cumsum(own, axis=1) - own).astype(np.int32), axis=1
            )
        return cls(rank, above, block, tuple(members), tuple(sizes))

    def observed(self) -> Int[np.ndarray, "1 member"]:
        """Return the positions of the replicates."""
        ends = np.cumsum(self.sizes)
        return np.concatenate([np.arange(e - m, e) for m, e in zip(self.members, ends, strict=True)])[None]

    def n_draws(self) -> int:
        """Return in how many ways members can be chosen."""
        return math.prod(math.comb(size, m) for m, size in zip(self.members, self.sizes, strict=True))

    def every_draw(self) -> Int[np.ndarray, "draw member"]:
        """Return all choices of members."""
        starts = np.cumsum((0, *self.sizes[:-1]))
        choices = [
            list(itertools.combinations(range(start, start + size), m))
            for start, size, m in zip(starts, self.sizes, self.members, strict=True)
        ]
        return np.array([sum(one, ()) for one in itertools.product(*choices)], dtype=np.int64)

    def random_draws(self, n_draws: int, *, rng: np.random.Generator) -> Int[np.ndarray, "draw member"]:
        """Choose members at random, as many per block as there are replicates."""
        parts, start = [], 0
        for size, m in zip(self.sizes, self.members, strict=True):
            keys = rng.random((n_draws, size), dtype=np.float32)
            parts.append(start + np.sort(np.argpartition(keys, min(m, size - 1), axis=1)[:, :m], axis=1))
            start += size
        return np.concatenate(parts, axis=1)

    def precision(self, members: Int[np.ndarray, "draw member"]) -> Float[np.ndarray, "draw member"]:
        """Return the average precision of every member; NaN in a block without controls."""
        m = members.shape[1]
        pairs = members[:, :, None], members[:, None, :]
        rank = self.rank[pairs]
        rank[:, np.arange(m), np.arange(m)] = np.iinfo(np.int32).max  # the query itself comes last and is cut off
        order = np.argsort(rank, axis=2)[:, :, : m - 1]
        above = np.take_along_axis(self.above[pairs], order, axis=2)
        blocks = self.block[members]
        own = np.take_along_axis(np.broadcast_to(blocks[:, None, :], rank.shape), order, axis=2) == blocks[:, :, None]
        count = np.arange(1, m)
        negatives_above = above - (np.cumsum(own, axis=2) - own)
        precision = (count / (count + negatives_above)).mean(axis=2)
        return np.where(np.array(self.members)[blocks] < np.array(self.sizes)[blocks], precision, np.nan)

    def mean_precision(self, members: Int[np.ndarray, "draw member"]) -> Float[np.ndarray, " draw"]:
        """Return the mean average precision of every draw."""
        batch = max(1, _ENTRIES // members.shape[1] ** 2)
        return np.concatenate(
            [
                np.nanmean(self.precision(members[start : start + batch]), axis=1)
                for start in range(0, len(members), batch)
            ]
        )

    def p_value(self, n_draws: int, *, rng: np.random.Generator) -> tuple[float, int]:
        """Return the p-value of the block permutation and its draws, 0 if exact."""
        least = self.mean_precision(self.observed())[0] - _TOLERANCE
        if self.n_draws() <= EXACT_DRAWS:
            return float((self.mean_precision(self.every_draw()) >= least).mean()), 0
        if n_draws == 0:
            return float("nan"), 0
        reached = done = 0
        while done < n_draws:
            draws = self.random_draws(min(n_draws - done, max(_FIRST_DRAWS, done)), rng=rng)
            reaching = np.cumsum(self.mean_precision(draws) >= least) + reached
            if reaching[-1] >= ENOUGH:
                n = done + int(np.searchsorted(reaching, ENOUGH)) + 1
                return ENOUGH / n, n
            done, reached = done + len(draws), int(reaching[-1])
        return (1 + reached) / (1 + n_draws), n_draws


def similarity_rows(
    directions: Float[np.ndarray, "row feature"],
) -> Iterator[tuple[int, Float[np.ndarray, "chunk row"]]]:
    """Yield the number of a row, and the cosines of it and the next rows with all."""
    for start in range(0, len(directions), _ROWS):
        yield start, np.round(directions[start : start + _ROWS] @ directions.T, DECIMALS)


def directions_of(features: Features, **sizes: int) -> Float[np.ndarray, "row feature"]:
    """Return rows of length 1.

    Args:
        features: Finite.
        sizes: Number of values of other arguments, by name.

    Raises:
        ProfileError: Sizes differ, or features are not finite.
    """
    for name, size in sizes.items():
        if size != len(features):
            raise ProfileError(
                f"{len(features)} rows of features, but {size} values of {name}. "
                "Expected one per row. Take both from the same profiles."
            )
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise ProfileError(
            f"Row {int(bad.argmax())} of the features holds NaN or infinity ({int(bad.sum())} such rows). "
            "Expected finite numbers. Leave out these rows or features."
        )
    return unit(features).astype(np.float32)


def activity(
    features: Features,
    perturbations: Sequence[Hashable] | np.ndarray,
    is_control: Bool[np.ndarray, " row"],
    blocks: Int[np.ndarray, " row"],
    *,
    n_draws: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well replicates find each other among negative controls.

    Positives of a replicate are all other replicates, negatives the controls of its own block. Similarity is the
    cosine. The p-value is that of a permutation within blocks: replicates and controls of a block trade places, and the
    number of replicates per block stays. It is exact up to `EXACT_DRAWS` ways to choose; draws that equal the
    observed value count. Random draws end at the n-th when `ENOUGH` have reached the observed value; p is `ENOUGH` / n
    then.

    Args:
        features: Finite.
        perturbations: Perturbation of every row; that of controls is not read.
        is_control: Whether a row is a negative control.
        blocks: Code of the plate of every row.
        n_draws: Random draws when not all are enumerated; 0 leaves the p-value out.
        seed: Seed of the draws.

    Returns:
        One row per perturbation in the order of its first row: `perturbation`, `n_replicates`, `n_queries`
        (replicates on a block with controls), `mean_average_precision`, `expected`, `normalised`, `p`, `q`,
        `n_draws` (0 when exact), `reason` (why there is no value, else "").

    Raises:
        ProfileError: Sizes differ, features are not finite, `n_draws` is negative, or there is no control.

    Source:
        Kalinin et al. 2025, Nature Communications 16, 5181; Besag & Clifford 1991, Biometrika 78, 301 (the end of
        the draws).
    """
    directions = directions_of(
        features, perturbations=len(perturbations), is_control=len(is_control), blocks=len(blocks)
    )
    if n_draws < 0:
        raise ProfileError(f"n_draws is {n_draws}. Expected 0 or more. Pass 9999 for p-values down to 0.0001.")
    if not is_control.any():
        raise ProfileError(
            f"None of {len(directions)} rows is a negative control. Expected some on every plate. "
            "Set the role of the control wells."
        )
    treated = np.flatnonzero(~is_control)
    codes, names = pd.factorize(pd.Series(list(perturbations), dtype=object)[treated], use_na_sentinel=False)
    controls = {int(block): np.flatnonzero(is_control & (blocks == block)) for block in np.unique(blocks)}
    by_name = np.split(treated[np.argsort(codes, kind="stable")], np.cumsum(np.bincount(codes))[:-1])
    rows = [
        {"perturbation": name}
        | _active(
            directions,
            [(places[blocks[places] == block], controls[int(block)]) for block in np.unique(blocks[places])],
            n_draws=n_draws,
            rng=rng_for(seed, "activity", number),
        )
        for number, (name, places) in enumerate(zip(names, by_name, strict=True) if len(treated) else ())
    ]
    table = pd.DataFrame(rows, columns=["perturbation", *_NO_VALUE])
    table.insert(len(table.columns) - 2, "q", benjamini_hochberg(table["p"].to_numpy(dtype=np.float64)))
    return table


_NO_VALUE: dict[str, Any] = {
    "n_replicates": 0,
    "n_queries": 0,
    "mean_average_precision": float("nan"),
    "expected": float("nan"),
    "normalised": float("nan"),
    "p": float("nan"),
    "n_draws": 0,
    "reason": "",
}


def _active(
    directions: Float[np.ndarray, "row feature"],
    groups: Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    *,
    n_draws: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the values of one perturbation from its replicates and controls."""
    n_replicates = sum(len(own) for own, _ in groups)
    n_queries = sum(len(own) for own, controls in groups if len(controls))
    counts = {"n_replicates": n_replicates, "n_queries": n_queries}
    if n_replicates < 2:
        return _NO_VALUE | counts | {"reason": "one replicate; at least 2 are needed"}
    if n_queries == 0:
        return _NO_VALUE | counts | {"reason": "no negative control on the plates of its replicates"}
    pool = _Pool.of(
        directions[np.concatenate([np.concatenate([controls, own]) for own, controls in groups])],
        members=[len(own) for own, _ in groups],
        sizes=[len(own) + len(controls) for own, controls in groups],
    )
    precision = pool.precision(pool.observed())[0]
    expected = np.concatenate(
        [
            np.full(len(own), expected_average_precision(n_replicates - 1, len(controls)) if len(controls) else np.nan)
            for own, controls in groups
        ]
    )
    has_value = ~np.isnan(precision)
    p, n_drawn = pool.p_value(n_draws, rng=rng)
    return (
        _NO_VALUE
        | counts
        | {
            "mean_average_precision": float(precision[has_value].mean()),
            "expected": float(expected[has_value].mean()),
            "normalised": float(
                np.mean([normalise(*pair) for pair in zip(precision[has_value], expected[has_value], strict=True)])
            ),
            "p": p,
            "n_draws": n_drawn,
        }
    )
