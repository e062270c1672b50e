"""Load a run for explanation: network, sites and planted truth."""

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
from distangle.inference.image_statistics import recall_statistics
from distangle.model import ModelCard, PerturbationClassifier, control_features, reference_rows, rows_by_statistics
from distangle.model.device import inference_device
from distangle.results import Predictions, RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import truth_of


@dataclass(frozen=True, kw_only=True)
class SiteSelection:
    """Sites of a run to explain, and the perturbation to explain.

    Attributes:
        n_sites: Maximum number of sites, spread over the perturbations.
        only: Column of the predictions to allowed values, as in `select_sites`; None for any held-out site.
        rows: Positions of the sites in the screen; replaces the selection. Each must have been predicted.
        perturbation: Perturbation to explain at every site; None for the predicted one.
    """

    n_sites: int = 96
    only: Mapping[str, Sequence[str]] | None = None
    rows: Sequence[int] | None = None
    perturbation: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlantedTruth:
    """Planted effects of the sites of a table; synthetic screens only.

    Attributes:
        channels_of: Perturbation to the channels it changes, counted from 1; empty for none.
        regions: Row of the table to the circle of the effect, in pixels of the network's images.
    """

    channels_of: Mapping[str, Sequence[int]]
    regions: Mapping[int, PlantedCircle]


@dataclass(frozen=True, kw_only=True)
class ExplanationContext:
    """Network, sites and planted truth from which a run is explained.

    Attributes:
        model: The network of the run.
        card: Model card of the network.
        sites: The selected sites with their targets.
        rows: Their positions in the screen.
        removal: What replaces an absent channel.
        channels_of: Planted truth: perturbation to its channels, counted from 1; None on a real screen, or if
            the network learned another column than the perturbation.
        regions: Planted truth: row of the table to the circle of the effect, in pixels of `sites.raw`; None on a real
            screen.
    """

    model: PerturbationClassifier
    card: ModelCard
    sites: ExplainedSites
    rows: Sequence[int]
    removal: Removal
    channels_of: Mapping[str, Sequence[int]] | None
    regions: Mapping[int, PlantedCircle] | None


def load_context(
    run: RunFolder,
    screen: Screen,
    *,
    selection: SiteSelection | None = None,
    removal: Removal | None = None,
    n_controls: int = 32,
    say: Advance = no_progress,
) -> ExplanationContext:
    """Choose held-out sites of a run and prepare them for its network.

    Args:
        run: A run that has been predicted.
        screen: The screen of the run.
        selection: Sites to explain; None for the defaults.
        removal: What replaces an absent channel. None takes the same channel of a control well of the same plate where
            every plate has one, else the channel's mean.
        n_controls: Maximum number of control wells whose channel scores are the null of the site scores.
        say: Called with a message if `truth.json` belongs to another screen.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No selected site can be read, a plate lacks the wells that the removal needs, or the network
            has no such perturbation.
        WeightsError: The norm statistics of the run are damaged.
    """
    selection = selection or SiteSelection()
    perturbation = selection.perturbation
    model, card = open_model(run)
    model.to(inference_device())
    check_fits(screen, card)
    predictions = Predictions.read(run.predictions, level="site", views=1, with_logits=False)
    index = {name: k for k, name in enumerate(predictions.perturbations)}
    if perturbation is not None:
        target_of(perturbation, predictions.perturbations)
    selected = (
        select_sites(predictions.table, n_sites=selection.n_sites, only=selection.only)
        if selection.rows is None
        else list(selection.rows)
    )
    folds = predictions.table["Metadata_Fold"].iloc[selected].unique().tolist()
    store = store_of(run, screen, card)
    try:
        recall_statistics(run, store)
        readable = _decode(store, selected)
        if not readable:
            raise ExplanationError(
                f"None of the {len(selected)} selected sites can be read. Reason for the first: "
                f"{store.reasons[selected[0]]}"
            )
        removal = removal or ("mean" if matching_controls(screen, readable) is None else "control")
        control_rows = _decode(store, control_wells(predictions.table, folds=folds, n_wells=n_controls))
        if removal == "control":
            control_rows = [row for row in control_rows if matching_controls(screen, [row]) is not None]
        references = control_features(model, store, [*readable, *control_rows], features=features_of(run, screen, card))

        def prepare_sites(rows: list[int]) -> ExplainedSites:
            table = predictions.table.iloc[rows].reset_index(drop=True)
            position = {row: k for k, row in enumerate(rows)}
            parts = rows_by_statistics(load_statistics(run), screen, rows, store.fold)
            explained = [name if perturbation is None else perturbation for name in table["predicted"]]
            return ExplainedSites(
                table=table,
                images=_normalized_images(store, rows),
                raw=np.stack(store.images(rows)),
                cell_types=cell_type_rows(screen, rows, card),
                targets=torch.tensor([index[name] for name in explained]),
                channels=[channel.name for channel in screen.metadata.channels],
                perturbations=predictions.perturbations,
                references=reference_rows(references, rows),
                controls=_readable_images(store, matching_controls(screen, rows)),
                other_wells=_readable_images(store, matching_wells(screen, rows)) if removal == "other_well" else None,
                norms=[
                    BatchStatistics([position[row] for row in members], statistics) for members, statistics in parts
                ],
            )

        sites = prepare_sites(readable)
        _check_baselines(sites, removal)
        if control_rows:
            sites = replace(sites, control_sites=prepare_sites(control_rows))
    finally:
        store.close()
    truth = planted_truth(screen, sites.table, binning=store.preprocessing.binning, say=say)
    return ExplanationContext(
        model=model,
        card=card,
        sites=sites,
        rows=readable,
        removal=removal,
        channels_of=truth.channels_of if truth and card.target == "perturbation" else None,
        regions=truth.regions if truth else None,
    )


def planted_truth(
    screen: Screen, table: pd.DataFrame, *, binning: int, say: Advance = no_progress
) -> PlantedTruth | None:
    """Return what was planted in the sites of a table; None for a real screen.

    A `truth.json` of another screen is ignored.

    Args:
        screen: Screen whose source folder may contain `truth.json`.
        table: Table of the site predictions.
        binning: Binning of the network's images; the circles are in their pixels.
        say: Called with a message if `truth.json` belongs to another screen.
    """
    truth = truth_of(screen, say=say)
    if truth is None:
        return None
    channels: dict[str, Sequence[int]] = {name: effect.channels for name, effect in truth.perturbations.items()}
    circles: dict[int, PlantedCircle] = {}
    keys = table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]]
    for row, (experiment, plate, well, site) in enumerate(keys.itertuples(index=False, name=None)):
        region = truth.place(experiment, plate, well, int(site))
        if region is not None:
            circles[row] = PlantedCircle(region.row / binning, region.column / binning, region.radius / binning)
    return PlantedTruth(channels_of=channels, regions=circles)


def _decode(store: ImageCache, rows: list[int]) -> list[int]:
    """Decode images into the cache; return the readable rows.

    The statistics of other images of their group are measured only if the run has not stored them.
    """
    return [row for row, _ in store.readable_images(rows)]


def _normalized_images(store: ImageCache, rows: list[int]) -> torch.Tensor:
    _, statistics = fit_normalization(store, rows)
    batches = [
        images[: len(members)].copy() for members, images in normalized_batches(store, rows, statistics, batch_size=8)
    ]
    return torch.from_numpy(np.concatenate(batches))


def _readable_images(store: ImageCache, rows: list[int] | None) -> torch.Tensor | None:
    """Return the normalized images of some sites; None if one cannot be read."""
    if rows is None or len(_decode(store, rows)) < len(rows):
        return None
    return _normalized_images(store, rows)


def _check_baselines(sites: ExplainedSites, removal: Removal) -> None:
    if removal == "control" and sites.controls is None:
        raise ExplanationError("Not every explained plate has a readable negative control. Use removal `mean`.")
    if removal == "other_well" and sites.other_wells is None:
        raise ExplanationError("Not every explained plate has another readable well. Use removal `mean`.")
