"""Results of the faithfulness tests as numbers for JSON, with their nulls.

From numbers to a verdict: which tests a map stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.explain.faithfulness.curves import DeletionInsertion, Replacement, null_p
from distangle.explain.faithfulness.model_randomization import RandomizationResult
from distangle.explain.faithfulness.similarity import mean_of_random, random_similarity
from distangle.explain.summary import groups_of, means_over, wells_of


@dataclass(frozen=True, kw_only=True)
class FaithfulnessResults:
    """What the tests gave, site by site.

    Attributes:
        curves: By what came in the place of what was taken; the first sites only.
        randomization: After each stage of the cascade.
        targets: Likeness to maps of other perturbations; None for a network with a single one.
        views: Likeness of the maps of seven views, turned back, to the map of the image.
        stains_of_views: Shapley values of the image and of some views; the first sites only, or none.
    """

    curves: Mapping[Replacement, DeletionInsertion]
    randomization: RandomizationResult
    targets: Float[np.ndarray, "draw site"] | None
    views: Float[np.ndarray, "view site"]
    stains_of_views: Float[np.ndarray, "seen few channel"] | None


def summarize_faithfulness(
    table: pd.DataFrame, found: FaithfulnessResults, *, grid: tuple[int, int], rng: np.random.Generator, n_draws: int
) -> dict[str, Any]:
    """Return means with 95 % intervals and nulls.

    Intervals are over experiments, or over plates of a single one.

    Args:
        table: Of the examined sites, in the order of `found`.
        found: What the tests gave.
        grid: Height and width of the maps, in places.
        rng: Of nulls.
        n_draws: Of each.
    """
    unit, groups = groups_of(table)
    wells = wells_of(table)
    null = random_similarity(grid=grid, rng=rng, n_draws=n_draws)

    def mean(values: np.ndarray) -> dict[str, Any]:
        said = means_over(values[:, None], groups[: len(values)])
        return {"mean": said["mean"][0], "interval": said["interval"] and said["interval"][0]}

    def alike(values: np.ndarray) -> dict[str, Any]:
        return {
            **mean(values.mean(0)),
            "absolute": float(np.abs(values).mean()),
            "null": list(mean_of_random(null, n_sites=values.shape[1], rng=rng, n_draws=n_draws)),
            "null_absolute": float(np.abs(null).mean()),
        }

    weights, stains = found.randomization, found.stains_of_views
    n_stains = 1 if stains is None else stains.shape[2]
    return {
        "sites": len(table),
        "grid": list(grid),
        "interval_over": unit,
        "curves": {
            name: _curves(one, mean, wells=wells, rng=rng, n_draws=n_draws) for name, one in found.curves.items()
        },
        "randomization": {
            "networks": weights.likeness.shape[1],
            "before_training": weights.stages[weights.before_training],
            "stages": [
                {"stage": stage, **alike(values)}
                for stage, values in zip(weights.stages, weights.likeness, strict=True)
            ],
            "channels": {
                stage: {
                    "sites": len(values),
                    "similarity": float(values.mean()),
                    "same_top_channel": float(weights.same_top[stage].mean()),
                    "chance": 1 / n_stains,
                }
                for stage, values in weights.stains.items()
            },
        },
        "targets": None if found.targets is None else alike(found.targets),
        "views": {**alike(found.views), "channels": _stains(stains)},
    }


def _curves(
    one: DeletionInsertion, mean: Any, *, wells: Sequence[str], rng: np.random.Generator, n_draws: int
) -> dict[str, Any]:
    groups = wells[: len(one.log_probability)]
    said: dict[str, Any] = {
        "sites": len(one.log_probability),
        "deleted": [count / one.counts[-1] for count in one.counts],
        "inserted": [count / one.counts[-1] for count in one.put_back],
    }
    for of in ("probability", "log_probability"):
        null = one.null_area(of=of)
        for name, areas, curve, sign in (
            ("deletion", one.deletion_area(of=of), one.deletion(of=of), 1),
            ("insertion", one.insertion_area(of=of), one.insertion(of=of), -1),
        ):
            random = one.random(of=of).mean(0)
            said.setdefault(name, {})[of] = {
                **mean(areas),
                "random": float(null.mean()),
                "difference": mean(areas - null.mean(1)),
                "p": null_p(sign * areas, sign * null, rng=rng, groups=groups, n_draws=n_draws),
                "curve": curve.mean(0).tolist(),
                "random_curve": random[::sign].tolist(),
            }
    return said


def _stains(values: Float[np.ndarray, "seen few channel"] | None) -> dict[str, Any] | None:
    """Summarise how Shapley values vary over views."""
    if values is None:
        return None
    return {
        "sites": values.shape[1],
        "views": values.shape[0],
        "std": float(values.std(0, ddof=1).mean()),
        "mean_absolute": float(np.abs(values[0]).mean()),
        "same_top_channel": float((values[1:].argmax(2) == values[0].argmax(1)).mean()),
    }


Verdict = Literal["passes", "weak", "fails", "cannot say"]

SIGNIFICANT = 0.05  # p of a mean area against random maps
LEAST_FALL = 0.05  # of the mean probability between the image and its replacement: below, a curve has nothing to show
FEWEST_PLACES = 9  # of a grid: with fewer, a rank correlation says little
UNLIKE, ALIKE, THE_SAME = 0.25, 0.5, 0.8  # Spearman's correlation of two maps


def verdicts(summary: Mapping[str, Any]) -> dict[str, Verdict]:
    """Return a verdict per test, by limits that are fixed beforehand.

    `deletion`, `insertion`: significantly better than random maps (p < 0.05) with every replacement; `weak` with one.
    `randomization`: the maps of randomised networks are unlike the network's (mean correlation below 0.25; above 0.5
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
    weights, targets = summary["randomization"], summary["targets"]
    last = [
        stage
        for stage in weights["stages"]
        if stage["stage"] in (weights["before_training"], weights["stages"][-1]["stage"])
    ]
    randomised = _low(max(stage["mean"] for stage in last), weak=UNLIKE, fails=ALIKE)
    if randomised == "passes" and max(stage["absolute"] for stage in last) >= ALIKE:
        randomised = "weak"
    found["randomization"] = "cannot say" if few else randomised
    if targets is not None:
        found["targets"] = "cannot say" if few else _low(targets["mean"], weak=ALIKE, fails=THE_SAME)
    found["views"] = "cannot say" if few else _high(summary["views"]["mean"])
    if summary["seeds"] is not None:
        found["seeds"] = "cannot say" if few else _high(summary["seeds"]["similarity"]["mean"])
    if summary["shuffled"] is not None:
        alike = summary["shuffled"]["similarity"]["mean"]
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
