"""Standardise images by the mean and standard deviation of each channel.

Preprocessing of images: training writes it down, inference repeats it.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distangle.errors import ConfigError, did_you_mean
from distangle.images.jit_threshold import pixel_kernels
from distangle.screen import NEGATIVE, Screen
from distangle.screen.plate_groups import group_codes

Standardisation = Literal["image", "training", "plate", "experiment", "controls", "experiment_controls"]
FEW = 3  # fewer images of negative controls than this say too little of an experiment
Transform = Literal["none", "sqrt"]
GROUP: Mapping[str, list[str]] = {
    "plate": ["experiment", "plate"],
    "experiment": ["experiment"],
    "controls": ["experiment", "plate"],
    "experiment_controls": ["experiment"],
}
_EXACT = 1 << 20  # squares of so many 16-bit pixels add up without rounding in float64
EPSILON = 1e-6  # of the pixel unit: a constant channel becomes zero, not NaN


def channel_statistics(image: np.ndarray, *, transform: Transform = "none") -> np.ndarray:
    """Return mean and standard deviation of every channel of one image.

    Args:
        image: [channel, height, width], uint8 or uint16.
        transform: Of every pixel first; the square root steadies photon noise and bright tails.

    Returns:
        float32 [2, channel]: mean, then standard deviation, in (transformed) pixel units.

    Source: Fig. 3.
    """
    quick = pixel_kernels()
    if transform == "sqrt":
        return _from_counts(_counts(image, quick))
    n_pixels = image[0].size
    rows = []
    for plain, squared in _power_sums(image, quick):
        # Whole numbers of any length: exact, and so the same by any route.
        rows.append((plain / n_pixels, (n_pixels * squared - plain * plain) / n_pixels**2))
    mean, variance = np.array(rows, dtype=np.float64).T
    return np.stack([mean, np.sqrt(variance)]).astype(np.float32)


def _power_sums(image: np.ndarray, quick: ModuleType | None) -> list[tuple[int, int]]:
    """Return the sum of each channel's pixels and that of their squares."""
    if quick is not None:
        sums = np.empty((len(image), 2), dtype=np.uint64)
        quick.power_sums(np.ascontiguousarray(image), sums)
        return [(int(plain), int(squared)) for plain, squared in sums]
    found = []
    for plane in image:
        flat = plane.reshape(-1)
        parts = [flat[k : k + _EXACT].astype(np.float64) for k in range(0, flat.size, _EXACT)]
        found.append((sum(int(part.sum()) for part in parts), sum(int(part @ part) for part in parts)))
    return found


def _counts(image: np.ndarray, quick: ModuleType | None) -> np.ndarray:
    """Return how often each value is in each channel, int64 [channel, value]."""
    n_values = np.iinfo(image.dtype).max + 1
    if quick is None:
        return np.stack([np.bincount(plane.reshape(-1), minlength=n_values) for plane in image])
    counts = np.zeros((len(image), n_values), dtype=np.int64)
    quick.count_values(np.ascontiguousarray(image), counts)
    return counts


def _from_counts(counts: np.ndarray) -> np.ndarray:
    roots = np.sqrt(np.arange(counts.shape[1], dtype=np.float64))
    n_pixels = counts[0].sum()
    mean = counts @ roots / n_pixels
    spread = [np.sqrt(of_channel @ (roots - at) ** 2 / n_pixels) for of_channel, at in zip(counts, mean, strict=True)]
    return np.stack([mean, np.array(spread)]).astype(np.float32)


def pooled_statistics(statistics: np.ndarray) -> np.ndarray:
    """Pool the mean and standard deviation of images of one size over all pixels.

    Args:
        statistics: float [image, 2, channel], from `channel_statistics`.

    Returns:
        float32 [2, channel].
    """
    means, spreads = statistics[:, 0].astype(np.float64), statistics[:, 1].astype(np.float64)
    mean = means.mean(axis=0)
    variance = (spreads**2 + means**2).mean(axis=0) - mean**2
    return np.stack([mean, np.sqrt(np.maximum(variance, 0))]).astype(np.float32)


def control_rows(screen: Screen, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return those of some sites that are negative controls or untreated.

    Args:
        screen: The screen.
        rows: Positions in it.
    """
    chosen = np.asarray(rows, dtype=int)
    control = screen.sites["role"].isin(NEGATIVE).to_numpy()
    return np.asarray(chosen[control[chosen]])


def statistics_by_site(
    screen: Screen,
    image_statistics: np.ndarray,
    *,
    by: Standardisation,
    rows: Sequence[int] | None = None,
    fold: np.ndarray | None = None,
) -> np.ndarray:
    """Return, for every site, the statistics it is to be standardised by.

    Args:
        screen: The screen; its sites are the rows of `image_statistics`.
        image_statistics: float32 [site, 2, channel]; NaN for sites that cannot be read.
        by: `image`: its own; `plate`, `experiment`: all images of them; `controls`: the plate's negative
            controls; `experiment_controls`: those of the experiment, or all its images where it has fewer than
            three of them. All but `image` look beyond the image, also of held-out plates: transductive, but
            label-free (the last two know only which wells are controls).
        rows: The sites that are needed; others may stay NaN. None: all.
        fold: Of each site: a plate or experiment in several folds has statistics of its own in each, or the sampling
            error of one estimate would stand in all of them and name the group. None: the screen is one fold.

    Returns:
        float32 [site, 2, channel].

    Raises:
        ConfigError: Unknown choice, or a plate without a negative control in a fold.
    """
    if by == "image":
        return image_statistics
    if by not in GROUP:
        raise ConfigError(f"No standardisation {by!r}. {did_you_mean(by, ['image', 'training', *GROUP])}")
    wanted = np.zeros(len(screen.sites), dtype=bool)
    wanted[list(range(len(wanted)) if rows is None else rows)] = True
    readable = np.isfinite(image_statistics).all(axis=(1, 2))
    control = np.zeros(len(screen.sites), dtype=bool)
    control[control_rows(screen, range(len(screen.sites)))] = True
    result = np.full_like(image_statistics, np.nan)
    codes = group_codes(screen.sites, GROUP[by], fold)
    order = np.argsort(codes, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        if not (wanted[group] & readable[group]).any():
            continue
        chosen = group[readable[group]]
        controls = chosen[control[chosen]]
        if by == "controls" or (by == "experiment_controls" and len(controls) >= FEW):
            chosen = controls
        if len(chosen) == 0:
            name = " ".join(screen.sites[GROUP[by]].iloc[group[0]].astype(str))
            where = "" if fold is None else f" in the fold {fold[group[0]]!r}"
            raise ConfigError(
                f"Plate {name} has no negative control{where}; standardising by "
                f"controls needs at least one per plate and fold. Use `experiment_controls` or `image`, or name the "
                f"controls when indexing."
            )
        result[group] = pooled_statistics(image_statistics[chosen])
    return result


def standardize(
    images: np.ndarray,
    statistics: np.ndarray,
    *,
    out: np.ndarray,
    transform: Transform = "none",
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Write (image - mean) / spread into a buffer, per image and channel.

    Args:
        images: uint8 or uint16 [site, channel, height, width].
        statistics: float32 [site, 2, channel].
        out: float32, of the shape of `images`; returned.
        transform: The one that the statistics were measured after.
        box: (top, left, bottom, right): only this part is written; None writes all.

    Returns:
        `out`.
    """
    top, left, bottom, right = box or (0, 0, images.shape[2], images.shape[3])
    mean, spread = statistics[:, 0, :, None, None], np.maximum(statistics[:, 1, :, None, None], EPSILON)
    view = out[:, :, top:bottom, left:right]
    pixels = images[:, :, top:bottom, left:right]
    if transform == "sqrt":
        pixels = np.sqrt(pixels, out=view, dtype=np.float32)
    np.subtract(pixels, mean, out=view, dtype=np.float32)
    np.multiply(view, np.float32(1.0) / spread, out=view)
    return out


class Preprocessing(BaseModel):
    """The steps from file to network, in order: bin, transform, standardise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    binning: int = Field(default=1, ge=0, description="mean of n x n pixels; 0 lets the size of the images decide")
    transform: Transform = "none"
    standardize: Standardisation = "image"
    fixed: tuple[tuple[float, ...], tuple[float, ...]] | None = Field(
        default=None, description="mean and spread of each channel over training images, for standardize=training"
    )

    @property
    def transductive(self) -> bool:
        """Whether a prediction depends on other wells of the same plate or experiment."""
        return self.standardize not in ("image", "training")


def binning_for(height: int, width: int, *, shortest: int = 96) -> int:
    """Return the largest power-of-two binning with `shortest` pixels or more left.

    The shorter side of the image counts.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        shortest: Least side after binning, in pixels.
    """
    binning = 1
    while min(height, width) // (binning * 2) >= shortest:
        binning *= 2
    return binning


def bin_pixels(image: np.ndarray, n: int) -> np.ndarray:
    """Return means of n x n pixels in the image's data type.

    Rows and columns left over are cut.

    Args:
        image: [channel, height, width].
        n: Side of a bin, in pixels.
    """
    if n <= 1:
        return image
    channels, height, width = image.shape
    cut = image[:, : height // n * n, : width // n * n]
    blocks = cut.reshape(channels, height // n, n, width // n, n)
    return np.asarray(np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)), dtype=image.dtype)
