"""Figure 11: where the network looked, for one site of several perturbations."""

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from distangle.errors import ImageError
from distangle.report import composites
from distangle.report.charts import MUTED
from distangle.report.material import Material
from distangle.report.paper.drawn import Drawn, Missing, drawing, merged, picture, read, row_of
from distangle.report.sites import ChosenSite, choose_sites, fitted_map, site_key
from distangle.results import Explanation

TITLE = "Where the network looked"
SHOWN = 3


def draw(material: Material) -> Drawn | Missing:
    """Draw image and activation map of the best supported right site of three perturbations, untreated wells last.

    Source: Fig. 11
    """
    explanation = material.explanation
    if explanation is None:
        return Missing(title=TITLE, reason="No site has been explained.", command=f"distangle explain {material.name}")
    chosen = _chosen(explanation)
    if not chosen:
        return Missing(title=TITLE, reason="No explained site was predicted rightly and has a map.")
    with drawing():
        figure = Figure(figsize=(2.45 * len(chosen) + 0.5, 5.1), layout="constrained")
        panels = figure.subplots(2, len(chosen), squeeze=False)
        for (above, below), site in zip(panels.T, chosen, strict=True):
            image = read(material, row_of(material, site.key))
            entry = site.entry
            what = str(entry["perturbation"]) + (" (untreated)" if site.kind == "control" else "")
            kind = str(entry.get("Metadata_Cell_Type", "") or "")
            picture(above, merged(image, material), f"{kind + ', ' if kind else ''}{what}")
            try:
                activation_map = fitted_map(explanation.maps[site.row], (image.shape[1], image.shape[2]))
            except ImageError as error:
                return Missing(title=TITLE, reason=str(error))
            grey = composites.grey(composites.stretched(image, composites.contrast_limits([image])))
            picture(
                below,
                composites.overlay(grey, activation_map),
                below=f"explained: {entry['explained']}\nprobability {float(entry['probability']):.2f}",
            )
        scale = ScalarMappable(norm=Normalize(0, 1), cmap=composites.ACTIVATION_COLOURS)
        bar = figure.colorbar(scale, ax=panels[1].tolist(), shrink=0.7, aspect=18, pad=0.02)
        bar.set_label("activation map", color=MUTED)
        bar.outline.set_visible(False)
    settings = explanation.settings
    numbers: dict[str, Any] = {
        "layer": settings["layer"],
        "head": settings["head"],
        "without_map": int((explanation.maps.max(axis=(1, 2)) == 0).sum()),
        "sites": [
            {"site": " ".join(map(str, site_key(site.entry))), **_of_map(explanation.maps[site.row]), "kind": site.kind}
            for site in chosen
        ],
    }
    return Drawn(figure=figure, title=TITLE, caption=_caption(explanation, numbers), numbers=numbers)


def _chosen(explanation: Explanation) -> list[ChosenSite]:
    """Two treatments and an untreated well as in the paper, or three of whatever was predicted rightly."""
    seen = explanation.maps.max(axis=(1, 2)) > 0
    ranked = choose_sites(explanation.table[seen], correct=SHOWN, wrong=0, controls=1)
    rows = seen.nonzero()[0]
    ranked = [ChosenSite(row=int(rows[site.row]), kind=site.kind, entry=site.entry) for site in ranked]
    controls = [site for site in ranked if site.kind == "control"]
    return [*[site for site in ranked if site.kind == "correct"][: SHOWN - len(controls)], *controls]


def _of_map(activation_map: np.ndarray) -> dict[str, float]:
    return {"share_above_half": float((activation_map > 0.5).mean())}


def _caption(explanation: Explanation, numbers: dict[str, Any]) -> str:
    settings = explanation.settings
    shares = ", ".join(f"{site['share_above_half']:.0%}" for site in numbers["sites"])
    words = (
        f"Activation maps of the {settings['head']} output at {settings['layer']}, the best supported right site of "
        f"each perturbation. {shares} of the image lies above half of the map's maximum. "
    )
    if numbers["without_map"]:
        words += (
            f"{numbers['without_map']} of {len(explanation.maps)} explained sites have no map: nothing in them "
            "speaks for what was explained. "
        )
    if settings.get("map_grid"):
        size = explanation.maps.shape[1] / settings["map_grid"][0]
        words += (
            f"A cell of the map covers {size:.0f} × {size:.0f} pixels of what the network saw: no claim about anything "
            "smaller can rest on it."
        )
    return words.rstrip()
