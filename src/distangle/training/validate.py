"""Measure loss and accuracy on the held-out fold, for the curves only."""

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
from distangle.model.forward import BatchPlan, SiteInputs, do_nothing, site_outputs
from distangle.results.backbone_features import Features
from distangle.screen import Screen
from distangle.training.config import BatchNormConfig
from distangle.training.data.sites import TrainingSites


@dataclass(frozen=True, kw_only=True)
class SiteEvaluation:
    """How a network in training is evaluated on other sites.

    Attributes:
        store: The images.
        references: Rows of `ReferenceWells`, for a network with a correction.
        features: Features of a frozen backbone; with them no image is read.
        batch_norm: Names the batch-norm statistics.
        training_rows: Rows of the training fold, for norm statistics of controls.
        batch_size: Number of sites of a batch.
        before_batch: Called before each batch; an exception of it ends the evaluation.
    """

    store: ImageCache
    references: np.ndarray | None = None
    features: Features | None = None
    batch_norm: BatchNormConfig = BatchNormConfig()
    training_rows: Sequence[int] = ()
    batch_size: int = 64
    before_batch: Callable[[], None] = do_nothing


def validate(
    model: PerturbationClassifier, sites: TrainingSites, statistics: np.ndarray, evaluation: SiteEvaluation
) -> dict[str, float]:
    """Compute loss and accuracies over labelled sites.

    Args:
        model: The network; its mode is restored.
        sites: Labelled sites of the held-out fold.
        statistics: float32 [site of the screen, 2, channel].
        evaluation: Images and batch-norm statistics.

    Returns:
        `held_out_loss` (softmax, nats), `held_out_accuracy` and `held_out_balanced_accuracy`.
    """
    logits = site_logits(model, sites, statistics, evaluation)
    is_correct = logits.argmax(1) == sites.labels
    recalls = [is_correct[sites.labels == label].mean() for label in np.unique(sites.labels)]
    loss = softmax_loss(torch.from_numpy(logits), torch.from_numpy(sites.labels))
    return {
        "held_out_loss": float(loss),
        "held_out_accuracy": float(is_correct.mean()),
        "held_out_balanced_accuracy": float(np.mean(recalls)),
    }


def site_logits(
    model: PerturbationClassifier, sites: TrainingSites, statistics: np.ndarray, evaluation: SiteEvaluation
) -> np.ndarray:
    """Compute the logits of the softmax head from one view, float32 [site, class].

    Args:
        model: The network; its mode is restored.
        sites: Sites of the screen, with or without labels.
        statistics: float32 [site of the screen, 2, channel].
        evaluation: Images and batch-norm statistics.
    """
    store, rows = evaluation.store, sites.rows.tolist()
    position = {row: k for k, row in enumerate(rows)}
    cell_types = CellTypeRows(store.screen, used=sites.cell_types is not None)
    norms = _collect_plate_norms(model, rows, evaluation, cell_types) if evaluation.features is None else None
    inputs = SiteInputs(
        store=store,
        statistics=statistics,
        features=evaluation.features,
        references=evaluation.references,
        cell_types=cell_types,
        norms=norms,
    )
    plan = BatchPlan(size=evaluation.batch_size, before=evaluation.before_batch)
    if evaluation.features is not None:  # a head is small: every rank computes all sites at once
        plan = BatchPlan(size=len(rows), by_rank=False, before=evaluation.before_batch)
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
    """Returns one-hot cell types of sites, float32 [site, cell_type].

    Args:
        screen: Names the cell type of every site.
        used: Whether the network takes cell types.
    """

    def __init__(self, screen: Screen, *, used: bool) -> None:
        self._names = screen.sites["cell_type"]
        self._index = {name: k for k, name in enumerate(screen.metadata.cell_types)} if used else {}

    def __call__(self, rows: Sequence[int]) -> torch.Tensor | None:
        """Return the cell types of rows; None for a network without them."""
        if not self._index:
            return None
        return torch.eye(len(self._index))[[self._index[name] for name in self._names.iloc[list(rows)]]]


def _collect_plate_norms(
    model: PerturbationClassifier, rows: Sequence[int], evaluation: SiteEvaluation, cell_types: CellTypeRows
) -> PlateBatchNorm | None:
    """Collect norm statistics from all sites of the experiments, as prediction does."""
    if evaluation.batch_norm.statistics == "running":
        return None
    store, screen = evaluation.store, evaluation.store.screen
    in_experiments = screen.sites["experiment"].isin(set(screen.sites["experiment"].iloc[list(rows)])).to_numpy()
    training_rows = set(evaluation.training_rows) if evaluation.batch_norm.statistics == "controls" else set()
    readable, statistics = fit_normalization(store, sorted({*np.flatnonzero(in_experiments).tolist(), *training_rows}))
    return collect_plate_statistics(
        model,
        store,
        [row for row in readable if in_experiments[row]],
        statistics,
        choice=norm_statistics_choice(evaluation.batch_norm),
        cell_types=cell_types,
        training_rows=[row for row in readable if row in training_rows],
    )


def norm_statistics_choice(batch_norm: BatchNormConfig) -> NormStatisticsChoice:
    """Return the entry of a model card on the norms of the training."""
    return NormStatisticsChoice(
        statistics=batch_norm.statistics, min_sites=batch_norm.min_sites, n_controls=batch_norm.n_controls
    )
