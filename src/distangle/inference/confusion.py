"""Count the sites of each true class by their predicted class."""

from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.core.io import atomic_write
from distangle.inference.control_checks import UNSEEN
from distangle.results import Predictions
from distangle.results.confusion import CONFUSION_FILE, MAX_MATRIX


def is_scored(table: pd.DataFrame, trained: Set[str]) -> pd.Series:
    """Return whether each row is unseen and readable, with a trained label."""
    unseen = table["Metadata_Fold"].isin(UNSEEN)
    return unseen & table["perturbation"].isin(trained) & (table["reason"] == "")


def count_predictions(truth: pd.Series, predicted: pd.Series, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Count predictions by true class (rows) and predicted class (columns).

    Args:
        truth: Name of the class of each site.
        predicted: Name of its predicted class.
        classes: All names, in order.

    Returns:
        The classes that occur or are predicted, and their counts, int [class, class].
    """
    occurring = set(truth.unique()) | set(predicted.unique())
    names = [name for name in classes if name in occurring]
    index = pd.Index(names, dtype=object)
    rows, columns = (index.get_indexer(pd.Index(part, dtype=object)) for part in (truth, predicted))
    inside = (rows >= 0) & (columns >= 0)
    cells = rows[inside] * len(names) + columns[inside]
    return names, np.bincount(cells, minlength=len(names) ** 2).reshape(len(names), len(names))


def write_confusion(sites: Predictions, trained: Set[str], classes: Sequence[str], *, folder: Path) -> list[Path]:
    """Write the full counts of many classes as Parquet; return the path.

    Few classes have them in `scores.json`, and no file.

    Args:
        sites: Predictions of sites.
        trained: Classes with a training site.
        classes: All names, in order.
        folder: Where `scores.json` is.
    """
    scored = sites.table[is_scored(sites.table, trained)]
    names, counts = count_predictions(scored["perturbation"], scored["predicted"], classes)
    if len(names) <= MAX_MATRIX:
        return []
    rows, columns = np.nonzero(counts)
    labels = np.array(names, dtype=object)
    table = pd.DataFrame({"perturbation": labels[rows], "predicted": labels[columns], "n": counts[rows, columns]})
    with atomic_write(folder / CONFUSION_FILE) as temporary:
        table.to_parquet(temporary, index=False)
    return [folder / CONFUSION_FILE]
