"""Counts of true and predicted classes: a matrix, or the largest errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distangle.core.untrusted_files import UnexpectedContent, check_type

CONFUSION_FILE = "confusion.parquet"
"""Full counts of many classes, beside `scores.json`: columns `perturbation`, `predicted` and `n`, without zeros."""
MAX_MATRIX = 64  # classes whose matrix is in `scores.json`; of 1,139 it would take 14 MB
N_LARGEST = 100  # errors that are listed of more classes


@dataclass(frozen=True, kw_only=True)
class ConfusionCounts:
    """What the `confusion` of scores says, in either form.

    Attributes:
        perturbations: The classes that occur or are predicted.
        n_sites: Sites of each true class, int [class].
        n_correct: Those predicted as their class, int [class].
        largest: (true, predicted, sites) of errors, most frequent first; all of a matrix, else `N_LARGEST`.
        matrix: Sites by true (row) and predicted class, int [class, class]; None for many classes.
    """

    perturbations: tuple[str, ...]
    n_sites: np.ndarray
    n_correct: np.ndarray
    largest: tuple[tuple[str, str, int], ...]
    matrix: np.ndarray | None


def summarize_confusion(perturbations: Sequence[str], counts: np.ndarray) -> dict[str, object]:
    """Return the `confusion` of scores: the matrix of few classes, a summary of many.

    Args:
        perturbations: The classes.
        counts: Sites by true (row) and predicted class, int [class, class].
    """
    content: dict[str, object] = {"perturbations": list(perturbations)}
    if len(perturbations) <= MAX_MATRIX:
        return {**content, "counts": counts.tolist()}
    largest = [list(cell) for cell in _errors(counts, N_LARGEST)]
    content |= {"sites": counts.sum(axis=1).tolist(), "correct": counts.diagonal().tolist(), "largest": largest}
    return {**content, "table": CONFUSION_FILE}


def read_confusion(content: Mapping[str, object]) -> ConfusionCounts:
    """Read what `summarize_confusion` returned.

    Args:
        content: `confusion` of scores; a full matrix of many classes, as of earlier versions, is read too.

    Raises:
        UnexpectedContent: The counts do not fit the classes.
    """
    names = tuple(str(name) for name in _list(content, "perturbations"))
    if "counts" in content or not names:
        matrix = np.array(_list(content, "counts"), dtype=np.int64)
        if matrix.size != len(names) ** 2:
            raise UnexpectedContent(f"expected {len(names)} x {len(names)} counts of classes, found {matrix.shape}")
        matrix = matrix.reshape(len(names), len(names))
        cells = _errors(matrix, matrix.size)
        n_sites, n_correct = matrix.sum(axis=1), matrix.diagonal()
    else:
        matrix = None
        n_sites, n_correct = (np.array(_list(content, name), dtype=np.int64) for name in ("sites", "correct"))
        cells = [(int(true), int(predicted), int(n)) for true, predicted, n in _list(content, "largest")]
        if not len(n_sites) == len(n_correct) == len(names):
            raise UnexpectedContent(f"expected counts of {len(names)} classes, found {len(n_sites)}")
        if any(not 0 <= code < len(names) for cell in cells for code in cell[:2]):
            raise UnexpectedContent(f"expected errors among {len(names)} classes")
    largest = tuple((names[true], names[predicted], n) for true, predicted, n in cells)
    return ConfusionCounts(perturbations=names, n_sites=n_sites, n_correct=n_correct, largest=largest, matrix=matrix)


def _errors(counts: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """Return (true, predicted, sites) of the errors, most frequent first."""
    errors = counts.astype(np.int64)
    np.fill_diagonal(errors, 0)
    cells = np.flatnonzero(errors)
    cells = cells[np.argsort(-errors.flat[cells], kind="stable")[:limit]]
    rows, columns = np.divmod(cells, max(len(errors), 1))
    return list(zip(rows.tolist(), columns.tolist(), errors.flat[cells].tolist(), strict=True))


def _list(content: Mapping[str, object], name: str) -> list[Any]:
    values: list[Any] = check_type(content.get(name, []), list, name=name)
    return values
