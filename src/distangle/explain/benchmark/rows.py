"""Rows of the truth table, and whether they reach what is asked of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from distangle.explain.planted import peak_of, pointed, share_of

AIM_STAIN, AIM_PLACE, OVER_CHANCE = 0.95, 0.90, 0.10


def stain_rows(
    scores: Mapping[str, np.ndarray],
    planted: np.ndarray,
    *,
    wells: np.ndarray,
    unit: Literal["wells", "sites"],
    network: str,
) -> list[dict[str, Any]]:
    """Count how often the top channel and the map's peak are planted ones.

    Args:
        scores: Method to scores [site, channel].
        planted: Index of the planted channel, per site.
        wells: Which well each site is of.
        unit: Look at the mean scores of the sites of each well, or at each site.
        network: Whose scores.
    """
    if unit == "wells":
        wells, first, index = np.unique(wells, return_index=True, return_inverse=True)
        planted = planted[first]
        scores = {method: _means(values, index) for method, values in scores.items()}
    rows = []
    for method, values in scores.items():
        top, channels = values.argmax(axis=1), values.shape[1]
        hits = top == planted
        # What the method's habits hit: every answer beside every truth.
        swapped = [float((top == k).mean() * (planted == k).mean()) for k in range(channels)] if len(top) else None
        rows.append(
            {
                "network": network,
                "question": "stain",
                "method": method,
                "unit": unit,
                "hits": int(hits.sum()),
                **share_of(hits, wells),
                "chance": 1 / channels,
                "swapped": None if swapped is None else sum(swapped),
            }
        )
    return rows


def _means(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(index.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(sums, index, values.astype(np.float64))
    return np.asarray(sums / np.bincount(index)[:, None])


def place_row(
    maps: np.ndarray, inside: np.ndarray, *, wells: np.ndarray, network: str, method: str, layer: str
) -> dict[str, Any]:
    """Count how often a map's peak lies in the planted place, and how much of it.

    Args:
        maps: [site, height, width] in [0, 1].
        inside: Which pixels lie in the place, of the same shape.
        wells: Which well each site is of.
        network: Whose maps.
        method: Who drew them.
        layer: Where.
    """
    hits, masses = pointed(maps, inside)
    peaks = np.array([peak_of(activation_map) for activation_map in maps])
    pointing = maps.max(axis=(1, 2)) > 0
    crossed = inside[:, peaks[:, 0], peaks[:, 1]] & pointing  # [place, map]
    others = ~np.eye(len(maps), dtype=bool)
    return {
        "network": network,
        "question": "place",
        "method": method,
        "unit": "sites",
        "hits": int(hits.sum()),
        **share_of(hits, wells),
        "chance": float(inside.mean()),
        "swapped": float(crossed[others].mean()) if len(maps) > 1 else None,
        "layer": layer,
        "mass": float(masses.mean()),
        "area": float(inside.mean()),
    }


def aims_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare the benchmark with its four aims.

    Two are of the trained network and two of untrained ones.

    An untrained network is asked by the same method that answered for the trained one: what the other methods hit
    there is in the rows.
    """

    def of(network: str, question: str, unit: str) -> list[Mapping[str, Any]]:
        return [row for row in rows if (row["network"], row["question"], row["unit"]) == (network, question, unit)]

    shapley = [row for row in of("trained", "stain", "wells") if row["method"] == "shapley"]
    said = [
        _aim("planted stain first by Shapley", shapley, limit=AIM_STAIN, at_least=True),
        _aim("planted place hit by the best map", of("trained", "place", "sites"), limit=AIM_PLACE, at_least=True),
    ]
    for (question, unit), method in zip(
        (("stain", "wells"), ("place", "sites")), [aim["method"] for aim in said], strict=True
    ):
        over = [
            {"method": row["method"], "share": None if row["share"] is None else row["share"] - row["chance"]}
            for row in of("untrained", question, unit)
            if row["method"] == method
        ]
        said.append(_aim(f"{question} by random weights, over chance", over, limit=OVER_CHANCE, at_least=False))
    return said


def _aim(words: str, rows: Sequence[Mapping[str, Any]], *, limit: float, at_least: bool) -> dict[str, Any]:
    """The row with the largest share, against a limit."""
    counted = [row for row in rows if row["share"] is not None]
    best = max(counted, key=lambda row: row["share"], default=None)
    value = None if best is None else float(best["share"])
    met = None if value is None else bool(value >= limit if at_least else value <= limit)
    return {
        "aim": words,
        "method": None if best is None else best["method"],
        "value": value,
        "limit": limit,
        "at_least": at_least,
        "met": met,
    }


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of the rows of several networks, each site counted once.

    Args:
        rows: One per network.
    """
    means = {
        name: float(np.mean([row[name] for row in rows]))
        # The ends too: each interval holds what its network would hit, so their mean holds the mean of these.
        for name in ("hits", "share", "low", "high", "swapped", "mass")
        if all(row.get(name) is not None for row in rows)
    }
    return {**rows[0], **means}
