"""A network held still while it is explained.

Sites to be explained, ready for the network, and the batches they are run in.
"""

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


@contextlib.contextmanager
def freeze(model: PerturbationClassifier) -> Iterator[None]:
    """Hold the network in evaluation mode without parameter gradients.

    Mode and gradient flags are restored afterwards.

    In evaluation mode the norms use their running statistics, so that a site's explanation does not depend on
    the sites beside it, and nothing is recomputed in the backward pass.
    """
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with eval_mode(model):
        try:
            for parameter in asking:
                parameter.requires_grad = False
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad = True


def check_targets(model: PerturbationClassifier, targets: torch.Tensor) -> None:
    """Refuse a perturbation that the network does not know.

    Raises:
        ExplanationError: Names the first wrong one and its row.
    """
    known = model.config.n_perturbations
    wrong = ((targets < 0) | (targets >= known)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ExplanationError(
            f"Row {row} asks for perturbation {int(targets[row])}; the model knows {known}, from 0 to {known - 1}. "
            "Give the index of a column of its logits."
        )


NEEDED = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "perturbation", "predicted")


def target_of(name: str, perturbations: Sequence[str]) -> int:
    """Return the index of a perturbation among the model's logits.

    Raises:
        ExplanationError: The model never saw it; the nearest names are offered.
    """
    if name not in perturbations:
        message = f"The network never saw a perturbation {brief(name)!r}, so it has no output to explain. "
        raise ExplanationError(message + did_you_mean(name, perturbations))
    return list(perturbations).index(name)


@dataclass(frozen=True, kw_only=True)
class SiteBatch:
    """Sites that go through the network together, on its device.

    Attributes:
        images: Standardised intensities.
        targets: Index of the perturbation to explain, per site.
        cell_types: One-hot cell type per site; None for a network that is not told the cell type.
        references: Control features that the network subtracts, per site; None for a network without that correction.
        controls: Standardised images of control wells of the same plate, one per site or one for all; None without.
        others: Standardised images of any other wells of the same plate, one per site or one for all; None without.
        lent: Batch-norm statistics of their plate; None for the running ones.
        rows: Positions in the table of all chosen sites; empty for a batch without a table.
    """

    images: Images
    targets: Labels
    cell_types: CellTypes | None = None
    references: References | None = None
    controls: Float[Tensor, "control _ _ _"] | None = None
    others: Float[Tensor, "other _ _ _"] | None = None
    lent: NormStatistics | None = None
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.images.device

    @contextlib.contextmanager
    def norms_of_plate(self, model: PerturbationClassifier) -> Iterator[None]:
        """Run the network with the batch-norm statistics of the plate, inside a `with`."""
        with use_statistics(model, self.lent):
            yield

    def logits(self, model: PerturbationClassifier, images: Images | None = None) -> Logits:
        """Return the logits of the sites, or of other images there, float32.

        Args:
            model: The network; evaluation mode and its gradient flags are restored.
            images: One per site; None for their own.
        """
        with freeze(model), torch.no_grad(), self.norms_of_plate(model):
            shown = self.images if images is None else images
            logits: Tensor = model(shown, self.cell_types, self.references).logits.float()
        return logits


class BatchStatistics(NamedTuple):
    """Sites that are normalised with the same batch-norm statistics.

    Attributes:
        rows: Their positions in the table of all chosen sites.
        statistics: Those of their plate; None for the running ones.
    """

    rows: list[int]
    statistics: NormStatistics | None


@dataclass(frozen=True, kw_only=True)
class ExplainedSites:
    """Sites to explain, one row of everything per row of the table.

    Attributes:
        table: The `Metadata_*` columns, `perturbation` and `predicted`.
        images: Standardised as the model was trained.
        raw: The same images as they were read, uint8 or uint16.
        cell_types: One-hot cell type per site; None for a network that is not told the cell type.
        targets: Index of the perturbation to explain, per site.
        channels: Names of the channels.
        perturbations: Names of the model's logits.
        references: Control features that the network subtracts, per site; None for a network without that correction.
        controls: Standardised images of control wells of the same plate: one per site or one for all; None without.
        others: Standardised images of any other wells of the same plate: one per site or one for all; None without.
        untreated: Sites of control wells, one per well, whose target is chosen by the same rule: their channel scores
            are the null of those of the sites. None without.
        norms: Batch-norm statistics by group of rows, every row in one group; None: the running ones for all.

    Raises:
        ExplanationError: Rows, images, targets or names that do not belong together.
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
    others: Float[Tensor, "other _ _ _"] | None = None
    untreated: "ExplainedSites | None" = None
    norms: Sequence[BatchStatistics] | None = None

    def __post_init__(self) -> None:
        rows = {
            "rows": len(self.table),
            "images": len(self.images),
            "targets": len(self.targets),
            "raw images": len(self.raw),
        }
        if len(set(rows.values())) > 1 or not len(self.table):
            raise ExplanationError(f"Expected one image and one target per row and at least one row, found {rows}.")
        if not self.images.shape[1] == self.raw.shape[1] == len(self.channels):
            raise ExplanationError(
                f"{len(self.channels)} channel names, {self.images.shape[1]} channels of images, "
                f"{self.raw.shape[1]} of raw images."
            )
        missing = [name for name in NEEDED if name not in self.table.columns]
        if missing:
            raise ExplanationError(f"The table of sites lacks {missing}. Give the rows of `Predictions.table`.")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return int(self.raw.shape[2]), int(self.raw.shape[3])

    def fit(self, model: PerturbationClassifier) -> None:
        """Check that the targets are outputs of this network.

        Raises:
            ExplanationError: The names of the perturbations are not its.
        """
        if len(self.perturbations) != model.config.n_perturbations:
            raise ExplanationError(
                f"{len(self.perturbations)} names of perturbations for a model of {model.config.n_perturbations}."
            )

    def take(self, rows: Sequence[int]) -> "ExplainedSites":
        """Return some of the sites, in the order asked for, each at most once.

        Args:
            rows: Positions in the table.
        """
        chosen, place = list(rows), {row: k for k, row in enumerate(rows)}
        norms = None
        if self.norms is not None:
            groups = [
                BatchStatistics([place[row] for row in group.rows if row in place], group.statistics)
                for group in self.norms
            ]
            norms = [group for group in groups if group.rows]
        return dataclasses.replace(
            self,
            table=self.table.iloc[chosen].reset_index(drop=True),
            images=self.images[chosen],
            raw=self.raw[chosen],
            cell_types=None if self.cell_types is None else self.cell_types[chosen],
            targets=self.targets[chosen],
            references=None if self.references is None else self.references[chosen],
            controls=_beside(self.controls, chosen),
            others=_beside(self.others, chosen),
            norms=norms,
        )

    def n_pieces(self, *, at_once: int) -> int:
        """Return how many batches `pieces` gives."""
        return sum(-(-len(group.rows) // at_once) for group in self._groups())

    def pieces(self, *, at_once: int, device: torch.device) -> Iterator[SiteBatch]:
        """Yield all sites in batches, each with one set of statistics."""
        for group in self._groups():
            for start in range(0, len(group.rows), at_once):
                rows = group.rows[start : start + at_once]
                controls, others = (_beside(images, rows) for images in (self.controls, self.others))
                yield SiteBatch(
                    rows=rows,
                    images=self.images[rows].to(device),
                    cell_types=None if self.cell_types is None else self.cell_types[rows].to(device),
                    targets=self.targets[rows].to(device),
                    references=None if self.references is None else self.references[rows].to(device),
                    controls=None if controls is None else controls.to(device),
                    others=None if others is None else others.to(device),
                    lent=group.statistics,
                )

    def map(
        self, function: Callable[[SiteBatch], Mapping[str, np.ndarray]], *, at_once: int, device: torch.device
    ) -> dict[str, np.ndarray]:
        """Apply a function to every batch; return its arrays in table order.

        Args:
            function: Takes a batch; returns arrays by name, one row per site of the batch.
            at_once: Sites in one batch.
            device: Where the batches lie.
        """
        order: list[int] = []
        results: list[Mapping[str, np.ndarray]] = []
        for piece in self.pieces(at_once=at_once, device=device):
            results.append(function(piece))
            order += piece.rows
        back = np.argsort(order)
        return {name: np.concatenate([result[name] for result in results])[back] for name in results[0]}

    def _groups(self) -> Sequence[BatchStatistics]:
        return self.norms or [BatchStatistics(list(range(len(self))), None)]


class NetworkSites(NamedTuple):
    """A network and the sites to explain as this network takes them."""

    model: PerturbationClassifier
    sites: ExplainedSites


def _beside(images: Tensor | None, rows: list[int]) -> Tensor | None:
    """Return the images of some sites; an image for all sites stays one."""
    return images if images is None or len(images) == 1 else images[rows]
