"""Measure the planes of all sites, or of a reproducible sample of sites."""

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
from distangle.images.quality.decode_pool import TIME_LIMIT, DecodePool
from distangle.images.quality.measure import PlaneMeasurement, PlaneRead, Read
from distangle.images.readers.read import read_image
from distangle.screen import Screen

GRID = 16  # parts of a side of the illumination profile; fewer for smaller images
_MIN_SITES_PER_PROCESS = 16  # sites that justify starting another process
_BATCH_SITES = 64  # sites in progress together, to bound memory
_SITE_COLUMNS = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role", "split"]
_MEASURES = [field.name for field in fields(PlaneMeasurement)]


def sample_sites(screen: Screen, n: int, *, seed: int = 0) -> list[int]:
    """Return sampled rows, evenly from plates; new wells before second sites.

    Args:
        screen: The screen.
        n: Number of sites; 0 for all.
        seed: Seed of the sample.

    Returns:
        Sorted positions.

    Raises:
        ConfigError: The number is negative.
    """
    if n < 0:
        raise ConfigError(f"A sample of {n} sites: expected a number from 1, or 0 for all.")
    sites = screen.sites
    if n == 0 or n >= len(sites):
        return list(range(len(sites)))
    queues = []
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, plate_key in enumerate(zip(sites["experiment"].astype(str), sites["plate"].astype(str), strict=True)):
        rows_of[plate_key].append(row)
    for plate_key, rows in rows_of.items():
        rng = rng_for(seed, "sample of sites", *plate_key)
        order_in_plate = np.asarray(rows)[rng.permutation(len(rows))]
        wells = sites["well"].to_numpy()[order_in_plate]
        n_of_well: dict[str, int] = {}
        rank_in_well = []
        for well in wells.tolist():
            rank_in_well.append(n_of_well.get(well, 0))
            n_of_well[well] = rank_in_well[-1] + 1
        queues.append(order_in_plate[np.argsort(rank_in_well, kind="stable")].tolist())
    order = rng_for(seed, "order of plates").permutation(len(queues))
    sample: list[int] = []
    for depth in range(max(map(len, queues))):
        sample += [queues[k][depth] for k in order if depth < len(queues[k])]
        if len(sample) >= n:
            break
    return sorted(sample[:n])


@dataclass(frozen=True)
class PlaneMeasurements:
    """Measurements of planes with their positions in the screen.

    Attributes:
        planes: One row per site and channel: `position` (of the site in the screen), columns of the site, `channel`,
            `path` (relative to the source), `page`, the fields of `PlaneMeasurement`, and `reason` ("" or why it cannot
            be read; the measurements are then missing).
        illumination: Mean image of every channel over all sites, each plane divided by its own mean first, float64
            [channel, grid row, grid column]; around 1.
        n_retries: Reads that were retried after a transient storage error.
    """

    planes: pd.DataFrame
    illumination: np.ndarray
    n_retries: int = 0

    @property
    def readable(self) -> pd.DataFrame:
        """Rows of readable planes."""
        return self.planes[self.planes["reason"] == ""]

    def write(self, path: Path) -> Path:
        """Write the measurements as Parquet; return the path."""
        with atomic_write(path) as temporary:
            self.planes.to_parquet(temporary, index=False)
        return path


def measure_planes(
    screen: Screen,
    rows: Sequence[int],
    *,
    workers: int = 2,
    limit: float = TIME_LIMIT,
    read: Read = read_image,
    progress: Callable[[int, int], None] | None = None,
) -> PlaneMeasurements:
    """Read and measure planes of some sites; unreadable ones have a row with reason.

    Images are decoded in other processes: one that hangs or dies affects its file only.

    Args:
        screen: A screen with images.
        rows: Positions of sites.
        workers: Decoding processes; fewer for few sites.
        limit: Seconds for the images of a site, and then for each of its files, before their decoder is stopped.
        read: Reads an image; a module-level function, which the processes import.
        progress: Called with the number of sites done and in total.

    Raises:
        ScreenError: The screen was indexed without images.
    """
    require_images(screen)
    channels = [channel.name for channel in screen.metadata.channels]
    illumination = np.zeros((len(channels), *_grid(screen)))
    n_planes = np.zeros(len(channels))
    rows_measured: list[dict[str, object]] = []
    grid = _grid(screen)
    sites_per_request = _sites_per_request(screen)
    n_decoders = max(1, min(workers, len(rows) // _MIN_SITES_PER_PROCESS))

    def measure_part(part: Sequence[int]) -> list[list[PlaneRead]]:
        return pool.measure_sites([(screen.image_paths(row), screen.pages(row)) for row in part], grid=grid)

    with (
        concurrent.futures.ThreadPoolExecutor(n_decoders, thread_name_prefix="survey") as threads,
        DecodePool(read, limit=limit) as pool,
    ):
        for start in range(0, len(rows), _BATCH_SITES):
            end = min(start + _BATCH_SITES, len(rows))
            parts = [rows[k : min(k + sites_per_request, end)] for k in range(start, end, sites_per_request)]
            sites = itertools.chain.from_iterable(threads.map(measure_part, parts))
            for row, site in zip(rows[start:end], sites, strict=True):
                for k, plane in enumerate(site):
                    rows_measured.append({"position": row, "number": k, "reason": plane.reason, **plane.measures})
                    if plane.profile is not None and plane.profile.shape == illumination[k].shape:
                        illumination[k] += plane.profile
                        n_planes[k] += 1
                if progress is not None:
                    progress(len(rows_measured) // len(channels), len(rows))
    illumination /= np.maximum(n_planes, 1)[:, None, None]
    return PlaneMeasurements(
        planes=_table(screen, rows_measured, channels), illumination=illumination, n_retries=pool.n_retries
    )


def require_images(screen: Screen) -> None:
    """Check that a screen has images.

    Raises:
        ScreenError: It was indexed without images.
    """
    if screen.metadata.tables_only:
        raise ScreenError(
            "This screen was indexed with --tables-only, so it has no images. Index it again without --tables-only."
        )


def _sites_per_request(screen: Screen) -> int:
    """Return the sites per request, whose overhead equals some 100,000 pixels."""
    height, width = screen.metadata.shape or (1 << 10, 1 << 10)
    return max(1, min(16, (1 << 21) // (height * width * max(1, len(screen.metadata.channels)))))


def _grid(screen: Screen) -> tuple[int, int]:
    height, width = screen.metadata.shape or (GRID, GRID)
    return min(GRID, height), min(GRID, width)


def _table(screen: Screen, measured: Sequence[dict[str, object]], channels: Sequence[str]) -> pd.DataFrame:
    positions = [int(str(values["position"])) for values in measured]
    numbers = np.array([int(str(values["number"])) for values in measured], dtype=int)
    sites = screen.sites
    table = sites[_SITE_COLUMNS].iloc[positions].reset_index(drop=True)
    table.insert(0, "position", positions)
    table["channel"] = pd.Series([channels[k] for k in numbers], dtype="str")
    for name, kind in (("path", "str"), ("page", "int64")):
        columns = [sites[f"{name}_{k + 1}"].tolist() for k in range(len(channels))]
        table[name] = pd.Series([columns[k][p] for k, p in zip(numbers, positions, strict=True)], dtype=kind)
    for name in _MEASURES:
        kind = "str" if name == "digest" else "float64"
        empty = "" if name == "digest" else np.nan
        table[name] = pd.Series([values.get(name, empty) for values in measured], dtype=kind)
    table["reason"] = pd.Series([values["reason"] for values in measured], dtype="str")
    return table
