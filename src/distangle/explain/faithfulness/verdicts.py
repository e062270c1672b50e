"""From numbers to a verdict: which tests a map stands."""

from collections.abc import Mapping
from typing import Any, Literal

Verdict = Literal["passes", "weak", "fails", "cannot say"]

SIGNIFICANT = 0.05  # p of a mean area against random maps
LEAST_FALL = 0.05  # of the mean probability between the image and its replacement: below, a curve has nothing to show
FEWEST_PLACES = 9  # of a grid: with fewer, a rank correlation says little
UNLIKE, ALIKE, THE_SAME = 0.25, 0.5, 0.8  # Spearman's correlation of two maps


def verdicts(summary: Mapping[str, Any]) -> dict[str, Verdict]:
    """Return a verdict per test, by limits that are fixed beforehand.

    `deletion`, `insertion`: significantly better than random maps (p < 0.05) with every replacement; `weak` with one.
    `randomisation`: the maps of randomised networks are unlike the network's (mean correlation below 0.25; above 0.5
    it fails), once all that was trained is new and once all is; `weak` too where they are alike but for the sign.
    `targets`: the maps of other perturbations are not alike (below 0.5; above 0.8 it fails). `views`, `seeds`: maps of
    the same cells are alike (above 0.5; below 0.25 they fail). `shuffled`: those of a network trained on shuffled
    labels are unlike (below 0.25; above 0.5 it fails).

    Args:
        summary: From `summarise`, with `seeds` and `shuffled`.
    """
    found: dict[str, Verdict] = {
        "deletion": _curve(summary["curves"], "deletion"),
        "insertion": _curve(summary["curves"], "insertion"),
    }
    few = summary["grid"][0] * summary["grid"][1] < FEWEST_PLACES
    weights, targets = summary["randomisation"], summary["targets"]
    last = [
        stage
        for stage in weights["stages"]
        if stage["stage"] in (weights["before_training"], weights["stages"][-1]["stage"])
    ]
    randomised = _low(max(stage["mean"] for stage in last), weak=UNLIKE, fails=ALIKE)
    if randomised == "passes" and max(stage["absolute"] for stage in last) >= ALIKE:
        randomised = "weak"
    found["randomisation"] = "cannot say" if few else randomised
    if targets is not None:
        found["targets"] = "cannot say" if few else _low(targets["mean"], weak=ALIKE, fails=THE_SAME)
    found["views"] = "cannot say" if few else _high(summary["views"]["mean"])
    if summary["seeds"] is not None:
        found["seeds"] = "cannot say" if few else _high(summary["seeds"]["likeness"]["mean"])
    if summary["shuffled"] is not None:
        alike = summary["shuffled"]["likeness"]["mean"]
        found["shuffled"] = "cannot say" if few else _low(alike, weak=UNLIKE, fails=ALIKE)
    return found


def _curve(curves: Mapping[str, Any], name: str) -> Verdict:
    asked = []
    for one in curves.values():
        deletion = one["deletion"]["probability"]["curve"]
        if deletion[0] - deletion[-1] >= LEAST_FALL:
            asked.append(one[name]["probability"]["p"] < SIGNIFICANT)
    if not asked:
        return "cannot say"
    return "passes" if all(asked) else "weak" if any(asked) else "fails"


def _low(value: float, *, weak: float, fails: float) -> Verdict:
    return "passes" if value < weak else "weak" if value < fails else "fails"


def _high(value: float) -> Verdict:
    return "passes" if value >= ALIKE else "weak" if value >= UNLIKE else "fails"
