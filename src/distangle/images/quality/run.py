"""All checks that read pixels, over some sites or all."""

from collections.abc import Callable, Sequence

from distangle.images.quality.channel_swaps import check_channel_swaps
from distangle.images.quality.checks import check_depths, check_planes, judge_planes
from distangle.images.quality.decode_pool import LIMIT
from distangle.images.quality.duplicates import check_changed, check_same_pixels
from distangle.images.quality.measure import Read
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
    workers: int = 2,
    limit: float = LIMIT,
    read: Read = read_image,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CheckReport, PlaneMeasurements]:
    """Read some sites and say what is odd in them.

    Args:
        screen: With images.
        rows: Positions of sites, as from `sample_sites`.
        hash_files: Compare the SHA-256 of the files with the index too.
        folds: Whose sides must not have the same pixels.
        workers: Processes that decode.
        limit: Seconds for the images of a site, and then for each of its files, before their decoder is stopped.
        read: Reads an image; a function of a module.
        progress: Called with sites done and in all; every site counts twice, for its bytes and for its pixels.

    Returns:
        Findings and sums, and the measures they rest on.

    Raises:
        ScreenError: The screen was indexed without looking for images.
    """
    total = 2 * len(rows)
    surveyed = measure_planes(
        screen,
        rows,
        workers=workers,
        limit=limit,
        read=read,
        progress=None if progress is None else lambda done, _: progress(done, total),
    )
    done = len(rows)

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    changed = list(check_changed(screen, rows, hash_files=hash_files, progress=advance))
    fold = None if folds is None else folds.of(screen)
    planes, readable = surveyed.planes, surveyed.readable
    findings = [*changed, *check_planes(planes), *check_depths(readable), *check_channel_swaps(readable)]
    findings += check_same_pixels(readable, fold=fold)
    if surveyed.n_tried_again:
        findings.append(_tried_again(surveyed.n_tried_again))
    n_all, n_channels = len(screen.sites) * len(screen.card.channels), len(screen.card.channels)
    n_bad, n_left = len(planes) - len(readable), n_all - len(planes)
    compared, alone = judge_planes(readable)
    law = Invariant(
        stage="pixels",
        equation=f"planes {n_all} = read {len(readable)} + unreadable {n_bad} + not looked at {n_left}",
        holds=len(planes) == len(rows) * n_channels and n_left >= 0,
    )
    looked = {
        "sites_read": len(rows),
        "planes_read": len(planes),
        "reads_tried_again": surveyed.n_tried_again,
        "planes_compared_with_their_like": compared,
        "planes_without_enough_like_them": alone,
        "bytes_compared": bool(hash_files and (screen.sites["sha256"] != "").any()),
    }
    return CheckReport(findings=tuple(findings), invariants=(law,), scope=looked), surveyed


def _tried_again(n: int) -> Problem:
    return Problem(
        severity="note",
        kind="reads tried again",
        what=f"the storage failed {n} times for a moment (a stale handle, EIO) and was asked again",
        fix="Look at the mount before a long run: faults that last end it.",
        count=n,
    )
