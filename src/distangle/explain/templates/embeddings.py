"""Embeddings of a few perturbations, and whether those of one lie together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from distangle.errors import ExplanationError
from distangle.errors import nearest as nearest_names
from distangle.explain.seen import asked_sites
from distangle.explain.templates.geometry import Vectors, cosines, neighbour_purity, silhouettes
from distangle.explain.templates.spread import beside_draws
from distangle.intervals import mean_interval
from distangle.results import Predictions
from distangle.screen import natural_key

WELL = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
SITE = [*WELL, "Metadata_Site"]
PerSite = Float[np.ndarray, " site"]


@dataclass(frozen=True, kw_only=True)
class ChosenPerturbations:
    """Whose embeddings are looked at.

    Attributes:
        names: In the order asked for, or the most frequent first.
        wells: Wells of each in the whole screen.
        tied: Others with as many wells as the last chosen one; empty when they were named.
    """

    names: tuple[str, ...]
    wells: tuple[int, ...]
    tied: tuple[str, ...] = ()


def choose_perturbations(
    table: pd.DataFrame, *, named: Sequence[str] | None = None, most: int = 3
) -> ChosenPerturbations:
    """Choose perturbations with held-out sites.

    Those named, else the ones with most wells, ties in natural order.

    Args:
        table: Of the predictions of sites.
        named: Perturbations; None for the most frequent.
        most: How many of these.

    Raises:
        ExplanationError: A name that no held-out site has, or fewer than two perturbations.
    """
    wells = table[table["perturbation"] != ""].drop_duplicates(WELL)["perturbation"].astype(str).value_counts()
    there = set(table.loc[asked_sites(table), "perturbation"].astype(str)) - {""}
    if named is not None:
        names = tuple(dict.fromkeys(named))
        for name in names:
            if name not in there:
                where = "no held-out site that can be read" if name in wells.index else "no site of the screen"
                raise ExplanationError(
                    f"{where.capitalize()} has the perturbation {name!r}. {nearest_names(name, there)}"
                )
        tied: tuple[str, ...] = ()
    else:
        order = sorted(there, key=lambda name: (-int(wells[name]), natural_key(name)))
        names = tuple(order[:most])
        tied = tuple(name for name in order[most:] if names and wells[name] == wells[names[-1]])
    if len(names) < 2:
        raise ExplanationError(
            f"{len(names)} perturbation(s) to compare embeddings of ({', '.join(names) or 'none'}); at least two are "
            f"needed. Held-out sites have: {', '.join(sorted(there, key=natural_key)[:20]) or 'no known perturbation'}."
        )
    return ChosenPerturbations(names=names, wells=tuple(int(wells[name]) for name in names), tied=tied)


def chosen_sites(
    predictions: Sequence[Predictions], names: Sequence[str], *, most: int, rng: np.random.Generator
) -> list[tuple[pd.DataFrame, Vectors]]:
    """Return table and embeddings of held-out sites of perturbations.

    For several runs these are the same sites in one order.

    Args:
        predictions: Of sites, one per run.
        names: Perturbations.
        most: Sites at most; of more, as many are drawn.
        rng: Of that draw.

    Raises:
        ExplanationError: The runs hold out no site in common.
    """
    places = [_places(found, names) for found in predictions]
    shared = [key for key in places[0] if all(key in place for place in places[1:])]
    if not shared:
        raise ExplanationError(
            "The runs hold out none of these sites in common. Compare runs with the same held-out fold."
        )
    if len(shared) > most:
        shared = [shared[k] for k in np.sort(rng.choice(len(shared), most, replace=False))]
    return [
        (
            found.table.iloc[rows].reset_index(drop=True),
            np.asarray(found.embedding[rows], dtype=np.float64),
        )
        for found, place in zip(predictions, places, strict=True)
        for rows in [[place[key] for key in shared]]
    ]


def _places(found: Predictions, names: Sequence[str]) -> dict[tuple[str, ...], int]:
    fine = asked_sites(found.table) & found.table["perturbation"].isin(names)
    rows = np.flatnonzero(fine.to_numpy())
    keys = found.table[SITE].iloc[rows].astype(str).itertuples(index=False, name=None)
    return dict(zip(keys, rows.tolist(), strict=True))


@dataclass(frozen=True)
class Clustering:
    """How well the embeddings of a perturbation lie together.

    Attributes:
        silhouette: Of each site, in [-1, 1].
        purity: Of each site, share of its nearest sites of other wells that have its perturbation.
        said: Both means beside shuffled labels, ready for JSON.
    """

    silhouette: PerSite
    purity: PerSite
    said: dict[str, Any]


def clustering(vectors: Vectors, table: pd.DataFrame, *, k: int, rng: np.random.Generator, n_draws: int) -> Clustering:
    """Measure in full space whether sites of a perturbation lie together.

    Sites of one well are never counted as each other's neighbours, and a shuffle of the labels moves whole wells:
    they are pictures of the same cells. It moves them within their experiment: where experiments hold different
    perturbations, sites would else be called alike for having been made together.

    Args:
        vectors: Embeddings.
        table: Of the same sites.
        k: How many neighbours.
        rng: Of shuffles.
        n_draws: How many.
    """
    pairs, labels = cosines(vectors), table["perturbation"].astype(str).tolist()
    wells = table[WELL].astype(str).agg("\x1f".join, axis=1).tolist()
    silhouette, purity = _measured(pairs, labels, wells, k=k)
    first = {well: label for well, label in zip(wells, labels, strict=True)}
    draws: list[tuple[float, float]] = []
    where = dict(zip(wells, table["Metadata_Experiment"].astype(str), strict=True))
    blocks = [[well for well in first if where[well] == name] for name in dict.fromkeys(where.values())]
    for _ in range(n_draws):
        given: dict[str, str] = {}
        for block in blocks:
            given |= zip(block, rng.permutation([first[well] for well in block]).tolist(), strict=True)
        shuffled = _measured(pairs, [given[well] for well in wells], wells, k=k)
        draws.append((float(np.nanmean(shuffled[0])), float(np.nanmean(shuffled[1]))))
    groups = table["Metadata_Experiment"].astype(str).to_numpy(dtype=object)
    said: dict[str, Any] = {"sites": len(table), "wells": len(first), "k": k}
    for name, values, null in (
        ("silhouette", silhouette, [draw[0] for draw in draws]),
        ("purity", purity, [draw[1] for draw in draws]),
    ):
        value = float(np.nanmean(values))
        reached = sum(draw >= value - 1e-12 for draw in null)
        interval = mean_interval(values, groups)
        said[name] = {**beside_draws(value, null), "p": (1 + reached) / (1 + n_draws), "interval": interval}
    return Clustering(silhouette=silhouette, purity=purity, said=said)


def _measured(pairs: np.ndarray, labels: Sequence[str], wells: Sequence[str], *, k: int) -> tuple[PerSite, PerSite]:
    found = silhouettes(pairs, labels)
    purity = neighbour_purity(pairs, labels, k=k, apart=wells)
    # With a single well of everything there is nobody to be near to.
    return (np.zeros(len(pairs)) if found is None else found), np.nan_to_num(purity, nan=0.0)
