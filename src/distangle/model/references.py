"""What untreated sites of each experiment look like to a network: subtracted, it takes much of the batch along."""

from collections.abc import Sequence

import numpy as np
import torch

from distangle.images import ImageStore, control_rows, measure_sites
from distangle.model.arriving import batches_on
from distangle.model.classifier import PerturbationClassifier
from distangle.model.evaluating import evaluating

PRIOR = 1.0  # sites: how much the typical experiment counts beside the sites of one
AT_ONCE = 32


def set_typical(model: PerturbationClassifier, store: ImageStore, rows: np.ndarray) -> None:
    """Keep in the network what untreated sites of the training experiments have in common.

    Args:
        model: Changed in place; one that is not centred keeps nothing.
        store: The images.
        rows: Readable sites of the training fold. Where none is untreated, the mean of all stands in.
    """
    if model.typical is None:
        return
    controls = control_rows(store.screen, rows)
    chosen, numbers = _numbers(model, store, controls if len(controls) else rows)
    experiments = store.screen.sites["experiment"].to_numpy()[chosen]
    means = [numbers[experiments == name].mean(0) for name in np.unique(experiments)]
    model.typical.copy_(torch.from_numpy(np.mean(means, 0)))


def references_of(model: PerturbationClassifier, store: ImageStore, rows: Sequence[int]) -> np.ndarray | None:
    r"""Return what to subtract from the numbers of every site: those of its experiment's untreated sites.

    With n untreated sites, numbers v_i of each, and those t of the typical training experiment,

    $$ r = \frac{\sum_i v_i + k\,t}{n + k}, \quad k = 1 $$

    so that an experiment with one control or none leans on the others. It looks at other wells of the experiment,
    also of held-out plates: transductive, but it knows only which wells are controls.

    Departs: the paper centres nothing; it leaves the batch to CutMix and to the norms.

    Args:
        model: Left in the mode it was in.
        store: The images of a screen.
        rows: Sites whose references are needed.

    Returns:
        float32 [site of the screen, number], NaN for sites of other experiments; None for a network that is not
        centred.
    """
    if model.typical is None:
        return None
    typical = model.typical.detach().cpu().numpy()
    experiments = store.screen.sites["experiment"].to_numpy()
    found = np.full((len(experiments), len(typical)), np.nan, dtype=np.float32)
    for name in np.unique(experiments[list(rows)]):
        members = np.flatnonzero(experiments == name)
        _, numbers = _numbers(model, store, control_rows(store.screen, members))
        found[members] = (numbers.sum(0) + PRIOR * typical) / (len(numbers) + PRIOR)
    return found


def reference_rows(references: np.ndarray | None, rows: Sequence[int]) -> torch.Tensor | None:
    """Return the references of sites as the network takes them.

    Args:
        references: From `references_of`.
        rows: Sites of the screen.
    """
    return None if references is None else torch.from_numpy(references[list(rows)])


def _numbers(model: PerturbationClassifier, store: ImageStore, rows: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return the rows that can be read and their numbers, float32 [row, number]."""
    readable, statistics = measure_sites(store, rows.tolist())
    device = next(model.parameters()).device
    pieces = [np.zeros((0, model.n_numbers), dtype=np.float32)]
    with evaluating(model), torch.no_grad():
        for chosen, images in batches_on(device, store, readable, statistics, batch_size=AT_ONCE):
            pooled = model.pool(model.feature_maps(images))
            pieces.append(model.numbers(pooled)[: len(chosen)].float().cpu().numpy())
    return readable, np.concatenate(pieces)
