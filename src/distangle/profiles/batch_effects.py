"""Measure what in profiles comes from experiment, plate, position and cell type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from distangle.errors import ProfileError
from distangle.profiles.geometry import unit
from distangle.profiles.probes import probe
from distangle.results.profiles import PLATE, Profiles

Values = Sequence[object] | np.ndarray
_PERTURBATION, _WELL = "Metadata_Perturbation", "Metadata_Well"
_FACTORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "experiment": (("Metadata_Experiment",), PLATE),
    "plate": (PLATE, (_WELL,)),
    "position": ((_WELL,), PLATE),
    "cell type": (("Metadata_Cell_Type",), PLATE),
}
"""Columns of each factor, and the columns of the groups over which its probe is cross-validated."""


@dataclass(frozen=True)
class Measure:
    """A measure of batch effects.

    Attributes:
        value: The value; NaN only with a reason.
        n: Number of rows that count.
        n_skipped: Number of labels that do not count.
        reason: Why the value cannot be computed; "" if it can.
    """

    value: float
    n: int
    n_skipped: int = 0
    reason: str = ""


def bras(features: Float[np.ndarray, "row feature"], labels: Values, batches: Values) -> Measure:
    """Return the batch removal adapted silhouette (BRAS): 1 mixed, 0 separate.

    Within each label, s = (b - a) / max(a, b) by cosine distance: a is the mean distance to the other rows of the
    batch, b that to all rows of all other batches. The result is the mean over labels of 1 - mean |s|. A row that is
    alone in its batch has s = 0. Labels of one batch, or with all batches of one row, are skipped.

    Source: Rautenstrauch & Ohler 2025, Shortcomings of silhouette in single-cell integration benchmarking (Nat.
    Biotechnol.).

    Args:
        features: One vector per row.
        labels: Label of every row, such as its perturbation.
        batches: Batch of every row.
    """
    label, batch = _codes(features, labels), _codes(features, batches)
    directions, values, n = unit(features), [], 0
    n_labels = _n_codes(label)
    for number in range(n_labels):
        rows = np.flatnonzero(label == number)
        _, code, sizes = np.unique(batch[rows], return_inverse=True, return_counts=True)
        if len(sizes) < 2 or sizes.max() < 2:
            continue
        vectors, members = directions[rows], np.eye(len(sizes))[code]
        # Sums of cosine distances need only the sums of directions: no matrix of all pairs.
        sums = sizes - vectors @ (members.T @ vectors).T
        own = sums[np.arange(len(rows)), code] - (1 - (vectors**2).sum(axis=1))
        size = sizes[code]
        a, b = own / np.maximum(size - 1, 1), (sums.sum(axis=1) - sums[np.arange(len(rows)), code]) / (len(rows) - size)
        a, b = a.clip(0), b.clip(0)
        largest = np.maximum(a, b)
        usable = (size > 1) & (largest > 1e-12)
        s = np.where(usable, (b - a) / np.where(usable, largest, 1), 0)
        values.append(1 - np.abs(s).mean())
        n += len(rows)
    if not values:
        return _absent("No label has rows in two batches, one of them with two rows.", n_skipped=n_labels)
    return Measure(float(np.mean(values)), n, n_labels - len(values))


def pcr(features: Float[np.ndarray, "row feature"], batches: Values) -> Measure:
    """Return the share of variance that batches explain (PC regression).

    The sum over components of variance times R2, divided by the sum of variances. With all components this equals 1 -
    SS_within / SS_total, which needs no components. Chance is (batches - 1) / (rows - 1).

    Source: Buttner et al. 2019, A test metric for assessing single-cell RNA-seq batch correction (Nat. Methods 16).

    Args:
        features: One vector per row.
        batches: Batch of every row.
    """
    batch = _codes(features, batches)
    if _n_codes(batch) < 2:
        return _absent(f"{_n_codes(batch)} batch(es); expected at least 2.")
    wide = features.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    total = float((centred**2).sum())
    if total <= 1e-24 * max(float((wide**2).sum()), 1e-300):
        return _absent("All vectors are equal.")
    sums = np.zeros((_n_codes(batch), wide.shape[1]))
    np.add.at(sums, batch, centred)
    between = float(((sums**2).sum(axis=1) / np.bincount(batch)).sum())
    return Measure(between / total, len(wide))


def ilisi(features: Float[np.ndarray, "row feature"], batches: Values, k: int = 90) -> Measure:
    """Return how well batches mix among neighbors: 1 for equal numbers, 0 for one.

    (median LISI - 1) / (batches - 1), see `lisi`.

    Source: Korsunsky et al. 2019, Fast, sensitive and accurate integration of single-cell data with Harmony (Nat.
    Methods 16).

    Args:
        features: One vector per row.
        batches: Batch of every row.
        k: Number of neighbors.
    """
    return _mixing(features, batches, k, name="batch(es)")


def clisi(features: Float[np.ndarray, "row feature"], labels: Values, k: int = 90) -> Measure:
    """Return how pure labels are among neighbors: 1 for one, 0 for equal numbers.

    (labels - median LISI) / (labels - 1), see `lisi`.

    Source: Korsunsky et al. 2019, Fast, sensitive and accurate integration of single-cell data with Harmony (Nat.
    Methods 16).

    Args:
        features: One vector per row.
        labels: Label of every row.
        k: Number of neighbors.
    """
    mixing = _mixing(features, labels, k, name="label(s)")
    return mixing if mixing.reason else replace(mixing, value=1 - mixing.value)


def _mixing(features: Float[np.ndarray, "row feature"], values: Values, k: int, *, name: str) -> Measure:
    """Return (median LISI - 1) / (number of values - 1)."""
    codes = _codes(features, values)
    n_codes = _n_codes(codes)
    if n_codes < 2 or len(codes) < 3:
        return _absent(f"{n_codes} {name} in {len(codes)} rows; expected at least 2 of them and 3 rows.")
    return Measure(float((np.median(lisi(features, codes, k)) - 1) / (n_codes - 1)), len(codes))


def lisi(
    features: Float[np.ndarray, "row feature"], codes: Int[np.ndarray, " row"], k: int
) -> Float[np.ndarray, " row"]:
    """Return the effective number of codes among the other neighbors of each row.

    1 / sum p^2, where p is the share of a code in Gaussian weights of the perplexity k / 3.

    Args:
        features: One vector per row.
        codes: Code of every row, from 0.
        k: Number of neighbors; fewer rows give fewer.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(features) - 1)
    distances, neighbors = NearestNeighbors(n_neighbors=k).fit(features.astype(np.float64)).kneighbors()
    weights = _gaussian_weights(distances, max(k / 3, 1.0))
    shares = np.zeros((len(features), _n_codes(codes)))
    np.add.at(shares, (np.arange(len(features))[:, None], codes[neighbors]), weights)
    return np.asarray(1 / (shares**2).sum(axis=1))


def graph_connectivity(features: Float[np.ndarray, "row feature"], labels: Values, k: int = 15) -> Measure:
    """Return the mean share of a label's rows in its largest component.

    Rows are joined with their k nearest neighbors among all rows. Labels of one row are skipped.

    Source: Luecken et al. 2022, Benchmarking atlas-level data integration (Nat. Methods 19).

    Args:
        features: One vector per row.
        labels: Label of every row.
        k: Number of neighbors; fewer rows give fewer.
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    label = _codes(features, labels)
    sizes = np.bincount(label)
    if not (sizes > 1).any():
        return _absent("No label has two rows.", n_skipped=len(sizes))
    k = min(k, len(features) - 1)
    graph = NearestNeighbors(n_neighbors=k).fit(features.astype(np.float64)).kneighbors_graph().tocoo()
    same = label[graph.row] == label[graph.col]
    graph.data = np.where(same, 1.0, 0.0)
    graph = graph.tocsr()
    graph.eliminate_zeros()
    _, component = connected_components(graph, directed=False)
    # Edges between labels are gone, so a component lies in one label.
    counts = np.bincount(component)
    largest = np.zeros(len(sizes))
    np.maximum.at(largest, label, counts[component])
    counted = sizes > 1
    return Measure(float((largest[counted] / sizes[counted]).mean()), int(sizes[counted].sum()), int((~counted).sum()))


def measure_batch_effects(profiles: Profiles, *, seed: int = 0, n_shuffles: int = 20) -> pd.DataFrame:
    """Measure batch effects and the separation of perturbations.

    The probe of the plate is cross-validated over positions, the others over plates. Where every position holds one
    perturbation, place and perturbation cannot be told apart, and the position is not measured.

    Args:
        profiles: The profiles; rows without a value of a factor do not count for it.
        seed: Seed of the probes.
        n_shuffles: Number of shuffles of every probe.

    Returns:
        One row per measure: `name`; `of`, the factor or `perturbation`; `value`; `chance`, NaN for measures with known
        extremes only; `low` and `high`, described by `range`: "95 % interval" or "possible values"; `n`, rows that
        count; `n_skipped`, labels that do not count; `reason`, why the value is NaN, otherwise "".
    """
    rows: list[dict[str, Any]] = []
    for of, (columns, groups) in _FACTORS.items():
        rows += _measure_factor(profiles, of, columns, groups=groups, seed=seed, n_shuffles=n_shuffles)
    known, reason = _known(profiles, (_PERTURBATION,))
    some = profiles.select(known)
    rows.append(_row("cLISI", "perturbation", _try(reason, lambda: clisi(some.features, _names(some)))))
    connectivity = _try(reason, lambda: graph_connectivity(some.features, _names(some)))
    rows.append(_row("graph connectivity", "perturbation", connectivity))
    return pd.DataFrame(rows)


def _measure_factor(
    profiles: Profiles,
    of: str,
    columns: tuple[str, ...],
    *,
    groups: tuple[str, ...],
    seed: int,
    n_shuffles: int,
) -> list[dict[str, Any]]:
    """Return the rows of one factor."""
    known, reason = _known(profiles, columns)
    some = profiles.select(known)
    named, no_names = _known(some, (_PERTURBATION,))
    if not reason and of == "position" and not no_names and _is_one_to_one(some.select(named)):
        reason = "Every position holds one perturbation: place and perturbation cannot be told apart."
    batches = np.zeros(0, np.int64) if reason else some.codes(columns)
    labelled = some.select(named)
    rows = [
        _row("BRAS", of, _try(reason or no_names, lambda: bras(labelled.features, _names(labelled), batches[named]))),
        _row("PCR", of, _try(reason, lambda: pcr(some.features, batches))),
        _row("iLISI", of, _try(reason, lambda: ilisi(some.features, batches))),
    ]
    if not rows[1]["reason"]:
        rows[1]["chance"] = int(batches.max()) / (len(some) - 1)
    row = _row("probe accuracy", of, _absent(reason))
    grouped, no_groups = _known(some, groups)
    if not reason and no_groups:
        row["reason"] = no_groups
    elif not reason and not batches.any():
        row["reason"] = f"There is one {of}."
    elif not reason:
        inside = some.select(grouped)
        try:
            result = probe(inside.features, batches[grouped], inside.codes(groups), seed=seed, n_shuffles=n_shuffles)
        except ProfileError as error:
            row["reason"] = str(error)
        else:
            row |= {"value": result.accuracy, "chance": result.chance, "n": result.n, "range": "95 % interval"}
            row["low"], row["high"] = result.interval
    return [*rows, row]


def _known(profiles: Profiles, columns: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """Return which rows have values in all columns, and why none has.

    A plate needs no experiment.
    """
    missing = [name for name in columns if name not in profiles.table]
    if missing:
        return np.zeros(len(profiles), bool), f"The profiles have no column {', '.join(missing)}."
    needed = [name for name in columns if columns != PLATE or name != PLATE[0]]
    known = (profiles.table[needed].fillna("").astype(str) != "").all(axis=1).to_numpy(dtype=bool)
    return known, "" if known.any() else f"No row has a value of {', '.join(needed)}."


def _is_one_to_one(profiles: Profiles) -> bool:
    """Return whether every position has one of several perturbations."""
    names = profiles.table.groupby(_WELL)[_PERTURBATION].nunique()
    return bool((names == 1).all() and profiles.table[_PERTURBATION].nunique() > 1)


def _names(profiles: Profiles) -> list[str]:
    return profiles.table[_PERTURBATION].astype(str).tolist()


def _try(reason: str, measure: Callable[[], Measure]) -> Measure:
    return _absent(reason) if reason else measure()


def _row(name: str, of: str, measure: Measure) -> dict[str, Any]:
    return {
        "name": name,
        "of": of,
        "value": measure.value,
        "chance": np.nan,
        "low": 0.0,
        "high": 1.0,
        "range": "possible values",
        "n": measure.n,
        "n_skipped": measure.n_skipped,
        "reason": measure.reason,
    }


def _absent(reason: str, *, n_skipped: int = 0) -> Measure:
    return Measure(float("nan"), 0, n_skipped, reason)


def _codes(features: np.ndarray, values: Values) -> Int[np.ndarray, " row"]:
    if len(features) != len(values):
        raise ProfileError(
            f"{len(features)} vectors and {len(values)} labels or batches; expected equal numbers. "
            "Give one value per vector."
        )
    return np.asarray(np.unique(np.asarray(values).astype(str), return_inverse=True)[1], dtype=np.int64)


def _n_codes(codes: Int[np.ndarray, " row"]) -> int:
    return int(codes.max(initial=-1)) + 1


def _gaussian_weights(
    distances: Float[np.ndarray, "row neighbor"], perplexity: float
) -> Float[np.ndarray, "row neighbor"]:
    """Return weights exp(-beta d^2) of sum 1 and of a given perplexity in each row."""
    squares = distances**2
    squares = squares - squares.min(axis=1, keepdims=True)
    scale = squares.mean(axis=1, keepdims=True)
    squares /= np.where(scale > 0, scale, 1)
    low, high = np.full((len(squares), 1), -20.0), np.full((len(squares), 1), 20.0)
    weights = np.empty_like(squares)
    for _ in range(50):
        middle = (low + high) / 2
        weights = np.exp(-np.minimum(np.exp(middle) * squares, 700))
        weights /= weights.sum(axis=1, keepdims=True)
        entropy = -(weights * np.log(weights)).sum(axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.asarray(weights)
