"""Sample sites evenly over plates and wells, the same ones each time.

Every plane of some sites, read once and measured.
"""

import concurrent.futures
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.core.io import atomic_write
from distangle.core.random import rng_for
from distangle.errors import ConfigError, ScreenError
from distangle.images.quality.decode_pool import LIMIT, DecodePool
from distangle.images.quality.measure import PlaneMeasurement, PlaneRead, Read
from distangle.images.readers.read import read_image
from distangle.screen import Screen


def sample_sites(screen: Screen, n: int, *, seed: int = 0) -> list[int]:
    """Return sampled rows, evenly from plates; new wells before second sites.

    Args:
        screen: The screen.
        n: How many; 0, or more than there are: all.
        seed: Another one chooses others.

    Returns:
        Sorted positions.

    Raises:
        ConfigError: A negative number.
    """
    if n < 0:
        raise ConfigError(f"A sample of {n} sites: expected a number from 1, or 0 for all.")
    sites = screen.sites
    if n == 0 or n >= len(sites):
        return list(range(len(sites)))
    queues = []
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, place in enumerate(zip(sites["experiment"].astype(str), sites["plate"].astype(str), strict=True)):
        rows_of[place].append(row)
    for place, rows in rows_of.items():
        rng = rng_for(seed, "sample of sites", *place)
        drawn = np.asarray(rows)[rng.permutation(len(rows))]
        wells = sites["well"].to_numpy()[drawn]
        again: dict[str, int] = {}
        turn = []
        for well in wells.tolist():
            turn.append(again.get(well, 0))
            again[well] = turn[-1] + 1
        queues.append(drawn[np.argsort(turn, kind="stable")].tolist())
    order = rng_for(seed, "order of plates").permutation(len(queues))
    chosen: list[int] = []
    for depth in range(max(map(len, queues))):
        chosen += [queues[k][depth] for k in order if depth < len(queues[k])]
        if len(chosen) >= n:
            break
    return sorted(chosen[:n])


GRID = 16  # parts of a side of the illumination profile, or as many as the image has pixels
_PAYS = 16  # sites for which it is worth to start a process
_AT_ONCE = 64  # sites handed to the threads together: bounds memory
_PLACE = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role", "split"]
_MEASURES = [one.name for one in fields(PlaneMeasurement)]


@dataclass(frozen=True)
class PlaneMeasurements:
    """Measures of planes with the places they belong to.

    Attributes:
        planes: One row per site and channel: `position` (of the site in the screen), the place, `channel`, `path`
            (relative to the source), `page`, then the measures of `PlaneMeasures`, and `reason` ("" or why it cannot
            be read; the measures are missing then).
        illumination: Mean image of every channel over all sites, each plane divided by its own mean first, float64
            [channel, grid row, grid column]; around 1.
        n_tried_again: Reads that were tried once more because the storage had failed for a moment.
    """

    planes: pd.DataFrame
    illumination: np.ndarray
    n_tried_again: int = 0

    @property
    def readable(self) -> pd.DataFrame:
        """The rows that were measured."""
        return self.planes[self.planes["reason"] == ""]

    def write(self, path: Path) -> Path:
        """Write the measures as Parquet; return the path."""
        with atomic_write(path) as temporary:
            self.planes.to_parquet(temporary, index=False)
        return path


def measure_planes(
    screen: Screen,
    rows: Sequence[int],
    *,
    workers: int = 2,
    limit: float = LIMIT,
    read: Read = read_image,
    progress: Callable[[int, int], None] | None = None,
) -> PlaneMeasurements:
    """Read and measure planes of some sites; unreadable ones keep a row with reason.

    Images are decoded in other processes: one that hangs or dies costs its file, and no other.

    Args:
        screen: With images.
        rows: Positions of sites.
        workers: Processes that decode; fewer where they would not pay for their start.
        limit: Seconds for the images of a site, and then for each of its files, before their decoder is stopped.
        read: Reads an image; a function of a module, which the processes import.
        progress: Called with the number of sites done and in all.

    Raises:
        ScreenError: The screen was indexed without looking for images.
    """
    if screen.card.tables_only:
        raise ScreenError(
            "This screen was indexed with --tables-only, so it has no images to look at. Index it again without."
        )
    channels = [channel.name for channel in screen.card.channels]
    lit = np.zeros((len(channels), *_grid(screen)))
    n_lit = np.zeros(len(channels))
    found: list[dict[str, object]] = []
    grid = _grid(screen)
    together = _together(screen)
    n_decoders = max(1, min(workers, len(rows) // _PAYS))

    def measured(part: Sequence[int]) -> list[list[PlaneRead]]:
        return decoders.measure_sites([(screen.image_paths(row), screen.pages(row)) for row in part], grid=grid)

    with (
        concurrent.futures.ThreadPoolExecutor(n_decoders, thread_name_prefix="survey") as threads,
        DecodePool(read, limit=limit) as decoders,
    ):
        for start in range(0, len(rows), _AT_ONCE):
            end = min(start + _AT_ONCE, len(rows))
            parts = [rows[k : min(k + together, end)] for k in range(start, end, together)]
            sites = itertools.chain.from_iterable(threads.map(measured, parts))
            for row, site in zip(rows[start:end], sites, strict=True):
                for k, plane in enumerate(site):
                    found.append({"position": row, "number": k, "reason": plane.reason, **plane.measures})
                    if plane.profile is not None and plane.profile.shape == lit[k].shape:
                        lit[k] += plane.profile
                        n_lit[k] += 1
                if progress is not None:
                    progress(len(found) // len(channels), len(rows))
    lit /= np.maximum(n_lit, 1)[:, None, None]
    return PlaneMeasurements(
        planes=_table(screen, found, channels), illumination=lit, n_tried_again=decoders.n_tried_again
    )


def _together(screen: Screen) -> int:
    """Return the sites per message, which costs as much as some 100,000 pixels."""
    height, width = screen.card.shape or (1 << 10, 1 << 10)
    return max(1, min(16, (1 << 21) // (height * width * max(1, len(screen.card.channels)))))


def _grid(screen: Screen) -> tuple[int, int]:
    height, width = screen.card.shape or (GRID, GRID)
    return min(GRID, height), min(GRID, width)


def _table(screen: Screen, found: Sequence[dict[str, object]], channels: Sequence[str]) -> pd.DataFrame:
    positions = [int(str(one["position"])) for one in found]
    numbers = np.array([int(str(one["number"])) for one in found], dtype=int)
    sites = screen.sites
    table = sites[_PLACE].iloc[positions].reset_index(drop=True)
    table.insert(0, "position", positions)
    table["channel"] = pd.Series([channels[k] for k in numbers], dtype="str")
    for name, kind in (("path", "str"), ("page", "int64")):
        columns = [sites[f"{name}_{k + 1}"].tolist() for k in range(len(channels))]
        table[name] = pd.Series([columns[k][p] for k, p in zip(numbers, positions, strict=True)], dtype=kind)
    for name in _MEASURES:
        kind = "str" if name == "digest" else "float64"
        empty = "" if name == "digest" else np.nan
        table[name] = pd.Series([one.get(name, empty) for one in found], dtype=kind)
    table["reason"] = pd.Series([one["reason"] for one in found], dtype="str")
    return table
