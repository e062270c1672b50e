"""Compare confidences with the truth, and correct them by a temperature."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from distangle.errors import ProfileError

MAX_SUM_ERROR = 1e-3  # of the probabilities of a row
MAX_TEMPERATURE_RATIO = 1e4  # of a temperature to the spread of the logits, and of the spread to a temperature


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Confidence and accuracy of predictions, by bins of equal width.

    Attributes:
        table: One row per bin: `low` and `high` (a bin holds confidences above `low`, up to `high`), `n_rows`,
            `confidence` and `accuracy` (means over the rows; NaN in an empty bin).
        ece: Expected calibration error in [0, 1]: mean difference between confidence and accuracy of a bin, weighted
            by its rows. With few rows per bin it is above 0 even for a calibrated network.
    """

    table: pd.DataFrame
    ece: float


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature T for which softmax(logits / T) fits the labels best.

    It minimizes the mean negative log likelihood. The order of the classes of a row, and thus the prediction, stays.

    Args:
        logits: float [row, class], of validation rows: rows that neither trained the network nor are scored.
        labels: int [row], true class in [0, class).

    Returns:
        T > 0; above 1 if the network is overconfident.

    Raises:
        ProfileError: The arrays do not fit, or no finite T > 0 is best.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2, temperature scaling.
    """
    _check_scores(logits, labels, name="logits")
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    # The likelihood is convex in 1 / T, so its slopes at T = inf and T = 0 tell whether a best T lies between.
    if scores[rows, labels].mean() <= scores.mean():
        raise ProfileError(
            f"The logits of the true classes of {len(labels)} rows are on average not above those of other classes: "
            "expected a network better than chance. Check that labels and logits have one order of rows and classes."
        )
    if (scores[rows, labels] == 0).all():
        raise ProfileError(
            f"All of {len(labels)} rows are predicted correctly: every lower temperature fits better, so none is best. "
            "Use validation rows with at least one error, or keep the temperature 1."
        )

    own, powers = scores[rows, labels], np.empty_like(scores)

    def loss(log_temperature: float) -> float:
        # The largest score of a row is 0, so no power overflows; one buffer serves every call.
        temperature = np.exp(log_temperature)
        np.exp(np.divide(scores, temperature, out=powers), out=powers)
        return float((np.log(powers.sum(axis=1)) - own / temperature).mean())

    center, reach = np.log(-scores.min()), np.log(MAX_TEMPERATURE_RATIO)
    best = minimize_scalar(loss, bounds=(center - reach, center + reach), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(best.x))


def reliability(probabilities: np.ndarray, labels: np.ndarray, *, n_bins: int = 15) -> Reliability:
    """Compare confidence and accuracy of the most probable class.

    Args:
        probabilities: float [row, class]; each row sums to 1.
        labels: int [row], true class in [0, class).
        n_bins: Number of bins between 0 and 1.

    Raises:
        ProfileError: The arrays do not fit, a row is no distribution, or `n_bins` is below 1.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2, expected calibration error.
    """
    _check_scores(probabilities, labels, name="probabilities")
    if n_bins < 1:
        raise ProfileError(f"n_bins is {n_bins}: expected at least 1. The usual number is 15.")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero((np.abs(sums - 1) > MAX_SUM_ERROR) | (probabilities < 0).any(axis=1))
    if len(bad):
        raise ProfileError(
            f"Row {bad[0]} sums to {sums[bad[0]]:.4g}, with a minimum of {probabilities[bad[0]].min():.4g}: expected "
            "probabilities that sum to 1. Apply a softmax to logits first."
        )
    return bin_reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, n_bins=n_bins)


def bin_reliability(confidence: np.ndarray, is_correct: np.ndarray, *, n_bins: int = 15) -> Reliability:
    """Compare confidence and accuracy, of rows whose prediction is known.

    Args:
        confidence: float [row], probability of the predicted class.
        is_correct: bool [row], whether the predicted class is the true one.
        n_bins: Number of bins between 0 and 1.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2, expected calibration error.
    """
    confidence = np.minimum(confidence.astype(np.float64), 1.0)
    edges = np.arange(n_bins + 1) / n_bins
    bin_of = np.searchsorted(edges, confidence, side="left") - 1
    n_rows = np.bincount(bin_of, minlength=n_bins)
    sum_confidence = np.bincount(bin_of, weights=confidence, minlength=n_bins)
    n_correct = np.bincount(bin_of, weights=is_correct, minlength=n_bins)
    divisor = np.where(n_rows > 0, n_rows, np.nan)
    table = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n_rows": n_rows,
            "confidence": sum_confidence / divisor,
            "accuracy": n_correct / divisor,
        }
    )
    return Reliability(table=table, ece=float(np.abs(sum_confidence - n_correct).sum() / len(confidence)))


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int = 5) -> float:
    """Return the share of rows whose true class is among the k highest.

    Ties count as if broken at random, so equal logits have the accuracy of chance, k / number of classes.

    Args:
        logits: float [row, class], or any score that grows with the probability.
        labels: int [row], true class in [0, class).
        k: Number of classes, from 1 to all.

    Raises:
        ProfileError: The arrays do not fit, or k is outside this range.
    """
    return float(top_k_hits(logits, labels, k).mean())


def top_k_hits(logits: np.ndarray, labels: np.ndarray, k: int = 5) -> np.ndarray:
    """Return whether the true class is among the k highest, as float [row].

    Args:
        logits: float [row, class], or any score that grows with the probability.
        labels: int [row], true class in [0, class).
        k: Number of classes, from 1 to all.

    Returns:
        1 or 0; between them where ties decide: the probability if they are broken at random.

    Raises:
        ProfileError: The arrays do not fit, or k is outside this range.
    """
    _check_scores(logits, labels, name="logits")
    if not 1 <= k <= logits.shape[1]:
        raise ProfileError(f"k is {k}: expected 1 to {logits.shape[1]}, the number of classes. Choose k in this range.")
    own = logits[np.arange(len(labels)), labels][:, None]
    n_above = (logits > own).sum(axis=1)
    n_equal = (logits == own).sum(axis=1)  # with the true class itself
    return np.asarray(np.clip((k - n_above) / n_equal, 0, 1))


def check_finite(scores: np.ndarray, *, name: str, fix: str) -> None:
    """Refuse scores with a value that is not finite.

    Args:
        scores: float [row, class].
        name: What the scores are, for the message.
        fix: A sentence with the next step.

    Raises:
        ProfileError: A row has such a value.
    """
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise ProfileError(
            f"Row {bad[0]} of the {name} has a value that is not finite ({len(bad)} such rows): expected numbers. {fix}"
        )


def _check_scores(scores: np.ndarray, labels: np.ndarray, *, name: str) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ProfileError(
            f"{name} have the shape {scores.shape} and labels {labels.shape}: expected [row, class] and [row], with at "
            "least one row. Pass both for the same rows."
        )
    check_finite(scores, name=name, fix="Leave out unreadable rows.")
    outside = np.flatnonzero((labels < 0) | (labels >= scores.shape[1]))
    if len(outside):
        raise ProfileError(
            f"Row {outside[0]} has the label {labels[outside[0]]} ({len(outside)} such rows): expected 0 to "
            f"{scores.shape[1] - 1}. Leave out rows without a label."
        )
