"""Read templates of a run and measure the clustering of embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from distangle.core.stats import mean_interval
from distangle.errors import ExplanationError, RunError
from distangle.errors import did_you_mean as nearest_names
from distangle.explain.selection import explainable_sites
from distangle.explain.templates.unused_classes import training_wells
from distangle.inference import open_model
from distangle.model import PerturbationClassifier, build_classifier
from distangle.profiles.geometry import Vectors, compare_with_draws, cosines, neighbor_purity, silhouettes
from distangle.results import Predictions, RunFolder
from distangle.screen import Folds, Screen, natural_sort_key
from distangle.training import read_config

WELL = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
SITE = [*WELL, "Metadata_Site"]
PerSite = Float[np.ndarray, " site"]
HEADS = ("softmax", "arc")


@dataclass(frozen=True, kw_only=True)
class PerturbationChoice:
    """Perturbations whose embeddings are compared.

    Attributes:
        names: Perturbations in the given order, or the most frequent first.
        wells: Number of wells of each in the screen.
        tied: Other perturbations with as many wells as the last one; empty for given perturbations.
    """

    names: tuple[str, ...]
    wells: tuple[int, ...]
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clustering:
    """Clustering of embeddings by perturbation.

    Attributes:
        silhouette: Silhouette of each site, in [-1, 1].
        purity: Per site, the share of its nearest sites of other wells with the same perturbation.
        summary: Both means with their null from shuffled labels, ready for JSON.
    """

    silhouette: PerSite
    purity: PerSite
    summary: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainedTemplates:
    """Templates of a run and the training wells per output.

    Attributes:
        name: Name of the run.
        pseudo_labels: Pseudo-label strategy of its training, or `none`.
        perturbations: Names of the outputs.
        wells: Number of labeled training wells of each output.
        is_unused: Whether an output is an unused class: it has no readable labeled training well.
        heads: Templates by head, `softmax` and `arc`.
        initial: Templates before the first training step, from the seed of the run.
        bias: Bias of the softmax head.
    """

    name: str
    pseudo_labels: str
    perturbations: tuple[str, ...]
    wells: Int[np.ndarray, " perturbation"]
    is_unused: Bool[np.ndarray, " perturbation"]
    heads: Mapping[str, Vectors]
    initial: Mapping[str, Vectors]
    bias: Float[np.ndarray, " perturbation"]

    @property
    def with_bias(self) -> Vectors:
        """Softmax templates with their bias as one more dimension.

        The logit is the product with (embedding, 1).
        """
        return np.concatenate([self.heads["softmax"], self.bias[:, None]], axis=1)


def choose_perturbations(
    table: pd.DataFrame, *, perturbations: Sequence[str] | None = None, max_names: int = 3
) -> PerturbationChoice:
    """Choose perturbations with held-out sites.

    These are the given ones, or those with most wells, ties in natural order.

    Args:
        table: Table of the site predictions.
        perturbations: Perturbations; None for the most frequent.
        max_names: Maximum number of the most frequent.

    Raises:
        ExplanationError: No held-out site has the name, or there are fewer than two perturbations.
    """
    wells = table[table["perturbation"] != ""].drop_duplicates(WELL)["perturbation"].astype(str).value_counts()
    available = set(table.loc[explainable_sites(table), "perturbation"].astype(str)) - {""}
    if perturbations is not None:
        names = tuple(dict.fromkeys(perturbations))
        for name in names:
            if name not in available:
                problem = "no held-out site that can be read" if name in wells.index else "no site of the screen"
                raise ExplanationError(
                    f"{problem.capitalize()} has the perturbation {name!r}. {nearest_names(name, available)}"
                )
        tied: tuple[str, ...] = ()
    else:
        order = sorted(available, key=lambda name: (-int(wells[name]), natural_sort_key(name)))
        names = tuple(order[:max_names])
        tied = tuple(name for name in order[max_names:] if names and wells[name] == wells[names[-1]])
    if len(names) < 2:
        raise ExplanationError(
            f"{len(names)} perturbation(s) to compare embeddings of ({', '.join(names) or 'none'}); at least two are "
            f"needed. Held-out sites have: "
            f"{', '.join(sorted(available, key=natural_sort_key)[:20]) or 'no known perturbation'}."
        )
    return PerturbationChoice(names=names, wells=tuple(int(wells[name]) for name in names), tied=tied)


def shared_sites(
    predictions: Sequence[Predictions], names: Sequence[str], *, max_sites: int, rng: np.random.Generator
) -> list[tuple[pd.DataFrame, Vectors]]:
    """Return table and embeddings of held-out sites of some perturbations.

    Several runs have the same sites in the same order.

    Args:
        predictions: Site predictions, one per run.
        names: Perturbations.
        max_sites: Maximum number of sites; more are subsampled.
        rng: Random generator.

    Raises:
        ExplanationError: The runs share no held-out site.
    """
    row_maps = [_site_rows(prediction, names) for prediction in predictions]
    shared = [key for key in row_maps[0] if all(key in row_map for row_map in row_maps[1:])]
    if not shared:
        raise ExplanationError(
            "The runs share no held-out site of these perturbations. Compare runs with the same held-out fold."
        )
    if len(shared) > max_sites:
        shared = [shared[k] for k in np.sort(rng.choice(len(shared), max_sites, replace=False))]
    return [
        (
            prediction.table.iloc[rows].reset_index(drop=True),
            np.asarray(prediction.embedding[rows], dtype=np.float64),
        )
        for prediction, row_map in zip(predictions, row_maps, strict=True)
        for rows in [[row_map[key] for key in shared]]
    ]


def clustering(vectors: Vectors, table: pd.DataFrame, *, k: int, rng: np.random.Generator, n_draws: int) -> Clustering:
    """Measure the clustering of embeddings by perturbation in full space.

    Sites of one well show the same cells, so they never count as neighbors, and the null shuffles the labels of whole
    wells. It shuffles within experiments: if experiments contain different perturbations, batch effects would otherwise
    count as clustering.

    Args:
        vectors: Embeddings of the sites.
        table: Table of the sites.
        k: Number of neighbors.
        rng: Random generator for shuffles.
        n_draws: Number of shuffles.
    """
    pairs, labels = cosines(vectors), table["perturbation"].astype(str).tolist()
    wells = table[WELL].astype(str).agg("\x1f".join, axis=1).tolist()
    silhouette, purity = _silhouette_and_purity(pairs, labels, wells, k=k)
    well_labels = {well: label for well, label in zip(wells, labels, strict=True)}
    draws: list[tuple[float, float]] = []
    experiment_of = dict(zip(wells, table["Metadata_Experiment"].astype(str), strict=True))
    blocks = [
        [well for well in well_labels if experiment_of[well] == name] for name in dict.fromkeys(experiment_of.values())
    ]
    for _ in range(n_draws):
        permuted: dict[str, str] = {}
        for block in blocks:
            permuted |= zip(block, rng.permutation([well_labels[well] for well in block]).tolist(), strict=True)
        shuffled = _silhouette_and_purity(pairs, [permuted[well] for well in wells], wells, k=k)
        draws.append((float(np.nanmean(shuffled[0])), float(np.nanmean(shuffled[1]))))
    groups = table["Metadata_Experiment"].astype(str).to_numpy(dtype=object)
    summary: dict[str, Any] = {"sites": len(table), "wells": len(well_labels), "k": k}
    for name, values, null in (
        ("silhouette", silhouette, [draw[0] for draw in draws]),
        ("purity", purity, [draw[1] for draw in draws]),
    ):
        value = float(np.nanmean(values))
        n_reached = sum(draw >= value - 1e-12 for draw in null)
        interval = mean_interval(values, groups)
        summary[name] = {**compare_with_draws(value, null), "p": (1 + n_reached) / (1 + n_draws), "interval": interval}
    return Clustering(silhouette=silhouette, purity=purity, summary=summary)


def read_templates(run: RunFolder, screen: Screen, *, name: str) -> TrainedTemplates:
    """Read the templates of a run with the training wells per output.

    Args:
        run: A finished run.
        screen: The screen of the run.
        name: Name of the run in the result.

    Raises:
        RunError: The run is not finished, or was trained on another screen.
        FoldError: The folds are damaged or lack sites of the screen.
        WeightsError: The weights are damaged.
    """
    model, card = open_model(run)
    config, classes = read_config(run.config), card.classes
    labels = {*screen.sites[card.target].astype(str)} if card.target in screen.sites.columns else set()
    if not labels & set(classes):
        raise RunError(
            f"{run.root} learned {', '.join(classes[:3])} and others, none of which is in {screen.folder}. Compare "
            "runs "
            "on one screen, and give the screen that they were trained on."
        )
    wells = training_wells(screen, Folds.read(run.folds), classes, target=card.target)
    return TrainedTemplates(
        name=name,
        pseudo_labels=config.pseudo_labels.strategy,
        perturbations=classes,
        wells=wells,
        is_unused=(wells == 0) | (np.asarray(card.class_sites) == 0),
        heads=_heads(model),
        initial=_heads(build_classifier(model.config, seed=config.seed)),
        bias=_array(model.linear_templates.bias),
    )


def _site_rows(prediction: Predictions, names: Sequence[str]) -> dict[tuple[str, ...], int]:
    eligible = explainable_sites(prediction.table) & prediction.table["perturbation"].isin(names)
    rows = np.flatnonzero(eligible.to_numpy())
    keys = prediction.table[SITE].iloc[rows].astype(str).itertuples(index=False, name=None)
    return dict(zip(keys, rows.tolist(), strict=True))


def _silhouette_and_purity(
    pairs: np.ndarray, labels: Sequence[str], wells: Sequence[str], *, k: int
) -> tuple[PerSite, PerSite]:
    values = silhouettes(pairs, labels)
    purity = neighbor_purity(pairs, labels, k=k, apart=wells)
    # Without another well there is no neighbor to compare with.
    return (np.zeros(len(pairs)) if values is None else values), np.nan_to_num(purity, nan=0.0)


def _heads(model: PerturbationClassifier) -> dict[str, Vectors]:
    return {"softmax": _array(model.linear_templates.weight), "arc": _array(model.cosine_templates.weight)}


def _array(parameter: object) -> np.ndarray:
    return np.asarray(parameter.detach().cpu().numpy(), dtype=np.float64)  # type: ignore[attr-defined]
