"""Sites in order, standardised, in batches of one constant size."""

from collections.abc import Iterator, Sequence

import numpy as np

from distangle.errors import ConfigError, ImageError
from distangle.images.intensity import GROUP, pooled_statistics, standardise, statistics_by_site
from distangle.images.preparation import Preparation
from distangle.images.store import ImageStore
from distangle.images.views import View, take_view
from distangle.screen.norm_groups import group_codes

SAMPLE = 1000  # images that the mean and spread of the training rest on


def measure_sites(store: ImageStore, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Read the images that the standardisation of `rows` rests on.

    Of a plate or experiment in several folds of the store, a site rests on the sites of its own fold.

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
    if store.preparation.transductive:
        codes = group_codes(sites, GROUP[by], store.fold)
        needed = np.flatnonzero(np.isin(codes, codes[list(rows)])).tolist()
    store.measure(needed)
    readable = [row for row in rows if row not in store.reasons]
    if by == "training":
        if store.preparation.fixed is None:
            raise ConfigError(
                "standardise=training needs the mean and spread of training images. Call `fix_statistics` first."
            )
        fixed = np.asarray(store.preparation.fixed, dtype=np.float32)
        return readable, np.broadcast_to(fixed, (len(sites), *fixed.shape))
    return readable, statistics_by_site(store.screen, store.statistics, by=by, rows=readable, fold=store.fold)


def fix_statistics(store: ImageStore, rows: Sequence[int]) -> Preparation:
    """Return the preparation, with training statistics if standardise=training.

    It is one affine map of all pixels of a channel, and knows neither plates nor labels. The spread is rounded to a
    power of two and the mean to a multiple of it: no more than the order of magnitude is taken from the wells, and
    the folds of a cross-validation, each from its own wells, nearly always agree and can share features.

    Args:
        store: The images.
        rows: Sites of the training fold; of more than a thousand, a thousand spread evenly are read.

    Raises:
        ImageError: None of them can be read.
    """
    preparation = store.preparation
    if preparation.standardise != "training" or preparation.fixed is not None:
        return preparation
    chosen = [rows[k] for k in np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)] if len(rows) else []
    readable = store.measure(chosen)
    if not readable:
        reason = f"; the first: {store.reasons[chosen[0]]}" if chosen else ""
        raise ImageError(
            f"None of {len(chosen)} training images can be read to standardise by{reason}. Check the screen."
        )
    mean, spread = pooled_statistics(store.statistics[readable]).astype(np.float64)
    octave = np.exp2(np.rint(np.log2(np.where(spread > 0, spread, 1.0))))
    rounded = np.rint(mean / octave) * octave
    fixed = (tuple(float(value) for value in rounded), tuple(float(value) for value in octave))
    return preparation.model_copy(update={"fixed": fixed})


def ready_batches(
    store: ImageStore, rows: Sequence[int], statistics: np.ndarray, *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Give standardised batches.

    The last is padded to full size, so that no result depends on its place.

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
    """Give the pixels that `ready_batches` standardises, uint8 or uint16.

    They are turned, padded and in the same order.

    Args:
        store: The images.
        rows: Readable sites of the screen.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.

    Yields:
        The rows of the batch, and [batch_size, channel, height, width] in a buffer that the next batch reuses.
    """
    raw = np.empty(0, dtype=np.uint8)
    for start in range(0, len(rows), batch_size):
        chosen = list(rows[start : start + batch_size])
        images = store.images(chosen)
        if start == 0:
            channels, height, width = images[0].shape
            shape = (channels, width, height) if view & 4 else (channels, height, width)
            raw = np.empty((batch_size, *shape), dtype=images[0].dtype)
        for slot, image in enumerate(images):
            take_view(image, View(view), out=raw[slot])
        raw[len(images) :] = raw[len(images) - 1]
        yield chosen, raw
