"""Summarize quantities by plate position; compare the border with the inside."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from distangle.core.random import rng_for

N_SHUFFLES = 999


@dataclass(frozen=True, kw_only=True)
class EdgeEffect:
    """How the wells at the border of what is used differ from those inside.

    Attributes:
        difference: Mean at the border minus mean inside, averaged over plates, in units of the quantity.
        in_deviations: The same in standard deviations of a well within its plate.
        p_value: Share of shuffles of the wells with a difference as large, either way.
        n_plates: Plates with wells on both sides.
    """

    difference: float
    in_deviations: float
    p_value: float
    n_plates: int


def wells_of(places: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    """Return a row per well, with the mean over its sites.

    Columns are `experiment, plate, row, column, value`.

    Args:
        places: With `experiment`, `plate`, `row` and `column`.
        values: One per row.
    """
    columns = ["experiment", "plate", "row", "column"]
    table = places[columns].assign(value=values)
    means: pd.DataFrame = table[np.isfinite(values)].groupby(columns, sort=False, as_index=False)["value"].mean()
    return means


def median_plate(wells: pd.DataFrame, shape: tuple[int, int]) -> np.ndarray:
    """Return the median plate, [row, column]; NaN where no plate has a well.

    Each value is the median over plates of a well's difference to its plate's median.

    Args:
        wells: From `wells_of`.
        shape: Rows and columns of a plate.
    """
    middle = wells.groupby(["experiment", "plate"])["value"].transform("median")
    at = wells.assign(value=wells["value"] - middle).groupby(["row", "column"])["value"].median()
    plate = np.full(shape, np.nan)
    positions = np.array(at.index.tolist(), dtype=int).reshape(-1, 2)
    plate[positions[:, 0], positions[:, 1]] = at.to_numpy()
    return plate


def edge_effect(wells: pd.DataFrame, *, seed: int = 0) -> EdgeEffect | None:
    """Compare the border of plates with their inside, and with shuffled wells.

    Wells are shuffled within their plates.
    A shuffle moves the wells of one place on all plates together: where plates have one layout, the same treatments lie
    at the border of each, which is no effect of the edge and does not average out. The border is that of the wells in
    use: RxRx1 leaves the outermost ones empty.

    Args:
        wells: From `wells_of`.
        seed: Of the shuffles.

    Returns:
        None where no plate has two wells inside and two at the border.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rows, columns = wells["row"], wells["column"]
    border = (rows.isin([rows.min(), rows.max()]) | columns.isin([columns.min(), columns.max()])).to_numpy()
    place = wells.groupby(["row", "column"]).ngroup().to_numpy()
    for index in wells.groupby(["experiment", "plate"], sort=False).indices.values():
        at, value = border[index], wells["value"].to_numpy()[index]
        if 2 <= at.sum() <= len(at) - 2:
            parts.append((at, value, place[index]))
    if not parts:
        return None
    real = _mean_difference([(at, value) for at, value, _ in parts])
    rng = rng_for(seed, "edge effect")
    shuffled = np.empty(N_SHUFFLES)
    for draw in range(N_SHUFFLES):
        order = rng.permutation(int(place.max()) + 1)
        shuffled[draw] = _mean_difference([(_first(order[there], int(at.sum())), value) for at, value, there in parts])
    spread = float(np.sqrt(np.mean([value.var(ddof=1) for _, value, _ in parts])))
    return EdgeEffect(
        difference=real,
        in_deviations=real / spread if spread > 0 else 0.0,
        p_value=float((1 + (np.abs(shuffled) >= abs(real) - 1e-15).sum()) / (N_SHUFFLES + 1)),
        n_plates=len(parts),
    )


def _first(order: np.ndarray, n: int) -> np.ndarray:
    """Which n places of a plate come first in the order of all places."""
    return np.asarray(order <= np.partition(order, n - 1)[n - 1])


def _mean_difference(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([value[at].mean() - value[~at].mean() for at, value in parts]))
