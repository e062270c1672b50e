"""Average scores and maps by well, and by explained perturbation and cell type.

Means by well and perturbation of what was measured per site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from distangle.explain.channels.nulls import combine_p_values, mean_over_sites, p_values
from distangle.explain.maps.mean_maps import PERTURBATION, WELL, MeanMaps, mean_maps
from distangle.explain.summary import SCORES, groups_of, means_over, wells_of
from distangle.results import Explanation

BY_MAPS = ("eq15", "eq15_inverse", "correlation")  # whose null is random maps
BY_WELLS = ("shapley", "ablation")  # whose null is untreated wells
ABOUT_MAPS = ("empty", "edge_share", "edge_area", "edge_ratio")


def well_scores(
    table: pd.DataFrame, maps: np.ndarray, found: Mapping[str, np.ndarray], *, rng: np.random.Generator
) -> MeanMaps:
    """Average scores and maps over the sites of each well, and test the means.

    A score against random maps is averaged before the test: the sites of a well, whose maps may be alike, with the same
    random map. A score
    against untreated wells has a p-value per site already; those of a well's sites, which are not independent, are
    joined by `joined_p`.

    Args:
        table: Of the explanation: one row per site.
        maps: Of its rows.
        found: The scores [site, channel] by name; `NAME_null` [site, draw, channel] of those against random maps.
        rng: Of the random maps' order.

    Returns:
        A row per well: `Metadata_*`, `perturbation`, `predicted` and `explained` (different ones joined by ` | `),
        `sites`, the mean `probability`, and `NAME_k` and `NAME_p_k` per score and channel; what `mean_maps` says of
        the mean map.
    """
    averaged = mean_maps(table, maps, by=WELL)
    groups = _members(table, WELL)
    rows = []
    for members in groups:
        of_well = table.iloc[members]
        row: dict[str, object] = {
            str(name): of_well[name].iloc[0]
            for name in table.columns
            if str(name).startswith("Metadata_") and name != "Metadata_Site"
        }
        row |= {name: _joined(of_well[name]) for name in ("perturbation", "predicted", "explained")}
        row |= {"sites": len(members), "probability": float(of_well["probability"].mean())}
        for name in SCORES:
            if name not in found:
                continue
            mean = found[name][members].mean(axis=0, dtype=np.float64)
            row |= _numbered(name, mean)
            p = _p_of_well(name, mean, found, members, rng=rng)
            row |= {} if p is None else _numbered(f"{name}_p", p)
        rows.append(row)
    return MeanMaps(table=_with_maps(pd.DataFrame(rows), averaged), maps=averaged.maps)


def perturbation_scores(
    table: pd.DataFrame,
    maps: np.ndarray,
    found: Mapping[str, np.ndarray],
) -> MeanMaps:
    """Average scores and maps by explained perturbation and cell type.

    Args:
        table: Of the explanation: one row per site.
        maps: Of its rows.
        found: The scores [site, channel] by name.

    Returns:
        A row per perturbation and cell type: `sites`, `wells`, `experiments`, and `NAME_k`, `NAME_low_k` and
        `NAME_high_k` per score and channel: the mean and its 95 % interval over experiments (over plates where the
        table has one experiment; NaN where the row has too few of them); what `mean_maps` says of the map.
    """
    keys = [name for name in PERTURBATION if name in table.columns]
    averaged = mean_maps(table, maps, by=keys)
    _, units = groups_of(table)
    wells = np.array(wells_of(table))
    rows = []
    for members in _members(table, keys):
        of_group = table.iloc[members]
        row: dict[str, object] = {name: of_group[name].iloc[0] for name in keys}
        row |= {
            "sites": len(members),
            "wells": len(set(wells[members])),
            "experiments": int(of_group["Metadata_Experiment"].nunique()),
        }
        for name in SCORES:
            if name not in found:
                continue
            said = means_over(found[name][members], [units[member] for member in members])
            row |= _numbered(name, np.array(said["mean"]))
            low, high = np.array(said["interval"] or [[np.nan, np.nan]] * len(said["mean"])).T
            row |= _numbered(f"{name}_low", low) | _numbered(f"{name}_high", high)
        rows.append(row)
    return MeanMaps(table=_with_maps(pd.DataFrame(rows), averaged), maps=averaged.maps)


def _members(table: pd.DataFrame, keys: Sequence[str]) -> list[np.ndarray]:
    """Rows of each group, in the order of `mean_maps`."""
    numbers = table.groupby(list(keys), sort=True, dropna=False, observed=True).ngroup().to_numpy()
    return [np.flatnonzero(numbers == group) for group in range(int(numbers.max()) + 1)]


def _p_of_well(
    name: str, mean: np.ndarray, found: Mapping[str, np.ndarray], members: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray | None:
    if name in BY_MAPS and f"{name}_null" in found:
        null = mean_over_sites(found[f"{name}_null"][members], rng=rng, groups=[""] * len(members))
        return np.asarray(p_values(mean[None], null[None])[0])
    if name in BY_WELLS and f"{name}_p" in found:
        return combine_p_values(found[f"{name}_p"][members])
    return None


def _numbered(name: str, values: np.ndarray) -> dict[str, object]:
    return {f"{name}_{k + 1}": float(value) for k, value in enumerate(values)}


def _joined(names: pd.Series) -> str:
    return " | ".join(sorted(set(names.astype(str))))


def _with_maps(scores: pd.DataFrame, averaged: MeanMaps) -> pd.DataFrame:
    return scores.assign(**{name: averaged.table[name].to_numpy() for name in ABOUT_MAPS})


FIRST = ("Metadata_", *SCORES, "confidence", "probability")  # what `well_scores` and `perturbation_scores` see to


def add_group_means(explanation: Explanation) -> Explanation:
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
