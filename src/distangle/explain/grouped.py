"""An explanation by well and by perturbation: mean maps, and the mean of every score."""

from dataclasses import replace

import numpy as np
import pandas as pd

from distangle.explain.places.mean_maps import PERTURBATION, WELL, mean_maps
from distangle.results import Explanation

KEPT = ("Metadata_Cell_Type", "Metadata_Role", "perturbation")  # the same for all sites of a well
SCORES = ("probability", "shapley_", "ablation_", "eq15_", "correlation_", "deletion_", "insertion_", "stability")


def grouped(explanation: Explanation) -> Explanation:
    """Return an explanation with its wells and perturbations.

    A p-value is of one site and is not averaged: those of many sites together stand in the summary.
    """
    table = explanation.table
    wells = mean_maps(table, explanation.maps, by=WELL)
    kept = table.groupby(list(WELL), sort=True, dropna=False, observed=True)
    about = [name for name in KEPT if name in table.columns]
    described = wells.table.merge(kept[about].first().reset_index(), on=list(WELL), how="left", validate="1:1")
    predicted = kept["predicted"].agg(lambda names: " | ".join(sorted({str(name) for name in names})))
    described = described.merge(predicted.reset_index(), on=list(WELL), how="left", validate="1:1")
    by = [name for name in PERTURBATION if name in table.columns]
    perturbations = mean_maps(table, explanation.maps, by=by)
    return replace(
        explanation,
        wells=_with_scores(described, table, list(WELL)),
        well_maps=wells.maps,
        perturbations=_with_scores(perturbations.table, table, by),
        perturbation_maps=perturbations.maps,
    )


def _with_scores(groups: pd.DataFrame, table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    scores = [
        str(name)
        for name in table.columns
        if str(name).startswith(SCORES) and "_p_" not in str(name) and not str(name).endswith("_p")
    ]
    numbers = table[scores].astype(np.float64)
    means = numbers.groupby([table[name] for name in by], sort=True, dropna=False, observed=True).mean()
    return groups.merge(means.reset_index(), on=by, how="left", validate="1:1")
