"""Compare an explanation with the planted truth of a synthetic screen."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from distangle.core.stats import share_interval
from distangle.errors import ExplanationError
from distangle.explain.summary import wells_of

SCORES = ("shapley", "eq15", "correlation")


class PlantedCircle(NamedTuple):
    """Circle in which an effect was planted, in pixels."""

    row: float
    column: float
    radius: float


def compare_with_truth(
    table: pd.DataFrame,
    maps: np.ndarray,
    *,
    channels_of: Mapping[str, Sequence[int]],
    regions: Mapping[int, PlantedCircle],
) -> dict[str, Any]:
    """Count how often the top channel and the map's peak are the planted ones.

    Only sites whose own perturbation was explained count: the map of another perturbation has no planted truth. The
    channel counts if the prediction is correct and the effect is in one channel; the region counts wherever one was
    planted. A map without a maximum counts as a miss.

    Args:
        table: Table of an `Explanation`.
        maps: Attribution maps of the same explanation, [row, height, width].
        channels_of: Perturbation to the channels it changes, counted from 1; empty for none.
        regions: Row of the table to the circle of the effect, in pixels of the maps.

    Returns:
        `top_shapley_is_planted`, `top_eq15_is_planted`, `top_correlation_is_planted` and `map_peak_in_place`: each
        `{sites, of, share, low, high, chance}` with its 95 % interval over wells; `perturbations_found` by the largest
        mean Shapley value; `map_mass_in_place`: mean `share` of the map inside the circle, and the `area` of the
        circle. Shares are None if no site counts.

    Raises:
        ExplanationError: Rows and maps differ in number, or a planted channel does not exist.
    """
    if len(table) != len(maps):
        raise ExplanationError(
            f"{len(table)} rows and {len(maps)} maps: expected one map per row of the same explanation."
        )
    n_channels = sum(re.fullmatch(r"shapley_\d+", str(name)) is not None for name in table.columns)
    single = {name: int(planted[0]) for name, planted in channels_of.items() if len(planted) == 1}
    wrong = {name: channel for name, channel in single.items() if not 1 <= channel <= n_channels}
    if wrong:
        name, channel = next(iter(wrong.items()))
        raise ExplanationError(
            f"{name} is planted in channel {channel}; the explanation has channels 1 to {n_channels}."
        )
    wells = np.array(wells_of(table), dtype=object)
    own = (table["explained"] == table["perturbation"]).to_numpy()
    correct = own & (table["predicted"] == table["perturbation"]).to_numpy()
    counted = correct & table["perturbation"].isin(list(single)).to_numpy()
    counted_rows = table[counted]
    truth = counted_rows["perturbation"].map(single).to_numpy(dtype=np.int64)
    comparison: dict[str, Any] = {}
    for score in SCORES:
        values = counted_rows[[f"{score}_{k}" for k in range(1, n_channels + 1)]].to_numpy(dtype=np.float64)
        hits = values.argmax(axis=1) + 1 == truth if len(counted_rows) else np.zeros(0, dtype=bool)
        share = share_of(hits, wells[counted])
        comparison[f"top_{score}_is_planted"] = {"sites": int(hits.sum()), **share, "chance": 1 / n_channels}
    columns = [f"shapley_{k}" for k in range(1, n_channels + 1)]
    means = counted_rows.groupby("perturbation")[columns].mean()
    perturbation_hits = (
        means.to_numpy().argmax(axis=1) + 1 == means.index.map(single) if len(means) else np.zeros(0, dtype=bool)
    )
    share = share_of(perturbation_hits, means.index.to_numpy())
    comparison["perturbations_found"] = {
        "perturbations": int(perturbation_hits.sum()),
        **share,
        "chance": 1 / n_channels,
    }
    return comparison | _region_scores(maps, {row: circle for row, circle in regions.items() if own[row]}, wells)


def share_of(hits: np.ndarray, wells: Sequence[str] | np.ndarray) -> dict[str, Any]:
    """Return `of`, `share` and its 95 % interval `low` to `high` over wells.

    The sites of a well are not independent, so the interval is over wells of the same experiments.

    Args:
        hits: Bool [row].
        wells: Well of each row.

    Returns:
        `low` and `high` are None for too few wells; `share` is also None without rows.
    """
    names = np.asarray(wells)
    if not len(hits):
        return {"n_total": 0, "share": None, "low": None, "high": None}
    low, high = share_interval(np.asarray(hits), names, wells=names) or (None, None)
    return {"n_total": len(hits), "share": float(np.mean(hits)), "low": low, "high": high}


def circle_masks(circles: Sequence[PlantedCircle], size: tuple[int, int]) -> np.ndarray:
    """Return which pixels lie in each circle, bool [circle, height, width]."""
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    inside = [(rows - row) ** 2 + (columns - column) ** 2 <= radius**2 for row, column, radius in circles]
    return np.stack(inside) if inside else np.zeros((0, *size), dtype=bool)


def pointing_hits(maps: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each map's peak lies inside, and its mass there.

    An empty map has no peak and mass 0.

    Args:
        maps: [row, height, width], without negatives.
        inside: Pixels of the region, bool, of the same shape.
    """
    totals = maps.sum(axis=(1, 2), dtype=np.float64)
    masses = np.where(inside, maps, 0).sum(axis=(1, 2), dtype=np.float64) / np.where(totals > 0, totals, 1)
    peaks = np.array([peak_of(activation_map) for activation_map in maps], dtype=np.int64).reshape(-1, 2)
    hits = inside[np.arange(len(maps)), peaks[:, 0], peaks[:, 1]] & (totals > 0)
    return hits, masses


def peak_of(activation_map: np.ndarray) -> tuple[int, int]:
    """Return row and column of the maximum.

    If several pixels share the maximum, it is the one nearest to their center.

    Enlarging leaves a plateau if the peak lies at the border of the grid, and occlusion leaves one as wide as its
    stride. The first pixel in memory would be the upper left corner of the plateau.
    """
    tops = np.argwhere(activation_map >= activation_map.max())
    nearest_top = tops[np.square(tops - tops.mean(axis=0)).sum(axis=1).argmin()]
    return int(nearest_top[0]), int(nearest_top[1])


def _region_scores(maps: np.ndarray, regions: Mapping[int, PlantedCircle], wells: np.ndarray) -> dict[str, Any]:
    rows = list(regions)
    inside = circle_masks([regions[row] for row in rows], (maps.shape[1], maps.shape[2]))
    hits, masses = pointing_hits(maps[rows], inside)
    area = float(inside.mean()) if rows else None
    return {
        "map_peak_in_place": {"sites": int(hits.sum()), **share_of(hits, wells[rows]), "chance": area},
        "map_mass_in_place": {"n_total": len(rows), "share": float(masses.mean()) if rows else None, "area": area},
    }
