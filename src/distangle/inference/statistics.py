"""Choose the batch-norm statistics that a run predicts with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distangle.core.io import sha256_of
from distangle.core.progress import count_items
from distangle.images import ImageCache, control_rows, fit_normalization
from distangle.inference.predict import cell_type_rows, check_fits
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, collect_plate_statistics
from distangle.model.checkpoint import NormStatisticsChoice
from distangle.results import RunFolder
from distangle.screen import Screen
from distangle.screen.plate_groups import Plate, StatisticsSource, group_codes, plates_of
from distangle.screen.screen import PLATE_COLUMNS

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExperimentStatistics:
    """Compute the batch-norm statistics of plates, one experiment at a time.

    Attributes:
        model: Its mode and buffers are restored.
        card: Of the network.
        store: The images of the screen.
        choice: Whose statistics, and how many sites they need.
        known: Plates that have statistics, and the contrast for `controls`.
    """

    model: PerturbationClassifier
    card: ModelCard
    store: ImageCache
    choice: NormStatisticsChoice
    known: PlateBatchNorm

    def experiments(self) -> list[list[int]]:
        """Return the rows of each experiment with a plate without statistics."""
        store = self.store
        codes = group_codes(store.screen.sites, PLATE_COLUMNS[:1])
        by_experiment = [np.flatnonzero(codes == code).tolist() for code in range(codes.max(initial=-1) + 1)]
        known = set(self.known.index_of_plate)
        return [rows for rows in by_experiment if set(plates_of(store.screen, rows, store.fold)) - known]

    def compute(self, rows: Sequence[int]) -> PlateBatchNorm:
        """Compute the statistics of the plates of one experiment that are not known.

        One plate is in memory at a time. A plate with too few readable sites uses the statistics of its experiment,
        which is then read as a whole. Each image is decoded once for its plate (and once for its experiment, if it is
        used), as long as these fit in the cache.

        Args:
            rows: All sites of the experiment.
        """
        store, by = self.store, self.choice.statistics
        names = plates_of(store.screen, rows, store.fold)
        known = dict.fromkeys(sorted(set(names) & set(self.known.index_of_plate)))
        norms = PlateBatchNorm(by, known, (), (), (), self.known.contrast)
        members: dict[Plate, list[int]] = {}
        for row, plate in zip(rows, names, strict=True):
            if plate not in known:
                members.setdefault(plate, []).append(row)
        is_incomplete = by == "experiment"
        for plate in sorted(members) if by != "experiment" else ():
            sources = members[plate] if by == "plate" else control_rows(store.screen, members[plate]).tolist()
            if len(store.measure(sources)) < self.choice.min_sites:
                is_incomplete = True
                continue
            norms = self.collect(sources, so_far=norms)
            store.release(members[plate])
        if is_incomplete and members:
            norms = self.collect(rows, so_far=norms)
            store.release(rows)
        return replace(norms, index_of_plate={name: k for name, k in norms.index_of_plate.items() if name not in known})

    def collect(
        self, rows: Sequence[int], *, so_far: PlateBatchNorm, training_rows: Sequence[int] = ()
    ) -> PlateBatchNorm:
        """Return statistics with those of the plates of some sites.

        Args:
            rows: Sites of whole plates.
            so_far: Statistics that are kept.
            training_rows: Sites of the training, for the contrast.

        Raises:
            ConfigError: No training plate has enough controls.
        """
        readable, statistics = fit_normalization(self.store, sorted({*rows, *training_rows}))
        members = set(rows)
        result = collect_plate_statistics(
            self.model,
            self.store,
            [row for row in readable if row in members],
            statistics,
            choice=self.choice,
            cell_types=lambda batch: cell_type_rows(self.store.screen, batch, self.card),
            stored=so_far,
            training_rows=sorted(set(readable) & set(training_rows)),
        )
        return result or so_far


Results = Iterator[tuple[Sequence[int], PlateBatchNorm]]
"""The rows of each experiment, and the statistics of its plates, in the order of the experiments."""


def compute_here(task: ExperimentStatistics) -> Results:
    """Compute the statistics of one experiment after the other in this process."""
    for rows in task.experiments():
        yield rows, task.compute(rows)


def load_statistics(run: RunFolder) -> PlateBatchNorm | None:
    """Load the batch-norm statistics stored with the predictions of a run.

    None stands for the running statistics.

    Raises:
        WeightsError: The file is damaged.
    """
    return PlateBatchNorm.read(run.checkpoints, weights_sha256=_weights_sha256(run))


def stored_statistics(
    run: RunFolder, screen: Screen, by: StatisticsSource, *, with_plates: bool, say: Say
) -> PlateBatchNorm:
    """Return what a run has stored that serves for a screen; empty if nothing does.

    Args:
        run: The run.
        screen: The screen.
        by: Whose statistics.
        with_plates: Whether to use those of plates with the same experiment and plate name. Otherwise only the contrast
            between training plates and their controls: the plates of another screen are new whatever their names.
        say: Called with the plates whose statistics are used.

    Raises:
        WeightsError: The stored statistics are damaged.
    """
    stored = load_statistics(run)
    if stored is None or stored.by != by:
        return PlateBatchNorm(by, {}, (), ())
    if not with_plates:
        return stored.without_plates()
    names = zip(screen.sites["experiment"].astype(str), screen.sites["plate"].astype(str), strict=True)
    if common := sorted(set(names) & set(stored.index_of_plate)):
        say(
            f"norms: {run.root.name} has stored the batch-norm statistics of {len(common)} plate(s) "
            f"({', '.join(' '.join(plate) for plate in common[:4])}{', ...' if len(common) > 4 else ''})."
        )
    return stored


def statistics_for(
    model: PerturbationClassifier,
    card: ModelCard,
    store: ImageCache,
    stored: PlateBatchNorm,
    *,
    training: Sequence[int] = (),
    compute_all: Callable[[ExperimentStatistics], Results] = compute_here,
    say: Say,
) -> PlateBatchNorm:
    """Return the batch-norm statistics of every plate.

    Args:
        model: The network.
        card: Of the network.
        store: The images of the screen.
        stored: Statistics that are used as they are, and whose statistics the others are.
        training: Rows of the screen that the network was trained on, if the screen is its own.
        compute_all: Computes the statistics of all experiments.
        say: Called with each plate with too few sites.

    Raises:
        RunError: The screen does not fit the network.
        ConfigError: No training plate has enough controls.
    """
    check_fits(store.screen, card)
    choice = replace(card.batch_norm, statistics=stored.by)
    task = ExperimentStatistics(model=model, card=card, store=store, choice=choice, known=stored)
    if stored.by == "controls" and not stored.contrast:
        task = replace(task, known=task.collect([], so_far=stored, training_rows=training))
        store.release(training)
    norms = task.known
    n_sites = sum(len(rows) for rows in task.experiments())
    count, n_done = count_items("computing batch-norm statistics", n_sites, "sites"), 0
    for rows, result in compute_all(task):
        norms = norms.join(result)
        n_done += len(rows)
        count(n_done)
    for remark in norms.remarks:
        say(remark)
    return norms


def save_statistics(run: RunFolder, norms: PlateBatchNorm | None) -> list[Path]:
    """Save the batch-norm statistics of a run; None removes stored ones.

    Returns:
        The files written or removed.
    """
    if norms is not None:
        return norms.write(run.checkpoints, weights_sha256=_weights_sha256(run))
    return PlateBatchNorm.remove(run.checkpoints)


def _weights_sha256(run: RunFolder) -> str:
    return sha256_of(run.checkpoints / "model.safetensors")
