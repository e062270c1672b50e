"""Test by permutation within blocks whether replicates find each other."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from distangle.core.random import rng_for

EXACT_DRAWS = 10_000
"""Up to so many draws all are enumerated."""
ENOUGH = 100
"""Random draws end when so many have reached the observed value: p is known to a tenth of itself."""
DECIMALS = 6
"""Cosines that are equal in so many decimals are ties."""
_FIRST_DRAWS = 250
_SMALL_BLOCK = (8, 64)  # mean and largest rows of blocks whose keys are compared one by one, not sorted
_TOLERANCE = 1e-9
_LAYOUTS = 16  # layouts whose draws stay in memory
_ENTRIES = 2_000_000  # entries of a part of the similarity matrix
_QUERIES = 4  # queries at once
_CACHED = 100_000  # entries of a batch of draws that stay in the cache of a processor
_WORTH_COMPILING = 300_000_000  # average precisions times replicates; compiled loops take a second to start

Layout = tuple[tuple[int, int], ...]
"""Number of members and of rows of every block."""
Counter = Callable[..., tuple[int, int]]


def count_reaching(
    draws: Int[np.ndarray, "draw member"],
    queries: Int[np.ndarray, " query"],
    nearer: Int[np.ndarray, "row row"],
    best: Float[np.ndarray, " row"],
    target: tuple[float, int],
) -> tuple[int, int]:
    """Count draws whose sum of average precisions is at least a value.

    A draw ends at the query after which it cannot reach the value, even with the best precision of all others.

    Args:
        draws: Rows that are members, by draw.
        queries: Columns of the draws whose precision counts.
        nearer: As of `Pool`.
        best: As of `Pool.best`.
        target: Sum to reach, and the number of draws that ends the count.

    Returns:
        The number of draws that reached the value, and of those that were looked at.
    """
    least, enough = target
    reached = 0
    batch = max(1, _CACHED // (draws.shape[1] * _QUERIES))
    for start in range(0, len(draws), batch):
        part = draws[start : start + batch]
        alive, totals, left = np.arange(len(part)), np.zeros(len(part)), best[part[:, queries]].sum(axis=1)
        for first in range(0, len(queries), _QUERIES):
            some = queries[first : first + _QUERIES]
            totals[alive] += _precision(part[alive], some, nearer).sum(axis=1)
            left[alive] -= best[part[alive][:, some]].sum(axis=1)
            alive = alive[totals[alive] + left[alive] >= least]
        ends = alive[: enough - reached]
        reached += len(ends)
        if reached == enough:
            return reached, start + int(ends[-1]) + 1
    return reached, len(draws)


def _precision(
    draws: Int[np.ndarray, "draw member"], queries: Int[np.ndarray, " query"], nearer: Int[np.ndarray, "row row"]
) -> Float[np.ndarray, "draw query"]:
    """Return the average precision of some members of every draw."""
    n_members = draws.shape[1]
    others = np.array([np.delete(np.arange(n_members), place) for place in queries])
    return _precision_of_codes(nearer[draws[:, queries][:, :, None], draws[:, others]])


def _precision_of_codes(codes: Int[np.ndarray, "*query positive"]) -> Float[np.ndarray, "*query"]:
    """Return the average precision of queries from `nearer` at their positives."""
    code = np.sort(codes, axis=-1).astype(np.int32)
    own, count = code & 1, np.arange(1, code.shape[-1] + 1)
    negatives = (code >> 1) - (np.cumsum(own, axis=-1) - own)
    return np.asarray((count / (count + negatives)).mean(axis=-1))


class RandomDraws:
    """Choices of members at random, as many per block as there are replicates.

    They depend on the layout alone, not on features, so perturbations with the same numbers of replicates and controls
    share them: each p-value stays valid, and their random errors go together.

    Args:
        seed: Seed of the draws.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._parts: OrderedDict[Layout, dict[int, np.ndarray]] = OrderedDict()

    def part(self, layout: Layout, start: int, n_draws: int) -> Int[np.ndarray, "draw member"]:
        """Return some draws of a layout.

        Args:
            layout: Number of members and of rows of every block.
            start: Number of the first draw.
            n_draws: Number of draws.
        """
        parts = self._parts.setdefault(layout, {})
        self._parts.move_to_end(layout)
        while len(self._parts) > _LAYOUTS:
            self._parts.popitem(last=False)
        if start not in parts or len(parts[start]) != n_draws:
            parts[start] = _random_draws(layout, n_draws, rng_for(self._seed, "block draws", str(layout), start))
        return parts[start]


def _random_draws(layout: Layout, n_draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw member"]:
    parts, start = [], 0
    for m, size in layout:
        if m == 1:
            part = rng.integers(size, size=(n_draws, 1))
        else:
            keys = rng.random((n_draws, size), dtype=np.float32)
            part = np.argpartition(keys, min(m, size - 1), axis=1)[:, :m]
        parts.append(start + part)
        start += size
    return np.concatenate(parts, axis=1).astype(np.int32)


@dataclass(frozen=True)
class Pool:
    """Replicates of one perturbation with the controls of their plates, by block.

    Attributes:
        nearer: 2 × the rows of the row's own block that come before the column, as seen from the row and without it,
            + 1 if the column is of that block.
        layout: Number of members and of rows of every block.
    """

    nearer: Int[np.ndarray, "row row"]
    layout: Layout

    @classmethod
    def of(cls, directions: Float[np.ndarray, "row feature"], layout: Sequence[tuple[int, int]]) -> "Pool":
        """Rank the rows of a pool; ties count against replicates.

        Args:
            directions: Rows of length 1, block by block, the members of a block after its controls.
            layout: Number of members and of rows of every block.
        """
        members, sizes = (np.array(part) for part in zip(*layout, strict=True))
        block, n = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), len(directions)
        is_control = np.concatenate([np.arange(s) < s - m for m, s in layout])
        # Equal cosines: controls first. All keys differ, so that any sort gives one order.
        by_tie = np.argsort(~is_control, kind="stable")
        tie = np.empty(n, np.int64)
        tie[by_tie] = np.arange(n)
        nearer = np.empty((n, n), np.int16 if n < 2**14 else np.int32)
        keys_type = np.int32 if n <= 2000 else np.int64
        for start, similarity in _similarity(directions):
            rows = np.arange(start, start + len(similarity))
            keys = np.rint(similarity * -(10.0**DECIMALS)).astype(keys_type) * n + tie.astype(keys_type)
            if _SMALL_BLOCK[0] <= sizes.mean() and sizes.max() <= _SMALL_BLOCK[1]:
                nearer[rows[0] : rows[-1] + 1] = _count_nearer(keys, rows, block)
                continue
            order = by_tie[np.sort(keys, axis=1) % n]
            own = (block[order] == block[rows][:, None]) & (order != rows[:, None])
            code = np.cumsum(own, axis=1, dtype=nearer.dtype) * 2 - own
            np.put_along_axis(nearer[rows[0] : rows[-1] + 1], order, code, axis=1)
        return cls(
            nearer,
            tuple((int(m), int(s)) for m, s in zip(members, sizes, strict=True)),
        )

    @property
    def members(self) -> Int[np.ndarray, " member"]:
        """Rows of the replicates."""
        ends = np.cumsum([size for _, size in self.layout])
        return np.concatenate([np.arange(e - m, e) for (m, _), e in zip(self.layout, ends, strict=True)])

    @property
    def queries(self) -> Int[np.ndarray, " query"]:
        """Numbers of the replicates on a block with controls."""
        return np.flatnonzero(np.concatenate([np.full(m, m < size) for m, size in self.layout]))

    def precision(self) -> Float[np.ndarray, " query"]:
        """Return the average precision of every query among the replicates."""
        return np.asarray(_precision(self.members[None], self.queries, self.nearer)[0])

    def best(self) -> Float[np.ndarray, " row"]:
        """Return the largest average precision that a row can have as a query.

        It has that with the nearest rows of each block as members.
        """
        codes, n, parts, start = self.nearer.copy(), len(self.nearer), [], 0
        codes[np.arange(n), np.arange(n)] = -1  # the row itself is a member, the first of its block
        for m, size in self.layout:
            part = codes[:, start : start + size]
            parts.append(part.min(axis=1, keepdims=True) if m == 1 else np.sort(part, axis=1)[:, :m])
            start += size
        chosen = np.sort(np.concatenate(parts, axis=1), axis=1)
        return _precision_of_codes(chosen[:, 1:]) + _TOLERANCE

    def n_draws(self) -> int:
        """Return in how many ways members can be chosen."""
        return n_choices(self.layout)

    def every_draw(self) -> Int[np.ndarray, "draw member"]:
        """Return all choices of members."""
        starts = np.cumsum([0, *(size for _, size in self.layout)])
        choices = [
            list(itertools.combinations(range(start, start + size), m))
            for start, (m, size) in zip(starts, self.layout, strict=False)
        ]
        return np.array([sum(parts, ()) for parts in itertools.product(*choices)], dtype=np.int32)

    def p_value(self, n_draws: int, *, draws: RandomDraws, count: Counter = count_reaching) -> tuple[float, int]:
        """Return the p-value of the block permutation and its draws, 0 if exact.

        Args:
            n_draws: Random draws when not all are enumerated; 0 leaves the p-value out.
            draws: Random draws.
            count: `count_reaching`, or the same in compiled loops.
        """
        queries, precision = self.queries, self.precision()
        least = float(precision.sum()) - _TOLERANCE * len(queries)
        is_exact = self.n_draws() <= EXACT_DRAWS
        if n_draws == 0 and not is_exact:
            return float("nan"), 0
        best = self.best()
        if is_exact:
            every = self.every_draw()
            return count(every, queries, self.nearer, best, (least, len(every) + 1))[0] / len(every), 0
        reached = done = 0
        while done < n_draws:
            part = draws.part(self.layout, done, min(n_draws - done, max(_FIRST_DRAWS, done)))
            more, n_seen = count(part, queries, self.nearer, best, (least, ENOUGH - reached))
            reached, done = reached + more, done + n_seen
            if reached == ENOUGH:
                return ENOUGH / done, done
        return (1 + reached) / (1 + n_draws), n_draws


def _count_nearer(
    keys: Int[np.ndarray, "chunk row"], rows: Int[np.ndarray, " chunk"], block: Int[np.ndarray, " row"]
) -> Int[np.ndarray, "chunk row"]:
    """Return `Pool.nearer` of some rows, by comparing every key with those of the row's own block.

    Args:
        keys: Rank of each row as seen from a row of the chunk; all of a row differ.
        rows: Rows of the chunk, one after the other.
        block: Block of each row, ascending; of at most 255 rows.
    """
    codes = np.empty(keys.shape, np.int16)
    starts = np.flatnonzero(np.diff(block[rows], prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        low, high = np.searchsorted(block, [block[rows[start]], block[rows[start]] + 1]).tolist()
        part, places = keys[start:end], np.arange(end - start)
        n_nearer = (part[:, low:high, None] < part[:, None, :]).sum(axis=1, dtype=np.uint8)
        n_nearer -= part[places, rows[start:end], None] < part  # the row itself
        codes[start:end] = 2 * n_nearer.astype(np.int16)
        codes[start:end, low:high] += 1
        codes[start + places, rows[start:end]] -= 1
    return codes


def choose_counter(n_replicates: Sequence[int], n_draws: int) -> Counter:
    """Return the compiled loops where numba pays, else `count_reaching`.

    Args:
        n_replicates: Of every perturbation.
        n_draws: Random draws of a p-value.
    """
    if n_draws * sum(n**2 for n in n_replicates) < _WORTH_COMPILING:
        return count_reaching
    from distangle.images.jit_threshold import load_kernels

    kernels = load_kernels("distangle.profiles.block_kernels")
    return count_reaching if kernels is None else kernels.count_reaching


def n_choices(layout: Sequence[tuple[int, int]]) -> int:
    """Return in how many ways members can be chosen."""
    return math.prod(math.comb(size, m) for m, size in layout)


def member_precision(
    directions: Float[np.ndarray, "row feature"], layout: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " query"]:
    """Return the values of `Pool.precision` without ranking the controls.

    The arguments are those of `Pool.of`.
    """
    ends = np.cumsum([size for _, size in layout])
    members = np.concatenate([np.arange(end - m, end) for (m, _), end in zip(layout, ends, strict=True)])
    keys = np.rint((directions[members] @ directions.T) * -(10.0**DECIMALS)).astype(np.int32)
    positives = keys[:, members]
    np.fill_diagonal(positives, np.iinfo(np.int32).max)  # the query itself comes last, and is left out
    positives = np.sort(positives, axis=1)[:, :-1]
    above = np.zeros(positives.shape, dtype=np.int64)
    place, queries = 0, []
    for (m, size), end in zip(layout, ends.tolist(), strict=True):
        for query in range(place, place + m if m < size else place):
            negatives = np.sort(keys[query, end - size : end - m])
            above[query] = np.searchsorted(negatives, positives[query], side="right")
            queries.append(query)
        place += m
    count = np.arange(1, len(members))
    return np.asarray((count / (count + above[queries])).mean(axis=1))


def _similarity(
    directions: Float[np.ndarray, "row feature"],
) -> Iterator[tuple[int, Float[np.ndarray, "chunk row"]]]:
    """Yield the number of a row, and the cosines of it and the next rows with all."""
    rows = max(1, _ENTRIES // len(directions))
    for start in range(0, len(directions), rows):
        yield start, directions[start : start + rows] @ directions.T
