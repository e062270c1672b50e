"""Run all checks that read pixels, on some sites or all."""

from collections.abc import Callable, Sequence

from distangle.core.partitions import RayWorkers
from distangle.images.quality.channel_swaps import check_channel_swaps
from distangle.images.quality.checks import check_depths, check_planes, judge_planes
from distangle.images.quality.decode_pool import TIME_LIMIT
from distangle.images.quality.duplicates import check_changed, check_same_pixels
from distangle.images.quality.measure import Read
from distangle.images.quality.plate_workers import SiteReadings, read_plates_on_ray
from distangle.images.quality.survey import PlaneMeasurements, measure_planes
from distangle.images.readers.read import read_image
from distangle.screen import Folds, Screen
from distangle.screen.checks import CheckReport, Invariant
from distangle.screen.problems import Problem


def check_pixels(
    screen: Screen,
    rows: Sequence[int],
    *,
    hash_files: bool = True,
    folds: Folds | None = None,
    workers: int | RayWorkers = 2,
    limit: float = TIME_LIMIT,
    read: Read = read_image,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CheckReport, PlaneMeasurements]:
    """Read some sites and report problems of their images.

    With workers of Ray, plates are read one by one; the report is that of one process, and a plate that cannot be read
    is one of its findings.

    Args:
        screen: A screen with images.
        rows: Positions of sites, such as from `sample_sites`.
        hash_files: Also compare the SHA-256 of the files with the index.
        folds: Folds that must not share pixels.
        workers: Decoding processes on this machine, or workers of Ray.
        limit: Seconds for the images of a site, and then for each of its files, before their decoder is stopped.
        read: Reads an image; a module-level function. Workers of Ray use the default one.
        progress: Called with sites done and in total; every site counts twice, for its bytes and for its pixels.

    Returns:
        Problems and totals, and the measurements.

    Raises:
        ScreenError: The screen was indexed without images.
    """
    if isinstance(workers, int):
        readings = _read_sites(
            screen, rows, hash_files=hash_files, workers=workers, limit=limit, read=read, progress=progress
        )
    else:
        readings = read_plates_on_ray(
            screen,
            rows,
            hash_files=hash_files,
            limit=limit,
            workers=workers,
            progress=lambda n: None if progress is None else progress(2 * n, 2 * len(rows)),
        )
    measurements = readings.measurements
    fold = None if folds is None else folds.of(screen)
    planes, readable = measurements.planes, measurements.readable
    findings = [
        *readings.failures,
        *readings.changes,
        *check_planes(planes),
        *check_depths(readable),
        *check_channel_swaps(readable),
    ]
    findings += check_same_pixels(readable, fold=fold)
    if measurements.n_retries:
        findings.append(_retry_problem(measurements.n_retries))
    n_all, n_channels = len(screen.sites) * len(screen.metadata.channels), len(screen.metadata.channels)
    n_bad, n_not_read = len(planes) - len(readable), n_all - len(planes)
    n_compared, n_alone = judge_planes(readable)
    n_sites = len(rows) - sum(failure.count for failure in readings.failures)
    invariant = Invariant(
        stage="pixels",
        equation=f"planes {n_all} = read {len(readable)} + unreadable {n_bad} + not looked at {n_not_read}",
        holds=len(planes) == n_sites * n_channels and n_not_read >= 0,
    )
    examined = {
        "sites_read": n_sites,
        "planes_read": len(planes),
        "reads_tried_again": measurements.n_retries,
        "planes_compared_with_their_like": n_compared,
        "planes_without_enough_like_them": n_alone,
        "bytes_compared": bool(hash_files and (screen.sites["sha256"] != "").any()),
    }
    return CheckReport(findings=tuple(findings), invariants=(invariant,), scope=examined), measurements


def _read_sites(
    screen: Screen,
    rows: Sequence[int],
    *,
    hash_files: bool,
    workers: int,
    limit: float,
    read: Read,
    progress: Callable[[int, int], None] | None,
) -> SiteReadings:
    """Measure the planes of sites, and compare their files with the index, on this machine."""
    total = 2 * len(rows)
    measurements = measure_planes(
        screen,
        rows,
        workers=workers,
        limit=limit,
        read=read,
        progress=None if progress is None else lambda done, _: progress(done, total),
    )
    n_done = len(rows)

    def advance() -> None:
        nonlocal n_done
        n_done += 1
        if progress is not None:
            progress(n_done, total)

    changes = tuple(check_changed(screen, rows, hash_files=hash_files, progress=advance))
    return SiteReadings(measurements=measurements, changes=changes)


def _retry_problem(n: int) -> Problem:
    return Problem(
        severity="note",
        kind="reads tried again",
        what=f"{n} reads failed with a transient error (a stale handle, EIO) and were retried",
        fix="Check the network file system before a long run: persistent failures end it.",
        count=n,
    )
