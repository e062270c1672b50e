"""Say what a folder holds, for the first request of the page."""

from typing import Any

import numpy as np

from distangle.web.index import ViewIndex
from distangle.web.pair import RunPair
from distangle.web.pixels import channel_colors
from distangle.web.points import has_map
from distangle.web.tables import has_table


def summarize(index: ViewIndex, other: RunPair | None = None) -> dict[str, Any]:
    """Return what there is to see.

    Args:
        index: The source.
        other: The source with the run that is compared with it.
    """
    source = index.source
    columns = index.describe_columns()
    names = {column["name"] for column in columns}
    colors = channel_colors([str(channel.get("color", "")) for channel in source.channels])
    problems = [{"text": notice.text, "next_step": notice.next_step} for notice in source.notices]
    if source.has_changed():
        problems.append(
            {"text": "The folder has new results since the viewer was started.", "next_step": "Start it again."}
        )
    if not len(source.sites):
        problems.append(
            {"text": "There is no site here.", "next_step": "`distangle check SCREEN` lists what was refused."}
        )
    if other is not None:
        notices = other.second.source.notices
        problems += [{"text": f"{other.titles[1]}: {remark.text}", "next_step": remark.next_step} for remark in notices]
    return {
        "other": other.titles[1] if other is not None else None,
        "title": source.root.resolve().name,
        "kind": source.kind,
        "state": source.state(),
        "target": source.target(),
        "has_images": source.has_images,
        "has_map": has_map(index),
        "maps": _maps(index),
        "has_explanations": source.explanation is not None,
        "has_hits": has_table(index, "hits"),
        "has_scores": has_table(index, "scores"),
        "has_checks": has_table(index, "checks"),
        "has_training": source.run is not None and source.run.metrics.exists(),
        "n_sites": len(source.sites),
        "n_wells": len(index.first_site),
        "n_plates": len(index.plates),
        "n_perturbations": int((np.unique(index.perturbation_of_well) >= 0).sum()),
        "n_experiments": len({experiment for experiment, _ in index.plates}),
        "channels": [
            {
                "id": k,
                "name": str(channel["name"]),
                "label": channel_label(channel),
                "color": "#{:02x}{:02x}{:02x}".format(*color),
            }
            for k, (channel, color) in enumerate(zip(source.channels, colors, strict=True))
        ],
        "columns": columns,
        "default_color_by": next(
            (name for name in ("mean_average_precision", "correct", "role") if name in names), "role"
        ),
        "problems": problems,
        "pixel_size_um": source.screen.metadata.pixel_size_um if source.screen is not None else None,
    }


def channel_label(channel: dict[str, str]) -> str:
    """Return the name of a channel for people, such as `nuclei (Hoechst 33342)`."""
    name, stain = str(channel["name"]), str(channel.get("stain", ""))
    return f"{name} ({stain})" if stain and stain.lower() not in name.lower() else name


def _maps(index: ViewIndex) -> list[str]:
    """Return of what there are maps."""
    source = index.source
    maps = ["wells"] if has_map(index) else []
    maps += ["sites"] if source.predictions is not None else []
    return [*maps, "perturbations"] if source.profiles is not None else maps
