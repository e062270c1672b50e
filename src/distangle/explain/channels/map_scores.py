"""Compare an attribution map with each channel: Eq. (15) and correlation."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Shaped

from distangle.errors import ExplanationError, did_you_mean

Scaling = Literal["raw255", "min_max"]
MapArray = Float[np.ndarray, "site height width"]
RawImages = Shaped[np.ndarray, "site channel height width"]
ChannelArray = Float[np.ndarray, "site channel"]


def channel_attention(maps: MapArray, raw: RawImages, *, scaling: Scaling) -> ChannelArray:
    r"""Return the distance of the map to each channel, divided by the largest.

    $$ \mathrm{Attention}_i = \lVert L_{CAM}(\mathrm{Image}) - \mathrm{Image}_i \rVert_2 $$

    Source: Eq. (15)
    Departs: in how it may be read, not in the number. The paper reads a high value as agreement of map and channel, but
        it is a distance: the channel that equals the map scores 0. A map is mostly brighter than a dim stain and a
        stain is mostly dark, so the value follows the brightness of the channel whatever the map: on real plates the
        dimmest channel wins for almost any random map. Kept for comparison; see `channel_shapley`.

    Args:
        maps: Attribution maps in [0, 1], at the size of the images.
        raw: Pixels as they were read, uint8 or uint16.
        scaling: Scaling of the pixels to [0, 1], which the paper does not specify: `raw255` divides 8-bit pixels by
            255; `min_max` scales each channel of each image to [0, 1].

    Returns:
        In [0, 1], 1 for the farthest channel; all 0 when every channel equals the map.

    Raises:
        ExplanationError: The scaling is unknown, `raw255` is used for pixels that are not 8-bit, or the sizes differ.
    """
    check_sizes(maps, raw)
    pixels = scale_maps(raw, scaling=scaling)
    squares = np.square(pixels - maps[:, None].astype(np.float32)).sum((2, 3), dtype=np.float64)
    return max_normalized(np.sqrt(squares))


def inverse_attention(attention: Float[np.ndarray, "*_ channel"]) -> Float[np.ndarray, "*_ channel"]:
    """Return the reciprocal of Eq. (15), divided by its largest value.

    The channel nearest to the map scores highest, as the paper reads Eq. (15). It is still a distance between a map and
    pixels, so the channel with the most similar brightness wins. Compare it with random maps.

    Args:
        attention: Result of `channel_attention` for any number of maps; only ratios matter.

    Returns:
        In [0, 1], 1 for the nearest channel; all 0 when every channel equals the map.
    """
    nearest_channel = attention.min(axis=-1, keepdims=True)
    inverse = np.divide(nearest_channel, attention, out=np.ones_like(attention), where=attention > 0)
    return np.asarray(np.where(attention.max(axis=-1, keepdims=True) > 0, inverse, 0))


def map_channel_correlation(maps: MapArray, raw: RawImages) -> ChannelArray:
    """Return the Pearson correlation over positions between the map and each channel.

    Unlike Eq. (15) it is high for agreement and ignores brightness. Channels overlap in space and in spectrum, so it
    shows where the signal of a channel lies, not that the network used it.

    Args:
        maps: Attribution maps, at the size of the images.
        raw: Pixels as they were read.

    Returns:
        In [-1, 1]; 0 for a constant map or channel.

    Raises:
        ExplanationError: The sizes differ.
    """
    check_sizes(maps, raw)
    flat_maps = unit_length(maps.reshape(len(maps), 1, -1))
    flat_channels = unit_length(raw.reshape(*raw.shape[:2], -1))
    return np.asarray((flat_channels @ flat_maps.swapaxes(1, 2))[:, :, 0])


def scale_maps(raw: RawImages, *, scaling: str) -> Float[np.ndarray, "site channel height width"]:
    """Scale pixels to float32 in [0, 1].

    Raises:
        ExplanationError: The scaling is unknown, or `raw255` is used for pixels that are not 8-bit.
    """
    if scaling not in get_args(Scaling):
        raise ExplanationError(f"Unknown scaling {scaling!r}. {did_you_mean(scaling, get_args(Scaling))}")
    if scaling == "raw255":
        if raw.dtype != np.uint8:
            raise ExplanationError(
                f"Scaling 'raw255' divides 8-bit pixels by 255; these are {raw.dtype}. Use 'min_max'."
            )
        pixels: np.ndarray = np.divide(raw, 255, dtype=np.float32)
        return pixels
    channels = raw.astype(np.float32)
    low, high = (extreme(channels, axis=(2, 3), keepdims=True) for extreme in (np.min, np.max))
    return np.asarray((channels - low) / np.where(high > low, high - low, np.float32(1)), dtype=np.float32)


def check_sizes(maps: np.ndarray, raw: np.ndarray) -> None:
    """Refuse maps whose sizes are not those of the images.

    NumPy would silently broadcast one map over many images.

    Raises:
        ExplanationError: The shapes differ; the message names both.
    """
    if (len(maps), *maps.shape[1:]) != (len(raw), *raw.shape[2:]):
        raise ExplanationError(
            f"Maps of shape {maps.shape} do not match images of shape {raw.shape}; expected one map per site with the "
            "same "
            f"height and width. Call `attribution_map` with size={raw.shape[2:]}."
        )


def max_normalized(values: np.ndarray) -> np.ndarray:
    """Divide by the largest value along the last axis; zeros stay zeros."""
    largest = values.max(axis=-1, keepdims=True)
    return np.asarray(values / np.where(largest > 0, largest, 1))


def unit_length(values: np.ndarray) -> np.ndarray:
    """Standardize the last axis to mean 0 and length 1.

    Dot products of the results are correlations. Constant values become 0.
    """
    centred = values - values.mean(axis=-1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    # Rounding leaves a constant row with a length of about 1e-16 of its values.
    floor = 1e-12 * np.sqrt(values.shape[-1]) * np.abs(values).max(axis=-1, keepdims=True).astype(np.float64)
    unit: np.ndarray = np.divide(centred, length, out=np.zeros_like(centred), where=length > floor)
    return unit
