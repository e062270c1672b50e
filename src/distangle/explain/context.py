"""A run opened for explaining: its network, sites and planted truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from distangle.core.progress import Advance, no_progress
from distangle.errors import ExplanationError
from distangle.explain.channels.replacement import Removal
from distangle.explain.ground_truth import PlantedCircle
from distangle.explain.selection import control_wells, matching_controls, matching_wells, select_sites
from distangle.explain.sites import BatchStatistics, ExplainedSites, target_of
from distangle.images import ImageCache, fit_normalization, normalized_batches
from distangle.inference import cell_type_rows, check_fits, features_of, load_statistics, open_model, store_of
from distangle.model import ModelCard, PerturbationClassifier, control_features, reference_rows, rows_by_statistics
from distangle.model.device import inference_device
from distangle.results import Predictions, RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import truth_of


@dataclass(frozen=True, kw_only=True)
class SiteSelection:
    """Which sites of a run are explained, and for which perturbation.

    Attributes:
        n_sites: How many at most, spread over the perturbations.
        only: Values wanted by column of the predictions, as `choose_rows` takes it; None for any held-out site.
        rows: Positions of sites in the screen, instead of choosing them; each must have been predicted.
        perturbation: What is explained at every site; None for what was predicted there.
    """

    n_sites: int = 96
    only: Mapping[str, Sequence[str]] | None = None
    rows: Sequence[int] | None = None
    perturbation: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlantedTruth:
    """What was planted in the sites of a table of a synthetic screen.

    Attributes:
        channels_of: Perturbation to its channels, counted from 1; empty for none.
        places: Row of the table to a circle, in pixels of the network's images.
    """

    channels_of: Mapping[str, Sequence[int]]
    places: Mapping[int, PlantedCircle]


@dataclass(frozen=True, kw_only=True)
class ExplanationContext:
    """What an explanation of a run starts from.

    Attributes:
        model: The network of the run.
        about: What was saved beside its weights.
        sites: The chosen sites, with the predicted perturbation as what is to be explained.
        rows: Their positions in the screen.
        removal: What can stand in for an absent stain here.
        channels_of: Planted truth: perturbation to its channels, counted from 1; None on a real screen, or where
            something else than the perturbation was learnt.
        places: Planted truth: row of the table to a circle in pixels of `sites.raw`; None on a real screen.
    """

    model: PerturbationClassifier
    about: ModelCard
    sites: ExplainedSites
    rows: Sequence[int]
    removal: Removal
    channels_of: Mapping[str, Sequence[int]] | None
    places: Mapping[int, PlantedCircle] | None


def load_context(
    run: RunFolder,
    screen: Screen,
    *,
    selection: SiteSelection | None = None,
    removal: Removal | None = None,
    n_untreated: int = 32,
    say: Advance = no_progress,
) -> ExplanationContext:
    """Choose held-out sites of a run and prepare them for its network.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        selection: Which sites; None for the defaults.
        removal: What replaces an absent channel. None takes the same channel of a control well of the same plate where
            every plate has one, else the channel's mean.
        n_untreated: Control wells, at most, whose channels are scored too: the null of the chosen sites' scores.
        say: Told of a `truth.json` that is not of this screen.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No chosen site can be read, the wells that are to stand in are not there, or the
            perturbation is not.
        WeightsError: The norm statistics of the run are damaged.
    """
    selection = selection or SiteSelection()
    perturbation = selection.perturbation
    model, about = open_model(run)
    model.to(inference_device())
    check_fits(screen, about)
    predictions = Predictions.read(run.predictions, level="site", views=1)
    index = {name: k for k, name in enumerate(predictions.perturbations)}
    if perturbation is not None:
        target_of(perturbation, predictions.perturbations)
    chosen = (
        select_sites(predictions.table, n_sites=selection.n_sites, only=selection.only)
        if selection.rows is None
        else list(selection.rows)
    )
    folds = predictions.table["Metadata_Fold"].iloc[chosen].unique().tolist()
    store = store_of(run, screen, about)
    try:
        readable, _ = fit_normalization(store, chosen)
        if not readable:
            raise ExplanationError(
                f"None of the {len(chosen)} chosen sites can be read; the first: {store.reasons[chosen[0]]}"
            )
        removal = removal or ("mean" if matching_controls(screen, readable) is None else "control")
        untreated, _ = fit_normalization(store, control_wells(predictions.table, folds=folds, n_wells=n_untreated))
        if removal == "control":
            untreated = [row for row in untreated if matching_controls(screen, [row]) is not None]
        references = control_features(model, store, [*readable, *untreated], features=features_of(run, screen, about))

        def sites_of(rows: list[int]) -> ExplainedSites:
            table = predictions.table.iloc[rows].reset_index(drop=True)
            place = {row: k for k, row in enumerate(rows)}
            parts = rows_by_statistics(load_statistics(run), screen, rows, store.fold)
            names = [name if perturbation is None else perturbation for name in table["predicted"]]
            return ExplainedSites(
                table=table,
                images=_ready(store, rows),
                raw=np.stack(store.images(rows)),
                cell_types=cell_type_rows(screen, rows, about),
                targets=torch.tensor([index[name] for name in names]),
                channels=[channel.name for channel in screen.card.channels],
                perturbations=predictions.perturbations,
                references=reference_rows(references, rows),
                controls=_readable(store, matching_controls(screen, rows)),
                others=_readable(store, matching_wells(screen, rows)) if removal == "other_well" else None,
                norms=[BatchStatistics([place[row] for row in members], statistics) for members, statistics in parts],
            )

        sites = sites_of(readable)
        _check_stand_ins(sites, removal)
        if untreated:
            sites = replace(sites, untreated=sites_of(untreated))
    finally:
        store.close()
    truth = planted_truth(screen, sites.table, binning=store.preparation.binning, say=say)
    return ExplanationContext(
        model=model,
        about=about,
        sites=sites,
        rows=readable,
        removal=removal,
        channels_of=truth.channels_of if truth and about.target == "perturbation" else None,
        places=truth.places if truth else None,
    )


def planted_truth(
    screen: Screen, table: pd.DataFrame, *, binning: int, say: Advance = no_progress
) -> PlantedTruth | None:
    """Return what was planted in the sites of a table; None for a real screen.

    A `truth.json` beside the images that is not of this screen is left aside.

    Args:
        screen: Its source folder is looked into.
        table: Of the predictions of sites.
        binning: Of the network's images; places are given in its pixels.
        say: Told of a `truth.json` that is not of this screen.
    """
    truth = truth_of(screen, say=say)
    if truth is None:
        return None
    channels: dict[str, Sequence[int]] = {name: known.channels for name, known in truth.perturbations.items()}
    circles: dict[int, PlantedCircle] = {}
    keys = table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]]
    for row, (experiment, plate, well, site) in enumerate(keys.itertuples(index=False, name=None)):
        place = truth.place(experiment, plate, well, int(site))
        if place is not None:
            circles[row] = PlantedCircle(place.row / binning, place.column / binning, place.radius / binning)
    return PlantedTruth(channels_of=channels, places=circles)


def _ready(store: ImageCache, rows: list[int]) -> torch.Tensor:
    _, statistics = fit_normalization(store, rows)
    pieces = [
        ready[: len(chosen)].copy() for chosen, ready in normalized_batches(store, rows, statistics, batch_size=8)
    ]
    return torch.from_numpy(np.concatenate(pieces))


def _readable(store: ImageCache, rows: list[int] | None) -> torch.Tensor | None:
    """Return the images of some sites; None where one cannot be read."""
    if rows is None or len(fit_normalization(store, rows)[0]) < len(rows):
        return None
    return _ready(store, rows)


def _check_stand_ins(sites: ExplainedSites, removal: Removal) -> None:
    if removal == "control" and sites.controls is None:
        raise ExplanationError("Not every explained plate has a readable negative control. Use removal `mean`.")
    if removal == "other_well" and sites.others is None:
        raise ExplanationError("Not every explained plate has another readable well. Use removal `mean`.")
