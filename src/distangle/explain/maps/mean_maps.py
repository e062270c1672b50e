"""Average attribution maps by well, perturbation and cell type."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.errors import ExplanationError, did_you_mean

MapArray = Float[np.ndarray, "site height width"]
WELL = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well")
PERTURBATION = ("explained", "Metadata_Cell_Type")
BAND_WIDTH = 0.125  # width of the outer band, as a share of each side


@dataclass(frozen=True, kw_only=True)
class MeanMaps:
    """Mean maps with one table row per map.

    Attributes:
        table: The group keys; `sites`, the number of maps, and `empty`, the number of empty ones; `explained`, the
            explained perturbation (several are joined by ` | `); `edge_share`, the share of the mass of the mean map in
            the outer band (NaN for an empty map); `edge_area`, the area share of that band; `edge_ratio`, the first
            divided by the second: 1 means no preference.
        maps: Maps in [0, 1], float32, one per row.
    """

    table: pd.DataFrame
    maps: MapArray


def mean_maps(table: pd.DataFrame, maps: MapArray, *, by: Sequence[str] = PERTURBATION) -> MeanMaps:
    """Average the maps of all sites with the same keys.

    The images of a group are not registered, so cells lie at different positions. The mean shows where *in the field*
    the network finds evidence, not in which part of a cell: it reveals position effects such as edges or illumination,
    and becomes uniform if the network follows the cells. `edge_ratio` measures one such effect; `overlap_with_cells`
    measures the parts of a cell.

    Args:
        table: Table of an `Explanation`, one row per map.
        maps: Maps in [0, 1]; all have the same weight, empty maps count as zeros.
        by: Columns that define a group, such as `WELL` or `PERTURBATION`.

    Returns:
        One row and one map per group, in the order of the keys.

    Raises:
        ExplanationError: Rows and maps differ in number, there are none, or a column is missing.
    """
    if len(table) != len(maps) or not len(table):
        raise ExplanationError(
            f"{len(table)} rows and {len(maps)} maps: expected at least one row, and one map per row."
        )
    missing = [name for name in by if name not in table.columns]
    if missing:
        raise ExplanationError(
            f"The table of the explanation has no column {missing[0]!r}. {did_you_mean(missing[0], table.columns)}"
        )
    numbers = table.groupby(list(by), sort=True, dropna=False, observed=True).ngroup().to_numpy()
    targets = table.get("explained", pd.Series("", index=table.index)).astype(str).to_numpy()
    rows, means = [], []
    for group in range(numbers.max() + 1):
        members = np.flatnonzero(numbers == group)
        group_maps = maps[members]
        means.append(group_maps.mean(axis=0, dtype=np.float64).astype(np.float32))
        rows.append(
            {
                "explained": " | ".join(sorted(set(targets[members]))),
                **{name: table[name].iloc[members[0]] for name in by},
                "sites": len(members),
                "empty": int((group_maps.max(axis=(1, 2)) <= 0).sum()),
            }
        )
    stacked = np.stack(means)
    share, area = edge_shares(stacked), edge_area(stacked.shape[1:])
    group_table = pd.DataFrame(rows).assign(edge_share=share, edge_area=area, edge_ratio=share / area)
    return MeanMaps(table=group_table, maps=stacked)


def edge_shares(maps: MapArray, *, band: float = BAND_WIDTH) -> Float[np.ndarray, " site"]:
    """Return the share of the mass of each map near the border of the field.

    The share is NaN for an empty map.

    Args:
        maps: Non-negative maps.
        band: Width of the band, as a share of each side.
    """
    outer = _outer_band(maps.shape[1:], band)
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    mass = maps[:, outer].sum(axis=1, dtype=np.float64)
    shares: np.ndarray = np.divide(mass, total, out=np.full(len(maps), np.nan), where=total > 0)
    return shares


def edge_area(size: tuple[int, ...], *, band: float = BAND_WIDTH) -> float:
    """Return the share of the field that the outer band covers."""
    return float(_outer_band(size, band).mean())


def _outer_band(size: tuple[int, ...], band: float) -> np.ndarray:
    outer = np.ones(size, dtype=bool)
    margins = [max(1, round(side * band)) for side in size]
    outer[tuple(slice(margin, side - margin) for margin, side in zip(margins, size, strict=True))] = False
    return outer
