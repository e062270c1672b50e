"""Segment nuclei and cells, and measure the overlap of maps with them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int32, Shaped

from distangle.core.random import rng_for
from distangle.core.stats import mean_interval
from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.channels.nulls import RandomMaps, mean_over_sites, random_smooth_maps
from distangle.explain.sites import ExplainedSites
from distangle.explain.summary import wells_of
from distangle.results import Explanation
from distangle.screen import Channel

RawImage = Shaped[np.ndarray, "channel height width"]
_DYES = ("dapi", "hoechst", "draq5", "h33342", "sytox", "dna")
_ORGANELLES = ("nuclei", "nucleus", "nuclear", "chromatin")
PARTS = ("nuclei", "cells", "background")  # nuclei are parts of cells; cells and background make the whole
MapArray = Float[np.ndarray, "site height width"]
RawImages = Shaped[np.ndarray, "site channel height width"]


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Nuclei and cells of one image.

    Attributes:
        nuclei: Label image: 1 to n in each nucleus, 0 outside.
        cells: Mask of the cells, including their nuclei.
    """

    nuclei: Int32[np.ndarray, "height width"]
    cells: Bool[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class CellOverlap:
    """Overlap of attribution maps with nuclei, cells and background.

    Attributes:
        table: One row per map: `n_nuclei`, and for each of nuclei, cells (with their nuclei) and background
            `NAME_share` of the map's mass (NaN for an empty map), `NAME_area` of the image, and `NAME_p`, the share of
            random smooth maps that have at least as much mass there.
        summary: Over all maps that are not empty, by part: `share`, `interval` over experiments, `area`, `null` (the
            central 95 % of the mean share of random maps) and `p`; and the counts `sites` and `empty`.
    """

    table: pd.DataFrame
    summary: Mapping[str, Any]


def nuclei_channel(channels: Sequence[Channel], *, name: str | None = None) -> int:
    """Return the index of the channel that shows nuclei.

    Args:
        channels: Channels of the screen, `screen.metadata.channels`.
        name: Name of the channel, if name, stain and organelle do not identify it.

    Raises:
        ExplanationError: The name is unknown, or no single channel is known to show nuclei.
    """
    names = [channel.name for channel in channels]
    if name is not None:
        if name not in names:
            raise ExplanationError(f"The screen has no channel {name!r}. {did_you_mean(name, names)}")
        return names.index(name)
    candidates = [index for index, channel in enumerate(channels) if _shows_nuclei(channel)]
    if len(candidates) != 1:
        state = f"{[names[index] for index in candidates]} match" if candidates else "none matches"
        raise ExplanationError(
            f"Cannot tell which channel shows nuclei: of {names}, {state} by name, stain or organelle. Set "
            "`nuclear` to the name of the channel."
        )
    return candidates[0]


def segment(raw: RawImage, *, nuclear: int) -> Segmentation:
    """Find nuclei and cells in one image.

    Nuclei are found by Otsu's threshold on the smoothed nuclear channel; small objects are removed, and touching nuclei
    are split by a watershed on the distance transform. Cells are the nuclei and all pixels above Li's threshold
    (minimum cross-entropy) in another channel; it keeps more of the dim borders of cells than Otsu's. On simulated
    cells of four types the intersection over union is 0.8 for nuclei and 0.75 to 0.98 for cells. The result is meant
    for area shares, not for measurements of cells.

    Args:
        raw: One image, unscaled.
        nuclear: Index of the nuclear channel.

    Returns:
        The segmentation, empty for constant channels.
    """
    from scipy import ndimage

    smoothed = [ndimage.gaussian_filter(channel.astype(np.float32), 1.0) for channel in raw]
    nuclei = _nuclei(smoothed[nuclear])
    cells = nuclei > 0
    for index, channel in enumerate(smoothed):
        if index != nuclear:
            cells |= _above_li(channel)
    return Segmentation(nuclei=nuclei, cells=cells)


def overlap_with_cells(
    maps: MapArray,
    raw: RawImages,
    *,
    nuclear: int,
    grid: tuple[int, int],
    rng: np.random.Generator,
    experiments: Sequence[str] | None = None,
    wells: Sequence[str] | None = None,
    n_maps: int = 200,
) -> CellOverlap:
    """Measure the share of each map on nuclei, cells and background.

    The null is the share of random smooth maps on the same grid. It is needed because one position of a coarse map
    covers nucleus and cytoplasm, and because cells cover most of a field.

    Args:
        maps: Maps in [0, 1], at the size of the images.
        raw: The unscaled images.
        nuclear: Index of the channel that shows nuclei, from `nuclear_channel`.
        grid: Height and width of the maps before enlarging; random maps are drawn on this grid.
        rng: Random generator for random maps.
        experiments: Experiment of each map; None for no interval.
        wells: Well of each map; maps of a well may be similar, so they share random maps. None: each site by itself.
        n_maps: Number of random maps per image.

    Raises:
        ExplanationError: Maps and images differ in number or size, or the channel does not exist.
    """
    if (len(maps), *maps.shape[1:]) != (len(raw), *raw.shape[2:]) or not len(maps):
        raise ExplanationError(
            f"Maps of shape {maps.shape} do not match images of shape {raw.shape}; expected one map per image, same "
            "size."
        )
    if not 0 <= nuclear < raw.shape[1]:
        raise ExplanationError(f"The images have no channel {nuclear}: there are {raw.shape[1]}, from 0.")
    random_maps = random_smooth_maps(n_maps, grid=grid, size=(maps.shape[1], maps.shape[2]), rng=rng)
    totals = _mass_in_masks(random_maps, np.ones((1, *random_maps.size)))
    rows, nulls = [], []
    for activation_map, image in zip(maps, raw, strict=True):
        segmentation = segment(image, nuclear=nuclear)
        parts = np.stack([segmentation.nuclei > 0, segmentation.cells, ~segmentation.cells]).astype(np.float64)
        total = float(activation_map.sum(dtype=np.float64))
        share = (parts * activation_map).sum(axis=(1, 2)) / total if total > 0 else np.full(len(parts), np.nan)
        null = _mass_in_masks(random_maps, parts) / totals
        # Tolerance for rounding: a share of 1 must count as reached by a random share of 1.
        n_reached = (null >= share - 1e-9).sum(axis=0)
        row: dict[str, Any] = {"n_nuclei": int(segmentation.nuclei.max())}
        for index, name in enumerate(PARTS):
            row[f"{name}_share"] = share[index]
            row[f"{name}_area"] = parts[index].mean()
            row[f"{name}_p"] = (1 + n_reached[index]) / (1 + n_maps) if total > 0 else np.nan
        rows.append(row)
        nulls.append(null)
    table = pd.DataFrame(rows)
    return CellOverlap(table=table, summary=_summarize_overlap(table, np.stack(nulls), experiments, wells, rng=rng))


def add_cell_overlap(
    explanation: Explanation, sites: ExplainedSites, channels: Sequence[Channel], *, nuclear: str | None
) -> Explanation:
    """Return an explanation with the overlap of its maps and cells.

    Args:
        explanation: Explanation of the sites.
        sites: The explained sites.
        channels: Channels of the screen.
        nuclear: Name of the channel that shows nuclei; None to find it by name, stain or organelle. If none is found,
            nothing is added, and `summary["cells"]` is the reason.
    """
    try:
        channel = nuclei_channel(channels, name=nuclear)
    except ExplanationError as error:
        if nuclear is not None:
            raise
        return dataclasses.replace(explanation, summary={**explanation.summary, "cells": str(error)})
    grid = explanation.settings["map_grid"]
    overlap = overlap_with_cells(
        explanation.maps,
        sites.raw,
        nuclear=channel,
        grid=(int(grid[0]), int(grid[1])),
        rng=rng_for(0, "cells"),
        experiments=sites.table["Metadata_Experiment"].astype(str).tolist(),
        wells=wells_of(sites.table),
    )
    columns = {str(name): overlap.table[name].to_numpy() for name in overlap.table.columns}
    return dataclasses.replace(
        explanation,
        table=explanation.table.assign(**columns),
        summary={**explanation.summary, "cells": dict(overlap.summary)},
    )


def _shows_nuclei(channel: Channel) -> bool:
    dye_text = f"{channel.name} {channel.stain}".lower()
    organelle_text = f"{channel.name} {channel.organelle}".lower()
    # Whole words only: "nucleoli and cytoplasmic RNA" is not a nuclear channel.
    words = organelle_text.replace(",", " ").replace("_", " ").replace("-", " ").split()
    return any(dye in dye_text for dye in _DYES) or any(word in words for word in _ORGANELLES)


def _nuclei(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    if image.max() <= image.min():
        return np.zeros(image.shape, dtype=np.int32)
    mask = ndimage.binary_fill_holes(image > threshold_otsu(image))
    mask = _remove_specks(mask)
    inside = ndimage.distance_transform_edt(mask)
    labels, n_objects = ndimage.label(mask)
    if not n_objects:
        return np.zeros(image.shape, dtype=np.int32)
    radius = float(np.median(ndimage.maximum(inside, labels, np.arange(1, n_objects + 1))))
    peaks = peak_local_max(
        ndimage.gaussian_filter(inside, 0.2 * radius),
        min_distance=max(1, round(0.8 * radius)),
        labels=labels,
        exclude_border=False,
    )
    seeds = np.zeros(image.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-inside, seeds, mask=mask), dtype=np.int32)


def _remove_specks(mask: np.ndarray) -> np.ndarray:
    """Remove objects below a fifth of the area of the median pixel's object."""
    from scipy import ndimage

    labels, n_objects = ndimage.label(mask)
    if not n_objects:
        return mask
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    typical = np.median(areas[labels[mask]])
    return np.asarray(areas[labels] >= 0.2 * typical)


def _above_li(image: np.ndarray) -> np.ndarray:
    from skimage.filters import threshold_li

    if image.max() <= image.min():
        return np.zeros(image.shape, dtype=bool)
    return np.asarray(image > threshold_li(image))


def _summarize_overlap(
    table: pd.DataFrame,
    nulls: np.ndarray,
    experiments: Sequence[str] | None,
    wells: Sequence[str] | None,
    *,
    rng: np.random.Generator,
) -> dict[str, Any]:
    pointing = table["cells_share"].notna().to_numpy()
    summary: dict[str, Any] = {"sites": int(pointing.sum()), "empty": int((~pointing).sum())}
    if not pointing.any():
        return summary | dict.fromkeys(PARTS)
    shared = None if wells is None else np.asarray(wells).astype(str)[pointing].tolist()
    means = mean_over_sites(nulls[pointing], rng=rng, groups=shared)
    for index, name in enumerate(PARTS):
        shares = table[f"{name}_share"].to_numpy(dtype=np.float64)[pointing]
        low, high = np.percentile(means[:, index], [2.5, 97.5])
        groups = None if experiments is None else np.asarray(experiments).astype(str)[pointing]
        summary[name] = {
            "share": float(shares.mean()),
            "interval": None if groups is None else mean_interval(shares, groups),
            "area": float(table[f"{name}_area"].to_numpy()[pointing].mean()),
            "null": [float(low), float(high)],
            "p": float((1 + (means[:, index] >= shares.mean() - 1e-9).sum()) / (1 + len(means))),
        }
    return summary


def _mass_in_masks(maps: RandomMaps, masks: np.ndarray) -> np.ndarray:
    """Return the mass of each enlarged random map in each mask, [draw, mask]."""
    # The copy fixes the memory layout, which decides the last bit of the sums.
    rows, columns = (np.ascontiguousarray(matrix) for matrix in maps.enlarging())
    return np.asarray(np.einsum("dij,mij->dm", maps.grid, rows.T @ masks @ columns))
