"""Predict a screen on workers of Ray, each with its plates alone."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distangle.core.allocator import keep_freed_memory
from distangle.core.io import sha256_of
from distangle.core.partitions import Outcome, RayWorkers, in_order, map_on_ray
from distangle.core.progress import no_progress
from distangle.errors import DistangleError, RunError
from distangle.images import ImageCache
from distangle.images.readers.common import n_retries
from distangle.inference.parts import PartPredictor
from distangle.inference.predict import PredictionOptions, part_predictor
from distangle.inference.statistics import ExperimentStatistics, Results
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, load_model
from distangle.model.checkpoint import NormStatisticsChoice
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
            network=self._network,
            options=PredictionOptions(views=tuple(predictor.views), norms=predictor.norms),
            parts=PartFolder(parts.folder.resolve(), parts.plan, parts.origin),
        )
        plates = ((number, _plates_of(predictor.store, parts.plan[number], number)) for number in numbers)
        return map_on_ray(functools.partial(_open, job), plates, workers=self.ray)

    def compute_statistics(self, task: ExperimentStatistics) -> Results:
        """Yield the batch-norm statistics of experiments, in their order.

        An experiment that fails does not stop the others.

        Args:
            task: The network and the images; each worker opens its own.

        Raises:
            RunError: Some experiments failed.
        """
        experiments = task.experiments()
        known = dict.fromkeys(task.known.index_of_plate)
        job = _StatisticsJob(
            network=self._network,
            choice=task.choice,
            known=PlateBatchNorm(task.known.by, known, (), (), (), task.known.contrast),
        )
        plates = ((number, _plates_of(task.store, rows, number)) for number, rows in enumerate(experiments))
        failures: dict[int, DistangleError] = {}
        outcomes = map_on_ray(functools.partial(_open_statistics, job), plates, workers=self.ray)
        with contextlib.closing(outcomes):
            for number, norms in in_order(outcomes, failures):
                yield experiments[number], norms
        if failures:
            names = task.store.screen.sites["experiment"]
            listed = "; ".join(f"{names.iat[experiments[k][0]]}: {error}" for k, error in sorted(failures.items()))
            raise RunError(
                f"The batch-norm statistics of {len(failures)} of {len(experiments)} experiments failed: {listed} "
                "Nothing was predicted. Check the workers and their storage, then run the same command again."
            )

    @property
    def _network(self) -> "_NetworkFile":
        return _NetworkFile(weights=self.weights.resolve(), sha256=sha256_of(self.weights), device=self.device)


@dataclass(frozen=True, kw_only=True)
class _NetworkFile:
    """The network that every worker loads.

    Attributes:
        weights: File of the weights.
        sha256: Its SHA-256.
        device: Device to compute on.
    """

    weights: Path
    sha256: str
    device: str | None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What all workers need that predict parts.

    Attributes:
        network: The network.
        options: Views and batch-norm statistics.
        parts: Folder of the parts.
    """

    network: _NetworkFile
    options: PredictionOptions
    parts: PartFolder


@dataclass(frozen=True, kw_only=True)
class _StatisticsJob:
    """What all workers need that compute batch-norm statistics.

    Attributes:
        network: The network.
        choice: Whose statistics, and how many sites they need.
        known: Plates that have statistics, without them, and the contrast.
    """

    network: _NetworkFile
    choice: NormStatisticsChoice
    known: PlateBatchNorm


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


def _plates_of(store: ImageCache, rows: Sequence[int] | np.ndarray, number: int) -> _Plates:
    folder = store.screen.folder
    positions = np.asarray(rows, dtype=np.int64)
    screen = dataclasses.replace(
        store.screen,
        sites=store.screen.sites.iloc[positions].reset_index(drop=True),
        problems=store.screen.problems.iloc[:0],
        folder=None if folder is None else folder.resolve(),
    )
    fold = None if store.fold is None else np.asarray(store.fold)[positions]
    return _Plates(number=number, screen=screen, fold=fold)


def _open(job: _Job) -> Callable[[_Plates], int]:
    """Load the network of a job in a worker.

    Raises:
        RunError: The worker sees other weights.
    """
    return functools.partial(_predict, job, *_load(job.network))


def _open_statistics(job: _StatisticsJob) -> Callable[[_Plates], PlateBatchNorm]:
    """Load the network of a job in a worker, for batch-norm statistics.

    Raises:
        RunError: The worker sees other weights.
    """
    return functools.partial(_compute_statistics, job, *_load(job.network))


def _load(network: _NetworkFile) -> tuple[PerturbationClassifier, ModelCard]:
    weights = network.weights
    if not weights.exists() or sha256_of(weights) != network.sha256:
        raise RunError(
            f"the worker does not see the same {weights} as this machine. Put the run and the screen on a storage "
            "that all nodes share."
        )
    keep_freed_memory()
    model, card = load_model(weights)
    if network.device is not None:
        set_device(network.device)
    model.to(inference_device())
    return model, card


def _compute_statistics(
    job: _StatisticsJob, model: PerturbationClassifier, card: ModelCard, plates: _Plates
) -> PlateBatchNorm:
    """Compute the batch-norm statistics of the plates of one experiment in a worker."""
    store = ImageCache(plates.screen, card.preprocessing, fold=plates.fold)
    try:
        task = ExperimentStatistics(model=model, card=card, store=store, choice=job.choice, known=job.known)
        return task.compute(range(len(plates.screen.sites)))
    finally:
        store.close()


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
