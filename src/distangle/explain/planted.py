"""Mark an explanation against a planted truth: did it name the stain and the place?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import ExplanationError

SCORES = ("shapley", "eq15", "correlation")
Z_95 = 1.959964  # half-width of the central 95 % of a normal distribution


def compare_with_truth(
    table: pd.DataFrame,
    maps: np.ndarray,
    *,
    channels_of: Mapping[str, Sequence[int]],
    places: Mapping[int, tuple[float, float, float]],
) -> dict[str, Any]:
    """Count how often the top stain is the planted one and the map points at the planted place.

    Only sites count whose own perturbation was explained: the map of another one has no planted answer. The stain is
    asked for where the prediction is right and the effect is in one stain; the place wherever there is one. A map
    without any maximum counts as a miss.

    Args:
        table: Of an `Explanation`.
        maps: Of the same, [row, height, width].
        channels_of: Perturbation to the channels it changes, counted from 1; empty for none.
        places: Position of a row to row, column and radius of a circle, in pixels of the maps.

    Returns:
        `top_shapley_is_planted`, `top_eq15_is_planted`, `top_correlation_is_planted` and `map_peak_in_place`: each
        `{sites, of, share, low, high, chance}` with the 95 % Wilson interval; `perturbations_found` by the top of
        their mean Shapley values; `map_mass_in_place`: mean `share` of the map inside the circle beside its `area`.
        Shares are None where nothing was to be counted.

    Raises:
        ExplanationError: Rows and maps differ in number, or a planted channel is not there.
    """
    if len(table) != len(maps):
        message = f"{len(table)} rows and {len(maps)} maps: expected one map per row of the same explanation."
        raise ExplanationError(message)
    n_channels = sum(str(name).startswith("shapley_") for name in table.columns)
    single = {name: int(planted[0]) for name, planted in channels_of.items() if len(planted) == 1}
    wrong = {name: channel for name, channel in single.items() if not 1 <= channel <= n_channels}
    if wrong:
        name, channel = next(iter(wrong.items()))
        message = f"{name} is planted in channel {channel}; the explanation has channels 1 to {n_channels}."
        raise ExplanationError(message)
    own = (table["explained"] == table["perturbation"]).to_numpy()
    right = own & (table["predicted"] == table["perturbation"]).to_numpy()
    asked = right & table["perturbation"].isin(list(single)).to_numpy()
    chosen = table[asked]
    truth = chosen["perturbation"].map(single).to_numpy(dtype=np.int64)
    said: dict[str, Any] = {}
    for score in SCORES:
        values = chosen[[f"{score}_{k}" for k in range(1, n_channels + 1)]].to_numpy(dtype=np.float64)
        hits = int((values.argmax(axis=1) + 1 == truth).sum()) if len(chosen) else 0
        said[f"top_{score}_is_planted"] = {"sites": hits, **wilson(hits, len(chosen)), "chance": 1 / n_channels}
    columns = [f"shapley_{k}" for k in range(1, n_channels + 1)]
    means = chosen.groupby("perturbation")[columns].mean()
    found = int((means.to_numpy().argmax(axis=1) + 1 == means.index.map(single)).sum()) if len(means) else 0
    said["perturbations_found"] = {"perturbations": found, **wilson(found, len(means)), "chance": 1 / n_channels}
    return said | _placed(maps, {row: circle for row, circle in places.items() if own[row]})


def wilson(hits: int, n: int) -> dict[str, Any]:
    """Return `of`, `share` and the 95 % Wilson interval `low` to `high` of a share; None where n is 0."""
    if n == 0:
        return {"of": 0, "share": None, "low": None, "high": None}
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return {"of": n, "share": share, "low": max(0.0, float(centre - half)), "high": min(1.0, float(centre + half))}


def _placed(maps: np.ndarray, places: Mapping[int, tuple[float, float, float]]) -> dict[str, Any]:
    rows, columns = np.arange(maps.shape[1])[:, None], np.arange(maps.shape[2])
    hits, masses, areas = 0, [], []
    for index, (row, column, radius) in places.items():
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        activation_map, total = maps[index], float(maps[index].sum(dtype=np.float64))
        areas.append(float(inside.mean()))
        masses.append(float(activation_map[inside].sum(dtype=np.float64)) / total if total > 0 else 0.0)
        hits += total > 0 and bool(inside.flat[int(activation_map.argmax())])
    area, mass = (float(np.mean(values)) if values else None for values in (areas, masses))
    return {
        "map_peak_in_place": {"sites": hits, **wilson(hits, len(places)), "chance": area},
        "map_mass_in_place": {"of": len(places), "share": mass, "area": area},
    }
