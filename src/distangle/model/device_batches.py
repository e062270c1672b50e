"""Copy image batches to the device of the network and standardize them there."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distangle.axes import Images
from distangle.images import ImageCache, normalized_batches, raw_batches
from distangle.images.preprocessing import EPSILON, Transform

Statistics = Float[np.ndarray, "site 2 channel"]
PerChannel = Float[np.ndarray, "site channel"]


def batches_to_device(
    device: torch.device,
    store: ImageCache,
    rows: Sequence[int],
    statistics: Statistics,
    *,
    batch_size: int,
    view: int = 0,
    copy_pixels: bool | None = None,
) -> Iterator[tuple[list[int], Images]]:
    """Yield standardized batches on a device.

    The last batch is padded to full size, so that no result depends on its position.

    To a GPU, integer pixels are copied: a quarter of the bytes of float32 (half for 16 bit). They are standardized
    there by one multiplication and addition per pixel, which equals `normalized_batches` except for rounding. On the
    CPU the result is that of `normalized_batches`.

    Args:
        device: Of the network.
        store: The images.
        rows: Readable sites of the screen.
        statistics: From `fit_normalization`.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.
        copy_pixels: Whether integer pixels are copied; None: to every device but the CPU.

    Yields:
        The rows of the batch (fewer than `batch_size` in the last), and float32 [batch_size, channel, height, width],
        valid until the next batch is requested.
    """
    copy_pixels = device.type != "cpu" if copy_pixels is None else copy_pixels
    if not copy_pixels:
        for batch, images in normalized_batches(store, rows, statistics, batch_size=batch_size, view=view):
            yield batch, torch.from_numpy(images).to(device)
        return
    for batch, pixels in raw_batches(store, rows, batch_size=batch_size, view=view):
        padded = batch + [batch[-1]] * (len(pixels) - len(batch))
        transformed = transform_statistics(torch.from_numpy(pixels).to(device), store.preprocessing.transform)
        yield batch, affine(transformed, *scale_and_offset(statistics[padded]))


def transform_statistics(pixels: Shaped[Tensor, "site channel height width"], transform: Transform) -> Images:
    """Return pixels as float32, or their square roots, as for their statistics."""
    values = pixels.to(torch.float32)
    return values.sqrt_() if transform == "sqrt" else values


def scale_and_offset(statistics: Statistics) -> tuple[PerChannel, PerChannel]:
    """Return factor and summand that standardize each channel of each image.

    They are 1 / standard deviation and - mean / standard deviation.
    """
    factor = np.float32(1.0) / np.maximum(statistics[:, 1], EPSILON)
    return factor, -statistics[:, 0] * factor


def affine(pixels: Images, factor: PerChannel, summand: PerChannel) -> Images:
    """Multiply each channel of each image by a factor and add a summand, in one pass."""
    scale, offset = (torch.from_numpy(values).to(pixels.device)[:, :, None, None] for values in (factor, summand))
    return torch.addcmul(offset, pixels, scale)
