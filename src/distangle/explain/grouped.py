"""Means by well and perturbation of what was measured per site."""

from dataclasses import replace

import numpy as np
import pandas as pd

from distangle.explain.places.mean_maps import PERTURBATION, WELL
from distangle.explain.summary import SCORES
from distangle.results import Explanation

FIRST = ("Metadata_", *SCORES, "confidence", "probability")  # what `well_scores` and `perturbation_scores` see to


def with_later_means(explanation: Explanation) -> Explanation:
    """Return an explanation with means of added columns by well and group.

    A p-value is of one site and is not averaged.
    """
    table = explanation.table
    names = [
        str(name)
        for name in table.select_dtypes("number").columns
        if not str(name).startswith(FIRST) and not str(name).endswith("_p")
    ]
    if not names or explanation.wells is None or explanation.perturbations is None:
        return explanation
    by = [name for name in PERTURBATION if name in table.columns]
    return replace(
        explanation,
        wells=_with_means(explanation.wells, table, names, list(WELL)),
        perturbations=_with_means(explanation.perturbations, table, names, by),
    )


def _with_means(groups: pd.DataFrame, table: pd.DataFrame, names: list[str], by: list[str]) -> pd.DataFrame:
    means = table[names].astype(np.float64).groupby([table[name] for name in by], sort=True, dropna=False).mean()
    return groups.merge(means.reset_index(), on=by, how="left", validate="1:1")
