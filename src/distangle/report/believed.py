"""The sections that say whether the maps can be believed, and what templates and filters show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distangle.commit import committed
from distangle.report import charts, composites, map_charts
from distangle.report.material import Material
from distangle.report.page import Markup, absent, element, figure, joined, listing, notice, paragraph, table
from distangle.report.scored import Write
from distangle.results import Faithfulness, FilterBands, TemplateMaps

_TESTS = {
    "deletion": "Replacing the places that the map names costs more than replacing random ones",
    "insertion": "Putting the places that the map names into another image gives the answer back sooner",
    "randomisation": "The map of a network with random weights is another one",
    "targets": "The map for another perturbation is another one",
    "views": "The map turns with the image",
    "seeds": "A network of another seed gives the same map",
    "shuffled": "A network trained on shuffled labels gives another map",
}
_REPLACED = {"control": "an untreated image of the plate", "blur": "the image blurred"}
MOST_SHOWN = 4


def maps_believed(material: Material, faithfulness: Faithfulness | None, write: Write, folder: Path) -> Markup:
    """Show the verdict of every test, the curves, and maps of untrained networks beside those of the network.

    Args:
        material: Of the run.
        faithfulness: What was examined; None before that.
        write: Keeps a chart.
        folder: Of the report; pictures go into its `figures`.
    """
    if faithfulness is None:
        return absent("The maps have not been put to any test.", f"distangle explain {material.typed}")
    summary = faithfulness.summary
    failed = [name for name, verdict in summary["verdicts"].items() if verdict == "fails"]
    parts: list[Markup] = []
    if failed:
        parts.append(notice(f"Do not believe these maps: they fail {', '.join(failed)}."))
    parts.append(_verdicts(summary))
    drawn = [_curves_figure(summary, write, material.stamp), _cascade_figure(summary, write, material.stamp)]
    parts.append(element("div", *(element("div", one) for one in drawn if one), class_="pair"))
    pictures = _untrained(faithfulness, folder)
    if pictures is not None:
        parts.append(pictures)
    if material.explanation is not None:
        parts.append(_on_cells(material.explanation.summary.get("cells")))
    return joined([*parts, listing(faithfulness.sentences), *_not_asked(summary, material.typed)])


def templates_said(templates: TemplateMaps | None) -> Markup | None:
    """Say in sentences how the templates and embeddings lie; None before they were compared."""
    return None if templates is None else listing([str(said) for said in templates.numbers["sentences"]])


def filters_said(filters: FilterBands | None) -> Markup | None:
    """Say in sentences what the 1x1 filters are like; None before they were examined."""
    return None if filters is None else listing([str(said) for said in filters.sentences])


def _verdicts(summary: Mapping[str, Any]) -> Markup:
    rows = []
    for name, verdict in summary["verdicts"].items():
        tag = element("span", verdict, class_=f"verdict {verdict.split()[0]}")
        rows.append([tag, _TESTS.get(name, name), _found(name, summary)])
    return table(
        ["verdict", "what must hold of a map that is true of its network", "found"],
        rows,
        caption=f"Tests of the activation maps on {summary['sites']} sites; the limits were fixed beforehand.",
    )


def _on_cells(cells: object) -> Markup:
    """How much of the maps lies on nuclei and cells, or why that is not known."""
    if not isinstance(cells, Mapping):
        return paragraph(f"Nuclei and cells were not found: {cells}", class_="absent") if cells else Markup("")
    rows = []
    for name, said in (("nuclei", "nuclei"), ("cells", "cells with their nuclei"), ("background", "background")):
        one = cells.get(name)
        if isinstance(one, Mapping):
            low, high = one["null"]
            rows.append(
                [said, f"{one['share']:.0%}", f"{one['area']:.0%}", f"{low:.0%} to {high:.0%}", f"{one['p']:.2g}"]
            )
    heads = ["", "of the maps", "of the images", "of random maps", "p"]
    said = f"Where the maps of {cells['sites']} sites lie; nuclei and cells by thresholds and watersheds"
    return table(heads, rows, numeric=(1, 2, 3, 4), caption=said) if rows else Markup("")


def _not_asked(summary: Mapping[str, Any], name: str) -> list[Markup]:
    """Which tests need other runs that nobody gave."""
    asked = (
        ("seeds", "Whether a network of another seed gives the same map was not asked.", "--seeds OTHER_RUN"),
        ("shuffled", "Whether a network trained on shuffled labels gives another map was not asked.", "--shuffled RUN"),
    )
    return [absent(said, f"distangle explain {name} {flag}") for key, said, flag in asked if summary.get(key) is None]


def _found(name: str, summary: Mapping[str, Any]) -> str:
    if name in ("deletion", "insertion"):
        parts = []
        for replacement, one in summary["curves"].items():
            said = one[name]["probability"]
            parts.append(
                f"by {_REPLACED.get(replacement, replacement)}: mean probability {said['mean']:.2f}, random maps "
                f"{said['random']:.2f}, p = {said['p']:.2g}"
            )
        return "; ".join(parts)
    if name == "randomisation":
        last = summary["randomisation"]["stages"][-1]
        low, high = last["null"]
        return f"{last['mean']:.2f} alike once all weights are new (random maps {low:.2f} to {high:.2f})"
    said = summary[name] if name in ("targets", "views") else summary[name]["likeness"]
    low, high = said["null"]
    words = f"{said['mean']:.2f} alike (random maps {low:.2f} to {high:.2f})"
    if name == "views" and said["stains"] is not None:
        words += f"; the largest stain stays in {said['stains']['same_top']:.0%} of views"
    return words


def _curves_figure(summary: Mapping[str, Any], write: Write, stamp: str) -> Markup:
    replacement, one = next(iter(summary["curves"].items()))
    deletion, insertion = one["deletion"]["probability"], one["insertion"]["probability"]
    drawing = map_charts.share_curves(
        {
            "deletion": (one["taken"], deletion["curve"], charts.BLUE),
            "random maps": (one["taken"], deletion["random_curve"], charts.MUTED),
            "insertion": (one["put_back"], insertion["curve"], charts.ORANGE),
        },
        title="Places taken away, and put back",
        across="share of places replaced (deletion) or put back (insertion)",
        up="probability of what was explained",
        stamp=stamp,
    )
    caption = (
        f"Mean over {one['sites']} sites. Places are replaced by {_REPLACED.get(replacement, replacement)}, those that "
        "the map names first. Blue below grey: the map names places that mattered."
    )
    return figure(write("deletion.svg", drawing), alternative="Deletion and insertion curves", caption=caption)


def _cascade_figure(summary: Mapping[str, Any], write: Write, stamp: str) -> Markup:
    stages = summary["randomisation"]["stages"]
    low, high = (np.array([stage["null"][k] for stage in stages]) for k in (0, 1))
    drawing = map_charts.cascade(
        [str(stage["stage"]) for stage in stages],
        np.array([stage["mean"] for stage in stages]),
        null=(low, high),
        title="Weights drawn anew, from the templates down",
        up="likeness to the network's own maps",
        stamp=stamp,
    )
    caption = (
        "Rank correlation of the maps with those of the trained network, after the weights up to each layer were drawn "
        "anew. Grey: 95 % of random smooth maps. A map that stays alike does not show what was learnt."
    )
    return figure(write("randomisation.svg", drawing), alternative="Likeness after randomising", caption=caption)


def _untrained(faithfulness: Faithfulness, folder: Path) -> Markup | None:
    own = faithfulness.arrays.get("maps/trained")
    stages = {name.removeprefix("maps/untrained/"): maps for name, maps in faithfulness.arrays.items()
              if name.startswith("maps/untrained/")}  # fmt: skip
    if own is None or not stages:
        return None
    strips: list[tuple[str, np.ndarray]] = [
        ("the network's own", own),
        *((f"untrained: {name}", maps) for name, maps in stages.items()),
    ]
    rows = []
    for place, (name, maps) in enumerate(strips):
        path = folder / "figures" / f"believed-{place + 1}.png"
        _strip(maps[:MOST_SHOWN], path)
        rows.append(
            element(
                "figure",
                element("img", src=f"figures/{path.name}", alt=f"Maps, {name}", loading="lazy"),
                element("figcaption", name),
                class_="strip",
            )
        )
    return element(
        "div",
        paragraph("Maps of the same sites: a network that has learnt nothing must not give the same ones."),
        *rows,
    )


def _strip(maps: np.ndarray, path: Path) -> None:
    grey = np.full((*maps.shape[1:], 3), 60, dtype=np.uint8)
    panels: Sequence[np.ndarray] = [
        composites.enlarged(composites.overlay(grey, np.clip(one, 0, 1), strength=1.0), least=140) for one in maps
    ]
    gap = np.full((panels[0].shape[0], 6, 3), 255, dtype=np.uint8)
    joint = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    with committed(path) as temporary:
        Image.fromarray(joint).save(temporary, format="PNG")
