"""Collect what the page shows of perturbations."""

import re
from typing import Any

import numpy as np
import pandas as pd

from distangle.web.answers import AnswerError, cell, columnar, number
from distangle.web.index import ViewIndex
from distangle.web.wells import nearest_control

DOSE = re.compile(r"(dose|concentration|conc)(_|$)", re.IGNORECASE)


def list_perturbations(index: ViewIndex) -> dict[str, Any]:
    """Return the hit list, or counts of wells; row i is perturbation i."""
    table = counts(index)
    if index.source.profiles is not None:
        hits = index.source.profiles.hits
        hits = hits[~hits["perturbation"].duplicated()].set_index("perturbation").reindex(index.perturbations)
        names = [name for name in hits if name not in table]
        table = pd.concat([table, hits[names].reset_index(drop=True)], axis=1)
    return columnar(table)


def counts(index: ViewIndex) -> pd.DataFrame:
    """Return name, role and number of wells, ... of every perturbation."""
    numbers, plates = index.perturbation_of_well, index.plate_of_well
    experiments = pd.factorize(index.wells["experiment"])[0]
    n = len(index.perturbations)
    known = numbers >= 0
    role = np.full(n, "", dtype=object)
    role[numbers[known][::-1]] = index.wells["role"].to_numpy(dtype=object)[known][::-1]
    return pd.DataFrame(
        {
            "perturbation": index.perturbations,
            "role": role,
            "n_wells": np.bincount(numbers[known], minlength=n),
            "n_plates": _distinct(numbers[known], plates[known], n),
            "n_experiments": _distinct(numbers[known], experiments[known], n),
        }
    )


def describe_perturbation(index: ViewIndex, perturbation: int) -> dict[str, Any]:
    """Return all that is known of a perturbation.

    Args:
        index: The source.
        perturbation: Number of the perturbation.
    """
    name = index.perturbations[perturbation]
    wells = np.flatnonzero(index.perturbation_of_well == perturbation)
    row = counts(index).iloc[perturbation].to_dict()
    profiles = index.source.profiles
    if profiles is not None:
        hits = profiles.hits[profiles.hits["perturbation"] == name]
        row |= {} if hits.empty else hits.iloc[0].to_dict()
    return {
        "id": perturbation,
        "perturbation": name,
        "row": [[str(label), cell(value)] for label, value in row.items()],
        "wells": wells.tolist(),
        "control": nearest_control(index, int(wells[0])) if len(wells) else None,
        "nearest": _neighbors(index, name, "nearest"),
        "opposite": _neighbors(index, name, "opposite"),
        "doses": (doses := _doses(index, wells)),
        "control_effect": None if doses is None else _control_effect(index),
        "attribution": _attribution(index, name),
        "maps": _maps(index, name),
    }


def mean_map(index: ViewIndex, row: int) -> np.ndarray:
    """Return the mean attribution map of a row that `describe_perturbation` names.

    Args:
        index: The source.
        row: The row.

    Returns:
        float32 [height, width].

    Raises:
        AnswerError: There is no such row.
        RunError: The file of the maps is absent or damaged.
    """
    explanation = index.source.explanation
    if explanation is None or explanation.perturbations is None or row >= len(explanation.perturbations):
        raise AnswerError(404, "There is no such mean map.", "`distangle explain RUN` makes them.")
    return explanation.read_map(row, level="perturbations")


def _distinct(numbers: np.ndarray, groups: np.ndarray, n: int) -> np.ndarray:
    """Return how many groups each number occurs in, int64 [n]."""
    pairs = np.unique(np.stack([numbers, groups], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=n)


def _neighbors(index: ViewIndex, name: str, kind: str) -> list[dict[str, Any]]:
    if index.source.profiles is None:
        return []
    table = index.source.profiles.neighbors
    part = table[(table["name"] == name) & (table["kind"] == kind)].sort_values("rank")
    return [
        {"id": index.perturbation_ids.get(str(other), -1), "perturbation": str(other), "similarity": number(cosine)}
        for other, cosine in zip(part["other"], part["cosine"], strict=True)
    ]


def _doses(index: ViewIndex, wells: np.ndarray) -> list[list[Any]] | None:
    """Return dose, mean length of the aligned profiles, and number of wells, by dose."""
    profiles = index.source.profiles
    columns = [name for name in index.columns if DOSE.search(str(name)) and len(index.columns[name])]
    if profiles is None or not columns or not pd.api.types.is_numeric_dtype(index.columns[columns[0]]):
        return None
    doses = index.columns[columns[0]].to_numpy(dtype=np.float64)[wells]
    rows = index.profile_row[wells]
    known = np.isfinite(doses) & (rows >= 0)
    if len(np.unique(doses[known])) < 2:
        return None
    lengths = np.linalg.norm(profiles.features("wells")[rows[known]].astype(np.float32), axis=1)
    by_dose = pd.Series(lengths).groupby(doses[known])
    means, sizes = by_dose.mean(), by_dose.size()
    return [[number(dose), number(means[dose]), int(sizes[dose])] for dose in means.index]


def _control_effect(index: ViewIndex) -> float | int | None:
    """Return the mean length of the aligned profiles of all negative controls."""
    roles = index.wells["role"].to_numpy(dtype=object)
    rows = index.profile_row[np.isin(roles, ("untreated", "negative_control"))]
    if index.source.profiles is None or not (rows >= 0).any():
        return None
    features = index.source.profiles.features("wells")[rows[rows >= 0]].astype(np.float32)
    return number(np.linalg.norm(features, axis=1).mean())


def _maps(index: ViewIndex, name: str) -> list[dict[str, Any]]:
    """Return the rows of the mean maps of a perturbation, each with those of controls of its cell type."""
    explanation = index.source.explanation
    table = None if explanation is None else explanation.perturbations
    if table is None or "explained" not in table:
        return []
    explained = table["explained"].astype(str)
    cell_types = (
        table["Metadata_Cell_Type"].astype(str) if "Metadata_Cell_Type" in table else explained.map(lambda _: "")
    )
    roles = counts(index).set_index("perturbation")["role"].to_dict()

    def describe(row: int) -> dict[str, Any]:
        entry = table.iloc[row]
        numbers = {key: cell(entry[key]) if key in entry else None for key in ("sites", "wells", "experiments")}
        return {"row": row, "perturbation": explained.iat[row], **numbers}

    maps = []
    for row in np.flatnonzero((explained == name).to_numpy()).tolist():
        same = np.flatnonzero((cell_types == cell_types.iat[row]).to_numpy() & (explained != name).to_numpy()).tolist()
        controls = [other for other in same if roles.get(explained.iat[other], "") in ("untreated", "negative_control")]
        maps.append(
            {
                **describe(row),
                "cell_type": cell_types.iat[row],
                "role": roles.get(name, ""),
                "controls": [describe(other) for other in controls],
            }
        )
    return maps


def _attribution(index: ViewIndex, name: str) -> list[dict[str, Any]] | None:
    explanation = index.source.explanation
    if explanation is None or explanation.perturbations is None or "explained" not in explanation.perturbations:
        return None
    part = explanation.perturbations[explanation.perturbations["explained"].astype(str) == name]
    if part.empty:
        return None
    entry = part.iloc[part["sites"].to_numpy().argmax()] if "sites" in part else part.iloc[0]
    return explanation.attribution({str(key): value for key, value in entry.items()})
