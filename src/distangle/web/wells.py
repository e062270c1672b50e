"""Collect what the page shows of one well."""

from typing import Any

import numpy as np

from distangle.web.answers import cell, number
from distangle.web.index import ViewIndex, label_of
from distangle.web.vectors import most_similar

N_NEAREST = 12
MOST_RELATED = 200  # wells of the same perturbation


def describe_well(index: ViewIndex, well: int) -> dict[str, Any]:
    """Return all that is known of a well.

    Args:
        index: The source.
        well: Number of the well.
    """
    row = index.wells.iloc[well]
    plate = int(index.plate_of_well[well])
    perturbation = str(row["perturbation"])
    own = {"experiment", "plate", "well", "row", "column", "site", "perturbation", "role"}
    values = {name: value for name, value in row.items() if name not in own}
    values |= {name: value for name, value in index.columns.iloc[well].items() if name not in row.index}
    return {
        "id": well,
        "plate": plate,
        "name": str(row["well"]),
        "experiment": str(row["experiment"]),
        "plate_name": str(row["plate"]),
        "role": str(row["role"]),
        "perturbation": perturbation,
        "perturbation_id": int(index.perturbation_of_well[well]),
        "metadata": [[label_of(str(name)), cell(value)] for name, value in values.items()],
        "sites": [_site(index, site) for site in index.sites_of(well)],
        "predictions": well_predictions(index, well),
        "control": nearest_control(index, well),
        "nearest": nearest_wells(index, well),
        "same_perturbation": _same_perturbation(index, well),
        "attribution": well_attribution(index, well),
    }


def nearest_control(index: ViewIndex, well: int) -> int | None:
    """Return the nearest untreated or negative-control well of the plate.

    A positive control counts only where a plate has no other. The well itself does not count.

    Args:
        index: The source.
        well: Number of the well.
    """
    wells = index.wells_of(int(index.plate_of_well[well]))
    wells = wells[wells != well]
    roles = index.wells["role"].to_numpy(dtype=object)[wells]
    for kinds in (("untreated", "negative_control"), ("positive_control",)):
        candidates = wells[np.isin(roles, kinds)]
        if len(candidates):
            places = index.wells[["row", "column"]].to_numpy(dtype=np.float64)
            distances = np.hypot(*(places[candidates] - places[well]).T)
            return int(candidates[distances.argmin()])
    return None


def nearest_wells(index: ViewIndex, well: int) -> list[dict[str, Any]]:
    """Return the wells with the most similar profiles, or embeddings; the best first."""
    source, row = index.source, int(index.profile_row[well])
    if source.profiles is not None and row >= 0:
        features = source.profiles.features("wells")
        cosines = _cosines(features, row)
        ids = index.profile_wells
    elif source.predictions is not None and (row := int(index.prediction_row[well])) >= 0:
        vectors = source.predictions.well_embeddings
        cosines = most_similar(vectors, row, mean=vectors.mean)
        ids = index.predicted_wells
    else:
        return []
    cosines[row] = np.nan
    order = np.argsort(-np.nan_to_num(cosines, nan=-np.inf), kind="stable")[:N_NEAREST]
    return [
        {"well": int(ids[k]), "similarity": number(cosines[k])}
        for k in order
        if np.isfinite(cosines[k]) and ids[k] >= 0
    ]


def _cosines(features: np.ndarray, row: int) -> np.ndarray:
    """Return the cosine of every row with one of them, float64 [row]."""
    vector = features[row].astype(np.float32)
    cosines = np.empty(len(features))
    for start in range(0, len(features), 4096):
        part = features[start : start + 4096].astype(np.float32)
        lengths = np.linalg.norm(part, axis=1) * np.linalg.norm(vector)
        cosines[start : start + len(part)] = np.divide(
            part @ vector, lengths, out=np.full(len(part), np.nan, np.float32), where=lengths > 0
        )
    return cosines


def _site(index: ViewIndex, site: int) -> dict[str, Any]:
    source = index.source
    problem = None if source.has_images else _no_images(index)
    reason = index.unreadable_sites.get(site, "")
    return {
        "id": site,
        "number": cell(source.sites["site"].iat[site]),
        "available": source.has_images,
        "problem": problem or (source.without_folders(reason) or None),
        "explained": site in index.explained_sites,
    }


def _no_images(index: ViewIndex) -> str:
    if index.source.kind == "profiles":
        return "Profiles have no images."
    if index.source.screen is None:
        return "The screen of this run was not found: start the viewer with `--screen FOLDER`."
    return "The images of this screen are not available."


def well_predictions(index: ViewIndex, well: int) -> list[dict[str, Any]]:
    """Return the most probable perturbations of a well; the best first."""
    predictions, row = index.source.predictions, int(index.prediction_row[well])
    if predictions is None or row < 0:
        return []
    return [{"perturbation": name, "probability": number(share)} for name, share in predictions.best(row)]


def _same_perturbation(index: ViewIndex, well: int) -> list[int]:
    own = index.perturbation_of_well[well]
    if own < 0:
        return []
    wells = np.flatnonzero(index.perturbation_of_well == own)
    return [int(other) for other in wells if other != well][:MOST_RELATED]


def well_attribution(index: ViewIndex, well: int) -> list[dict[str, Any]] | None:
    """Return the Shapley values of a well's channels; None without explanation."""
    explanation = index.source.explanation
    if explanation is None:
        return None
    row = index.explained_wells.get(well)
    if row is None:
        return None
    table = explanation.sites if explanation.wells is None else explanation.wells
    rows = [index.explained_sites[site] for site in index.sites_of(well) if site in index.explained_sites]
    null = explanation.sites.iloc[rows].filter(regex=r"^shapley_null_(low|high)_\d+$").mean()
    entry = {**null, **table.iloc[row]}
    return explanation.attribution({str(name): value for name, value in entry.items()})
