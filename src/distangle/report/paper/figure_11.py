"""Draw figure 11: attribution maps of one site of several perturbations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from distangle.errors import ImageError
from distangle.images import composites
from distangle.report.charts import MUTED
from distangle.report.data import ReportData
from distangle.report.merging import merge_channels, merge_sentence, merged_channels
from distangle.report.paper.figure import (
    PaperFigure,
    UnavailableFigure,
    drawing,
    hide_frame,
    picture,
    read,
    row_of,
    scale_sentence,
    with_scale,
)
from distangle.report.site_renderer import ChosenSite, choose_sites, site_key
from distangle.results import Explanation

TITLE = "Attribution maps"
N_SITES = 3


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw image and attribution map of one site for each of three perturbations.

    The last row shows the mean map of all sites of each perturbation.

    Source: Fig. 11
    """
    explanation = data.explanation
    if explanation is None:
        return UnavailableFigure(
            title=TITLE, reason="No site has been explained.", command=f"distangle explain {data.command_path}"
        )
    sites = _choose_sites(explanation)
    if not sites:
        return UnavailableFigure(title=TITLE, reason="No correctly predicted site has an attribution map.")
    with drawing():
        has_means = explanation.perturbations is not None and explanation.perturbation_maps is not None
        n_rows = 3 if has_means else 2
        figure = Figure(figsize=(2.45 * len(sites) + 0.6, 2.75 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, len(sites), squeeze=False)
        merged: list[int] | None = None
        for (upper, lower, *means), site in zip(panels.T, sites, strict=True):
            image = read(data, row_of(data, site.key))
            entry = site.entry
            role = str(entry["Metadata_Role"]).replace("_", " ")
            label = str(entry["perturbation"]) + (f" ({role})" if site.kind == "control" else "")
            cell_type = str(entry.get("Metadata_Cell_Type", "") or "")
            merged = merged_channels(image) if merged is None else merged
            pixels = with_scale(merge_channels(image, merged), data)
            picture(upper, pixels, f"{cell_type + ', ' if cell_type else ''}{label}")
            try:
                attribution_map = composites.fit_map(explanation.maps[site.row], (image.shape[1], image.shape[2]))
            except ImageError as error:
                return UnavailableFigure(title=TITLE, reason=str(error))
            grey = composites.grey(composites.stretch(image, composites.contrast_limits([image])))
            picture(
                lower,
                composites.overlay(grey, attribution_map),
                caption=f"explained: {entry['explained']}\nprobability {float(entry['probability']):.2f}",
            )
            for axes in means:
                _draw_mean_map(axes, explanation, entry, side=image.shape[1])
        scale = ScalarMappable(norm=Normalize(0, 1), cmap=composites.ACTIVATION_COLORMAP)
        # Beside all rows, so that the columns stay aligned.
        bar = figure.colorbar(scale, ax=panels.ravel().tolist(), shrink=0.4, aspect=18, pad=0.02)
        bar.set_label("attribution map", color=MUTED)
        bar.outline.set_visible(False)
    settings = explanation.settings
    numbers: dict[str, Any] = {
        "layer": settings["layer"],
        "head": settings["head"],
        "without_map": int((explanation.maps.max(axis=(1, 2)) == 0).sum()),
        "cells": explanation.summary.get("cells"),
        "sites": [
            {
                "site": " ".join(map(str, site_key(site.entry))),
                **_map_statistics(explanation.maps[site.row]),
                "kind": site.kind,
            }
            for site in sites
        ],
    }
    caption = _caption(explanation, numbers)
    colors = merge_sentence(data.screen.metadata.channels, merged or [0])
    caption += f" Upper row: {colors}. {scale_sentence(data, image.shape[2])}"
    if has_means:
        caption += " Lower row: mean map of the sites with the same answer and cell type."
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)


def _draw_mean_map(axes: Axes, explanation: Explanation, entry: Mapping[str, Any], *, side: int) -> None:
    """Draw the mean map of the sites with the same explained class and cell type."""
    hide_frame(axes)
    table, maps = explanation.perturbations, explanation.perturbation_maps
    if table is None or maps is None:
        return
    is_group = table["explained"] == entry["explained"]
    if "Metadata_Cell_Type" in table.columns:
        is_group &= table["Metadata_Cell_Type"] == entry.get("Metadata_Cell_Type")
    for row_index in is_group.to_numpy().nonzero()[0][:1]:
        mean = composites.fit_map(maps[row_index], (side, round(side * maps.shape[2] / maps.shape[1])))
        background = np.full((*mean.shape, 3), 25, dtype=np.uint8)
        row = table.iloc[row_index]
        picture(
            axes,
            composites.overlay(background, mean, strength=1.0),
            caption=f"mean map of {int(row['sites'])} sites",
        )


def _choose_sites(explanation: Explanation) -> list[ChosenSite]:
    """Choose two treatments and a control, else any three correct predictions."""
    has_map = explanation.maps.max(axis=(1, 2)) > 0
    ranked = choose_sites(explanation.table[has_map], correct=N_SITES, wrong=0, controls=1)
    rows = has_map.nonzero()[0]
    ranked = [ChosenSite(row=int(rows[site.row]), kind=site.kind, entry=site.entry) for site in ranked]
    controls = [site for site in ranked if site.kind == "control"]
    return [*[site for site in ranked if site.kind == "correct"][: N_SITES - len(controls)], *controls]


def _map_statistics(attribution_map: np.ndarray) -> dict[str, float]:
    return {"share_above_half": float((attribution_map > 0.5).mean())}


def _caption(explanation: Explanation, numbers: dict[str, Any]) -> str:
    settings = explanation.settings
    shares = ", ".join(f"{site['share_above_half']:.0%}" for site in numbers["sites"])
    text = (
        f"Attribution maps of the {settings['head']} output at {settings['layer']}, for the correct site of each "
        f"perturbation with the highest probability. {shares} of the image lies above half of the map's maximum. "
    )
    if numbers["without_map"]:
        text += (
            f"{numbers['without_map']} of {len(explanation.maps)} explained sites have no map, because no region "
            "supports the explained class. "
        )
    cells = explanation.summary.get("cells")
    if isinstance(cells, dict) and cells.get("nuclei"):
        parts = " and ".join(
            f"{entry['share']:.0%} on {region} ({entry['area']:.0%} of the image; p = {entry['p']:.2g})"
            for entry, region in ((cells["nuclei"], "nuclei"), (cells["cells"], "cells with their nuclei"))
        )
        text += f"Over {cells['sites']} sites, the mass of the maps lies {parts}; p is against random maps. "
    if settings.get("map_grid"):
        size = explanation.maps.shape[1] / settings["map_grid"][0]
        text += (
            f"One value of the map covers {size:.0f} × {size:.0f} pixels of the network's input, so the map does not "
            "resolve smaller structures."
        )
    return text.rstrip()
