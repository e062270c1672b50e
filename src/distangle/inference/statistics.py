"""Choose the batch-norm statistics that a run predicts with."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from distangle.core.io import sha256_of
from distangle.images import ImageCache, control_rows, fit_normalization
from distangle.inference.predict import cell_type_rows, check_fits
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, collect_plate_statistics
from distangle.model.checkpoint import NormStatisticsChoice
from distangle.results import RunFolder
from distangle.screen.plate_groups import Plate, StatisticsSource, group_codes, plates_of
from distangle.screen.screen import PLATE_COLUMNS

Say = Callable[[str], None]


def load_statistics(run: RunFolder) -> PlateBatchNorm | None:
    """Load the batch-norm statistics stored with the predictions of a run.

    None stands for the running statistics.

    Raises:
        WeightsError: The file is damaged.
    """
    return PlateBatchNorm.read(run.checkpoints, weights_sha256=_weights_sha256(run))


def statistics_for(
    run: RunFolder,
    model: PerturbationClassifier,
    card: ModelCard,
    store: ImageCache,
    *,
    statistics_source: StatisticsSource | None = None,
    reuse: Literal["nothing", "contrast", "plates"] = "nothing",
    training: Sequence[int] = (),
    say: Say,
) -> PlateBatchNorm | None:
    """Return the batch-norm statistics of every plate; None for the running ones.

    Args:
        run: Has the stored statistics.
        model: Its network.
        card: Of the network.
        store: The images of the screen.
        statistics_source: Whose statistics, instead of those the network was trained for.
        reuse: Which stored statistics of the run are used. `plates`: those of plates with the same experiment and
            plate name. `contrast`: only the contrast between training plates and their controls, for another screen,
            whose plates are new whatever their names.
        training: Rows of the screen that the network was trained on, if the screen is its own.
        say: Called with the plates whose statistics are reused, and with each plate with too few sites.

    Raises:
        RunError: The screen does not fit the network.
        WeightsError: The stored statistics are damaged.
        ConfigError: No training plate has enough controls.
    """
    by = statistics_source or card.batch_norm.statistics
    if by == "running":
        return None
    check_fits(store.screen, card)
    stored = None if reuse == "nothing" else load_statistics(run)
    if stored is not None and reuse == "contrast":
        stored = stored.without_plates()
    choice = replace(card.batch_norm, statistics=by)
    norms = _plate_by_plate(model, card, store, choice=choice, stored=stored, training=training)
    plates = set(
        zip(store.screen.sites["experiment"].astype(str), store.screen.sites["plate"].astype(str), strict=True)
    )
    if stored is not None and stored.by == by and (common := sorted(plates & set(stored.index_of_plate))):
        say(
            f"norms: {run.root.name} has stored the batch-norm statistics of {len(common)} plate(s) "
            f"({', '.join(' '.join(plate) for plate in common[:4])}{', ...' if len(common) > 4 else ''})."
        )
    for remark in norms.remarks:
        say(remark)
    return norms


def _plate_by_plate(
    model: PerturbationClassifier,
    card: ModelCard,
    store: ImageCache,
    *,
    choice: NormStatisticsChoice,
    stored: PlateBatchNorm | None,
    training: Sequence[int],
) -> PlateBatchNorm:
    """Compute the statistics of all plates with the images of one plate in memory.

    A plate with too few readable sites uses those of its experiment, which is then read as a whole. Each image is
    decoded once for its plate (and once for its experiment, if it is used), as long as these fit in the cache.

    Raises:
        ConfigError: No training plate has enough controls.
    """
    by = choice.statistics
    norms = stored if stored is not None and stored.by == by else PlateBatchNorm(by, {}, (), ())

    def collect(rows: Sequence[int], *, so_far: PlateBatchNorm, training_rows: Sequence[int] = ()) -> PlateBatchNorm:
        readable, statistics = fit_normalization(store, sorted({*rows, *training_rows}))
        result = collect_plate_statistics(
            model,
            store,
            [row for row in readable if row in set(rows)],
            statistics,
            choice=choice,
            cell_types=lambda members: cell_type_rows(store.screen, members, card),
            stored=so_far,
            training_rows=sorted(set(readable) & set(training_rows)),
        )
        return result or so_far

    if by == "controls" and not norms.contrast:
        norms = collect([], so_far=norms, training_rows=training)
        store.release(training)
    experiments = group_codes(store.screen.sites, PLATE_COLUMNS[:1])
    for code in range(experiments.max(initial=-1) + 1):
        experiment_rows = np.flatnonzero(experiments == code).tolist()
        plate_names = plates_of(store.screen, experiment_rows, store.fold)
        members: dict[Plate, list[int]] = {}
        for row, plate in zip(experiment_rows, plate_names, strict=True):
            if plate not in norms.index_of_plate:
                members.setdefault(plate, []).append(row)
        is_incomplete = by == "experiment"
        for plate in sorted(members) if by != "experiment" else ():
            rows = members[plate] if by == "plate" else control_rows(store.screen, members[plate]).tolist()
            if len(store.measure(rows)) < choice.min_sites:
                is_incomplete = True
                continue
            norms = collect(rows, so_far=norms)
            store.release(members[plate])
        if is_incomplete and members:
            norms = collect(experiment_rows, so_far=norms)
            store.release(experiment_rows)
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
