"""Bin, transform and standardize images; training stores the steps for inference."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distangle.errors import ConfigError, did_you_mean
from distangle.images.jit_threshold import pixel_kernels
from distangle.screen import NEGATIVE, Screen
from distangle.screen.plate_groups import group_codes

Standardization = Literal["image", "training", "plate", "experiment", "controls", "experiment_controls"]
MIN_CONTROLS = 3  # images of negative controls that an experiment needs for `experiment_controls`
Transform = Literal["none", "sqrt"]
GROUP: Mapping[str, list[str]] = {
    "plate": ["experiment", "plate"],
    "experiment": ["experiment"],
    "controls": ["experiment", "plate"],
    "experiment_controls": ["experiment"],
}
_EXACT_PIXELS = 1 << 20  # number of 16-bit pixels whose squares add up exactly in float64
EPSILON = 1e-6  # pixel units; a constant channel becomes zero instead of NaN


class Preprocessing(BaseModel):
    """Setting of the steps from file to network: bin, transform, standardize."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    binning: int = Field(default=1, ge=0, description="mean of n x n pixels; 0 lets the size of the images decide")
    transform: Transform = "none"
    standardize: Standardization = "image"
    fixed: tuple[tuple[float, ...], tuple[float, ...]] | None = Field(
        default=None,
        description="mean and standard deviation of each channel over training images, for standardize=training",
    )

    @property
    def transductive(self) -> bool:
        """Whether a prediction depends on other wells of the same plate or experiment."""
        return self.standardize not in ("image", "training")


def channel_statistics(image: np.ndarray, *, transform: Transform = "none") -> np.ndarray:
    """Return mean and standard deviation of every channel of one image.

    Args:
        image: [channel, height, width], uint8 or uint16.
        transform: Applied to every pixel first; the square root stabilizes photon noise and bright tails.

    Returns:
        float32 [2, channel]: mean, then standard deviation, in (transformed) pixel units.

    Source: Fig. 3.
    """
    kernels = pixel_kernels()
    if transform == "sqrt":
        return _from_counts(_counts(image, kernels))
    n_pixels = image[0].size
    rows = []
    for plain, squared in _power_sums(image, kernels):
        # Python integers are exact, so every route gives the same result.
        rows.append((plain / n_pixels, (n_pixels * squared - plain * plain) / n_pixels**2))
    mean, variance = np.array(rows, dtype=np.float64).T
    return np.stack([mean, np.sqrt(variance)]).astype(np.float32)


def pooled_statistics(statistics: np.ndarray) -> np.ndarray:
    """Pool the mean and standard deviation of images of one size over all pixels.

    Args:
        statistics: float [image, 2, channel], from `channel_statistics`.

    Returns:
        float32 [2, channel].
    """
    means, stds = statistics[:, 0].astype(np.float64), statistics[:, 1].astype(np.float64)
    mean = means.mean(axis=0)
    variance = (stds**2 + means**2).mean(axis=0) - mean**2
    return np.stack([mean, np.sqrt(np.maximum(variance, 0))]).astype(np.float32)


def control_rows(screen: Screen, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the rows of negative and untreated controls.

    Args:
        screen: The screen.
        rows: Positions of sites.
    """
    positions = np.asarray(rows, dtype=int)
    is_control = screen.sites["role"].isin(NEGATIVE).to_numpy()
    return np.asarray(positions[is_control[positions]])


def statistics_by_site(
    screen: Screen,
    image_statistics: np.ndarray,
    *,
    by: Standardization,
    rows: Sequence[int] | None = None,
    fold: np.ndarray | None = None,
) -> np.ndarray:
    """Return, for every site, the statistics to standardize it by.

    Args:
        screen: The screen; its sites are the rows of `image_statistics`.
        image_statistics: float32 [site, 2, channel]; NaN for unreadable sites.
        by: `image`: those of the image; `plate`, `experiment`: of all images of the plate or experiment; `controls`: of
            the plate's negative controls; `experiment_controls`: of those of the experiment, or of all its images if it
            has fewer than three. All but `image` use other images, also of held-out plates: transductive, but
            label-free (the last two use only which wells are controls).
        rows: Sites that need statistics; others may stay NaN. None for all.
        fold: Fold of each site: a plate or experiment in several folds has separate statistics in each. Otherwise the
            sampling error of one estimate would be in all folds and identify the group. None for one fold.

    Returns:
        float32 [site, 2, channel].

    Raises:
        ConfigError: Unknown choice, or a plate without a negative control in a fold.
    """
    if by == "image":
        return image_statistics
    if by not in GROUP:
        raise ConfigError(f"Unknown standardization {by!r}. {did_you_mean(by, ['image', 'training', *GROUP])}")
    is_needed = np.zeros(len(screen.sites), dtype=bool)
    is_needed[list(range(len(is_needed)) if rows is None else rows)] = True
    readable = np.isfinite(image_statistics).all(axis=(1, 2))
    is_control = np.zeros(len(screen.sites), dtype=bool)
    is_control[control_rows(screen, range(len(screen.sites)))] = True
    result = np.full_like(image_statistics, np.nan)
    codes = group_codes(screen.sites, GROUP[by], fold)
    order = np.argsort(codes, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        if not (is_needed[group] & readable[group]).any():
            continue
        pooled = group[readable[group]]
        controls = pooled[is_control[pooled]]
        if by == "controls" or (by == "experiment_controls" and len(controls) >= MIN_CONTROLS):
            pooled = controls
        if len(pooled) == 0:
            name = " ".join(screen.sites[GROUP[by]].iloc[group[0]].astype(str))
            where = "" if fold is None else f" in the fold {fold[group[0]]!r}"
            raise ConfigError(
                f"Plate {name} has no negative control{where}; standardization by "
                f"controls needs at least one per plate and fold. Use `experiment_controls` or `image`, or name the "
                f"controls when indexing."
            )
        result[group] = pooled_statistics(image_statistics[pooled])
    return result


def standardize(
    images: np.ndarray,
    statistics: np.ndarray,
    *,
    out: np.ndarray,
    transform: Transform = "none",
    region: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Write (image - mean) / standard deviation into a buffer, per image and channel.

    Args:
        images: uint8 or uint16 [site, channel, height, width].
        statistics: float32 [site, 2, channel].
        out: float32, with the shape of `images`; returned.
        transform: The transform that the statistics were computed after.
        region: (top, left, bottom, right): only this region is written; None for all.

    Returns:
        `out`.
    """
    top, left, bottom, right = region or (0, 0, images.shape[2], images.shape[3])
    mean, std = statistics[:, 0, :, None, None], np.maximum(statistics[:, 1, :, None, None], EPSILON)
    target = out[:, :, top:bottom, left:right]
    pixels = images[:, :, top:bottom, left:right]
    if transform == "sqrt":
        pixels = np.sqrt(pixels, out=target, dtype=np.float32)
    np.subtract(pixels, mean, out=target, dtype=np.float32)
    np.multiply(target, np.float32(1.0) / std, out=target)
    return out


def binning_for(height: int, width: int, *, shortest: int = 96) -> int:
    """Return the largest power-of-two binning that leaves at least `shortest` pixels.

    The shorter side of the image counts.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        shortest: Smallest side after binning, in pixels.
    """
    binning = 1
    while min(height, width) // (binning * 2) >= shortest:
        binning *= 2
    return binning


def bin_pixels(image: np.ndarray, n: int) -> np.ndarray:
    """Return means of n x n pixels in the image's data type.

    Remaining rows and columns are dropped.

    Args:
        image: [channel, height, width].
        n: Side of a bin, in pixels.
    """
    if n <= 1:
        return image
    channels, height, width = image.shape
    cut = image[:, : height // n * n, : width // n * n]
    # One addition per row of a bin, then one per column: no axis of n pixels, which NumPy sums slowly.
    sums_fit = np.iinfo(image.dtype).max * n * n < 1 << 16
    lines = cut[:, ::n].astype(np.uint16 if sums_fit else np.uint32)
    for k in range(1, n):
        np.add(lines, cut[:, k::n], out=lines)
    sums = lines[:, :, ::n].copy()
    for k in range(1, n):
        np.add(sums, lines[:, :, k::n], out=sums)
    means = sums.astype(np.float32)
    means /= np.float32(n * n)
    return np.rint(means, out=means).astype(image.dtype)


def _power_sums(image: np.ndarray, kernels: ModuleType | None) -> list[tuple[int, int]]:
    """Return the sum of each channel's pixels and the sum of their squares."""
    if kernels is not None:
        sums = np.empty((len(image), 2), dtype=np.uint64)
        kernels.power_sums(np.ascontiguousarray(image), sums)
        return [(int(plain), int(squared)) for plain, squared in sums]
    sums_by_channel = []
    for plane in image:
        flat = plane.reshape(-1)
        parts = [flat[k : k + _EXACT_PIXELS].astype(np.float64) for k in range(0, flat.size, _EXACT_PIXELS)]
        sums_by_channel.append((sum(int(part.sum()) for part in parts), sum(int(part @ part) for part in parts)))
    return sums_by_channel


def _counts(image: np.ndarray, kernels: ModuleType | None) -> np.ndarray:
    """Return how often each value occurs in each channel, int64 [channel, value]."""
    n_values = np.iinfo(image.dtype).max + 1
    if kernels is None:
        return np.stack([np.bincount(plane.reshape(-1), minlength=n_values) for plane in image])
    counts = np.zeros((len(image), n_values), dtype=np.int64)
    kernels.count_values(np.ascontiguousarray(image), counts)
    return counts


def _from_counts(counts: np.ndarray) -> np.ndarray:
    roots = np.sqrt(np.arange(counts.shape[1], dtype=np.float64))
    n_pixels = counts[0].sum()
    mean = counts @ roots / n_pixels
    std = [
        np.sqrt(of_channel @ (roots - channel_mean) ** 2 / n_pixels)
        for of_channel, channel_mean in zip(counts, mean, strict=True)
    ]
    return np.stack([mean, np.array(std)]).astype(np.float32)
