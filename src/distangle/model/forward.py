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
from distangle.model.device_batches import batches_to_device, views_to_device
from distangle.model.plate_batch_norm import CellTypesOf, PlateBatchNorm, rows_by_statistics
from distangle.results.backbone_features import Features


def _no_cell_types(rows: Sequence[int]) -> Tensor | None:
    """Return no cell types for any rows."""


def do_nothing() -> None:
    """Accept every batch: the default for `BatchPlan.before`."""


@dataclass(frozen=True, kw_only=True)
class SiteInputs:
    """Inputs of a network for the sites of a screen.

    Attributes:
        store: The images.
        statistics: float32 [site of the screen, 2, channel], from `fit_normalization`; not used with `features`.
        features: Features of a frozen backbone; with them no image is read.
        references: From `control_features`, for a network with a correction.
        cell_types: Returns one-hot cell types of rows; None for a network without them.
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
    """How sites are divided into batches.

    Attributes:
        size: Sites in a batch.
        always_full: Pad every batch to `size` with copies of its last site, even if all sites are fewer: then no
            result depends on the other sites of its batch.
        by_rank: Compute only this rank's share of the batches.
        channels_last: Use the channels-last memory format.
        before: Called before each batch; an exception ends the pass.
    """

    size: int
    always_full: bool = False
    by_rank: bool = True
    channels_last: bool = False
    before: Callable[[], None] = do_nothing

    def size_for(self, members: Sequence[int]) -> int:
        """Return the size of the batches of a group of sites."""
        return self.size if self.always_full else min(self.size, max(1, len(members)))

    def rows_of_rank(self, members: Sequence[int]) -> Sequence[int]:
        """Return the sites of a group that this rank computes."""
        return shard(members) if self.by_rank else members


def site_outputs(
    model: PerturbationClassifier, inputs: SiteInputs, rows: Sequence[int], *, plan: BatchPlan, view: int = 0
) -> Iterator[tuple[list[int], Outputs]]:
    """Compute the outputs of sites, batch by batch.

    Args:
        model: In evaluation mode.
        inputs: Inputs of the network.
        rows: Readable sites of the screen.
        plan: Size of a batch, and which rank computes which.
        view: Number of the view: dihedral, 0-7, or a fixed view of the features.

    Yields:
        Rows of a batch and their outputs, [row, ...]; batches of one group of plates are consecutive.

    Raises:
        WeightsError: A plate has no statistics in `inputs.norms`.
    """
    device = next(model.parameters()).device
    for members, statistics in rows_by_statistics(inputs.norms, inputs.store.screen, rows, inputs.store.fold):
        size, own_rows = plan.size_for(members), plan.rows_of_rank(members)
        with use_statistics(model, statistics):
            for batch, images in _input_batches(inputs, own_rows, size=size, view=view, device=device):
                plan.before()
                yield batch, _outputs(model, inputs, batch, images, plan=plan)


def view_outputs(
    model: PerturbationClassifier, inputs: SiteInputs, rows: Sequence[int], *, plan: BatchPlan, n_views: int, keep: bool
) -> Iterator[tuple[list[int], Iterator[Outputs]]]:
    """Compute the outputs of sites in several views, with each image decoded once.

    Args:
        model: In evaluation mode.
        inputs: Inputs of the network. `statistics` may be those of `own_statistics`, filled as images are read.
        rows: Sites of the screen. Unreadable ones are left out; `inputs.store.reasons` has their reasons afterwards.
        plan: Size of a batch, and which rank computes which; the memory format is channels_last.
        n_views: Number of the views, from the first: dihedral, or fixed views of the features.
        keep: Leave the images in the cache of the store.

    Yields:
        Rows of a batch, and an iterator of their outputs in each view, [row, ...]; to be used before the next batch.

    Raises:
        WeightsError: A plate has no statistics in `inputs.norms`.
    """
    device = next(model.parameters()).device
    for members, statistics in rows_by_statistics(inputs.norms, inputs.store.screen, rows, inputs.store.fold):
        size, own_rows = plan.size_for(members), plan.rows_of_rank(members)
        batches = (
            views_to_device(
                device, inputs.store, own_rows, inputs.statistics, batch_size=size, n_views=n_views, keep=keep
            )
            if inputs.features is None
            else _feature_views(inputs.features, own_rows, size=size, n_views=n_views, device=device)
        )
        with use_statistics(model, statistics):
            for batch, views in batches:
                plan.before()
                yield batch, _outputs_of_views(model, inputs, batch, views, plan=plan)


def _outputs_of_views(
    model: PerturbationClassifier, inputs: SiteInputs, batch: list[int], views: Iterator[Tensor], *, plan: BatchPlan
) -> Iterator[Outputs]:
    for images in views:
        yield _outputs(model, inputs, batch, images, plan=plan)


@torch.no_grad()
def _outputs(
    model: PerturbationClassifier, inputs: SiteInputs, batch: list[int], images: Tensor, *, plan: BatchPlan
) -> Outputs:
    """Return the outputs of a batch without its padding."""
    padded = batch + [batch[-1]] * (len(images) - len(batch))
    extra_inputs = (
        _to_device(inputs.cell_types(padded), images.device),
        _to_device(reference_rows(inputs.references, padded), images.device),
    )
    if inputs.features is not None:
        outputs = model.classify_features(images, *extra_inputs)
    elif plan.channels_last:
        outputs = model(images.contiguous(memory_format=torch.channels_last), *extra_inputs)
    else:
        outputs = model(images, *extra_inputs)
    n = len(batch)
    return Outputs(outputs.logits[:n], outputs.cosines[:n], outputs.embedding[:n])


def _feature_views(
    features: Features, rows: Sequence[int], *, size: int, n_views: int, device: torch.device
) -> Iterator[tuple[list[int], Iterator[Tensor]]]:
    """Yield rows with their features in each view, padded to the size of a batch."""
    for start in range(0, len(rows), size):
        batch = list(rows[start : start + size])
        padded = batch + [batch[-1]] * (size - len(batch))
        yield batch, (torch.from_numpy(features.take(padded, view)).to(device) for view in range(n_views))


def _input_batches(
    inputs: SiteInputs, rows: Sequence[int], *, size: int, view: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield rows with their images or features, padded to the size of a batch."""
    if inputs.features is None:
        yield from batches_to_device(device, inputs.store, rows, inputs.statistics, batch_size=size, view=view)
        return
    for start in range(0, len(rows), size):
        batch = list(rows[start : start + size])
        padded = batch + [batch[-1]] * (size - len(batch))
        yield batch, torch.from_numpy(inputs.features.take(padded, view)).to(device)


def _to_device(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
