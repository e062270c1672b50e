"""Nuclei and cells by thresholds, to ask whether a map lies on them.

Overlap of maps with nuclei and cells, against random smooth maps.

Overlap of an explanation's maps with nuclei and cells.
"""

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


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What lies where in one image.

    Attributes:
        nuclei: 1 to n in each nucleus, 0 outside.
        cells: Whether a pixel belongs to a cell; nuclei are parts of cells.
    """

    nuclei: Int32[np.ndarray, "height width"]
    cells: Bool[np.ndarray, "height width"]


def nuclei_channel(channels: Sequence[Channel], *, name: str | None = None) -> int:
    """Return the index of the channel that shows nuclei.

    Args:
        channels: Of the screen, `screen.card.channels`.
        name: Its name, where neither name, channel nor organelle says it.

    Raises:
        ExplanationError: No channel has that name, or none or several are known to show nuclei.
    """
    names = [channel.name for channel in channels]
    if name is not None:
        if name not in names:
            raise ExplanationError(f"The screen has no channel {name!r}. {did_you_mean(name, names)}")
        return names.index(name)
    candidates = [index for index, channel in enumerate(channels) if _shows_nuclei(channel)]
    if len(candidates) != 1:
        state = f"{[names[index] for index in candidates]} all say so" if candidates else "none says so"
        raise ExplanationError(
            f"Which channel shows the nuclei? Of {names}, {state} (by name, stain or organelle). "
            "Name it: `nuclear=...`."
        )
    return candidates[0]


def segment(raw: RawImage, *, nuclear: int) -> Segmentation:
    """Find nuclei and cells in one image.

    Nuclei: Otsu's threshold on the smoothed nuclear channel, specks dropped, touching ones divided by a watershed on
    the distance to their outline. Cells: nuclei, and wherever any other channel rises above its threshold of least
    cross-entropy (Li), which keeps more of the dim outskirts of cells than Otsu's. On simulated cells of four types
    nuclei overlap the truth by 0.8 and cells by 0.75 to 0.98 (intersection over union). Meant for shares of area, not
    for measuring cells.

    Args:
        raw: One image as it was read.
        nuclear: Index of the nuclear channel.

    Returns:
        Without nuclei or cells where the channels are constant.
    """
    from scipy import ndimage

    smoothed = [ndimage.gaussian_filter(channel.astype(np.float32), 1.0) for channel in raw]
    nuclei = _nuclei(smoothed[nuclear])
    cells = nuclei > 0
    for index, channel in enumerate(smoothed):
        if index != nuclear:
            cells |= _above_li(channel)
    return Segmentation(nuclei=nuclei, cells=cells)


def _shows_nuclei(channel: Channel) -> bool:
    dye_text = f"{channel.name} {channel.stain}".lower()
    organelle_text = f"{channel.name} {channel.organelle}".lower()
    # "nucleoli" holds no whole word of these; "nucleoli and cytoplasmic RNA" is no nuclear channel.
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
    """Drop specks: less than a fifth of the typical pixel's object."""
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


PARTS = ("nuclei", "cells", "background")  # nuclei are parts of cells; cells and background make the whole

MapArray = Float[np.ndarray, "site height width"]
RawImages = Shaped[np.ndarray, "site channel height width"]


@dataclass(frozen=True, kw_only=True)
class CellOverlap:
    """How much of each map lies on what.

    Attributes:
        table: One row per map: `n_nuclei`, and for each of nuclei, cells (with their nuclei) and background
            `NAME_share` of the map's mass (NaN for an empty map), `NAME_area` of the image, and `NAME_p`, the share of
            random smooth maps that have at least as much mass there.
        summary: Over all maps that point somewhere, by name of the part: `share`, `interval` over whole experiments,
            `area`, `null` (the central 95 % of the mean share of random maps) and `p`; beside them `sites` and
            `empty`.
    """

    table: pd.DataFrame
    summary: Mapping[str, Any]


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

    The shares of random maps are the null.

    A map that is one pixel of 8 x 8 wide covers nucleus and cytoplasm alike, so a share is only worth something
    beside that of random maps which are as coarse; and since cells cover most of a field, a high share in cells is no
    news by itself.

    Args:
        maps: In [0, 1], at the size of the images.
        raw: The images as they were read.
        nuclear: Index of the channel that shows nuclei, from `nuclear_channel`.
        grid: Height and width of the maps before they were enlarged: random maps are drawn on it.
        rng: Random generator for random maps.
        experiments: One per map; None leaves the interval out.
        wells: One per map: the maps of a well may be alike, so they are compared with one random map; None: each site
            by itself.
        n_maps: Random maps per image.

    Raises:
        ExplanationError: Maps do not lie on the images, or there is no such channel.
    """
    if (len(maps), *maps.shape[1:]) != (len(raw), *raw.shape[2:]) or not len(maps):
        raise ExplanationError(
            f"Maps {maps.shape} do not lie on images {raw.shape}: expected one per image, of the same size."
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
        # Rounding: a share of all of the map must not lose against a random one's.
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
    # Copied row by row: the layout decides the last bit of the sums, which stays that of earlier releases.
    rows, columns = (np.ascontiguousarray(matrix) for matrix in maps.enlarging())
    return np.asarray(np.einsum("dij,mij->dm", maps.grid, rows.T @ masks @ columns))


def add_cell_overlap(
    explanation: Explanation, sites: ExplainedSites, channels: Sequence[Channel], *, nuclear: str | None
) -> Explanation:
    """Return an explanation with the map shares of nuclei, cells, background.

    Args:
        explanation: Of the sites.
        sites: What was explained.
        channels: Of the screen.
        nuclear: Name of the channel that shows nuclei; None to know it by its name, stain or organelle. Where none
            is known, nothing is added, and `summary["cells"]` is the reason.
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
