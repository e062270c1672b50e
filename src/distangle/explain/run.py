"""Explain a whole run: choose held-out sites, explain what was predicted, compare with a planted truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from distangle.commit import sweep
from distangle.errors import ExplanationError
from distangle.explain.chosen import ChosenSites
from distangle.explain.explain import ExplainSettings, explain_sites
from distangle.explain.stains.channel_shapley import Removal
from distangle.images import ImageStore, measure_sites, ready_batches
from distangle.inference import cell_type_rows, check_fits, kept_norms, open_model, preparation_of
from distangle.model import norm_parts, reference_rows, references_of
from distangle.progress import Advance, no_progress
from distangle.randomness import generator
from distangle.results import Explanation, Predictions, RunFolder
from distangle.screen import Role, Screen
from distangle.synthetic import read_truth

Circle = tuple[float, float, float]  # row, column, radius in pixels


def explain_run(
    run: RunFolder,
    screen: Screen,
    *,
    n_sites: int = 96,
    settings: ExplainSettings | None = None,
    removal: Removal | None = None,
    advance: Advance = no_progress,
) -> Explanation:
    """Explain the predicted perturbation of held-out sites, and write `explanations/`.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        n_sites: How many sites at most, dealt out over the perturbations.
        settings: None for the defaults.
        removal: What stands in for an absent stain, instead of the settings'. None takes the same stain of an
            untreated well of the same plate where every plate has one, else the channel's mean.
        advance: Called after each piece.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No held-out site can be read, or the settings name what is not there.
        WeightsError: The norm statistics of the run are damaged.
    """
    model, about = open_model(run)
    check_fits(screen, about)
    predictions = Predictions.read(run.predictions, level="site", views=1)
    rows = choose_rows(predictions.table, n_sites=n_sites)
    store = ImageStore(screen, preparation_of(about))
    try:
        readable, statistics = measure_sites(store, rows)
        if not readable:
            message = f"None of the {len(rows)} chosen sites can be read; the first: {store.reasons[rows[0]]}"
            raise ExplanationError(message)
        raw = np.stack(store.images(readable))
        references = reference_rows(references_of(model, store, readable), readable)
        images = _ready(store, readable, statistics)
        beside = untreated_beside(screen, readable)
        removal = removal or ("mean" if beside is None else "control")
        controls = None
        if removal == "control" and beside is not None:
            fine, statistics = measure_sites(store, beside)
            controls = _ready(store, beside, statistics) if len(fine) == len(beside) else None
    finally:
        store.close()
    if removal == "control" and controls is None:
        message = "Not every explained plate has a readable negative control. Use removal `mean`."
        raise ExplanationError(message)
    table = predictions.table.iloc[readable].reset_index(drop=True)
    index = {name: k for k, name in enumerate(predictions.perturbations)}
    place = {row: k for k, row in enumerate(readable)}
    parts = norm_parts(kept_norms(run), screen, readable)
    truth = planted_truth(screen, table, binning=store.preparation.binning)
    sites = ChosenSites(
        table=table,
        images=images,
        raw=raw,
        cell_types=cell_type_rows(screen, readable, about),
        targets=torch.tensor([index[name] for name in table["predicted"]]),
        channels=[channel.name for channel in screen.card.channels],
        perturbations=predictions.perturbations,
        references=references,
        controls=controls,
        norms=[([place[row] for row in members], lent) for members, lent in parts],
    )
    explanation = explain_sites(
        model,
        sites,
        rng=generator(0, "explain"),
        settings=(settings or ExplainSettings()).model_copy(update={"removal": removal}),
        channels_of=truth[0] if truth and about["target"] == "perturbation" else None,
        places=truth[1] if truth else None,
        advance=advance,
    )
    sweep(run.explanations)
    run.record(*explanation.write(run.explanations))
    return explanation


def untreated_beside(screen: Screen, rows: Sequence[int]) -> list[int] | None:
    """Return, for each site, a site of another untreated well of its plate; None when a plate has none.

    Args:
        screen: The screen.
        rows: Positions of sites; those of one plate take its untreated sites in turn.
    """
    sites = screen.sites
    untreated = sites["role"].isin([Role.NEGATIVE_CONTROL, Role.UNTREATED])
    plates = sites["experiment"].astype(str) + "\x1f" + sites["plate"].astype(str)
    chosen = []
    for turn, row in enumerate(rows):
        others = untreated & (plates == plates.iloc[row]) & (sites["well"] != sites["well"].iloc[row])
        members = np.flatnonzero(others.to_numpy())
        if len(members) == 0:
            return None
        chosen.append(int(members[turn % len(members)]))
    return chosen


def _ready(store: ImageStore, rows: list[int], statistics: np.ndarray) -> torch.Tensor:
    pieces = [ready[: len(chosen)].copy() for chosen, ready in ready_batches(store, rows, statistics, batch_size=8)]
    return torch.from_numpy(np.concatenate(pieces))


def choose_rows(table: pd.DataFrame, *, n_sites: int) -> list[int]:
    """Return positions of held-out, readable sites: one of each perturbation in turn, treatments before controls.

    Args:
        table: Of the predictions of sites.
        n_sites: How many at most.

    Raises:
        ExplanationError: There is none.
    """
    fine = (table["Metadata_Fold"] == "held_out") & (table["reason"] == "")
    if not fine.any():
        message = (
            "No held-out site can be explained: none is readable. Look into `reason` of predictions/sites.parquet."
        )
        raise ExplanationError(message)
    chosen = table[fine]
    control = chosen["Metadata_Role"].isin([Role.NEGATIVE_CONTROL, Role.UNTREATED])
    # Sites of one well stand apart in the order, so that few sites already show several wells.
    order = chosen.assign(_control=control.to_numpy(), _row=np.flatnonzero(fine.to_numpy()))
    order = order.sort_values(["Metadata_Site", "_row"], kind="stable")
    order["_turn"] = order.groupby("perturbation").cumcount()
    order = order.sort_values(["_turn", "_control", "perturbation"], kind="stable")
    return sorted(order["_row"].head(n_sites).tolist())


def planted_truth(
    screen: Screen, table: pd.DataFrame, *, binning: int
) -> tuple[dict[str, Sequence[int]], dict[int, Circle]] | None:
    """Return what was planted in the sites of a table, or None where no `truth.json` lies beside the images.

    Args:
        screen: Its source folder is looked into.
        table: Of the predictions of sites.
        binning: Of the network's images; places are given in its pixels.

    Returns:
        Channels by perturbation (empty for none), and circles by row.
    """
    path = screen.source / "truth.json"
    if not Path(path).exists():
        return None
    truth = read_truth(path)
    channels: dict[str, Sequence[int]] = {name: known.channels for name, known in truth.perturbations.items()}
    circles: dict[int, Circle] = {}
    keys = table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]]
    for row, (experiment, plate, well, site) in enumerate(keys.itertuples(index=False, name=None)):
        place = truth.place(experiment, plate, well, int(site))
        if place is not None:
            circles[row] = (place.row / binning, place.column / binning, place.radius / binning)
    return channels, circles
