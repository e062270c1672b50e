"""Compute the sections on faithfulness, templates and filters."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distangle.core.io import atomic_write
from distangle.images import composites
from distangle.report import charts, quality_charts
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, missing_notice
from distangle.report.sections.scores import Write
from distangle.results import Faithfulness, FilterAnalysis, TemplateComparison

_CLAIMS = {
    "deletion": "Replacing the regions with the highest attribution costs more than replacing random ones",
    "insertion": "Inserting the regions with the highest attribution into another image restores the output sooner",
    "randomization": "The map of a network with random weights is different",
    "targets": "The map for another perturbation is different",
    "views": "The map rotates with the image",
    "seeds": "A network trained with another seed gives the same map",
    "shuffled": "A network trained on shuffled labels gives a different map",
}
_REPLACEMENTS = {"control": "a control image of the plate", "blur": "the blurred image"}
MAX_MAPS = 4
STRIPS = "maps"  # beginning of the files of `_untrained`


def faithfulness(data: ReportData, faithfulness: Faithfulness | None, write: Write, folder: Path) -> Content:
    """Report the verdict of every test, the curves, and maps of untrained networks.

    Args:
        data: Results of the run.
        faithfulness: Results of the tests; None before they were run.
        write: Function that writes a chart.
        folder: Folder of the report; pictures go into its `figures`.
    """
    if faithfulness is None:
        return missing_notice("The maps have not been tested.", f"distangle explain {data.command_path}")
    summary = faithfulness.summary
    values: dict[str, Any] = {
        "failed": [name for name, verdict in summary["verdicts"].items() if verdict == "fails"],
        "n_sites": summary["sites"],
        "tests": [
            {"verdict": verdict, "claim": _CLAIMS.get(name, name), "result": _result_text(name, summary)}
            for name, verdict in summary["verdicts"].items()
        ],
        "charts": [_curve_figure(summary, write, data.stamp), _cascade_figure(summary, write, data.stamp)],
        "strips": _untrained_strips(faithfulness, folder),
        "cells_missing": "",
        "sentences": faithfulness.sentences,
        "not_tested": _not_tested(summary, data.command_path),
    }
    cells = None if data.explanation is None else data.explanation.summary.get("cells")
    if isinstance(cells, Mapping):
        if (overlap := _overlap_table(cells)).rows:
            values["cells"] = overlap
    elif cells:
        values["cells_missing"] = str(cells)
    return Content("sections/faithfulness.html.j2", values)


def templates(templates: TemplateComparison | None) -> Content | None:
    """Report how templates and embeddings compare; None before the comparison."""
    return None if templates is None else _bullets(templates.numbers["sentences"])


def filters(filters: FilterAnalysis | None) -> Content | None:
    """Report the analysis of the 1x1 filters; None before the analysis."""
    return None if filters is None else _bullets(filters.sentences)


def _bullets(sentences: Sequence[object]) -> Content:
    return Content("bullets.html.j2", {"texts": [str(sentence) for sentence in sentences]})


def _overlap_table(cells: Mapping[str, Any]) -> Table:
    """Compute which share of the maps lies on nuclei and cells."""
    rows = []
    for name, label in (("nuclei", "nuclei"), ("cells", "cells with their nuclei"), ("background", "background")):
        entry = cells.get(name)
        if isinstance(entry, Mapping):
            low, high = entry["null"]
            rows.append(
                (
                    label,
                    f"{entry['share']:.0%}",
                    f"{entry['area']:.0%}",
                    f"{low:.0%} to {high:.0%}",
                    f"{entry['p']:.2g}",
                )
            )
    columns = ("", "of the maps", "of the images", "of random maps", "p")
    caption = f"Where the maps of {cells['sites']} sites lie; nuclei and cells segmented by thresholds and watersheds"
    sources = ("explanations/explanation.json",)
    return Table(columns=columns, rows=rows, numeric=(1, 2, 3, 4), caption=caption, sources=sources)


def _not_tested(summary: Mapping[str, Any], run: str) -> list[Content]:
    """List the tests that need other runs, if these were not given."""
    tests = (
        ("seeds", "Whether a network of another seed gives the same map was not tested.", "--seeds OTHER_RUN"),
        (
            "shuffled",
            "Whether a network trained on shuffled labels gives another map was not tested.",
            "--shuffled RUN",
        ),
    )
    return [
        missing_notice(sentence, f"distangle explain {run} {flag}")
        for key, sentence, flag in tests
        if summary.get(key) is None
    ]


def _result_text(name: str, summary: Mapping[str, Any]) -> str:
    """Return the result of a test, with minus signs as elsewhere on the page."""
    return re.sub(r"(?<!\w)-(?=[0-9])", "\u2212", _plain_result(name, summary)).replace("\u22120.00", "0.00")


def _plain_result(name: str, summary: Mapping[str, Any]) -> str:
    if name in ("deletion", "insertion"):
        parts = []
        for replacement, results in summary["curves"].items():
            curve = results[name]["probability"]
            action = "replaced by" if name == "deletion" else "inserted into"
            parts.append(
                f"{action} {_REPLACEMENTS.get(replacement, replacement)}: mean probability {curve['mean']:.2f}, "
                f"random maps {curve['random']:.2f}, p = {curve['p']:.2g}"
            )
        return "; ".join(parts)
    if name == "randomization":
        last = summary["randomization"]["stages"][-1]
        low, high = last["null"]
        return f"similarity {last['mean']:.2f} once all weights are random (random maps {low:.2f} to {high:.2f})"
    test = summary[name] if name in ("targets", "views") else summary[name]["similarity"]
    low, high = test["null"]
    sentence = f"similarity {test['mean']:.2f} (random maps {low:.2f} to {high:.2f})"
    if name == "views" and test["channels"] is not None:
        sentence += f"; the top channel stays the same in {test['channels']['same_top_channel']:.0%} of views"
    return sentence


def _curve_figure(summary: Mapping[str, Any], write: Write, stamp: str) -> dict[str, str]:
    replacement, results = next(iter(summary["curves"].items()))
    deletion, insertion = results["deletion"]["probability"], results["insertion"]["probability"]
    drawing = quality_charts.share_curves(
        {
            "deletion": (results["deleted"], deletion["curve"], charts.BLUE),
            "random maps": (results["deleted"], deletion["random_curve"], charts.MUTED),
            "insertion": (results["inserted"], insertion["curve"], charts.ORANGE),
        },
        title="Deletion and insertion",
        x_label="share of regions deleted or inserted",
        y_label="probability of the explained class",
        stamp=stamp,
    )
    caption = (
        f"Mean over {results['sites']} sites. Regions are replaced by {_REPLACEMENTS.get(replacement, replacement)}, "
        "those with the highest attribution first. Blue below grey: the map names regions that mattered."
    )
    source = write("deletion.svg", drawing)
    return {"source": source, "alternative": "Deletion and insertion curves", "caption": caption}


def _cascade_figure(summary: Mapping[str, Any], write: Write, stamp: str) -> dict[str, str]:
    stages = summary["randomization"]["stages"]
    low, high = (np.array([stage["null"][k] for stage in stages]) for k in (0, 1))
    drawing = quality_charts.cascade(
        [str(stage["stage"]) for stage in stages],
        np.array([stage["mean"] for stage in stages]),
        null=(low, high),
        title="Weights randomized, from the templates down",
        y_label="similarity to the network's own maps",
        stamp=stamp,
    )
    caption = (
        "Rank correlation of the maps with those of the trained network, after the weights up to each layer were "
        "randomized. Grey: 95\u202f% of random smooth maps. A map that stays similar does not show what was learned."
    )
    source = write("randomization.svg", drawing)
    return {"source": source, "alternative": "Similarity after randomizing weights", "caption": caption}


def _untrained_strips(faithfulness: Faithfulness, folder: Path) -> list[dict[str, str]]:
    trained_maps = faithfulness.arrays.get("maps/trained")
    stages = {name.removeprefix("maps/untrained/"): maps for name, maps in faithfulness.arrays.items()
              if name.startswith("maps/untrained/")}  # fmt: skip
    if trained_maps is None or not stages:
        return []
    strips = {"the network's own": trained_maps} | {f"untrained: {name}": maps for name, maps in stages.items()}
    figures = []
    for number, (name, maps) in enumerate(strips.items(), start=1):
        path = folder / "figures" / f"{STRIPS}-{number}.png"
        _write_strip(maps[:MAX_MAPS], path)
        figures.append({"source": f"figures/{path.name}", "name": name})
    return figures


def _write_strip(maps: np.ndarray, path: Path) -> None:
    grey = np.full((*maps.shape[1:], 3), 60, dtype=np.uint8)
    panels: Sequence[np.ndarray] = [
        composites.enlarge(composites.overlay(grey, np.clip(activation, 0, 1), strength=1.0), min_side=140)
        for activation in maps
    ]
    gap = np.full((panels[0].shape[0], 6, 3), 255, dtype=np.uint8)
    strip = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    with atomic_write(path) as temporary:
        Image.fromarray(strip).save(temporary, format="PNG")
