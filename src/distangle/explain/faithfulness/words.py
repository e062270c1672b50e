"""What the tests of a map say, in sentences for a terminal and a page."""

from collections.abc import Mapping
from typing import Any

IN_PLACE = {"control": "untreated image", "blur": "blurred image"}


def sentences_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Put the numbers of a summary into sentences; the last one is the verdict.

    Args:
        summary: With `verdicts`.
    """
    said = [_curves(summary), _weights(summary), _views(summary)]
    if summary["seeds"] is not None or summary["shuffled"] is not None:
        said.append(_beside(summary))
    return (*said, _verdict(summary["verdicts"]))


def _curves(summary: Mapping[str, Any]) -> str:
    parts = []
    for replacement, one in summary["curves"].items():
        deletion, insertion = one["deletion"]["probability"], one["insertion"]["probability"]
        parts.append(f"{IN_PLACE[replacement]}: deletion {_figure(deletion)}, insertion {_figure(insertion)}")
    sites = next(iter(summary["curves"].values()))["sites"]
    return (
        f"places: mean probability over {sites} sites while places are replaced in the order of the map, random smooth "
        f"maps in brackets. {'; '.join(parts)}. A true map has low deletion and high insertion."
    )


def _figure(one: Mapping[str, Any]) -> str:
    return f"{one['mean']:.2f} ({one['random']:.2f}; p = {one['p']:.2g})"


def _weights(summary: Mapping[str, Any]) -> str:
    weights = summary["randomisation"]
    last = weights["stages"][-1]
    before = next(stage for stage in weights["stages"] if stage["stage"] == weights["before_training"])
    low, high = last["null"]
    said = (
        f"weights: drawn anew from the templates to the first layer, the network gives maps that are "
        f"{last['mean']:.2f} like its own (rank correlation; sign aside {last['absolute']:.2f}). "
        f"Random smooth maps are {low:.2f} to {high:.2f} (sign aside {last['null_absolute']:.2f})."
    )
    if before is not last:
        said += f" With only the trained parts drawn anew: {before['mean']:.2f}."
    return said


def _views(summary: Mapping[str, Any]) -> str:
    views, targets = summary["views"], summary["targets"]
    said = f"views: maps of the turned image, turned back, are {views['mean']:.2f} like the map of the image"
    if views["stains"] is not None:
        stains = views["stains"]
        said += f", and the largest stain of {stains['sites']} sites stays in {stains['same_top']:.0%} of views"
    if targets is not None:
        said += f"; maps for another perturbation are {targets['mean']:.2f} like it"
    return said + "."


def _beside(summary: Mapping[str, Any]) -> str:
    said = []
    for name, words in (("seeds", "networks of other seeds"), ("shuffled", "a network trained on shuffled labels")):
        if summary[name] is not None:
            alike = summary[name]["likeness"]
            low, high = alike["null"]
            said.append(
                f"{words}: maps {alike['mean']:.2f} like each other (random smooth maps {low:.2f} to {high:.2f})"
            )
    return "; ".join(said) + "."


def _verdict(found: Mapping[str, str]) -> str:
    by = {
        word: [name for name, verdict in found.items() if verdict == word] for word in ("fails", "weak", "cannot say")
    }
    parts = [f"{words}: {', '.join(by[word])}" for word, words in
             (("weak", "weak"), ("cannot say", "could not be tested")) if by[word]]  # fmt: skip
    rest = f" ({'; '.join(parts)})" if parts else ""
    if by["fails"]:
        return f"verdict: DO NOT BELIEVE THESE MAPS: they fail {', '.join(by['fails'])}{rest}."
    if len(by["cannot say"]) == len(found):
        return "verdict: nothing could be tested."
    return f"verdict: no test failed{rest}."
