"""Summarize faithfulness tests with their nulls, and give verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.explain.faithfulness.curves import DeletionInsertion, Replacement, null_p
from distangle.explain.faithfulness.map_similarity import mean_of_random, random_similarity
from distangle.explain.faithfulness.model_randomization import RandomizationResult
from distangle.explain.summary import groups_of, means_over, wells_of

Verdict = Literal["passes", "weak", "fails", "cannot say"]
SIGNIFICANT = 0.05  # p of a mean area against random maps
MIN_FALL = 0.05  # fall of the mean probability from the image to its replacement that a curve needs
MIN_POSITIONS = 9  # of a grid; with fewer a rank correlation is unreliable
UNLIKE, ALIKE, THE_SAME = 0.25, 0.5, 0.8  # Spearman's correlation of two maps


@dataclass(frozen=True, kw_only=True)
class FaithfulnessResults:
    """Results of the tests per site.

    Attributes:
        curves: Curves by replacement; the first sites only.
        randomization: Similarity after each stage of the cascade.
        targets: Similarity to maps of other perturbations; None for a network with one perturbation.
        augmentations: Similarity of the maps of seven augmentations, transformed back, to the map of the image.
        augmented_shapley: Shapley values of the original image and of some augmentations; the first sites only, or
            None.
    """

    curves: Mapping[Replacement, DeletionInsertion]
    randomization: RandomizationResult
    targets: Float[np.ndarray, "draw site"] | None
    augmentations: Float[np.ndarray, "augmentation site"]
    augmented_shapley: Float[np.ndarray, "image few channel"] | None


def summarize_faithfulness(
    table: pd.DataFrame, results: FaithfulnessResults, *, grid: tuple[int, int], rng: np.random.Generator, n_draws: int
) -> dict[str, Any]:
    """Return means with 95 % intervals and nulls.

    Intervals are over experiments, or over plates if there is one experiment.

    Args:
        table: Table of the examined sites, in the order of `results`.
        results: Results of the tests.
        grid: Height and width of the maps, in positions.
        rng: Random generator for nulls.
        n_draws: Number of draws of each null.
    """
    unit, groups = groups_of(table)
    wells = wells_of(table)
    null = random_similarity(grid=grid, rng=rng, n_draws=n_draws)

    def mean(values: np.ndarray) -> dict[str, Any]:
        means = means_over(values[:, None], groups[: len(values)])
        return {"mean": means["mean"][0], "interval": means["interval"] and means["interval"][0]}

    def similarity_summary(values: np.ndarray) -> dict[str, Any]:
        return {
            **mean(values.mean(0)),
            "absolute": float(np.abs(values).mean()),
            "null": list(mean_of_random(null, n_sites=values.shape[1], rng=rng, n_draws=n_draws)),
            "null_absolute": float(np.abs(null).mean()),
        }

    randomization, augmented_shapley = results.randomization, results.augmented_shapley
    n_channels = 1 if augmented_shapley is None else augmented_shapley.shape[2]
    return {
        "sites": len(table),
        "grid": list(grid),
        "interval_over": unit,
        "curves": {
            name: _curves(curves, mean, wells=wells, rng=rng, n_draws=n_draws)
            for name, curves in results.curves.items()
        },
        "randomization": {
            "networks": randomization.similarity.shape[1],
            "before_training": randomization.stages[randomization.before_training],
            "stages": [
                {"stage": stage, **similarity_summary(values)}
                for stage, values in zip(randomization.stages, randomization.similarity, strict=True)
            ],
            "channels": {
                stage: {
                    "sites": len(values),
                    "similarity": float(values.mean()),
                    "same_top_channel": float(randomization.same_top[stage].mean()),
                    "chance": 1 / n_channels,
                }
                for stage, values in randomization.shapley_similarity.items()
            },
        },
        "targets": None if results.targets is None else similarity_summary(results.targets),
        "views": {**similarity_summary(results.augmentations), "channels": _summarize_shapley(augmented_shapley)},
    }


def verdicts(summary: Mapping[str, Any]) -> dict[str, Verdict]:
    """Return a verdict per test by fixed limits.

    - `deletion`, `insertion`: pass if significantly better than random maps (p < 0.05) with every replacement; `weak`
      with one replacement.
    - `randomization`: passes if the maps of randomized networks are dissimilar (mean correlation below 0.25; fails
      above 0.5) after all trained parts and after all parts are randomized; `weak` also if only the sign differs.
    - `targets`: passes if the maps for other perturbations differ (below 0.5; fails above 0.8).
    - `views`, `seeds`: pass if maps of the same cells are similar (above 0.5; fail below 0.25).
    - `shuffled`: passes if the maps of a network trained on shuffled labels are dissimilar (below 0.25; fails
      above 0.5).

    Args:
        summary: Result of `summarize_faithfulness`, with `seeds` and `shuffled`.
    """
    results: dict[str, Verdict] = {
        "deletion": _curve(summary["curves"], "deletion"),
        "insertion": _curve(summary["curves"], "insertion"),
    }
    too_few = summary["grid"][0] * summary["grid"][1] < MIN_POSITIONS
    randomization, targets = summary["randomization"], summary["targets"]
    last = [
        stage
        for stage in randomization["stages"]
        if stage["stage"] in (randomization["before_training"], randomization["stages"][-1]["stage"])
    ]
    verdict = _low(max(stage["mean"] for stage in last), weak=UNLIKE, fails=ALIKE)
    if verdict == "passes" and max(stage["absolute"] for stage in last) >= ALIKE:
        verdict = "weak"
    results["randomization"] = "cannot say" if too_few else verdict
    if targets is not None:
        results["targets"] = "cannot say" if too_few else _low(targets["mean"], weak=ALIKE, fails=THE_SAME)
    results["views"] = "cannot say" if too_few else _high(summary["views"]["mean"])
    if summary["seeds"] is not None:
        results["seeds"] = "cannot say" if too_few else _high(summary["seeds"]["similarity"]["mean"])
    if summary["shuffled"] is not None:
        similarity = summary["shuffled"]["similarity"]["mean"]
        results["shuffled"] = "cannot say" if too_few else _low(similarity, weak=UNLIKE, fails=ALIKE)
    return results


def _curves(
    curves: DeletionInsertion, mean: Any, *, wells: Sequence[str], rng: np.random.Generator, n_draws: int
) -> dict[str, Any]:
    groups = wells[: len(curves.log_probability)]
    summary: dict[str, Any] = {
        "sites": len(curves.log_probability),
        "deleted": [count / curves.counts[-1] for count in curves.counts],
        "inserted": [count / curves.counts[-1] for count in curves.insertion_counts],
    }
    for scale in ("probability", "log_probability"):
        null_areas = curves.null_area(scale=scale)
        for name, areas, curve, sign in (
            ("deletion", curves.deletion_area(scale=scale), curves.deletion(scale=scale), 1),
            ("insertion", curves.insertion_area(scale=scale), curves.insertion(scale=scale), -1),
        ):
            random = curves.random(scale=scale).mean(0)
            summary.setdefault(name, {})[scale] = {
                **mean(areas),
                "random": float(null_areas.mean()),
                "difference": mean(areas - null_areas.mean(1)),
                "p": null_p(sign * areas, sign * null_areas, rng=rng, groups=groups, n_draws=n_draws),
                "curve": curve.mean(0).tolist(),
                "random_curve": random[::sign].tolist(),
            }
    return summary


def _summarize_shapley(values: Float[np.ndarray, "image few channel"] | None) -> dict[str, Any] | None:
    """Summarize the variation of Shapley values over augmentations."""
    if values is None:
        return None
    return {
        "sites": values.shape[1],
        "views": values.shape[0],
        "std": float(values.std(0, ddof=1).mean()),
        "mean_absolute": float(np.abs(values[0]).mean()),
        "same_top_channel": float((values[1:].argmax(2) == values[0].argmax(1)).mean()),
    }


def _curve(curves: Mapping[str, Any], name: str) -> Verdict:
    significant = []
    for curve in curves.values():
        deletion = curve["deletion"]["probability"]["curve"]
        if deletion[0] - deletion[-1] >= MIN_FALL:
            significant.append(curve[name]["probability"]["p"] < SIGNIFICANT)
    if not significant:
        return "cannot say"
    return "passes" if all(significant) else "weak" if any(significant) else "fails"


def _low(value: float, *, weak: float, fails: float) -> Verdict:
    return "passes" if value < weak else "weak" if value < fails else "fails"


def _high(value: float) -> Verdict:
    return "passes" if value >= ALIKE else "weak" if value >= UNLIKE else "fails"
