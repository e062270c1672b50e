"""Estimate the statistics that standardize the images of a screen."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distangle.errors import ConfigError, ImageError
from distangle.images.cache import ImageCache
from distangle.images.preprocessing import GROUP, Preprocessing, pooled_statistics, statistics_by_site

MAX_TRAINING_IMAGES = 1000  # images for the mean and standard deviation of standardise=training


def fit_normalization(cache: ImageCache, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Read the images whose statistics standardize `rows`.

    If a plate or experiment is in several folds, a site uses the sites of its own fold.

    Args:
        cache: The images and their preprocessing.
        rows: Sites that will be used.

    Returns:
        The readable rows (the reasons of the others are in `cache.reasons`), and the statistics of each site, float32
        [site of the screen, 2, channel].

    Raises:
        ConfigError: A plate has no negative control, but the standardization needs one.
    """
    by = cache.preprocessing.standardize
    needed = list(rows)
    if cache.preprocessing.transductive:
        codes = cache.codes(tuple(GROUP[by]))
        needed = np.flatnonzero(np.isin(codes, codes[list(rows)])).tolist()
    cache.measure(needed)
    readable = [row for row in rows if row not in cache.reasons]
    if not cache.preprocessing.transductive:
        return readable, own_statistics(cache)
    # Only the groups of these rows, so that the work for a part of a screen does not grow with the screen.
    part = replace(cache.screen, sites=cache.screen.sites.iloc[needed].reset_index(drop=True))
    positions = np.searchsorted(needed, np.asarray(readable, dtype=int))
    fold = None if cache.fold is None else cache.fold[needed]
    result = np.full_like(cache.statistics, np.nan)
    result[needed] = statistics_by_site(part, cache.statistics[needed], by=by, rows=positions.tolist(), fold=fold)
    return readable, result


def own_statistics(cache: ImageCache) -> np.ndarray:
    """Return the statistics to standardize each site by, if they need no other image.

    Args:
        cache: The images, with standardize=image or standardize=training.

    Returns:
        float32 [site of the screen, 2, channel]. With standardize=image, a view of `cache.statistics`: a row is filled
        when its image is read.

    Raises:
        ConfigError: standardize=training, and the statistics of the training are unknown.
    """
    if cache.preprocessing.standardize == "image":
        return cache.statistics
    if cache.preprocessing.fixed is None:
        raise ConfigError(
            "standardise=training needs the mean and standard deviation of training images. "
            "Call `fix_statistics` first."
        )
    fixed = np.asarray(cache.preprocessing.fixed, dtype=np.float32)
    return np.broadcast_to(fixed, (len(cache.screen.sites), *fixed.shape))


def fix_statistics(cache: ImageCache, rows: Sequence[int]) -> Preprocessing:
    """Return the preprocessing, with training statistics if standardise=training.

    The statistics are one affine map of all pixels of a channel, independent of plates and labels. The standard
    deviation is rounded to a power of two and the mean to a multiple of it: only the order of magnitude depends on the
    wells, and the folds of a cross-validation nearly always agree and can share features.

    Args:
        cache: The images.
        rows: Sites of the training fold; an even sample of a thousand is read if there are more.

    Raises:
        ImageError: None of them can be read.
    """
    preprocessing = cache.preprocessing
    if preprocessing.standardize != "training" or preprocessing.fixed is not None:
        return preprocessing
    sample = (
        [rows[k] for k in np.linspace(0, len(rows) - 1, min(len(rows), MAX_TRAINING_IMAGES)).astype(int)]
        if len(rows)
        else []
    )
    readable = cache.measure(sample)
    if not readable:
        reason = f"; the first: {cache.reasons[sample[0]]}" if sample else ""
        raise ImageError(
            f"None of {len(sample)} training images can be read for standardization{reason}. Check the screen."
        )
    mean, std = pooled_statistics(cache.statistics[readable]).astype(np.float64)
    power = np.exp2(np.rint(np.log2(np.where(std > 0, std, 1.0))))
    rounded = np.rint(mean / power) * power
    fixed = (tuple(float(value) for value in rounded), tuple(float(value) for value in power))
    return preprocessing.model_copy(update={"fixed": fixed})
