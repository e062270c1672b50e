"""Sites of a benchmark, and what was planted in them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from distangle.errors import ExplanationError
from distangle.explain.chosen import ChosenSites, NetworkSites
from distangle.explain.opened import Opened
from distangle.explain.planted import Circle
from distangle.explain.seen import asked_sites
from distangle.explain.stains.removal import Removal
from distangle.explain.summary import wells_of
from distangle.images import ImageStore
from distangle.inference import store_of
from distangle.model import PerturbationClassifier, build_classifier, measure_numbers, reference_wells, set_prior
from distangle.results import Predictions, RunFolder
from distangle.screen import TRAIN, Screen
from distangle.synthetic import Truth


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Sites of a benchmark and what was planted in them.

    Attributes:
        sites: With their true perturbation as target; only those that the trained network predicts correctly, by
            themselves or as a well.
        site_is_right: Which of them it predicts rightly by themselves.
        well_is_right: Of which of them it predicts the well rightly.
        channel: Index of the one planted channel per site; -1 where several or none are planted.
        places: Row of the table to a circle.
        removal: What stands in for an absent stain.
        rows: Positions of the sites in the screen.
    """

    sites: ChosenSites
    site_is_right: np.ndarray
    well_is_right: np.ndarray
    channel: np.ndarray
    places: Mapping[int, Circle]
    removal: Removal
    rows: Sequence[int]


def planted_rows(run: RunFolder, truth: Truth, *, n_sites: int | None) -> list[int]:
    """Return positions of readable held-out sites with a planted effect.

    They are spread over the perturbations.

    Of a run that held nothing out, these are sites that it was trained on.

    Args:
        run: A run that has been predicted.
        truth: What was planted.
        n_sites: How many at most, those of effects with a place first; None for all.

    Raises:
        ExplanationError: There is none.
    """
    table = Predictions.read(run.predictions, level="site", views=1).table
    planted = {name for name, known in truth.perturbations.items() if known.channels}
    local = {name for name, known in truth.perturbations.items() if known.local}
    fine = asked_sites(table) & table["perturbation"].isin(list(planted))
    if not fine.any():
        raise ExplanationError(
            "No held-out site has a planted effect, so there is nothing to find. Benchmark a run that learnt the "
            "perturbations of a synthetic screen: `distangle simulate`, or `distangle demo`."
        )
    order = table[fine].assign(_row=np.flatnonzero(fine.to_numpy()))
    order["_turn"] = order.sort_values(["Metadata_Site", "_row"]).groupby("perturbation").cumcount()
    order["_wide"] = ~order["perturbation"].isin(list(local))
    order = order.sort_values(["_turn", "_wide", "perturbation"], kind="stable")
    return sorted(order["_row"].head(n_sites or len(order)).tolist())


def ask(opened: Opened, rows: Sequence[int], *, right_wells: Collection[str]) -> Asked:
    """Keep correctly predicted sites, with what was planted there.

    Args:
        opened: The run, opened at `rows`.
        rows: From `planted_rows`.
        right_wells: Names (`wells_of`) of the wells that the network predicts rightly.

    Raises:
        ExplanationError: The run learnt something else, a site cannot be read any more, or none is predicted rightly.
    """
    if opened.channels_of is None:
        raise ExplanationError(
            f"The run learnt {opened.about.target!r}, and what was planted are perturbations. Benchmark a run that "
            "learnt those."
        )
    sites = opened.sites
    if len(sites) != len(rows):
        raise ExplanationError(
            f"{len(rows) - len(sites)} of {len(rows)} sites with a planted effect cannot be read any more. Predict the "
            "run again."
        )
    site_is_right = (sites.table["predicted"] == sites.table["perturbation"]).to_numpy()
    well_is_right = np.array([name in right_wells for name in wells_of(sites.table)])
    kept = np.flatnonzero(site_is_right | well_is_right).tolist()
    if not kept:
        raise ExplanationError(
            f"The network predicts none of {len(rows)} held-out sites with a planted effect: there is nothing to "
            "explain. Train longer, or simulate stronger effects."
        )
    chosen = sites.take(kept)
    index = {name: k for k, name in enumerate(chosen.perturbations)}
    channels = [list(opened.channels_of.get(name, ())) for name in chosen.table["perturbation"]]
    places = opened.places or {}
    return Asked(
        sites=replace(chosen, targets=torch.tensor([index[name] for name in chosen.table["perturbation"]])),
        site_is_right=site_is_right[kept],
        well_is_right=well_is_right[kept],
        channel=np.array([found[0] - 1 if len(found) == 1 else -1 for found in channels]),
        places={new: places[old] for new, old in enumerate(kept) if old in places and site_is_right[old]},
        removal=opened.removal,
        rows=[rows[old] for old in kept],
    )


def untrained(opened: Opened, asked: Asked, run: RunFolder, screen: Screen, *, seed: int) -> NetworkSites:
    """Return a network with random weights, and the sites with its own references.

    Its norms use the statistics that it was made with (mean 0, variance 1), for every plate; how much groups differ
    for it is estimated from the training wells, as for the trained one.

    Args:
        opened: The run.
        asked: The sites.
        run: The run.
        screen: Its screen.
        seed: Of the weights.
    """
    device = next(opened.model.parameters()).device
    model = build_classifier(opened.model.config, seed=seed).to(device).eval()
    references = asked.sites.references
    if references is not None:
        store = store_of(run, screen, opened.about)
        try:
            references = _references(model, store, asked.rows)
        finally:
            store.close()
    return NetworkSites(model, replace(asked.sites, references=references, norms=None))


def _references(model: PerturbationClassifier, store: ImageStore, rows: Sequence[int]) -> torch.Tensor:
    """Return the references of an untrained network, float32 [row, reference]."""
    screen, everybody = store.screen, np.arange(len(store.screen.sites))
    training = everybody if store.fold is None else np.flatnonzero(store.fold == TRAIN)
    wells = reference_wells(
        screen,
        np.union1d(training, rows),
        model.config.correction,
        lambda chosen: measure_numbers(model, store, chosen),
        fold=store.fold,
        training_rows=training,
    )
    set_prior(model, wells)
    return torch.from_numpy(wells.of(np.asarray(rows)))
