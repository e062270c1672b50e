"""Measure loss and accuracy on the held-out fold after an epoch.

They are for the curves only, never for a choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distangle.core.distributed import check_once, sum_array
from distangle.images import ImageCache, fit_normalization
from distangle.losses import softmax_loss
from distangle.model import (
    NormStatisticsChoice,
    PerturbationClassifier,
    PlateBatchNorm,
    collect_plate_statistics,
    eval_mode,
)
from distangle.model.features import Features
from distangle.model.forward import BatchPlan, SiteInputs, do_nothing, site_outputs
from distangle.screen import Screen
from distangle.training.config import BatchNormConfig
from distangle.training.data.sites import TrainingSites


@dataclass(frozen=True, kw_only=True)
class SiteEvaluation:
    """How a network in training is evaluated on sites that it does not learn from.

    Attributes:
        store: The images.
        references: From `references_of`, for a network with a correction.
        features: Features of a frozen backbone: then no image is read.
        norms: Whose batch-norm statistics.
        training_rows: Rows of the training fold; for norm statistics of the controls.
        batch_size: Sites at a time.
        before_batch: Called before each batch; what it raises ends the evaluation.
    """

    store: ImageCache
    references: np.ndarray | None = None
    features: Features | None = None
    norms: BatchNormConfig = BatchNormConfig()
    training_rows: Sequence[int] = ()
    batch_size: int = 64
    before_batch: Callable[[], None] = do_nothing


def validate(
    model: PerturbationClassifier, sites: TrainingSites, statistics: np.ndarray, how: SiteEvaluation
) -> dict[str, float]:
    """Compute loss and accuracies over labelled sites.

    Args:
        model: The network; left in the mode it was in.
        sites: Labelled sites of the held-out fold.
        statistics: float32 [site of the screen, 2, channel].
        how: Images and batch-norm statistics.

    Returns:
        `held_out_loss` (softmax, nats), `held_out_accuracy` and `held_out_balanced_accuracy`.
    """
    logits = site_logits(model, sites, statistics, how)
    right = logits.argmax(1) == sites.labels
    recalls = [right[sites.labels == name].mean() for name in np.unique(sites.labels)]
    loss = softmax_loss(torch.from_numpy(logits), torch.from_numpy(sites.labels))
    return {
        "held_out_loss": float(loss),
        "held_out_accuracy": float(right.mean()),
        "held_out_balanced_accuracy": float(np.mean(recalls)),
    }


def site_logits(
    model: PerturbationClassifier, sites: TrainingSites, statistics: np.ndarray, how: SiteEvaluation
) -> np.ndarray:
    """Compute the logits of the softmax head with one view, float32 [site, class].

    Args:
        model: The network; left in the mode it was in.
        sites: Sites of the screen, with or without labels.
        statistics: float32 [site of the screen, 2, channel].
        how: Images and batch-norm statistics.
    """
    store, rows = how.store, sites.rows.tolist()
    position = {row: k for k, row in enumerate(rows)}
    cell_types = CellTypeRows(store.screen, used=sites.cell_types is not None)
    norms = _plate_norms(model, rows, how, cell_types) if how.features is None else None
    inputs = SiteInputs(
        store=store,
        statistics=statistics,
        features=how.features,
        references=how.references,
        cell_types=cell_types,
        norms=norms,
    )
    plan = BatchPlan(size=how.batch_size, before=how.before_batch)
    if how.features is not None:  # a head is small: every rank computes all of it at once
        plan = BatchPlan(size=len(rows), by_rank=False, before=how.before_batch)
    logits = np.zeros((len(rows), model.config.n_perturbations), dtype=np.float32)
    visits = np.zeros(len(store.screen.sites), dtype=np.int64)
    with eval_mode(model):
        for batch, outputs in site_outputs(model, inputs, rows, plan=plan):
            logits[[position[row] for row in batch]] = outputs.logits.float().cpu().numpy()
            visits[batch] += 1
    if plan.by_rank:
        check_once(visits, rows, where="the validation")
        sum_array(logits, where="the validation")
    return logits


class CellTypeRows:
    """Gives the one-hot cell types of sites, float32 [site, cell_type].

    Args:
        screen: Names the cell type of every site.
        used: Whether the network takes cell types.
    """

    def __init__(self, screen: Screen, *, used: bool) -> None:
        self._names = screen.sites["cell_type"]
        self._index = {name: k for k, name in enumerate(screen.card.cell_types)} if used else {}

    def __call__(self, rows: Sequence[int]) -> torch.Tensor | None:
        """Return the cell types of rows; None for a network without them."""
        if not self._index:
            return None
        return torch.eye(len(self._index))[[self._index[name] for name in self._names.iloc[list(rows)]]]


def _plate_norms(
    model: PerturbationClassifier, rows: Sequence[int], how: SiteEvaluation, cell_types: CellTypeRows
) -> PlateBatchNorm | None:
    """Collect from all sites of the experiments, also unlabelled ones, as prediction does."""
    if how.norms.statistics == "running":
        return None
    store, screen = how.store, how.store.screen
    same = screen.sites["experiment"].isin(set(screen.sites["experiment"].iloc[list(rows)])).to_numpy()
    compared = set(how.training_rows) if how.norms.statistics == "controls" else set()
    readable, statistics = fit_normalization(store, sorted({*np.flatnonzero(same).tolist(), *compared}))
    return collect_plate_statistics(
        model,
        store,
        [row for row in readable if same[row]],
        statistics,
        choice=norm_statistics_choice(how.norms),
        cell_types=cell_types,
        training_rows=[row for row in readable if row in compared],
    )


def norm_statistics_choice(norms: BatchNormConfig) -> NormStatisticsChoice:
    """Return what the card of a model says of the norms of its training."""
    return NormStatisticsChoice(statistics=norms.statistics, min_sites=norms.min_sites, n_controls=norms.n_controls)
