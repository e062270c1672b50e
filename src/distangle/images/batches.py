"""Sites in order, standardised, in batches of one constant size."""

from collections.abc import Iterator, Sequence

import numpy as np

from distangle.images.intensity import GROUP, standardise, statistics_by_site
from distangle.images.store import ImageStore
from distangle.images.views import View, take_view


def measure_sites(store: ImageStore, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Read the images that the standardisation of `rows` rests on.

    Args:
        store: The images and how they are prepared.
        rows: The sites that will be used.

    Returns:
        The rows that can be read (the others are in `store.reasons`), and float32 [site of the screen, 2,
        channel]: what each site is to be standardised by.

    Raises:
        ConfigError: A plate has no negative control, and standardising needs one.
    """
    by = store.preparation.standardise
    sites = store.screen.sites
    needed = list(rows)
    if by != "image":
        groups = sites[GROUP[by]].apply(tuple, axis=1)
        needed = np.flatnonzero(groups.isin(set(groups.iloc[list(rows)]))).tolist()
    store.measure(needed)
    readable = [row for row in rows if row not in store.reasons]
    return readable, statistics_by_site(store.screen, store.statistics, by=by, rows=readable)


def ready_batches(
    store: ImageStore, rows: Sequence[int], statistics: np.ndarray, *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Give standardised batches; the last is padded to full size, so that no result depends on its place.

    Args:
        store: The images.
        rows: Readable sites of the screen.
        statistics: From `measure_sites`.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.

    Yields:
        The rows of the batch (fewer than its size in the last), and float32 [batch_size, channel, height,
        width] in a buffer that the next batch reuses.
    """
    ready = np.empty(0, dtype=np.float32)
    for chosen, raw in pixel_batches(store, rows, batch_size=batch_size, view=view):
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen))
        ready = ready if ready.shape == raw.shape else np.empty(raw.shape, dtype=np.float32)
        standardise(raw, statistics[padded], out=ready, transform=store.preparation.transform)
        yield chosen, ready


def pixel_batches(
    store: ImageStore, rows: Sequence[int], *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Give the pixels that `ready_batches` standardises, turned and padded, uint8 or uint16, in the same order.

    Args:
        store: The images.
        rows: Readable sites of the screen.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.

    Yields:
        The rows of the batch, and [batch_size, channel, height, width] in a buffer that the next batch reuses.
    """
    if not rows:
        return
    first = store.image(rows[0])
    channels, height, width = first.shape
    shape = (channels, width, height) if view & 4 else first.shape
    raw = np.empty((batch_size, *shape), dtype=first.dtype)
    for start in range(0, len(rows), batch_size):
        chosen = list(rows[start : start + batch_size])
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen))
        for slot, image in enumerate(store.images(padded)):
            take_view(image, View(view), out=raw[slot])
        yield chosen, raw
