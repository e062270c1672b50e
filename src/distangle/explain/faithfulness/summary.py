"""Results of the faithfulness tests as numbers for JSON, with their nulls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.explain.faithfulness.curves import Curves, Replacement, null_p
from distangle.explain.faithfulness.likeness import mean_of_random, random_likeness
from distangle.explain.faithfulness.randomisation import Randomisation
from distangle.explain.summary import groups_of, means_over, wells_of


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the tests gave, site by site.

    Attributes:
        curves: By what came in the place of what was taken; the first sites only.
        randomisation: After each stage of the cascade.
        targets: Likeness to maps of other perturbations; None for a network with a single one.
        views: Likeness of the maps of seven views, turned back, to the map of the image.
        stains_of_views: Shapley values of the image and of some views; the first sites only, or none.
    """

    curves: Mapping[Replacement, Curves]
    randomisation: Randomisation
    targets: Float[np.ndarray, "draw site"] | None
    views: Float[np.ndarray, "view site"]
    stains_of_views: Float[np.ndarray, "seen few channel"] | None


def summarise(
    table: pd.DataFrame, found: Found, *, grid: tuple[int, int], rng: np.random.Generator, n_draws: int
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
    null = random_likeness(grid=grid, rng=rng, n_draws=n_draws)

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

    weights, stains = found.randomisation, found.stains_of_views
    n_stains = 1 if stains is None else stains.shape[2]
    return {
        "sites": len(table),
        "grid": list(grid),
        "interval_over": unit,
        "curves": {
            name: _curves(one, mean, wells=wells, rng=rng, n_draws=n_draws) for name, one in found.curves.items()
        },
        "randomisation": {
            "networks": weights.likeness.shape[1],
            "before_training": weights.stages[weights.before_training],
            "stages": [
                {"stage": stage, **alike(values)}
                for stage, values in zip(weights.stages, weights.likeness, strict=True)
            ],
            "stains": {
                stage: {
                    "sites": len(values),
                    "likeness": float(values.mean()),
                    "same_top": float(weights.same_top[stage].mean()),
                    "chance": 1 / n_stains,
                }
                for stage, values in weights.stains.items()
            },
        },
        "targets": None if found.targets is None else alike(found.targets),
        "views": {**alike(found.views), "stains": _stains(stains)},
    }


def _curves(one: Curves, mean: Any, *, wells: Sequence[str], rng: np.random.Generator, n_draws: int) -> dict[str, Any]:
    groups = wells[: len(one.log_probability)]
    said: dict[str, Any] = {
        "sites": len(one.log_probability),
        "taken": [count / one.counts[-1] for count in one.counts],
        "put_back": [count / one.counts[-1] for count in one.put_back],
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
        "spread": float(values.std(0, ddof=1).mean()),
        "size": float(np.abs(values[0]).mean()),
        "same_top": float((values[1:].argmax(2) == values[0].argmax(1)).mean()),
    }
