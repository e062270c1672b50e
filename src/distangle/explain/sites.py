"""Sites to explain, in batches, and freezing of the network."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distangle.axes import CellTypes, Images, Labels, Logits, References
from distangle.errors import ExplanationError, brief, did_you_mean
from distangle.model import NormStatistics, PerturbationClassifier, eval_mode, use_statistics

REQUIRED_COLUMNS = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "perturbation", "predicted")


@dataclass(frozen=True, kw_only=True)
class SiteBatch:
    """Sites that go through the network together, on its device.

    Attributes:
        images: Standardized intensities.
        targets: Index of the perturbation to explain, per site.
        cell_types: One-hot cell type per site; None if the network does not use it.
        references: Control features that the network subtracts, per site; None for a network without that correction.
        controls: Standardized images of control wells of the same plate: one per site or one for all; or None.
        other_wells: Standardized images of other wells of the same plate: one per site or one for all; or None.
        bn_statistics: Batch-norm statistics of the plate; None for the running statistics.
        rows: Positions in the table of all sites; empty for a batch without a table.
    """

    images: Images
    targets: Labels
    cell_types: CellTypes | None = None
    references: References | None = None
    controls: Float[Tensor, "control _ _ _"] | None = None
    other_wells: Float[Tensor, "other _ _ _"] | None = None
    bn_statistics: NormStatistics | None = None
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.images.device

    @contextlib.contextmanager
    def plate_statistics(self, model: PerturbationClassifier) -> Iterator[None]:
        """Run the network with the batch-norm statistics of the plate, inside a `with`."""
        with use_statistics(model, self.bn_statistics):
            yield

    def logits(self, model: PerturbationClassifier, images: Images | None = None) -> Logits:
        """Return the logits for the images of the sites, or for other images, float32.

        Args:
            model: The network; evaluation mode and its gradient flags are restored.
            images: One image per site; None for the images of the sites.
        """
        with freeze(model), torch.no_grad(), self.plate_statistics(model):
            inputs = self.images if images is None else images
            logits: Tensor = model(inputs, self.cell_types, self.references).logits.float()
        return logits


class BatchStatistics(NamedTuple):
    """Batch-norm statistics and the sites that they normalize.

    Attributes:
        rows: Positions of the sites in the table.
        statistics: Statistics of their plate; None for the running statistics.
    """

    rows: list[int]
    statistics: NormStatistics | None


@dataclass(frozen=True, kw_only=True)
class ExplainedSites:
    """Sites to explain; all arrays follow the rows of the table.

    Attributes:
        table: The `Metadata_*` columns, `perturbation` and `predicted`.
        images: Intensities, standardized as in training.
        raw: The same images as they were read, uint8 or uint16.
        cell_types: One-hot cell type per site; None if the network does not use it.
        targets: Index of the perturbation to explain, per site.
        channels: Names of the channels.
        perturbations: Names of the model's logits.
        references: Control features that the network subtracts, per site; None for a network without that correction.
        controls: Standardized images of control wells of the same plate: one per site or one for all; or None.
        other_wells: Standardized images of other wells of the same plate: one per site or one for all; or None.
        control_sites: Sites of control wells, one per well, with targets by the same rule. Their channel scores are the
            null of the site scores. May be None.
        norms: Batch-norm statistics by group of rows, each row in one group; None: running statistics for all.

    Raises:
        ExplanationError: Rows, images, targets or names do not match.
    """

    table: pd.DataFrame
    images: Images
    raw: Shaped[np.ndarray, "site channel _ _"]
    cell_types: CellTypes | None
    targets: Labels
    channels: Sequence[str]
    perturbations: Sequence[str]
    references: References | None = None
    controls: Float[Tensor, "control _ _ _"] | None = None
    other_wells: Float[Tensor, "other _ _ _"] | None = None
    control_sites: "ExplainedSites | None" = None
    norms: Sequence[BatchStatistics] | None = None

    def __post_init__(self) -> None:
        rows = {
            "rows": len(self.table),
            "images": len(self.images),
            "targets": len(self.targets),
            "raw images": len(self.raw),
        }
        if len(set(rows.values())) > 1 or not len(self.table):
            raise ExplanationError(f"Expected at least one row, and one image and one target per row; got {rows}.")
        if not self.images.shape[1] == self.raw.shape[1] == len(self.channels):
            raise ExplanationError(
                f"{len(self.channels)} channel names, {self.images.shape[1]} channels of images, "
                f"{self.raw.shape[1]} of raw images."
            )
        missing = [name for name in REQUIRED_COLUMNS if name not in self.table.columns]
        if missing:
            raise ExplanationError(f"The table of sites lacks {missing}. Give the rows of `Predictions.table`.")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return int(self.raw.shape[2]), int(self.raw.shape[3])

    def check_model(self, model: PerturbationClassifier) -> None:
        """Check that the targets are outputs of this network.

        Raises:
            ExplanationError: The number of perturbations differs.
        """
        if len(self.perturbations) != model.config.n_perturbations:
            raise ExplanationError(
                f"{len(self.perturbations)} names of perturbations for a model of {model.config.n_perturbations}. Give "
                "one "
                "name per output of the network."
            )

    def take(self, rows: Sequence[int]) -> "ExplainedSites":
        """Return some of the sites in the given order, each at most once.

        Args:
            rows: Positions in the table.
        """
        selected, position = list(rows), {row: k for k, row in enumerate(rows)}
        norms = None
        if self.norms is not None:
            groups = [
                BatchStatistics([position[row] for row in group.rows if row in position], group.statistics)
                for group in self.norms
            ]
            norms = [group for group in groups if group.rows]
        return dataclasses.replace(
            self,
            table=self.table.iloc[selected].reset_index(drop=True),
            images=self.images[selected],
            raw=self.raw[selected],
            cell_types=None if self.cell_types is None else self.cell_types[selected],
            targets=self.targets[selected],
            references=None if self.references is None else self.references[selected],
            controls=_rows_of(self.controls, selected),
            other_wells=_rows_of(self.other_wells, selected),
            norms=norms,
        )

    def n_batches(self, *, batch_size: int) -> int:
        """Return the number of batches."""
        return sum(-(-len(group.rows) // batch_size) for group in self._groups())

    def batches(self, *, batch_size: int, device: torch.device) -> Iterator[SiteBatch]:
        """Yield all sites in batches; each batch has one set of statistics."""
        for group in self._groups():
            for start in range(0, len(group.rows), batch_size):
                rows = group.rows[start : start + batch_size]
                controls, other_wells = (_rows_of(images, rows) for images in (self.controls, self.other_wells))
                yield SiteBatch(
                    rows=rows,
                    images=self.images[rows].to(device),
                    cell_types=None if self.cell_types is None else self.cell_types[rows].to(device),
                    targets=self.targets[rows].to(device),
                    references=None if self.references is None else self.references[rows].to(device),
                    controls=None if controls is None else controls.to(device),
                    other_wells=None if other_wells is None else other_wells.to(device),
                    bn_statistics=group.statistics,
                )

    def map(
        self, function: Callable[[SiteBatch], Mapping[str, np.ndarray]], *, batch_size: int, device: torch.device
    ) -> dict[str, np.ndarray]:
        """Apply a function to every batch; return its arrays in table order.

        Args:
            function: Function from a batch to arrays by name, with one row per site.
            batch_size: Sites in one batch.
            device: Device of the batches.
        """
        order: list[int] = []
        results: list[Mapping[str, np.ndarray]] = []
        for batch in self.batches(batch_size=batch_size, device=device):
            results.append(function(batch))
            order += batch.rows
        back = np.argsort(order)
        return {name: np.concatenate([result[name] for result in results])[back] for name in results[0]}

    def _groups(self) -> Sequence[BatchStatistics]:
        return self.norms or [BatchStatistics(list(range(len(self))), None)]


class NetworkSites(NamedTuple):
    """A network and the sites to explain, prepared for this network."""

    model: PerturbationClassifier
    sites: ExplainedSites


@contextlib.contextmanager
def freeze(model: PerturbationClassifier) -> Iterator[None]:
    """Hold the network in evaluation mode without parameter gradients.

    Mode and gradient flags are restored afterwards. In evaluation mode the norms use their running statistics, so the
    explanation of a site does not depend on the other sites of its batch, and the backward pass recomputes nothing.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with eval_mode(model):
        try:
            for parameter in trainable:
                parameter.requires_grad = False
            yield
        finally:
            for parameter in trainable:
                parameter.requires_grad = True


def check_targets(model: PerturbationClassifier, targets: torch.Tensor) -> None:
    """Refuse targets that are not outputs of the network.

    Raises:
        ExplanationError: A target is not an output of the network.
    """
    n_outputs = model.config.n_perturbations
    wrong = ((targets < 0) | (targets >= n_outputs)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ExplanationError(
            f"Row {row} has the target {int(targets[row])}; expected an index from 0 to {n_outputs - 1}, one of the "
            f"{n_outputs} columns of the logits."
        )


def target_of(name: str, perturbations: Sequence[str]) -> int:
    """Return the index of a perturbation among the model's logits.

    Raises:
        ExplanationError: The network has no such output; the message names similar ones.
    """
    if name not in perturbations:
        message = f"The network never saw a perturbation {brief(name)!r}, so it has no output to explain. "
        raise ExplanationError(message + did_you_mean(name, perturbations))
    return list(perturbations).index(name)


def _rows_of(images: Tensor | None, rows: list[int]) -> Tensor | None:
    """Return the images of some sites; one image for all sites stays as it is."""
    return images if images is None or len(images) == 1 else images[rows]
