"""What an explanation says, in sentences for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distangle.errors import brief
from distangle.results import STANDS_OUT, Explanation, Faithfulness, FilterBands, TemplateMaps

Part = Literal["faithfulness", "templates", "filters"]
PARTS: tuple[Part, ...] = ("faithfulness", "templates", "filters")


def sentences(explanation: Explanation) -> tuple[str, ...]:
    """Return sentences on the top channel, its null, and the planted truth."""
    summary, channels = explanation.summary, list(explanation.settings["channels"])
    asked, p = explanation.settings.get("perturbation"), explanation.p_of_top
    moved = "the prediction" if asked is None else f"the answer {brief(str(asked))}"
    of = f"Shapley value, largest in {summary['top_channel_share']:.0%} of sites; p = {p:.3g} against shuffled stains"
    said = [*_by_perturbation(summary, channels)]
    if p <= STANDS_OUT:
        said.append(f"stain: over {summary['sites']} sites, {summary['top_channel']} moved {moved} most ({of}).")
    else:
        said.append(
            f"stain: over all {summary['sites']} sites no single stain stands out; the first is "
            f"{summary['top_channel']} ({of})."
        )
    literal, chance = summary["eq15_top_channel"], summary["eq15_top_channel_of_random_maps"]
    name = max(literal, key=lambda channel: literal[channel])
    drawn = max(chance, key=lambda channel: chance[channel])
    said.append(
        f"Eq. 15 as printed names {name} in {literal[name]} of {summary['sites']} sites; with maps drawn at random, "
        f"{drawn} in {chance[drawn]:.0f}. It is a distance that follows brightness, no evidence."
    )
    said += _on_cells(summary.get("cells"))
    said += [f"warning: {warning}" for warning in summary["warnings"]]
    return (*said, *_planted(explanation.planted)) if explanation.planted else tuple(said)


def _by_perturbation(summary: Mapping[str, Any], channels: Sequence[str]) -> list[str]:
    means = {name: one["shapley"]["mean"] for name, one in summary.get("perturbations", {}).items()}
    if len(means) < 2:
        return []
    tops = [channels[max(range(len(mean)), key=lambda k: mean[k])] for mean in means.values()]
    counts = sorted(((tops.count(name), name) for name in channels if name in tops), key=lambda one: -one[0])
    listed = ", ".join(f"{name} in {n}" for n, name in counts)
    return [f"stain by perturbation: the largest mean Shapley value of {len(means)} perturbations is that of {listed}."]


def _on_cells(cells: object) -> list[str]:
    if not isinstance(cells, Mapping):
        return [f"cells: {cells}"] if cells else []
    parts = [
        f"{one['share']:.0%} on {where} ({one['area']:.0%} of the image; p = {one['p']:.2g} against random maps)"
        for where, one in (("nuclei", cells["nuclei"]), ("cells with their nuclei", cells["cells"]))
    ]
    return [f"cells: of the maps, {' and '.join(parts)}."]


def _planted(planted: Mapping[str, Any]) -> list[str]:
    said = []
    stain, literal, place = (
        planted[name] for name in ("top_shapley_is_planted", "top_eq15_is_planted", "map_peak_in_place")
    )
    if stain["of"]:
        said.append(
            f"planted stain: found by Shapley in {_share(stain)} of rightly predicted sites with an effect in one "
            f"stain (chance {stain['chance']:.0%}); by Eq. 15 in {literal['share']:.0%}."
        )
    if place["of"]:
        said.append(
            f"planted place: the map's peak lies in it in {_share(place)} of sites (chance {place['chance']:.0%})."
        )
    return said or ["nothing was planted in the explained sites: there is nothing to find."]


def _share(counted: Mapping[str, Any]) -> str:
    ends = "" if counted["low"] is None else f", {counted['low']:.0%} to {counted['high']:.0%}"
    return f"{counted['sites']} of {counted['of']} ({counted['share']:.0%}{ends})"


def part_sentences(folder: Path, parts: Sequence[Part]) -> tuple[str, ...]:
    """Return what the parts of an explanation say, as they were written.

    Args:
        folder: Of the explanations.
        parts: Which of them.
    """
    said: list[str] = []
    if "faithfulness" in parts:
        said += Faithfulness.read(folder).sentences
    if "templates" in parts:
        said += [f"templates: {sentence}" for sentence in TemplateMaps.read(folder).numbers["sentences"]]
    if "filters" in parts:
        said += [f"filters: {sentence}" for sentence in FilterBands.read(folder).sentences]
    return tuple(said)
