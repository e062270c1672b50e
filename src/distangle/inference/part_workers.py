"""Predict the parts of a screen on workers of Ray, each with its plates alone."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distangle.core.allocator import keep_freed_memory
from distangle.core.io import sha256_of
from distangle.core.partitions import Outcome, RayWorkers, map_on_ray
from distangle.core.progress import no_progress
from distangle.errors import RunError
from distangle.images import ImageCache
from distangle.images.readers.common import n_retries
from distangle.inference.parts import PartPredictor
from distangle.inference.predict import PredictionOptions, part_predictor
from distangle.model import ModelCard, PerturbationClassifier, load_model
from distangle.model.device import inference_device, set_device
from distangle.results.prediction_parts import PartFolder
from distangle.screen import Screen


@dataclass(frozen=True, kw_only=True)
class PartWorkers:
    """Workers that predict the parts of a screen.

    Attributes:
        weights: File of the weights of the network, which every worker reads.
        device: Device that each worker computes on; None for the default.
        ray: How many workers.
    """

    weights: Path
    device: str | None
    ray: RayWorkers

    def predict(
        self, predictor: PartPredictor, parts: PartFolder, numbers: Sequence[int]
    ) -> Generator[Outcome[int], None, None]:
        """Predict parts, and write each to its file.

        Args:
            predictor: The network and the images; each worker opens its own.
            parts: Their folder, which the workers see.
            numbers: Of the parts.

        Yields:
            The number of retried reads of each part.
        """
        job = _Job(
            weights=self.weights.resolve(),
            weights_sha256=sha256_of(self.weights),
            device=self.device,
            options=PredictionOptions(views=tuple(predictor.views), norms=predictor.norms),
            parts=PartFolder(parts.folder.resolve(), parts.plan, parts.origin),
        )
        plates = ((number, _plates_of(predictor, parts.plan[number], number)) for number in numbers)
        return map_on_ray(functools.partial(_open, job), plates, workers=self.ray)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What all workers need.

    Attributes:
        weights: File of the weights.
        weights_sha256: Its SHA-256.
        device: Device to compute on.
        options: Views and batch-norm statistics.
        parts: Folder of the parts.
    """

    weights: Path
    weights_sha256: str
    device: str | None
    options: PredictionOptions
    parts: PartFolder


@dataclass(frozen=True, kw_only=True)
class _Plates:
    """The whole plates of one part.

    Attributes:
        number: Of the part.
        screen: Their sites alone.
        fold: Fold of each site; None if the screen is one fold.
    """

    number: int
    screen: Screen
    fold: np.ndarray | None


def _plates_of(predictor: PartPredictor, rows: np.ndarray, number: int) -> _Plates:
    store = predictor.store
    folder = store.screen.folder
    screen = dataclasses.replace(
        store.screen,
        sites=store.screen.sites.iloc[rows].reset_index(drop=True),
        problems=store.screen.problems.iloc[:0],
        folder=None if folder is None else folder.resolve(),
    )
    return _Plates(number=number, screen=screen, fold=None if store.fold is None else np.asarray(store.fold)[rows])


def _open(job: _Job) -> Callable[[_Plates], int]:
    """Load the network of a job in a worker.

    Raises:
        RunError: The worker sees other weights.
    """
    if not job.weights.exists() or sha256_of(job.weights) != job.weights_sha256:
        raise RunError(
            f"the worker does not see the same {job.weights} as this machine. Put the run and the screen on a storage "
            "that all nodes share."
        )
    keep_freed_memory()
    model, card = load_model(job.weights)
    if job.device is not None:
        set_device(job.device)
    model.to(inference_device())
    return functools.partial(_predict, job, model, card)


def _predict(job: _Job, model: PerturbationClassifier, card: ModelCard, plates: _Plates) -> int:
    """Predict and write one part in a worker; return the number of retried reads."""
    before = n_retries()
    store = ImageCache(plates.screen, card.preprocessing, fold=plates.fold)
    try:
        predictor = part_predictor(model, card, store, job.options)
        part = predictor.predict(np.arange(len(plates.screen.sites)), report=_report_nothing)
    finally:
        store.close()
    job.parts.write(plates.number, dataclasses.replace(part, rows=job.parts.plan[plates.number]))
    return n_retries() - before


def _report_nothing(n_sites: int) -> None:
    no_progress("")
