"""Embeddings of a few perturbations, and whether those of one lie together.

The templates of a finished run, and which of its outputs are junk classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from distangle.core.stats import mean_interval
from distangle.errors import ExplanationError, RunError
from distangle.errors import did_you_mean as nearest_names
from distangle.explain.selection import requested_sites
from distangle.explain.templates.geometry import Vectors, compare_with_draws, cosines, neighbour_purity, silhouettes
from distangle.explain.templates.unused_classes import training_wells
from distangle.inference import open_model
from distangle.model import PerturbationClassifier, build_classifier
from distangle.results import Predictions, RunFolder
from distangle.screen import Folds, Screen, natural_sort_key
from distangle.training import read_config

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
    there = set(table.loc[requested_sites(table), "perturbation"].astype(str)) - {""}
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
        order = sorted(there, key=lambda name: (-int(wells[name]), natural_sort_key(name)))
        names = tuple(order[:most])
        tied = tuple(name for name in order[most:] if names and wells[name] == wells[names[-1]])
    if len(names) < 2:
        raise ExplanationError(
            f"{len(names)} perturbation(s) to compare embeddings of ({', '.join(names) or 'none'}); at least two are "
            f"needed. Held-out sites have: "
            f"{', '.join(sorted(there, key=natural_sort_key)[:20]) or 'no known perturbation'}."
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
    fine = requested_sites(found.table) & found.table["perturbation"].isin(names)
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
        said[name] = {**compare_with_draws(value, null), "p": (1 + reached) / (1 + n_draws), "interval": interval}
    return Clustering(silhouette=silhouette, purity=purity, said=said)


def _measured(pairs: np.ndarray, labels: Sequence[str], wells: Sequence[str], *, k: int) -> tuple[PerSite, PerSite]:
    found = silhouettes(pairs, labels)
    purity = neighbour_purity(pairs, labels, k=k, apart=wells)
    # With a single well of everything there is nobody to be near to.
    return (np.zeros(len(pairs)) if found is None else found), np.nan_to_num(purity, nan=0.0)


HEADS = ("softmax", "arc")


@dataclass(frozen=True, kw_only=True)
class TrainedTemplates:
    """What a run learnt per output.

    Attributes:
        name: Of the run.
        pseudo_labels: The strategy that it was trained with; `none` for without.
        perturbations: Names of the outputs.
        wells: Labelled training wells of each output.
        unused: Outputs that nothing was trained on: no labelled training well, or none that could be read.
        heads: Templates by head, `softmax` and `arc`.
        first: The same before the first step, from the seed of the run.
        bias: Of the softmax head.
    """

    name: str
    pseudo_labels: str
    perturbations: tuple[str, ...]
    wells: Int[np.ndarray, " perturbation"]
    unused: Bool[np.ndarray, " perturbation"]
    heads: Mapping[str, Vectors]
    first: Mapping[str, Vectors]
    bias: Float[np.ndarray, " perturbation"]

    @property
    def with_bias(self) -> Vectors:
        """Return softmax templates with their bias as one more dimension.

        The logit is their product with (embedding, 1).
        """
        return np.concatenate([self.heads["softmax"], self.bias[:, None]], axis=1)


def read_templates(run: RunFolder, screen: Screen, *, name: str) -> TrainedTemplates:
    """Read the templates of a run with the training wells per output.

    Args:
        run: Finished.
        screen: That it was trained on.
        name: To call it by.

    Raises:
        RunError: It is not finished, or was trained on another screen.
        FoldError: Its folds are damaged, or do not know the sites of the screen.
        WeightsError: Its weights are damaged.
    """
    model, about = open_model(run)
    config, classes = read_config(run.config), about.classes
    known = {*screen.sites[about.target].astype(str)} if about.target in screen.sites.columns else set()
    if not known & set(classes):
        raise RunError(
            f"{run.root} learnt {', '.join(classes[:3])} and so on, none of which {screen.folder} has. Compare runs on "
            "one screen, and name the screen that they were trained on."
        )
    wells = training_wells(screen, Folds.read(run.folds), classes, target=about.target)
    return TrainedTemplates(
        name=name,
        pseudo_labels=config.pseudo_labels.strategy,
        perturbations=classes,
        wells=wells,
        unused=(wells == 0) | (np.asarray(about.class_sites) == 0),
        heads=_heads(model),
        first=_heads(build_classifier(model.config, seed=config.seed)),
        bias=_array(model.linear_templates.bias),
    )


def _heads(model: PerturbationClassifier) -> dict[str, Vectors]:
    return {"softmax": _array(model.linear_templates.weight), "arc": _array(model.cosine_templates.weight)}


def _array(parameter: object) -> np.ndarray:
    return np.asarray(parameter.detach().cpu().numpy(), dtype=np.float64)  # type: ignore[attr-defined]
