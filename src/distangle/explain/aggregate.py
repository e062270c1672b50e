"""Average scores and maps by well, perturbation and cell type."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from distangle.explain.channels.nulls import combine_p_values, mean_over_sites, p_values
from distangle.explain.maps.mean_maps import PERTURBATION, WELL, MeanMaps, mean_maps
from distangle.explain.summary import SCORES, groups_of, means_over, wells_of
from distangle.results import Explanation

MAP_SCORES = ("eq15", "eq15_inverse", "correlation")  # null: random maps
REMOVAL_SCORES = ("shapley", "ablation")  # null: control wells
MAP_COLUMNS = ("empty", "edge_share", "edge_area", "edge_ratio")
# `well_scores` and `perturbation_scores` average these themselves.
AVERAGED_PREFIXES = ("Metadata_", *SCORES, "confidence", "probability")


def well_scores(
    table: pd.DataFrame, maps: np.ndarray, scores: Mapping[str, np.ndarray], *, rng: np.random.Generator
) -> MeanMaps:
    """Average scores and maps over the sites of each well, and test the means.

    Scores with random maps as null are averaged before the test. The sites of a well share their random maps, because
    their attribution maps may be similar. Scores with control wells as null have a p-value per site;
    `combine_p_values` combines the p-values of a well, which are not independent.

    Args:
        table: Table of the explanation, one row per site.
        maps: Attribution maps, one per row.
        scores: Scores [site, channel] by name, and `NAME_null` [site, draw, channel] for those with random maps as
            null.
        rng: Random generator for the random maps' order.

    Returns:
        A row per well: `Metadata_*`, `perturbation`, `predicted` and `explained` (different ones joined by ` | `),
        `sites`, the mean `probability`, and `NAME_k` and `NAME_p_k` per score and channel; and the columns
        of `mean_maps`.
    """
    group_maps = mean_maps(table, maps, by=WELL)
    groups = _row_groups(table, WELL)
    rows = []
    for members in groups:
        well_rows = table.iloc[members]
        row: dict[str, object] = {
            str(name): well_rows[name].iloc[0]
            for name in table.columns
            if str(name).startswith("Metadata_") and name != "Metadata_Site"
        }
        row |= {name: _join_names(well_rows[name]) for name in ("perturbation", "predicted", "explained")}
        row |= {"sites": len(members), "probability": float(well_rows["probability"].mean())}
        for name in SCORES:
            if name not in scores:
                continue
            mean = scores[name][members].mean(axis=0, dtype=np.float64)
            row |= _by_channel(name, mean)
            p = _well_p_value(name, mean, scores, members, rng=rng)
            row |= {} if p is None else _by_channel(f"{name}_p", p)
        rows.append(row)
    return MeanMaps(table=_add_map_columns(pd.DataFrame(rows), group_maps), maps=group_maps.maps)


def perturbation_scores(
    table: pd.DataFrame,
    maps: np.ndarray,
    scores: Mapping[str, np.ndarray],
) -> MeanMaps:
    """Average scores and maps by explained perturbation and cell type.

    Args:
        table: Table of the explanation, one row per site.
        maps: Attribution maps, one per row.
        scores: Scores [site, channel] by name.

    Returns:
        A row per perturbation and cell type: `sites`, `wells`, `experiments`, and `NAME_k`, `NAME_low_k` and
        `NAME_high_k` per score and channel: the mean and its 95 % interval over experiments (over plates where the
        table has one experiment; NaN where the row has too few of them); and the columns of `mean_maps`.
    """
    keys = [name for name in PERTURBATION if name in table.columns]
    group_maps = mean_maps(table, maps, by=keys)
    _, units = groups_of(table)
    wells = np.array(wells_of(table))
    rows = []
    for members in _row_groups(table, keys):
        group_rows = table.iloc[members]
        row: dict[str, object] = {name: group_rows[name].iloc[0] for name in keys}
        row |= {
            "sites": len(members),
            "wells": len(set(wells[members])),
            "experiments": int(group_rows["Metadata_Experiment"].nunique()),
        }
        for name in SCORES:
            if name not in scores:
                continue
            means = means_over(scores[name][members], [units[member] for member in members])
            row |= _by_channel(name, np.array(means["mean"]))
            low, high = np.array(means["interval"] or [[np.nan, np.nan]] * len(means["mean"])).T
            row |= _by_channel(f"{name}_low", low) | _by_channel(f"{name}_high", high)
        rows.append(row)
    return MeanMaps(table=_add_map_columns(pd.DataFrame(rows), group_maps), maps=group_maps.maps)


def add_group_means(explanation: Explanation) -> Explanation:
    """Return an explanation with means of added columns by well and group.

    P-values of single sites are not averaged.
    """
    table = explanation.table
    names = [
        str(name)
        for name in table.select_dtypes("number").columns
        if not str(name).startswith(AVERAGED_PREFIXES) and not str(name).endswith("_p")
    ]
    if not names or explanation.wells is None or explanation.perturbations is None:
        return explanation
    by = [name for name in PERTURBATION if name in table.columns]
    return replace(
        explanation,
        wells=_add_means(explanation.wells, table, names, list(WELL)),
        perturbations=_add_means(explanation.perturbations, table, names, by),
    )


def _row_groups(table: pd.DataFrame, keys: Sequence[str]) -> list[np.ndarray]:
    """Return the rows of each group, in the order of `mean_maps`."""
    numbers = table.groupby(list(keys), sort=True, dropna=False, observed=True).ngroup().to_numpy()
    return [np.flatnonzero(numbers == group) for group in range(int(numbers.max()) + 1)]


def _well_p_value(
    name: str, mean: np.ndarray, scores: Mapping[str, np.ndarray], members: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray | None:
    if name in MAP_SCORES and f"{name}_null" in scores:
        null = mean_over_sites(scores[f"{name}_null"][members], rng=rng, groups=[""] * len(members))
        return np.asarray(p_values(mean[None], null[None])[0])
    if name in REMOVAL_SCORES and f"{name}_p" in scores:
        return combine_p_values(scores[f"{name}_p"][members])
    return None


def _by_channel(name: str, values: np.ndarray) -> dict[str, object]:
    return {f"{name}_{k + 1}": float(value) for k, value in enumerate(values)}


def _join_names(names: pd.Series) -> str:
    return " | ".join(sorted(set(names.astype(str))))


def _add_map_columns(scores: pd.DataFrame, averaged: MeanMaps) -> pd.DataFrame:
    return scores.assign(**{name: averaged.table[name].to_numpy() for name in MAP_COLUMNS})


def _add_means(groups: pd.DataFrame, table: pd.DataFrame, names: list[str], by: list[str]) -> pd.DataFrame:
    means = table[names].astype(np.float64).groupby([table[name] for name in by], sort=True, dropna=False).mean()
    return groups.merge(means.reset_index(), on=by, how="left", validate="1:1")
