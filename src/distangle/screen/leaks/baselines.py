"""Predict labels without looking at a cell: the most frequent label of a place."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from distangle.screen.plate import split_well
from distangle.screen.table import WELL_COLUMNS


def guess_by_place(
    places: pd.DataFrame, labels: Sequence[str] | np.ndarray, training: np.ndarray
) -> dict[str, np.ndarray]:
    """Predict every row by its place alone, from the rows of the training.

    `position`: the most frequent label in the wells of the same row and column: of the same experiment where other
    plates of it were trained on, else of plates of the same name, else of any. `plate`: the most frequent label of the
    plate, or of plates of the same name. Where neither was trained on, the most frequent label of all. Ties go to the
    label that comes first in the training.

    Args:
        places: With the columns `experiment`, `plate` and `well`.
        labels: Of every row; those of the training are looked at.
        training: Whether a row is for training, bool [row].

    Returns:
        A label for every row by each; empty without a training row.
    """
    known = np.asarray(training, dtype=bool)
    if not known.any():
        return {}
    columns = [places[name].astype(str).tolist() for name in WELL_COLUMNS]
    keys = [(e, p, split_well(w) or w) for e, p, w in zip(*columns, strict=True)]
    names = np.asarray(labels, dtype=object)
    by_position = _guess([[(e, "", w), ("", p, w), w] for e, p, w in keys], names, known)
    by_plate = _guess([[(e, p), p] for e, p, _ in keys], names, known)
    return {"position": by_position, "plate": by_plate}


def _guess(keys: Sequence[Sequence[Hashable]], labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each row's first key that training has."""
    counts: dict[tuple[int, Hashable], Counter[str]] = defaultdict(Counter)
    for row in np.flatnonzero(known).tolist():
        for depth, key in enumerate(keys[row]):
            counts[depth, key][labels[row]] += 1
    best = {key: count.most_common(1)[0][0] for key, count in counts.items()}
    usual = Counter(labels[known].tolist()).most_common(1)[0][0]
    guessed = [next((best[depth, key] for depth, key in enumerate(own) if (depth, key) in best), usual) for own in keys]
    return np.array(guessed, dtype=object)
