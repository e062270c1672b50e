"""Preprocessing of images: training writes it down, inference repeats it."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distangle.images.intensity import Standardisation, Transform


class Preparation(BaseModel):
    """The steps from file to network, in order: bin, transform, standardise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    binning: int = Field(default=1, ge=0, description="mean of n x n pixels; 0 lets the size of the images decide")
    transform: Transform = "none"
    standardise: Standardisation = "image"
    fixed: tuple[tuple[float, ...], tuple[float, ...]] | None = Field(
        default=None, description="mean and spread of each channel over training images, for standardise=training"
    )

    @property
    def transductive(self) -> bool:
        """Whether a prediction depends on other wells of the same plate or experiment."""
        return self.standardise not in ("image", "training")


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
