"""Summarize quantities by plate position; compare the edge with the interior."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from distangle.core.random import rng_for

N_SHUFFLES = 999


@dataclass(frozen=True, kw_only=True)
class EdgeEffect:
    """Difference between the wells at the edge of the used area and those inside.

    Attributes:
        difference: Mean at the edge minus mean inside, averaged over plates, in units of the quantity.
        in_deviations: The same in standard deviations of a well within its plate.
        p_value: Share of shuffles of the wells with an absolute difference as large.
        n_plates: Plates with wells at the edge and inside.
    """

    difference: float
    in_deviations: float
    p_value: float
    n_plates: int


def wells_of(sites: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    """Return a row per well, with the mean over its sites.

    Columns are `experiment, plate, row, column, value`.

    Args:
        sites: With `experiment`, `plate`, `row` and `column`.
        values: One per row.
    """
    columns = ["experiment", "plate", "row", "column"]
    table = sites[columns].assign(value=values)
    means: pd.DataFrame = table[np.isfinite(values)].groupby(columns, sort=False, as_index=False)["value"].mean()
    return means


def median_plate(wells: pd.DataFrame, shape: tuple[int, int]) -> np.ndarray:
    """Return the median plate, [row, column]; NaN where no plate has a well.

    Each value is the median over plates of a well's difference to its plate's median.

    Args:
        wells: From `wells_of`.
        shape: Rows and columns of a plate.
    """
    plate_median = wells.groupby(["experiment", "plate"])["value"].transform("median")
    medians = wells.assign(value=wells["value"] - plate_median).groupby(["row", "column"])["value"].median()
    plate = np.full(shape, np.nan)
    positions = np.array(medians.index.tolist(), dtype=int).reshape(-1, 2)
    plate[positions[:, 0], positions[:, 1]] = medians.to_numpy()
    return plate


def edge_effect(wells: pd.DataFrame, *, seed: int = 0) -> EdgeEffect | None:
    """Compare the edge of plates with their interior, and with shuffled wells.

    A shuffle moves the wells of one position on all plates together: if plates share one layout, the same treatments
    are at the edge of each, which is not an edge effect and does not average out. The edge is that of the used wells:
    RxRx1 leaves the outermost ones empty.

    Args:
        wells: From `wells_of`.
        seed: Seed of the shuffles.

    Returns:
        None where no plate has two wells inside and two at the edge.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rows, columns = wells["row"], wells["column"]
    on_border = (rows.isin([rows.min(), rows.max()]) | columns.isin([columns.min(), columns.max()])).to_numpy()
    position = wells.groupby(["row", "column"]).ngroup().to_numpy()
    for index in wells.groupby(["experiment", "plate"], sort=False).indices.values():
        is_border, value = on_border[index], wells["value"].to_numpy()[index]
        if 2 <= is_border.sum() <= len(is_border) - 2:
            parts.append((is_border, value, position[index]))
    if not parts:
        return None
    observed = _mean_difference([(is_border, value) for is_border, value, _ in parts])
    rng = rng_for(seed, "edge effect")
    shuffled = np.empty(N_SHUFFLES)
    for k in range(N_SHUFFLES):
        order = rng.permutation(int(position.max()) + 1)
        shuffled[k] = _mean_difference(
            [(_first(order[positions], int(is_border.sum())), value) for is_border, value, positions in parts]
        )
    std = float(np.sqrt(np.mean([value.var(ddof=1) for _, value, _ in parts])))
    return EdgeEffect(
        difference=observed,
        in_deviations=observed / std if std > 0 else 0.0,
        p_value=float((1 + (np.abs(shuffled) >= abs(observed) - 1e-15).sum()) / (N_SHUFFLES + 1)),
        n_plates=len(parts),
    )


def _first(order: np.ndarray, n: int) -> np.ndarray:
    """Return which of the positions of a plate are its first n in a random order."""
    return np.asarray(order <= np.partition(order, n - 1)[n - 1])


def _mean_difference(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([value[is_border].mean() - value[~is_border].mean() for is_border, value in parts]))
