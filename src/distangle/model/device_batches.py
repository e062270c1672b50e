"""Copy batches to the device of the network, and standardise them there.

Whole pixels are copied: they are fewer bytes.
"""

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
    whole: bool | None = None,
) -> Iterator[tuple[list[int], Images]]:
    """Give standardised batches on a device.

    The last is padded to full size, so that no result depends on its place.

    To a device that is no processor go whole pixels, a quarter of the bytes (half, for 16 bit); there they are
    standardised in one multiplication and addition a pixel. That equals what `ready_batches` gives but for rounding;
    on a processor it is what `ready_batches` gives.

    Args:
        device: Of the network.
        store: The images.
        rows: Readable sites of the screen.
        statistics: From `measure_sites`.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.
        whole: Whether whole pixels travel; None: to everything but a processor.

    Yields:
        The rows of the batch (fewer than its size in the last), and float32 [batch_size, channel, height, width],
        valid until the next batch is asked for.
    """
    travels = device.type != "cpu" if whole is None else whole
    if not travels:
        for chosen, ready in normalized_batches(store, rows, statistics, batch_size=batch_size, view=view):
            yield chosen, torch.from_numpy(ready).to(device)
        return
    for chosen, pixels in raw_batches(store, rows, batch_size=batch_size, view=view):
        padded = chosen + [chosen[-1]] * (len(pixels) - len(chosen))
        arrived = transform_statistics(torch.from_numpy(pixels).to(device), store.preparation.transform)
        yield chosen, affine(arrived, *scale_and_offset(statistics[padded]))


def transform_statistics(pixels: Shaped[Tensor, "site channel height width"], transform: Transform) -> Images:
    """Return pixels as their statistics were measured: as they are, or square roots."""
    floating = pixels.to(torch.float32)
    return floating.sqrt_() if transform == "sqrt" else floating


def scale_and_offset(statistics: Statistics) -> tuple[PerChannel, PerChannel]:
    """Return factor and summand that standardise each channel of each image.

    They are 1 / spread and - mean / spread.
    """
    factor = np.float32(1.0) / np.maximum(statistics[:, 1], EPSILON)
    return factor, -statistics[:, 0] * factor


def affine(pixels: Images, factor: PerChannel, summand: PerChannel) -> Images:
    """Multiply each channel of each image by a factor and add a summand.

    It takes one pass over the pixels.
    """
    by, plus = (torch.from_numpy(values).to(pixels.device)[:, :, None, None] for values in (factor, summand))
    return torch.addcmul(plus, pixels, by)
