"""Copy image batches to the device of the network and standardize them there."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distangle.axes import Images
from distangle.images import (
    Augmentation,
    ImageCache,
    augment,
    normalized_batches,
    raw_batches,
    readable_batches,
    standardize,
)
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


def views_to_device(
    device: torch.device,
    store: ImageCache,
    rows: Sequence[int],
    statistics: Statistics,
    *,
    batch_size: int,
    n_views: int,
    keep: bool,
    copy_pixels: bool | None = None,
) -> Iterator[tuple[list[int], Iterator[Images]]]:
    """Yield standardized batches in several views, each image decoded once.

    Each view equals a batch of `batches_to_device` for that view. Sites that cannot be read are left out.

    Args:
        device: Of the network.
        store: The images; it has the reasons of unreadable sites afterwards.
        rows: Sites of the screen.
        statistics: From `fit_normalization`, or from `own_statistics`.
        batch_size: Sites in every batch; the last is padded.
        n_views: Number of the dihedral views, from the first.
        keep: Leave the images in the cache of the store.
        copy_pixels: Whether integer pixels are copied; None: to every device but the CPU.

    Yields:
        The rows of the batch (fewer than `batch_size` in the last), and an iterator of its views: float32 [batch_size,
        channel, height, width], channels_last, each valid until the next is requested.
    """
    copy_pixels = device.type != "cpu" if copy_pixels is None else copy_pixels
    transform = store.preprocessing.transform
    standardized, turned = _channels_last(0, 0, 0, 0), _channels_last(0, 0, 0, 0)

    def turn_all() -> Iterator[Images]:
        nonlocal turned
        n, channels, height, width = standardized.shape
        yield torch.from_numpy(standardized).to(device)
        # A pixel with all its channels is one item, which NumPy moves whole.
        pixels = _whole_pixels(standardized)
        for view in range(1, n_views):
            size = (width, height) if view & 4 else (height, width)
            if turned.shape != (n, channels, *size):
                turned = _channels_last(n, channels, *size)
            augment(pixels, Augmentation(view), out=_whole_pixels(turned))
            yield torch.from_numpy(turned).to(device)

    def turn_on_device(images: Images) -> Iterator[Images]:
        for view in range(n_views):
            yield turn(images, view)

    for batch, pixels in readable_batches(store, rows, batch_size=batch_size, keep=keep):
        padded = batch + [batch[-1]] * (batch_size - len(batch))
        if copy_pixels:
            transformed = transform_statistics(torch.from_numpy(pixels).to(device), transform)
            yield batch, turn_on_device(affine(transformed, *scale_and_offset(statistics[padded])))
            continue
        if standardized.shape != pixels.shape:
            standardized = _channels_last(*pixels.shape)
        standardize(pixels, statistics[padded], out=standardized, transform=transform)
        yield batch, turn_all()


def turn(images: Images, view: int) -> Images:
    """Return images in one of the eight dihedral views, as `augment` does.

    Args:
        images: [site, channel, height, width].
        view: Number of the view, 0-7.
    """
    turned = images.transpose(2, 3) if view & 4 else images
    axes = [axis for bit, axis in ((1, 2), (2, 3)) if view & bit]
    return turned.flip(axes) if axes else turned


def _channels_last(n: int, channels: int, height: int, width: int) -> np.ndarray:
    """Return empty float32 [n, channels, height, width], channels side by side."""
    return np.empty((n, height, width, channels), dtype=np.float32).transpose(0, 3, 1, 2)


def _whole_pixels(images: np.ndarray) -> np.ndarray:
    """Return a channels-last array as [n, height, width] of whole pixels."""
    pixels = images.transpose(0, 2, 3, 1)
    return pixels.view(np.dtype((np.void, pixels.shape[3] * pixels.itemsize)))[..., 0]


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
