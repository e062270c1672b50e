"""Choose the batch-norm statistics that a run predicts with."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from distangle.core.io import sha256_of
from distangle.images import ImageCache, fit_normalization
from distangle.inference.predict import cell_type_rows, check_fits
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, collect_plate_statistics
from distangle.results import RunFolder
from distangle.screen.plate_groups import AtTest

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
    at_test: AtTest | None = None,
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
        at_test: Whose statistics, instead of those the network was trained for.
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
    by = at_test or card.batch_norm.statistics
    if by == "running":
        return None
    check_fits(store.screen, card)
    rows, statistics = fit_normalization(store, list(range(len(store.screen.sites))))
    stored = None if reuse == "nothing" else load_statistics(run)
    if stored is not None and reuse == "contrast":
        stored = stored.without_plates()
    norms = collect_plate_statistics(
        model,
        store,
        rows,
        statistics,
        choice=replace(card.batch_norm, statistics=by),
        cell_types=lambda members: cell_type_rows(store.screen, members, card),
        stored=stored,
        training_rows=sorted(set(rows) & set(training)),
    )
    if norms is None:
        return None
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
