"""Linear discriminant with a shrunken covariance, for a thousand classes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

BLOCK_ROWS = 4096  # whose scores of all classes are held together


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """A linear classifier.

    Attributes:
        names: Names of the classes, sorted.
        coefficients: Weights of the features, [class, feature].
        intercepts: Constant of each class, [class].
    """

    names: np.ndarray
    coefficients: Float[np.ndarray, "class feature"]
    intercepts: Float[np.ndarray, " class"]

    def predict(self, features: Float[np.ndarray, "row feature"]) -> np.ndarray:
        """Return the name of the class of each row, object [row].

        Args:
            features: As in `fit_discriminant`.
        """
        best = np.empty(len(features), dtype=np.int64)
        for start in range(0, len(features), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            best[block] = (features[block] @ self.coefficients.T + self.intercepts).argmax(axis=1)
        return np.asarray(self.names, dtype=object)[best]


def fit_discriminant(features: Float[np.ndarray, "row feature"], labels: Shaped[np.ndarray, " row"]) -> Discriminant:
    """Fit a linear discriminant whose classes share one covariance.

    The covariance is the mean over the classes, weighted by their rows; that of each class is shrunken to a multiple of
    the identity after its features were scaled to a standard deviation of 1. A class of one row has none, and adds
    nothing.

    Args:
        features: One row per site or well.
        labels: Name of the class of each row; two names at least.

    Source: Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices, Journal of
        Multivariate Analysis 88, 365-411, Sec. 3.3
    """
    code, names = pd.factorize(np.asarray(labels, dtype=object), sort=True)
    n = np.bincount(code)
    order = np.argsort(code, kind="stable")
    rows = features[order].astype(np.float64)
    parts = np.split(rows, np.cumsum(n)[:-1])
    means = np.array([part.mean(axis=0) for part in parts])
    share = n / len(rows)
    covariance = np.sum([weight * _shrunken(part) for weight, part in zip(share, parts, strict=True)], axis=0)
    coefficients = np.linalg.lstsq(covariance, means.T, rcond=None)[0].T
    intercepts = np.log(share) - (means * coefficients).sum(axis=1) / 2
    return Discriminant(names=names, coefficients=coefficients, intercepts=intercepts)


def _shrunken(rows: np.ndarray) -> np.ndarray:
    """Return the shrunken covariance of the rows of one class, [feature, feature]."""
    n, n_features = rows.shape
    centered = rows - rows.mean(axis=0)
    std = np.sqrt(np.square(centered).mean(axis=0))
    std[std == 0] = 1
    scaled = centered / std
    covariance = scaled.T @ scaled / n
    scale = covariance.trace() / n_features
    squares = np.square(scaled)
    distance = np.square(covariance).sum() / n_features - scale**2  # of the covariance to the identity
    error = ((squares.T @ squares).sum() / n - np.square(covariance).sum()) / (n * n_features)
    share = min(error, distance) / distance if min(error, distance) > 0 and n_features > 1 else 0.0
    shrunken = (1 - share) * covariance + share * scale * np.eye(n_features)
    return np.asarray(shrunken * std * std[:, None])
