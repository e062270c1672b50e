"""Merge up to three channels in colors that most readers can tell apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb

from distangle.images import composites
from distangle.screen import Channel, channel_labels

MERGE_COLORS = (("#00e5ff", "cyan"), ("#ff3df2", "magenta"), ("#ffe100", "yellow"))


def merge_channels(image: np.ndarray, channels: Sequence[int], *, others: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return up to three channels in their colors, uint8 [height, width, 3].

    More than three colors cannot be told apart, and red and green are alike to many readers.

    Args:
        image: Raw image [channel, height, width].
        channels: Indices from `merged_channels`.
        others: Images to compare with this one; all share one contrast.
    """
    chosen = list(channels)
    limits = composites.contrast_limits([image[chosen], *(other[chosen] for other in others)])
    colors = (
        np.ones((1, 3)) if len(chosen) == 1 else np.array([to_rgb(color) for color, _ in MERGE_COLORS[: len(chosen)]])
    )
    gains = [composites.exposure(composites.stretch(other[chosen], limits), colors) for other in (image, *others)]
    return composites.composite(composites.stretch(image[chosen], limits), colors, gain=float(np.median(gains)))


def merged_channels(image: np.ndarray) -> list[int]:
    """Choose up to three channels: the first, then those least like the others.

    Args:
        image: Raw image [channel, height, width].
    """
    if len(image) <= len(MERGE_COLORS):
        return list(range(len(image)))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.abs(np.corrcoef(image.reshape(len(image), -1).astype(np.float64)))
    correlations = np.where(np.isfinite(correlations), correlations, 1.0)
    chosen = [0]
    while len(chosen) < len(MERGE_COLORS):
        rest = [k for k in range(len(image)) if k not in chosen]
        chosen.append(min(rest, key=lambda k: (float(correlations[k, chosen].max()), k)))
    return sorted(chosen)


def merge_sentence(channels: Sequence[Channel], chosen: Sequence[int]) -> str:
    """Return which channel has which color, such as `cyan nuclei (DAPI)`.

    Args:
        channels: Channels of the screen.
        chosen: Indices from `merged_channels`.
    """
    labels = channel_labels(channels)
    if len(chosen) == 1:
        return labels[chosen[0]]
    return ", ".join(f"{color} {labels[k]}" for (_, color), k in zip(MERGE_COLORS, chosen, strict=False))
