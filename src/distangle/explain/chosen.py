"""The sites to be explained, ready for the network, in pieces that fit into memory."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distangle.axes import CellTypes, Images, Labels, Logits, References
from distangle.errors import ExplanationError, brief, nearest
from distangle.explain.frozen import frozen
from distangle.model import NormStatistics, PerturbationClassifier, lent_statistics

NEEDED = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "perturbation", "predicted")


def target_of(name: str, perturbations: Sequence[str]) -> int:
    """Return the index of a perturbation among the model's logits.

    Raises:
        ExplanationError: The model never saw it; the nearest names are offered.
    """
    if name not in perturbations:
        message = f"The network never saw a perturbation {brief(name)!r}, so it has no output to explain. "
        raise ExplanationError(message + nearest(name, perturbations))
    return list(perturbations).index(name)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Sites that go through the network together, on its device.

    Attributes:
        rows: Their positions in the table of all chosen sites.
        images: Standardised intensities.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them.
        controls: Standardised images of untreated wells, one per site or one for all; None where there are none.
        others: Standardised images of other wells of the same plate, the same.
        lent: Norm statistics of their plate; None for the running ones.
    """

    rows: list[int]
    images: Images
    cell_types: CellTypes | None
    targets: Labels
    references: References | None
    controls: Float[Tensor, "control _ _ _"] | None
    others: Float[Tensor, "other _ _ _"] | None
    lent: NormStatistics | None

    @contextlib.contextmanager
    def norms_of_plate(self, model: PerturbationClassifier) -> Iterator[None]:
        """Lend the network the norm statistics that these sites are predicted with."""
        with lent_statistics(model, self.lent):
            yield

    def logits(self, model: PerturbationClassifier, images: Images | None = None) -> Logits:
        """Return what the network says of the sites, with other images in the place of their own if given.

        Args:
            model: Left as it was found.
            images: One per site; None for their own.
        """
        with frozen(model), torch.no_grad(), self.norms_of_plate(model):
            shown = self.images if images is None else images
            logits: Tensor = model(shown, self.cell_types, self.references).logits.float()
        return logits


@dataclass(frozen=True, kw_only=True)
class ChosenSites:
    """Sites with all that an explanation of them needs; one row of everything per row of the table.

    Attributes:
        table: The `Metadata_*` columns, `perturbation` and `predicted`.
        images: Standardised as the model was trained.
        raw: The same images as they were read, uint8 or uint16.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        channels: Names of the channels.
        perturbations: Names of the model's logits.
        references: As the model takes them.
        controls: Standardised images of untreated wells: one per site or one for all; None where there are none.
        others: Standardised images of other wells of the same plate, whatever was done there: the same.
        untreated: Sites of untreated wells, one per well, with what is to be explained of them chosen as for these:
            what the values of the stains are where nothing was done. None where there are none.
        norms: Rows of the table with the norm statistics of their plate, every row once; None: the running ones.

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
    untreated: "ChosenSites | None" = None
    norms: Sequence[tuple[list[int], NormStatistics | None]] | None = None

    def __post_init__(self) -> None:
        rows = {
            "rows": len(self.table),
            "images": len(self.images),
            "targets": len(self.targets),
            "raw images": len(self.raw),
        }
        if len(set(rows.values())) > 1 or not len(self.table):
            message = f"Expected one image and one target per row and at least one row, found {rows}."
            raise ExplanationError(message)
        if not self.images.shape[1] == self.raw.shape[1] == len(self.channels):
            message = (
                f"{len(self.channels)} channel names, {self.images.shape[1]} channels of images, "
                f"{self.raw.shape[1]} of raw images."
            )
            raise ExplanationError(message)
        missing = [name for name in NEEDED if name not in self.table.columns]
        if missing:
            message = f"The table of sites lacks {missing}. Give the rows of `Predictions.table`."
            raise ExplanationError(message)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return int(self.raw.shape[2]), int(self.raw.shape[3])

    def fit(self, model: PerturbationClassifier) -> None:
        """Check that these are sites for this network.

        Raises:
            ExplanationError: The names of the perturbations are not its.
        """
        if len(self.perturbations) != model.config.n_perturbations:
            message = f"{len(self.perturbations)} names of perturbations for a model of {model.config.n_perturbations}."
            raise ExplanationError(message)

    def take(self, rows: Sequence[int]) -> "ChosenSites":
        """Return some of the sites, in the order asked for, each at most once.

        Args:
            rows: Positions in the table.
        """
        chosen, place = list(rows), {row: k for k, row in enumerate(rows)}
        norms = None
        if self.norms is not None:
            members = [([place[row] for row in group if row in place], lent) for group, lent in self.norms]
            norms = [(group, lent) for group, lent in members if group]
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
        """Return how many pieces `pieces` gives."""
        return sum(-(-len(members) // at_once) for members, _ in self.norms or [(list(range(len(self))), None)])

    def pieces(self, *, at_once: int, device: torch.device) -> Iterator[Piece]:
        """Give all sites, at most `at_once` together, those of one plate's norm statistics by themselves."""
        for members, lent in self.norms or [(list(range(len(self))), None)]:
            for start in range(0, len(members), at_once):
                rows = members[start : start + at_once]
                controls, others = (_beside(images, rows) for images in (self.controls, self.others))
                yield Piece(
                    rows=rows,
                    images=self.images[rows].to(device),
                    cell_types=None if self.cell_types is None else self.cell_types[rows].to(device),
                    targets=self.targets[rows].to(device),
                    references=None if self.references is None else self.references[rows].to(device),
                    controls=None if controls is None else controls.to(device),
                    others=None if others is None else others.to(device),
                    lent=lent,
                )


def _beside(images: Tensor | None, rows: list[int]) -> Tensor | None:
    """Of images one per site those of some sites; one for all stays one."""
    return images if images is None or len(images) == 1 else images[rows]
