"""Read the sites of a screen plate by plate on workers of Ray, for the checks."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from distangle.core.partitions import RayWorkers, map_on_ray
from distangle.images.quality.duplicates import check_changed
from distangle.images.quality.survey import PlaneMeasurements, measure_planes, require_images
from distangle.screen import Problem, Screen
from distangle.screen.plate_groups import group_codes
from distangle.screen.screen import PLATE_COLUMNS

Progress = Callable[[int], None]
"""Is called with the number of sites done."""


@dataclass(frozen=True, kw_only=True)
class SiteReadings:
    """What the checks read from sites.

    Attributes:
        measurements: Their planes, site by site.
        changes: Files that changed after indexing, site by site.
        failures: Plates that could not be read, and why.
    """

    measurements: PlaneMeasurements
    changes: tuple[Problem, ...]
    failures: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _PlateReadings:
    """What a worker read from the sites of a plate.

    Attributes:
        measurements: Positions count the sites of the plate.
        changes: Position and problem of each changed site.
    """

    measurements: PlaneMeasurements
    changes: tuple[tuple[int, Problem], ...]


def read_plates_on_ray(
    screen: Screen, rows: Sequence[int], *, hash_files: bool, limit: float, workers: RayWorkers, progress: Progress
) -> SiteReadings:
    """Read sites plate by plate on workers of Ray.

    The tables are those of one process. A plate that fails does not stop the others. The mean illumination is left out:
    no check needs it.

    Args:
        screen: A screen with images.
        rows: Positions of sites, ascending.
        hash_files: Also compare the SHA-256 of the files with the index.
        limit: Seconds for the images of a site, and then for each of its files, before their decoder is stopped.
        workers: How many workers.
        progress: Called when a plate is done.

    Raises:
        ScreenError: The screen was indexed without images.
        RunError: No worker starts.
        ConfigError: Ray is not installed.
    """
    require_images(screen)
    selected = np.asarray(rows, dtype=np.int64)
    codes = group_codes(screen.sites, PLATE_COLUMNS)[selected]
    plates = [selected[codes == code] for code in dict.fromkeys(codes.tolist())]
    job = functools.partial(_open, hash_files=hash_files, limit=limit)
    tables: list[pd.DataFrame] = []
    changes: list[tuple[int, Problem]] = []
    failures: list[Problem] = []
    n_done = n_retries = 0
    parts = ((number, _plate(screen, plate)) for number, plate in enumerate(plates))
    with contextlib.closing(map_on_ray(job, parts, workers=workers)) as outcomes:
        for outcome in outcomes:
            plate = plates[outcome.number]
            n_done += len(plate)
            progress(n_done)
            if outcome.result is None:
                failures.append(_failure(screen, plate, str(outcome.error)))
                continue
            planes = outcome.result.measurements.planes
            tables.append(planes.assign(position=plate[planes["position"].to_numpy()]))
            n_retries += outcome.result.measurements.n_retries
            changes += [(int(plate[position]), problem) for position, problem in outcome.result.changes]
    planes = measure_planes(screen, []).planes if not tables else pd.concat(tables, ignore_index=True)
    planes = planes.sort_values("position", kind="stable", ignore_index=True)
    return SiteReadings(
        measurements=PlaneMeasurements(planes=planes, illumination=np.zeros(0), n_retries=n_retries),
        changes=tuple(problem for _, problem in sorted(changes, key=lambda change: change[0])),
        failures=tuple(sorted(failures, key=lambda problem: (problem.experiment, problem.plate))),
    )


def _plate(screen: Screen, rows: np.ndarray) -> Screen:
    """Return the screen with some sites alone."""
    folder = None if screen.folder is None else screen.folder.resolve()
    sites = screen.sites.iloc[rows].reset_index(drop=True)
    return dataclasses.replace(screen, sites=sites, problems=screen.problems.iloc[:0], folder=folder)


def _open(*, hash_files: bool, limit: float) -> Callable[[Screen], _PlateReadings]:
    """Return the function of a plate, in a worker."""
    return functools.partial(_read_plate, hash_files=hash_files, limit=limit)


def _read_plate(plate: Screen, *, hash_files: bool, limit: float) -> _PlateReadings:
    """Measure the sites of a plate, and compare their files with the index."""
    rows = range(len(plate.sites))
    measurements = measure_planes(plate, rows, workers=1, limit=limit)
    position = 0

    def count() -> None:
        nonlocal position
        position += 1

    # The problem of a site comes before it is counted.
    changes = tuple(
        (position, problem) for problem in check_changed(plate, rows, hash_files=hash_files, progress=count)
    )
    return _PlateReadings(measurements=measurements, changes=changes)


def _failure(screen: Screen, rows: np.ndarray, reason: str) -> Problem:
    site = screen.sites.iloc[int(rows[0])]
    return Problem(
        severity="error",
        kind="plate not checked",
        what=f"{len(rows)} sites were not read: {reason.removesuffix('.')}",
        experiment=str(site["experiment"]),
        plate=str(site["plate"]),
        fix="Check the worker and its storage, then run the same command again.",
        count=len(rows),
    )
