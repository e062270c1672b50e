"""Turn images of many channels into pictures: arrays only, no files."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from distangle.errors import ImageError
from distangle.screen import Channel

# Six hues that most readers can distinguish, for channels without a valid color.
FALLBACK_COLORS = ("#3b6fff", "#2ee66b", "#ff3b30", "#2fd6e6", "#f04df0", "#f5e146")
LOW_PERCENTILE = 10.0
HIGH_PERCENTILE = 99.8
ACTIVATION_COLORMAP = "inferno"


def channel_colors(channels: Sequence[Channel]) -> np.ndarray:
    """Return the display color of every channel, float [channel, 3] in [0, 1].

    A single channel is white; a channel with an empty or invalid color gets one of `FALLBACK_COLORS`.
    """
    if len(channels) == 1:
        return np.ones((1, 3))
    return np.array(
        [_to_rgb(channel.color, spare=FALLBACK_COLORS[k % len(FALLBACK_COLORS)]) for k, channel in enumerate(channels)]
    )


def contrast_limits(
    images: Sequence[np.ndarray], *, low: float = LOW_PERCENTILE, high: float = HIGH_PERCENTILE
) -> np.ndarray:
    """Return the pixel values of black and of full brightness, float [channel, 2].

    Images of one plate passed together share their limits, so that their brightness can be compared.

    Args:
        images: One or more images [channel, height, width] of any pixel type, with the same channels.
        low: Percentile drawn as black, in [0, 100].
        high: Percentile drawn at full brightness, in [0, 100].

    Raises:
        ImageError: There is no image, or the numbers of channels differ.
    """
    if not images or len({len(image) for image in images}) != 1:
        raise ImageError(
            f"Contrast limits need images with equal numbers of channels, got {[len(image) for image in images]}."
        )
    # Every 7th pixel suffices for a percentile and takes milliseconds for 512 x 512 x 6.
    limits = [
        np.percentile(np.concatenate([image[channel].ravel()[::7] for image in images]), [low, high])
        for channel in range(len(images[0]))
    ]
    return np.array(limits, dtype=np.float64)


def stretch(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Scale each channel between its limits, float32 [channel, height, width].

    A channel with equal limits is black: it has no contrast.
    """
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    width = np.where(high > low, high - low, np.inf)
    return np.asarray(np.clip((image - low) / width, 0, 1), dtype=np.float32)


def exposure(channels: np.ndarray, colors: np.ndarray, *, share: float = 0.985) -> float:
    """Return the gain that keeps a share of the merged pixels below full brightness.

    Without it six channels at full brightness add up to white nearly everywhere.

    Args:
        channels: Stretched channels [channel, height, width] in [0, 1].
        colors: [channel, 3] in [0, 1].
        share: Share of the pixels that must not be clipped.
    """
    brightest = np.tensordot(colors.T, channels, axes=1).max(axis=0)
    level = float(np.quantile(brightest, share))
    return min(1.0, 1.0 / level) if level > 0 else 1.0


def composite(channels: np.ndarray, colors: np.ndarray, *, gain: float = 1.0) -> np.ndarray:
    """Add the channels in their colors, clipped, uint8 [height, width, 3].

    Args:
        channels: Stretched channels [channel, height, width] in [0, 1].
        colors: [channel, 3] in [0, 1].
        gain: Factor on the sum, such as from `exposure`.
    """
    total = gain * np.tensordot(channels, colors, axes=(0, 0))
    return _to_uint8(total)


def grey(channels: np.ndarray) -> np.ndarray:
    """Return the mean over the channels as a gray picture, uint8 [height, width, 3]."""
    return np.repeat(_to_uint8(channels.mean(axis=0))[..., None], 3, axis=2)


def overlay(
    picture: np.ndarray, activation_map: np.ndarray, *, strength: float = 0.7, colors: str = ACTIVATION_COLORMAP
) -> np.ndarray:
    """Blend an attribution map over a picture, uint8 [height, width, 3].

    Where the map is 0, the picture is unchanged.

    Args:
        picture: uint8 [height, width, 3].
        activation_map: [height, width] in [0, 1]; its value sets both color and opacity.
        strength: Opacity where the map is 1.
        colors: Name of a perceptually uniform matplotlib color map.

    Raises:
        ImageError: The map has another size than the picture, or leaves [0, 1].
    """
    if activation_map.shape != picture.shape[:2]:
        raise ImageError(
            f"The attribution map has the shape {activation_map.shape}, but the picture has {picture.shape[:2]}."
        )
    if not np.isfinite(activation_map).all() or activation_map.min() < 0 or activation_map.max() > 1:
        raise ImageError(
            f"The attribution map has values from {np.min(activation_map)} to {np.max(activation_map)}; "
            f"expected [0, 1]."
        )
    colored = matplotlib.colormaps[colors](activation_map)[..., :3]
    opacity = (strength * activation_map)[..., None]
    return _to_uint8(picture / 255.0 * (1 - opacity) + colored * opacity)


def fit_map(attribution_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an attribution map to the size of a picture, float32 in [0, 1].

    The map of a network that used binned pixels is smaller than the image on disk.

    Raises:
        ImageError: Map and picture differ in aspect ratio.
    """
    if attribution_map.shape == shape:
        return np.asarray(np.clip(attribution_map, 0, 1), dtype=np.float32)
    scales = shape[0] / attribution_map.shape[0], shape[1] / attribution_map.shape[1]
    # Binning can cut off one pixel of the map at an edge.
    if abs(scales[0] / scales[1] - 1) > 0.5 / min(attribution_map.shape) + 0.02:
        raise ImageError(
            f"A map of {attribution_map.shape} does not fit an image of {shape}: the aspect ratios differ."
        )
    picture = Image.fromarray(np.ascontiguousarray(attribution_map, dtype=np.float32))
    resized = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(resized), 0, 1), dtype=np.float32)


def activation_scale(width: int = 256, height: int = 12) -> np.ndarray:
    """Return the color bar of `overlay` over gray, uint8 [height, width, 3]."""
    ramp = np.tile(np.linspace(0, 1, width), (height, 1))
    return overlay(np.full((height, width, 3), 90, dtype=np.uint8), ramp)


def enlarge(picture: np.ndarray, *, min_side: int = 200) -> np.ndarray:
    """Repeat pixels until the shorter side has at least `min_side` pixels.

    Pixels stay squares without interpolation: a picture of 68 x 68 becomes 204 x 204.
    """
    factor = max(1, math.ceil(min_side / min(picture.shape[:2])))
    return np.asarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))


def reduce(picture: np.ndarray, *, max_side: int) -> np.ndarray:
    """Average blocks of pixels until the longer side has at most `max_side` pixels."""
    factor = max(1, math.ceil(max(picture.shape[:2]) / max_side))
    if factor == 1:
        return picture
    height, width = (length // factor * factor for length in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    averaged = np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return np.asarray(averaged.reshape(height // factor, width // factor, *picture.shape[2:]))


def _to_rgb(name: str, *, spare: str) -> tuple[float, float, float]:
    try:
        return to_rgb(name)
    except ValueError:
        return to_rgb(spare)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(np.clip(values, 0, 1) * 255), dtype=np.uint8)
