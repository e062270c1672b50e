"""Measure by mean average precision whether replicates find each other."""

import functools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from distangle.errors import ProfileError
from distangle.profiles.block_permutation import (
    DECIMALS,
    EXACT_DRAWS,
    Counter,
    Pool,
    RandomDraws,
    choose_counter,
    member_precision,
    n_choices,
)
from distangle.profiles.geometry import unit
from distangle.profiles.multiple_testing import benjamini_hochberg

Features = Float[np.ndarray, "row feature"]
_TOLERANCE = 1e-9
_ROWS = 512  # rows of the similarity matrix at once


@functools.lru_cache(maxsize=4096)
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


def normalize(average_precision: float, expected: float) -> float:
    """Scale an average precision to 0 for a random and 1 for a perfect order."""
    if expected >= 1 - _TOLERANCE:
        return 0.0
    return max(-1.0, min(1.0, float((average_precision - expected) / (1 - expected))))


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
    then. Perturbations with as many replicates and controls per block share their random draws. Both numbers are of
    `block_permutation`.

    Args:
        features: Finite.
        perturbations: Perturbation of every row; that of controls is not read.
        is_control: Whether a row is a negative control.
        blocks: Code of the plate of every row.
        n_draws: Random draws when not all are enumerated; 0 leaves the p-value out.
        seed: Seed of the draws.

    Returns:
        One row per perturbation in the order of its first row: `perturbation`, `n_replicates`, `n_queries`
        (replicates on a block with controls), `mean_average_precision`, `expected`, `normalized`, `p`, `q`,
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
    draws, count = RandomDraws(seed), choose_counter(np.bincount(codes).tolist(), n_draws)
    rows = [
        {"perturbation": name}
        | _active(
            directions,
            [(places[blocks[places] == block], controls[int(block)]) for block in np.unique(blocks[places])],
            n_draws=n_draws,
            draws=draws,
            count=count,
        )
        for name, places in (zip(names, by_name, strict=True) if len(treated) else ())
    ]
    table = pd.DataFrame(rows, columns=["perturbation", *_NO_VALUE])
    table.insert(len(table.columns) - 2, "q", benjamini_hochberg(table["p"].to_numpy(dtype=np.float64)))
    return table


_NO_VALUE: dict[str, Any] = {
    "n_replicates": 0,
    "n_queries": 0,
    "mean_average_precision": float("nan"),
    "expected": float("nan"),
    "normalized": float("nan"),
    "p": float("nan"),
    "n_draws": 0,
    "reason": "",
}


def _active(
    directions: Float[np.ndarray, "row feature"],
    groups: Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    *,
    n_draws: int,
    draws: RandomDraws,
    count: Counter,
) -> dict[str, Any]:
    """Return the values of one perturbation from its replicates and controls."""
    n_replicates = sum(len(own) for own, _ in groups)
    n_queries = sum(len(own) for own, controls in groups if len(controls))
    counts = {"n_replicates": n_replicates, "n_queries": n_queries}
    if n_replicates < 2:
        return _NO_VALUE | counts | {"reason": "one replicate; at least 2 are needed"}
    if n_queries == 0:
        return _NO_VALUE | counts | {"reason": "no negative control on the plates of its replicates"}
    groups = sorted(groups, key=lambda group: (len(group[0]), len(group[1])))  # equal layouts are equal in order
    rows = directions[np.concatenate([np.concatenate([controls, own]) for own, controls in groups])]
    layout = [(len(own), len(own) + len(controls)) for own, controls in groups]
    pool = Pool.of(rows, layout) if n_draws or n_choices(layout) <= EXACT_DRAWS else None
    precision = member_precision(rows, layout) if pool is None else pool.precision()
    expected = np.concatenate(
        [
            np.full(len(own), expected_average_precision(n_replicates - 1, len(controls)))
            for own, controls in groups
            if len(controls)
        ]
    )
    p, n_drawn = (float("nan"), 0) if pool is None else pool.p_value(n_draws, draws=draws, count=count)
    return (
        _NO_VALUE
        | counts
        | {
            "mean_average_precision": float(precision.mean()),
            "expected": float(expected.mean()),
            "normalized": float(np.mean([normalize(*pair) for pair in zip(precision, expected, strict=True)])),
            "p": p,
            "n_draws": n_drawn,
        }
    )
