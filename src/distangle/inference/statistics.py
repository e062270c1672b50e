"""Choose the batch-norm statistics that a run predicts with.

They are those it keeps, or those of the screen that is predicted.
"""

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
    """Load the batch-norm statistics of the predictions of a run.

    None: the running ones.

    Raises:
        WeightsError: They are damaged.
    """
    return PlateBatchNorm.read(run.checkpoints, weights_sha256=_weights(run))


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
    """Return the statistics of every plate of a screen.

    Args:
        run: Keeps what was computed before.
        model: Its network.
        card: Of the network.
        store: The images of the screen.
        at_test: Whose statistics, instead of what the network was trained for.
        reuse: Which stored statistics of the run are used. `plates`: those of plates with the same experiment and
            plate name. `contrast`: only the contrast between training plates and their controls, for another screen,
            whose plates are new whatever their names.
        training: Rows of the screen that the network was trained on, if they are its own.
        say: Told of every plate that is known, and of every one with too few sites.

    Raises:
        RunError: The screen does not fit the network.
        WeightsError: The kept statistics are damaged.
        ConfigError: The controls of no training plate can be compared with their plate.
    """
    by = at_test or card.norms.statistics
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
        choice=replace(card.norms, statistics=by),
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
            f"norms: the statistics of {len(common)} plate(s) are those that {run.root.name} keeps "
            f"({', '.join(' '.join(plate) for plate in common[:4])}{', ...' if len(common) > 4 else ''})."
        )
    for remark in norms.remarks:
        say(remark)
    return norms


def save_statistics(run: RunFolder, norms: PlateBatchNorm | None) -> list[Path]:
    """Save the batch-norm statistics of the predictions of a run.

    Nothing is saved for the running ones.

    Returns:
        The files written or removed.
    """
    if norms is not None:
        return norms.write(run.checkpoints, weights_sha256=_weights(run))
    return PlateBatchNorm.remove(run.checkpoints)


def _weights(run: RunFolder) -> str:
    return sha256_of(run.checkpoints / "model.safetensors")
