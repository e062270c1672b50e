"""Aggregate profiles of sites to wells, and of sites or wells to perturbations."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.errors import ProfileError
from distangle.results.profiles import PLATE, Profiles

_ORDER = ("site", "well", "perturbation")
_N_SITES = "Metadata_N_Sites"
_WELL = (*PLATE, "Metadata_Well")


def aggregate(
    profiles: Profiles, *, to: Literal["well", "perturbation"], how: Literal["mean", "median", "medoid"]
) -> Profiles:
    """Return one profile per well or per perturbation.

    Groups keep the order of their first row. Rows without a perturbation belong to no group of perturbations; their
    number is in the provenance. A column that is not constant in a group becomes "".

    Args:
        profiles: Profiles of a finer level.
        to: The level of the result.
        how: Mean or median of every feature, or the row with the smallest sum of Euclidean distances to the others.

    Returns:
        Profiles with counts: `Metadata_N_Sites` (where known), `Metadata_N_Wells` (perturbations only),
        `Metadata_N_Plates` and `Metadata_N_Experiments`.

    Raises:
        ProfileError: The level or the method is impossible, or no row remains.
    """
    if to not in _ORDER[1:] or _ORDER.index(profiles.level) >= _ORDER.index(to):
        raise ProfileError(
            f"Profiles of level {profiles.level!r} cannot become level {to!r}. "
            "Expected sites to wells, or sites or wells to perturbations. Read the profiles of a finer level."
        )
    if how not in ("mean", "median", "medoid"):
        raise ProfileError(f"Unknown aggregation {how!r}. Expected 'mean', 'median' or 'medoid'. Use one of these.")
    members = profiles
    if to == "perturbation":
        profiles.codes("Metadata_Perturbation")  # names the columns if it is absent
        members = profiles.select((profiles.table["Metadata_Perturbation"] != "").to_numpy(dtype=bool))
    if not len(members):
        raise ProfileError(
            f"None of {len(profiles)} rows can be aggregated to level {to!r}: expected rows, with a perturbation for "
            "perturbations. Name the column of perturbations when the profiles are read."
        )
    codes = members.codes(_WELL if to == "well" else "Metadata_Perturbation")
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    features = np.stack([_center(members.features[group].astype(np.float64), how) for group in groups])
    provenance = {
        **profiles.provenance,
        "aggregation": {"to": to, "how": how, "n_rows_without_perturbation": len(profiles) - len(members)},
    }
    return replace(
        members,
        level=to,
        table=_group_table(members, groups, to),
        features=features.astype(np.float32),
        provenance=provenance,
    )


def _center(rows: Float[np.ndarray, "row feature"], how: str) -> Float[np.ndarray, " feature"]:
    if how == "mean":
        return np.asarray(rows.mean(axis=0))
    if how == "median":
        return np.asarray(np.median(rows, axis=0))
    sums = [np.sqrt(((rows - row) ** 2).sum(axis=1)).sum() for row in rows]
    return np.asarray(rows[int(np.argmin(sums))])


def _group_table(profiles: Profiles, groups: list[np.ndarray], to: str) -> pd.DataFrame:
    codes = {
        "Metadata_N_Wells": profiles.codes(_WELL),
        "Metadata_N_Plates": profiles.codes(PLATE),
        "Metadata_N_Experiments": profiles.codes("Metadata_Experiment"),
    }
    if to == "well":
        del codes["Metadata_N_Wells"]
    n_sites = None
    if profiles.level == "site":
        n_sites = np.ones(len(profiles), dtype=np.int64)
    elif _N_SITES in profiles.table:
        n_sites = profiles.table[_N_SITES].to_numpy(dtype=np.int64)
    columns: dict[str, list[object]] = {}
    for name in map(str, profiles.table.columns):
        if name not in codes and not name.startswith("Metadata_N_") and name != "Metadata_Site":
            values = profiles.table[name].to_numpy(dtype=object)
            columns[name] = [values[rows[0]] if (values[rows] == values[rows[0]]).all() else "" for rows in groups]
    if n_sites is not None:
        columns[_N_SITES] = [int(n_sites[rows].sum()) for rows in groups]
    for name, numbers in codes.items():
        columns[name] = [len(np.unique(numbers[rows])) for rows in groups]
    return pd.DataFrame(columns)
