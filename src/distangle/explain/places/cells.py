"""Nuclei and cells by thresholds, to ask whether a map lies on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Shaped

from distangle.errors import ExplanationError, nearest
from distangle.screen import Channel

RawImage = Shaped[np.ndarray, "channel height width"]
_DYES = ("dapi", "hoechst", "draq5", "h33342", "sytox", "dna")
_WORDS = ("nuclei", "nucleus", "nuclear", "chromatin")


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What lies where in one image.

    Attributes:
        nuclei: 1 to n in each nucleus, 0 outside.
        cells: Whether a pixel belongs to a cell; nuclei are parts of cells.
    """

    nuclei: Int32[np.ndarray, "height width"]
    cells: Bool[np.ndarray, "height width"]


def nuclear_channel(channels: Sequence[Channel], *, named: str | None = None) -> int:
    """Return the index of the channel that shows nuclei.

    Args:
        channels: Of the screen, `screen.card.channels`.
        named: Its name, where neither name, stain nor organelle says it.

    Raises:
        ExplanationError: No channel has that name, or none or several are known to show nuclei.
    """
    names = [channel.name for channel in channels]
    if named is not None:
        if named not in names:
            raise ExplanationError(f"The screen has no channel {named!r}. {nearest(named, names)}")
        return names.index(named)
    found = [index for index, channel in enumerate(channels) if _shows_nuclei(channel)]
    if len(found) != 1:
        several = f"{[names[index] for index in found]} all say so" if found else "none says so"
        raise ExplanationError(
            f"Which channel shows the nuclei? Of {names}, {several} (by name, stain or organelle). "
            "Name it: `nuclear=...`."
        )
    return found[0]


def segment(raw: RawImage, *, nuclear: int) -> Segmentation:
    """Find nuclei and cells in one image.

    Nuclei: Otsu's threshold on the smoothed nuclear stain, specks dropped, touching ones divided by a watershed on
    the distance to their outline. Cells: nuclei, and wherever any other stain rises above its threshold of least
    cross-entropy (Li), which keeps more of the dim outskirts of cells than Otsu's. On simulated cells of four types
    nuclei overlap the truth by .8 and cells by .75 to .98 (intersection over union). Meant for shares of area, not
    for measuring cells.

    Args:
        raw: One image as it was read.
        nuclear: Index of the nuclear stain.

    Returns:
        Without nuclei or cells where the stains are constant.
    """
    from scipy import ndimage

    smooth = [ndimage.gaussian_filter(stain.astype(np.float32), 1.0) for stain in raw]
    nuclei = _nuclei(smooth[nuclear])
    cells = nuclei > 0
    for index, stain in enumerate(smooth):
        if index != nuclear:
            cells |= _above_li(stain)
    return Segmentation(nuclei=nuclei, cells=cells)


def _shows_nuclei(channel: Channel) -> bool:
    said = f"{channel.name} {channel.stain}".lower()
    organelle = f"{channel.name} {channel.organelle}".lower()
    # "nucleoli" holds no whole word of these; "nucleoli and cytoplasmic RNA" is no nuclear stain.
    words = organelle.replace(",", " ").replace("_", " ").replace("-", " ").split()
    return any(dye in said for dye in _DYES) or any(word in words for word in _WORDS)


def _nuclei(stain: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    if stain.max() <= stain.min():
        return np.zeros(stain.shape, dtype=np.int32)
    mask = ndimage.binary_fill_holes(stain > threshold_otsu(stain))
    mask = _without_specks(mask)
    inside = ndimage.distance_transform_edt(mask)
    labels, n_objects = ndimage.label(mask)
    if not n_objects:
        return np.zeros(stain.shape, dtype=np.int32)
    radius = float(np.median(ndimage.maximum(inside, labels, np.arange(1, n_objects + 1))))
    peaks = peak_local_max(
        ndimage.gaussian_filter(inside, 0.2 * radius),
        min_distance=max(1, round(0.8 * radius)),
        labels=labels,
        exclude_border=False,
    )
    seeds = np.zeros(stain.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-inside, seeds, mask=mask), dtype=np.int32)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Drop specks: less than a fifth of the typical pixel's object."""
    from scipy import ndimage

    labels, n_objects = ndimage.label(mask)
    if not n_objects:
        return mask
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    typical = np.median(areas[labels[mask]])
    return np.asarray(areas[labels] >= 0.2 * typical)


def _above_li(stain: np.ndarray) -> np.ndarray:
    from skimage.filters import threshold_li

    if stain.max() <= stain.min():
        return np.zeros(stain.shape, dtype=bool)
    return np.asarray(stain > threshold_li(stain))
