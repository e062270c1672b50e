"""Overlap of maps with nuclei and cells, against random smooth maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from distangle.errors import ExplanationError
from distangle.explain.places.cells import segment
from distangle.explain.stains.nulls import RandomMaps, mean_over_sites, random_smooth_maps
from distangle.intervals import mean_interval

PARTS = ("nuclei", "cells", "background")  # nuclei are parts of cells; cells and background make the whole

MapArray = Float[np.ndarray, "site height width"]
RawImages = Shaped[np.ndarray, "site channel height width"]


@dataclass(frozen=True, kw_only=True)
class CellOverlap:
    """How much of each map lies on what.

    Attributes:
        table: One row per map: `n_nuclei`, and for each of nuclei, cells (with their nuclei) and background
            `NAME_share` of the map's mass (NaN for an empty map), `NAME_area` of the image, and `NAME_p`, the share of
            random smooth maps that have at least as much mass there.
        summary: Over all maps that point somewhere, by name of the part: `share`, `interval` over whole experiments,
            `area`, `null` (the central 95 % of the mean share of random maps) and `p`; beside them `sites` and
            `empty`.
    """

    table: pd.DataFrame
    summary: Mapping[str, Any]


def overlap_with_cells(
    maps: MapArray,
    raw: RawImages,
    *,
    nuclear: int,
    grid: tuple[int, int],
    rng: np.random.Generator,
    experiments: Sequence[str] | None = None,
    wells: Sequence[str] | None = None,
    n_maps: int = 200,
) -> CellOverlap:
    """Measure the share of each map on nuclei, cells and background.

    The shares of random maps are the null.

    A map that is one pixel of 8 x 8 wide covers nucleus and cytoplasm alike, so a share is only worth something
    beside that of random maps which are as coarse; and since cells cover most of a field, a high share in cells is no
    news by itself.

    Args:
        maps: In [0, 1], at the size of the images.
        raw: The images as they were read.
        nuclear: Index of the stain that shows nuclei, from `nuclear_channel`.
        grid: Height and width of the maps before they were enlarged: random maps are drawn on it.
        rng: Of random maps.
        experiments: One per map; None leaves the interval out.
        wells: One per map: the maps of a well may be alike, so they are compared with one random map; None: each alone.
        n_maps: Random maps per image.

    Raises:
        ExplanationError: Maps do not lie on the images, or there is no such stain.
    """
    if (len(maps), *maps.shape[1:]) != (len(raw), *raw.shape[2:]) or not len(maps):
        raise ExplanationError(
            f"Maps {maps.shape} do not lie on images {raw.shape}: expected one per image, of the same size."
        )
    if not 0 <= nuclear < raw.shape[1]:
        raise ExplanationError(f"The images have no channel {nuclear}: there are {raw.shape[1]}, from 0.")
    drawn = random_smooth_maps(n_maps, grid=grid, size=(maps.shape[1], maps.shape[2]), rng=rng)
    spread = _masses(drawn, np.ones((1, *drawn.size)))
    rows, nulls = [], []
    for activation_map, image in zip(maps, raw, strict=True):
        found = segment(image, nuclear=nuclear)
        parts = np.stack([found.nuclei > 0, found.cells, ~found.cells]).astype(np.float64)
        total = float(activation_map.sum(dtype=np.float64))
        share = (parts * activation_map).sum(axis=(1, 2)) / total if total > 0 else np.full(len(parts), np.nan)
        null = _masses(drawn, parts) / spread
        # Rounding: a share of all of the map must not lose against a random one's.
        reached = (null >= share - 1e-9).sum(axis=0)
        row: dict[str, Any] = {"n_nuclei": int(found.nuclei.max())}
        for index, name in enumerate(PARTS):
            row[f"{name}_share"] = share[index]
            row[f"{name}_area"] = parts[index].mean()
            row[f"{name}_p"] = (1 + reached[index]) / (1 + n_maps) if total > 0 else np.nan
        rows.append(row)
        nulls.append(null)
    table = pd.DataFrame(rows)
    return CellOverlap(table=table, summary=_together(table, np.stack(nulls), experiments, wells, rng=rng))


def _together(
    table: pd.DataFrame,
    nulls: np.ndarray,
    experiments: Sequence[str] | None,
    wells: Sequence[str] | None,
    *,
    rng: np.random.Generator,
) -> dict[str, Any]:
    pointing = table["cells_share"].notna().to_numpy()
    said: dict[str, Any] = {"sites": int(pointing.sum()), "empty": int((~pointing).sum())}
    if not pointing.any():
        return said | dict.fromkeys(PARTS)
    shared = None if wells is None else np.asarray(wells).astype(str)[pointing].tolist()
    means = mean_over_sites(nulls[pointing], rng=rng, groups=shared)
    for index, name in enumerate(PARTS):
        shares = table[f"{name}_share"].to_numpy(dtype=np.float64)[pointing]
        low, high = np.percentile(means[:, index], [2.5, 97.5])
        groups = None if experiments is None else np.asarray(experiments).astype(str)[pointing]
        said[name] = {
            "share": float(shares.mean()),
            "interval": None if groups is None else mean_interval(shares, groups),
            "area": float(table[f"{name}_area"].to_numpy()[pointing].mean()),
            "null": [float(low), float(high)],
            "p": float((1 + (means[:, index] >= shares.mean() - 1e-9).sum()) / (1 + len(means))),
        }
    return said


def _masses(maps: RandomMaps, masks: np.ndarray) -> np.ndarray:
    """Return the mass of each enlarged random map in each mask, [draw, mask]."""
    # Copied row by row: the layout decides the last bit of the sums, which stays that of earlier releases.
    rows, columns = (np.ascontiguousarray(matrix) for matrix in maps.enlarging())
    return np.asarray(np.einsum("dij,mij->dm", maps.grid, rows.T @ masks @ columns))
