"""Build the table of hits: one row per perturbation."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from distangle.profiles.effect_size import ControlDistances
from distangle.profiles.geometry import unit
from distangle.profiles.multiple_testing import combine_doses
from distangle.profiles.retrieval import activity
from distangle.profiles.sphering import CONTROL_SIDE
from distangle.results.profile_result import HIT_COLUMNS
from distangle.results.profiles import PLATE, Profiles

NAME = "Metadata_Perturbation"
COMPOUND = "Metadata_Compound"
_OWN = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Fold", CONTROL_SIDE, NAME)


def hit_table(
    wells: Profiles,
    perturbations: Profiles,
    neighbors: pd.DataFrame,
    *,
    is_control: Bool[np.ndarray, " well"],
    clusters: Mapping[str, int],
    channels: Mapping[str, tuple[str, float]],
    n_draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return one row per perturbation, without negative controls; strongest first.

    Args:
        wells: Aligned profiles of wells, each with a perturbation.
        perturbations: Their profiles by perturbation, for the columns that are carried along.
        neighbors: Nearest and most opposite perturbations, of `relations.nearest_and_opposite`.
        is_control: Which wells are negative controls.
        clusters: Cluster of a perturbation, from 1.
        channels: Channel that moved and its Shapley value, by perturbation.
        n_draws: Random draws of a p-value.
        seed: Seed of the draws.

    Returns:
        `HIT_COLUMNS`, `channel_shapley`, the `Metadata_*` columns of the source, and for compounds with several doses
        `n_doses`, `p_of_compound` (Simes) and `q_of_compound`. Sorted by q, mean average precision and effect
        size.
    """
    plates = wells.codes(PLATE)
    names = wells.table[NAME].to_numpy(dtype=object)
    table = activity(wells.features, names, is_control, plates, n_draws=n_draws, seed=seed)
    rows_of = {name: np.flatnonzero((names == name) & ~is_control) for name in table["perturbation"]}
    agreement = {name: replicate_agreement(wells.features[rows]) for name, rows in rows_of.items()}
    distances = ControlDistances(wells.features, is_control, plates)
    effect = {name: distances.effect_size(rows) for name, rows in rows_of.items()}
    counts = {
        column: [len(np.unique(codes[rows])) for rows in rows_of.values()]
        for column, codes in (("n_plates", plates), ("n_experiments", wells.codes("Metadata_Experiment")))
    }
    table = table.assign(
        replicate_agreement=list(agreement.values()),
        effect_size=list(effect.values()),
        n_wells=[len(rows) for rows in rows_of.values()],
        **counts,
        channel=[channels.get(name, ("", np.nan))[0] for name in rows_of],
        channel_shapley=[channels.get(name, ("", np.nan))[1] for name in rows_of],
        cluster=[clusters.get(name, 0) for name in rows_of],
    )
    for kind in ("nearest", "opposite"):
        first = neighbors[(neighbors["kind"] == kind) & (neighbors["rank"] == 1)].set_index("name")
        table[kind] = [str(first["other"].get(name, "")) for name in rows_of]
        table[f"{kind}_cosine"] = [float(first["cosine"].get(name, np.nan)) for name in rows_of]
    carried = perturbations.table.drop(columns=[name for name in _OWN if name in perturbations.table and name != NAME])
    carried = carried[[name for name in carried if not str(name).startswith("Metadata_N_")]]
    table = table.merge(carried.rename(columns={NAME: "perturbation"}), on="perturbation", how="left")
    if COMPOUND in table and (table.groupby(COMPOUND)["perturbation"].transform("size") > 1).any():
        by_compound = combine_doses(table["p"].to_numpy(), table[COMPOUND].tolist()).set_index("compound")
        for name in ("n_doses", "p", "q"):
            table[name if name == "n_doses" else f"{name}_of_compound"] = table[COMPOUND].map(by_compound[name])
    order = list(HIT_COLUMNS) + [name for name in table if name not in HIT_COLUMNS]
    table = table[[name for name in order if name not in ("normalized", "n_replicates", "n_queries", "n_draws")]]
    return table.sort_values(
        ["q", "mean_average_precision", "effect_size"], ascending=[True, False, False], na_position="last"
    ).reset_index(drop=True)


def replicate_agreement(features: Float[np.ndarray, "replicate feature"]) -> float:
    """Return the mean cosine of all pairs of replicates; NaN for one replicate."""
    n = len(features)
    if n < 2:
        return float("nan")
    total = unit(features).astype(np.float64).sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))
