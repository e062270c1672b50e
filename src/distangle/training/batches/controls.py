"""The negative controls that stand beside training batches to steady their norms."""

from collections.abc import Callable

import numpy as np

from distangle.errors import FoldError
from distangle.images import ImageStore, measure_sites
from distangle.model.features import site_names
from distangle.screen import TRAIN, Folds
from distangle.screen.norm_groups import control_rows, plates_of
from distangle.training.batches.sites import TrainingSites, cell_types_of
from distangle.training.config import TrainingConfig


def control_sites(
    store: ImageStore, folds: Folds, config: TrainingConfig, *, say: Callable[[str], None]
) -> TrainingSites | None:
    """Find the readable negative controls of the training fold, without labels.

    Args:
        store: The images.
        folds: Which sites are for training.
        config: How many stand beside a batch.
        say: Told of plates with fewer controls than that.

    Raises:
        FoldError: The training fold has none.
    """
    n = config.norms.controls
    if n == 0:
        return None
    screen = store.screen
    fold = folds.of(screen)
    rows = [row for row in control_rows(screen) if fold[row] == TRAIN]
    readable, statistics = measure_sites(store, rows)
    if not readable:
        raise FoldError(
            f"norms.controls={n}, but none of the training sites is a readable negative control. Name the controls "
            f"when indexing, or set norms.controls=0."
        )
    kept = np.asarray(readable, dtype=int)
    trained = set(plates_of(screen, np.flatnonzero(fold == TRAIN).tolist()))
    found = {plate: 0 for plate in sorted(trained)}
    for plate in plates_of(screen, readable):
        found[plate] += 1
    few = [f"{' '.join(plate)} ({count})" for plate, count in found.items() if count < n]
    if few:
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        say(
            f"norms.controls={n}: {len(few)} of {len(found)} training plates have fewer readable controls "
            f"({', '.join(few[:4])}{more}); others of their experiment fill up, as far as there are any."
        )
    return TrainingSites(
        rows=kept,
        names=tuple(f"{name} beside" for name in site_names(screen, readable)),
        labels=np.full(len(kept), -1, dtype=np.int64),
        cell_types=cell_types_of(screen, kept, config),
        statistics=None if store.preparation.standardise == "image" else statistics[kept],
    )
