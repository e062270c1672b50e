"""Run a network over sites of a screen, for validation and prediction."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distangle.core.distributed import shard
from distangle.images import ImageCache
from distangle.model.batch_norm import use_statistics
from distangle.model.classifier import Outputs, PerturbationClassifier
from distangle.model.control_centering import reference_rows
from distangle.model.device_batches import batches_to_device
from distangle.model.features import Features
from distangle.model.plate_batch_norm import CellTypesOf, PlateBatchNorm, norm_parts


def _no_cell_types(rows: Sequence[int]) -> Tensor | None:
    """Give no cell types, whatever the rows."""


def go_on() -> None:
    """Let every batch be computed."""


@dataclass(frozen=True, kw_only=True)
class SiteInputs:
    """What a network is given of the sites of a screen.

    Attributes:
        store: The images.
        statistics: float32 [site of the screen, 2, channel], from `measure_sites`; not read with `features`.
        features: Features of a frozen backbone; with them no image is read.
        references: From `references_of`, for a network with a correction.
        cell_types: One-hot cell types of rows; None for a network without them.
        norms: Batch-norm statistics of every plate; None: the running ones.
    """

    store: ImageCache
    statistics: np.ndarray
    features: Features | None = None
    references: np.ndarray | None = None
    cell_types: CellTypesOf = _no_cell_types
    norms: PlateBatchNorm | None = None


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How sites are cut into batches.

    Attributes:
        size: Sites in a batch.
        always_full: Fill a batch up with copies of its last site, also where all sites are fewer than `size`: then
            no result depends on its neighbours.
        by_rank: Leave to other ranks their share of the batches.
        channels_last: Order of the images in memory.
        before: Called before each batch; what it raises ends the pass.
    """

    size: int
    always_full: bool = False
    by_rank: bool = True
    channels_last: bool = False
    before: Callable[[], None] = go_on


def site_outputs(
    model: PerturbationClassifier, inputs: SiteInputs, rows: Sequence[int], *, plan: BatchPlan, view: int = 0
) -> Iterator[tuple[list[int], Outputs]]:
    """Compute the outputs of sites, batch by batch.

    Args:
        model: In evaluation mode.
        inputs: What the network is given.
        rows: Readable sites of the screen.
        plan: Size of a batch, and who computes which.
        view: Number of the view: dihedral, 0-7, or a fixed view of the features.

    Yields:
        Rows of a batch, and their outputs, [row, ...]; those of one group of plates follow one another.

    Raises:
        WeightsError: A plate has no statistics in `inputs.norms`.
    """
    device = next(model.parameters()).device
    for members, statistics in norm_parts(inputs.norms, inputs.store.screen, rows, inputs.store.fold):
        size = plan.size if plan.always_full else min(plan.size, max(1, len(members)))
        chosen = shard(members) if plan.by_rank else members
        with use_statistics(model, statistics):
            for batch, images in _batches(inputs, chosen, size=size, view=view, device=device):
                plan.before()
                padded = batch + [batch[-1]] * (len(images) - len(batch))
                more = (_on(inputs.cell_types(padded), device), _on(reference_rows(inputs.references, padded), device))
                with torch.no_grad():
                    if inputs.features is not None:
                        outputs = model.classify_numbers(images, *more)
                    elif plan.channels_last:
                        outputs = model(images.contiguous(memory_format=torch.channels_last), *more)
                    else:
                        outputs = model(images, *more)
                n = len(batch)
                yield batch, Outputs(outputs.logits[:n], outputs.cosines[:n], outputs.embedding[:n])


def _batches(
    inputs: SiteInputs, rows: Sequence[int], *, size: int, view: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Give rows with their images, or with their features, filled up to the size of a batch."""
    if inputs.features is None:
        yield from batches_to_device(device, inputs.store, rows, inputs.statistics, batch_size=size, view=view)
        return
    for start in range(0, len(rows), size):
        chosen = list(rows[start : start + size])
        padded = chosen + [chosen[-1]] * (size - len(chosen))
        yield chosen, torch.from_numpy(inputs.features.take(padded, view)).to(device)


def _on(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
