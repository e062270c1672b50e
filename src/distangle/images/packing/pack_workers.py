"""Pack the plates of a screen on workers of Ray."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from distangle.core.partitions import RayWorkers, map_on_ray
from distangle.core.progress import Advance
from distangle.errors import DistangleError, RunError, StorageError
from distangle.images.packing.writer import PackedImage, PackWriter
from distangle.screen import Problem, Screen
from distangle.screen.plate_groups import group_codes
from distangle.screen.screen import PLATE_COLUMNS


def pack_on_ray(
    open_writer: Callable[[], PackWriter], screen: Screen, workers: RayWorkers, advance: Advance
) -> Iterator[PackedImage | Problem]:
    """Pack all images plate by plate, and yield them in the order of the sites.

    A plate that fails does not stop the others.

    Args:
        open_writer: Called in every worker, so its folders are absolute.
        screen: The screen.
        workers: How many workers.
        advance: Called for every image when its plate is packed.

    Raises:
        RunError: Some plates failed; the others are packed, and a repeated call keeps them.
        StorageError: The storage is full; packed images stay.
    """
    codes = group_codes(screen.sites, PLATE_COLUMNS)
    order = np.argsort(codes, kind="stable")
    plates = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    images: dict[int, PackedImage | Problem] = {}
    failures: dict[int, DistangleError] = {}
    parts = ((number, rows.tolist()) for number, rows in enumerate(plates))
    with contextlib.closing(map_on_ray(functools.partial(_open, open_writer), parts, workers=workers)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome.error, StorageError):
                raise outcome.error
            if outcome.error is not None:
                failures[outcome.number] = outcome.error
                continue
            for row, image in zip(plates[outcome.number].tolist(), outcome.result or (), strict=True):
                images[row] = image
                advance(f"{len(images)} images")
    if failures:
        names = "; ".join(
            f"plate {' '.join(screen.sites[list(PLATE_COLUMNS)].iloc[plates[number][0]].astype(str))}: {error}"
            for number, error in sorted(failures.items())
        )
        raise RunError(
            f"{len(failures)} of {len(plates)} plates failed: {names} The others are packed; the same command goes on "
            "from there."
        )
    for row in range(len(screen.sites)):
        yield images[row]


def _open(open_writer: Callable[[], PackWriter]) -> Callable[[Sequence[int]], list[PackedImage | Problem]]:
    """Return the function of a plate, in a worker."""
    return functools.partial(_pack_plate, open_writer())


def _pack_plate(writer: PackWriter, rows: Sequence[int]) -> list[PackedImage | Problem]:
    """Pack the images of a plate, one after the other."""
    return [writer.pack(row) for row in rows]
