"""Loss and accuracy on the held-out fold after an epoch; for the curves only, never for a choice."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from distangle.images import ImageStore, measure_sites
from distangle.losses import softmax_loss
from distangle.model import (
    PerturbationClassifier,
    PlateNorms,
    batches_on,
    collect_plate_norms,
    evaluating,
    lent_statistics,
    norm_parts,
    reference_rows,
)
from distangle.model.features import Features
from distangle.ranks import check_once, share, sum_array
from distangle.training.batches.sites import TrainingSites
from distangle.training.config import Norms


def validate(
    model: PerturbationClassifier,
    store: ImageStore,
    sites: TrainingSites,
    statistics: np.ndarray,
    *,
    n_cell_types: int,
    references: np.ndarray | None = None,
    features: Features | None = None,
    norms: Norms | None = None,
    training_rows: Sequence[int] = (),
    batch_size: int = 64,
    before_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return `held_out_loss` (softmax, nats), `held_out_accuracy` and `held_out_balanced_accuracy`, over sites.

    Args:
        model: The network; evaluated in evaluation mode and left in the mode it was in.
        store: The images.
        sites: Labelled sites of the held-out fold.
        statistics: float32 [site of the screen, 2, channel].
        n_cell_types: Length of a cell type row; 0 for none.
        references: From `references_of`, for a network with a correction.
        features: Of a frozen backbone: then no image is read.
        norms: Whose norm statistics; None: the running ones.
        training_rows: Rows of the training fold; for norm statistics of the controls.
        batch_size: Sites at a time.
        before_batch: Called before each batch; what it raises ends the validation.
    """
    more: dict[str, Any] = {
        "n_cell_types": n_cell_types,
        "references": references,
        "features": features,
        "norms": norms,
        "training_rows": training_rows,
        "batch_size": batch_size,
        "before_batch": before_batch,
    }
    logits = site_logits(model, store, sites, statistics, **more)
    right = logits.argmax(1) == sites.labels
    recalls = [right[sites.labels == name].mean() for name in np.unique(sites.labels)]
    loss = softmax_loss(torch.from_numpy(logits), torch.from_numpy(sites.labels))
    return {
        "held_out_loss": float(loss),
        "held_out_accuracy": float(right.mean()),
        "held_out_balanced_accuracy": float(np.mean(recalls)),
    }


def site_logits(
    model: PerturbationClassifier,
    store: ImageStore,
    sites: TrainingSites,
    statistics: np.ndarray,
    *,
    n_cell_types: int,
    references: np.ndarray | None = None,
    features: Features | None = None,
    norms: Norms | None = None,
    training_rows: Sequence[int] = (),
    batch_size: int = 64,
    before_batch: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the logits of the softmax head with one view, float32 [site, class]; arguments as for `validate`."""
    device = next(model.parameters()).device
    if features is not None:
        before_batch()
        return _logits_of_features(model, features, sites, n_cell_types=n_cell_types, references=references)
    position = {int(row): k for k, row in enumerate(sites.rows)}
    logits = np.zeros((len(sites.rows), model.config.n_perturbations), dtype=np.float32)
    visits = np.zeros(len(store.screen.sites), dtype=np.int64)
    lent_by_plate = _plate_norms(
        model, store, sites, norms or Norms(), n_cell_types=n_cell_types, training_rows=training_rows
    )
    with evaluating(model), torch.no_grad():
        for members, lent in norm_parts(lent_by_plate, store.screen, sites.rows.tolist(), store.fold):
            with lent_statistics(model, lent):
                for rows, images in batches_on(
                    device, store, share(members), statistics, batch_size=min(batch_size, len(members))
                ):
                    before_batch()
                    chosen = [position[row] for row in rows]
                    cell_types = None
                    if n_cell_types and sites.cell_types is not None:
                        padded = chosen + [chosen[-1]] * (len(images) - len(chosen))
                        cell_types = torch.eye(n_cell_types, device=device)[sites.cell_types[padded]]
                    beside = reference_rows(references, [*rows, *[rows[-1]] * (len(images) - len(rows))])
                    outputs = model(images, cell_types, None if beside is None else beside.to(device))
                    logits[chosen] = outputs.logits[: len(rows)].float().cpu().numpy()
                    visits[rows] += 1
    check_once(visits, sites.rows.tolist(), where="the validation")
    sum_array(logits, where="the validation")
    return logits


def _logits_of_features(
    model: PerturbationClassifier,
    features: Features,
    sites: TrainingSites,
    *,
    n_cell_types: int,
    references: np.ndarray | None,
) -> np.ndarray:
    device = next(model.parameters()).device
    numbers = torch.from_numpy(features.take(sites.rows)).to(device)
    cell_types = None
    if n_cell_types and sites.cell_types is not None:
        cell_types = torch.eye(n_cell_types, device=device)[sites.cell_types]
    beside = reference_rows(references, sites.rows.tolist())
    with evaluating(model), torch.no_grad():
        outputs = model.classify_numbers(numbers, cell_types, None if beside is None else beside.to(device))
    return np.asarray(outputs.logits.float().cpu().numpy())


def _plate_norms(
    model: PerturbationClassifier,
    store: ImageStore,
    sites: TrainingSites,
    norms: Norms,
    *,
    n_cell_types: int,
    training_rows: Sequence[int],
) -> PlateNorms | None:
    """Collect from all sites of the experiments, also unlabelled ones, as prediction does."""
    if norms.at_test == "running":
        return None
    screen = store.screen
    same = screen.sites["experiment"].isin(set(screen.sites["experiment"].iloc[sites.rows])).to_numpy()
    compared = set(training_rows) if norms.at_test == "controls" else set()
    readable, statistics = measure_sites(store, sorted({*np.flatnonzero(same).tolist(), *compared}))
    types = {name: k for k, name in enumerate(screen.card.cell_types)}

    def cell_types(rows: Sequence[int]) -> torch.Tensor | None:
        if not n_cell_types:
            return None
        return torch.eye(n_cell_types)[[types[name] for name in screen.sites["cell_type"].iloc[list(rows)]]]

    return collect_plate_norms(
        model,
        store,
        [row for row in readable if same[row]],
        statistics,
        by=norms.at_test,
        fewest=norms.fewest,
        cell_types=cell_types,
        training_rows=[row for row in readable if row in compared],
    )
