"""Read rows of arrays in a safetensors file without loading the file."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from distangle.core.untrusted_files import UnexpectedContent, read_regular_file

CHUNK = 4096  # rows that are read at once


class ArrayFile:
    """An array [row, feature] in a safetensors file.

    Args:
        path: The file.
        name: Name of the array.
        fix: A sentence with the next step, for error messages.

    Raises:
        RunError: The file is damaged or lacks the array.
    """

    def __init__(self, path: Path, name: str, *, fix: str) -> None:
        self._path, self._name, self._fix = path, name, fix
        from safetensors import safe_open

        with read_regular_file(path, fix=fix), safe_open(path, framework="numpy") as opened:
            shape = opened.get_slice(name).get_shape()
            if len(shape) != 2:
                raise UnexpectedContent(f"{name!r} has the shape {shape}, expected two axes")
        self.n_rows, self.n_features = int(shape[0]), int(shape[1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows, float32 [row, feature].

        Raises:
            RunError: The file is damaged.
        """
        from safetensors import safe_open

        with read_regular_file(self._path, fix=self._fix), safe_open(self._path, framework="numpy") as opened:
            return np.asarray(opened.get_slice(self._name)[start:stop], dtype=np.float32)

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of the first row, and rows, until all were read."""
        for start in range(0, self.n_rows, CHUNK):
            yield start, self.read(start, min(start + CHUNK, self.n_rows))

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of all finite rows, float32 [feature]."""
        total, n = np.zeros(self.n_features), 0
        for _, rows in self.chunks():
            good = np.isfinite(rows).all(axis=1)
            total += rows[good].sum(axis=0, dtype=np.float64)
            n += int(good.sum())
        return (total / max(n, 1)).astype(np.float32)


def most_similar(vectors: ArrayFile, row: int, *, mean: np.ndarray | None = None) -> np.ndarray:
    """Return the cosine of every row with one of them, float64 [row].

    Args:
        vectors: The rows.
        row: The row to compare with.
        mean: Subtracted from every row, [feature]; None for nothing.
    """
    shift = 0.0 if mean is None else mean
    vector = (vectors.read(row, row + 1)[0] - shift).astype(np.float64)
    vector /= np.linalg.norm(vector) or 1.0
    cosines = np.full(vectors.n_rows, np.nan)
    for start, rows in vectors.chunks():
        centered = rows - shift
        lengths = np.linalg.norm(centered, axis=1)
        with np.errstate(invalid="ignore"):
            cosines[start : start + len(rows)] = (centered @ vector) / np.where(lengths > 0, lengths, np.inf)
    return cosines


def principal_components(vectors: ArrayFile, *, n_fit: int = 10_000) -> np.ndarray:
    """Return the first two principal components of every row, float32 [row, 2].

    The axes are fitted on at most `n_fit` evenly spaced rows. The largest weight of each axis is positive. A row that
    is not finite gets NaN.

    Args:
        vectors: The rows.
        n_fit: Rows of the fit at most.
    """
    step = max(1, -(-vectors.n_rows // n_fit))
    sample = np.concatenate([rows[(-start) % step :: step] for start, rows in vectors.chunks()] or [np.empty((0, 1))])
    sample = sample[np.isfinite(sample).all(axis=1)].astype(np.float64)
    places = np.full((vectors.n_rows, 2), np.nan, dtype=np.float32)
    if not len(sample):
        return places
    mean = sample.mean(axis=0)
    axes = _first_axes(np.cov(sample - mean, rowvar=False, bias=True).reshape(sample.shape[1], -1))
    for start, rows in vectors.chunks():
        places[start : start + len(rows)] = (rows - mean) @ axes
    return places


def _first_axes(covariance: np.ndarray) -> np.ndarray:
    """Return two axes [feature, 2] of the largest variance; a lacking one is 0."""
    values, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))


def first_components(values: np.ndarray) -> np.ndarray:
    """Return the first two principal components of rows in memory, float32 [row, 2].

    Args:
        values: [row, feature], finite.
    """
    if not len(values):
        return np.empty((0, 2), dtype=np.float32)
    rows = values.astype(np.float32)
    centered = rows - rows.mean(axis=0)
    axes = _first_axes((centered.T @ centered / len(rows)).astype(np.float64))
    return np.asarray(centered @ axes, dtype=np.float32)
