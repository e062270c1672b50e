"""Confidence against truth: loops over rows, planted temperatures, and values worked out by hand."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from distangle.errors import ProfileError
from distangle.inference.calibration import fit_temperature, reliability, top_k_accuracy


def planted_logits(temperature: float, *, n_rows: int = 20_000, n_classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n_rows, n_classes)) * temperature
    chances = softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (rng.random((n_rows, 1)) > chances[:, :-1]).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 40.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    logits, labels = planted_logits(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(temperature, rel=0.03)


def test_two_classes_have_the_temperature_of_the_log_odds() -> None:
    # Three of four rows are right at a margin of 2: sigma(2 / T) = 3 / 4, so T = 2 / log 3.
    logits = np.tile([5.0, 3.0], (4, 1))
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(2 / math.log(3), rel=1e-6)


def test_no_other_temperature_fits_better() -> None:
    logits, labels = planted_logits(2.0, n_rows=300)

    def loss(temperature: float) -> float:
        rows = softmax(logits / temperature, axis=1)
        return -sum(math.log(row[label]) for row, label in zip(rows, labels, strict=True))

    best = fit_temperature(logits, labels)
    assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))
    assert fit_temperature(logits * 10, labels) == pytest.approx(10 * best, rel=1e-6)
    assert fit_temperature(logits + 7, labels) == pytest.approx(best, rel=1e-6)


def test_the_temperature_lowers_the_calibration_error() -> None:
    logits, labels = planted_logits(3.0)
    before = reliability(softmax(logits, axis=1), labels).ece
    after = reliability(softmax(logits / fit_temperature(logits, labels), axis=1), labels).ece
    assert before > 0.15
    assert after < 0.02


def test_labels_without_a_best_temperature_are_refused() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ProfileError, match="All of 2 rows are predicted correctly.*keep the temperature 1"):
        fit_temperature(logits, np.array([0, 1]))
    with pytest.raises(ProfileError, match="expected a network better than chance"):
        fit_temperature(logits, np.array([1, 0]))
    with pytest.raises(ProfileError, match="expected a network better than chance"):
        fit_temperature(np.zeros((2, 2)), np.array([1, 0]))


@pytest.mark.parametrize("n_bins", [1, 4, 15])
def test_bins_and_error_are_those_of_a_loop(n_bins: int) -> None:
    rng = np.random.default_rng(1)
    probabilities = softmax(rng.normal(0, 2, (200, 5)), axis=1)
    labels = rng.integers(0, 5, 200)
    result = reliability(probabilities, labels, n_bins=n_bins)
    error = 0.0
    for k, row in result.table.iterrows():
        rows_of_bin = [
            (max(p), list(p).index(max(p)) == label)
            for p, label in zip(probabilities.tolist(), labels, strict=True)
            if k / n_bins < max(p) <= (k + 1) / n_bins
        ]
        assert (row["low"], row["high"], row["n_rows"]) == (k / n_bins, (k + 1) / n_bins, len(rows_of_bin))
        if rows_of_bin:
            confidence = sum(p for p, _ in rows_of_bin) / len(rows_of_bin)
            accuracy = sum(hit for _, hit in rows_of_bin) / len(rows_of_bin)
            assert (row["confidence"], row["accuracy"]) == pytest.approx((confidence, accuracy))
            error += len(rows_of_bin) / 200 * abs(confidence - accuracy)
        else:
            assert row[["confidence", "accuracy"]].isna().all()
    assert result.ece == pytest.approx(error)
    assert result.table["n_rows"].sum() == 200


def test_a_confidence_on_an_edge_is_in_the_bin_below_it() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], dtype=np.float32)
    result = reliability(probabilities, np.array([0, 0, 0]), n_bins=4)
    assert result.table["n_rows"].tolist() == [0, 1, 1, 1]
    assert result.ece == pytest.approx((0.5 + 0.75 + 0.0) / 3)


def test_top_k_is_that_of_sorting_each_row() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(100, 8)), rng.integers(0, 8, 100)
    for k in range(1, 9):
        hits = [label in np.argsort(-row)[:k] for row, label in zip(logits, labels, strict=True)]
        assert top_k_accuracy(logits, labels, k=k) == pytest.approx(sum(hits) / 100)
    assert top_k_accuracy(logits, labels) == top_k_accuracy(logits, labels, k=5)


def test_equal_logits_are_at_chance() -> None:
    labels = np.array([0, 0, 0, 7])
    assert top_k_accuracy(np.zeros((4, 8)), labels, k=3) == pytest.approx(3 / 8)
    # One class is higher, and the true class shares the second place with two others.
    assert top_k_accuracy(np.array([[1.0, 1.0, 1.0, 2.0, 0.0]]), np.array([0]), k=2) == pytest.approx(1 / 3)


def test_arrays_that_do_not_fit_are_refused() -> None:
    logits, labels = np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([0, 1])
    with pytest.raises(ProfileError, match=r"shape \(2, 2\) and labels \(1,\)"):
        top_k_accuracy(logits, labels[:1])
    with pytest.raises(ProfileError, match="at least one row"):
        reliability(logits[:0], labels[:0])
    with pytest.raises(ProfileError, match=r"Row 1 has the label -1 \(1 such rows\): expected 0 to 1"):
        fit_temperature(logits, np.array([0, -1]))
    with pytest.raises(ProfileError, match="Row 1 of the logits has a value that is not finite"):
        fit_temperature(np.array([[0.0, 1.0], [np.nan, 0.0]]), labels)
    with pytest.raises(ProfileError, match="Row 0 sums to 1.6, with a minimum of 0.*Apply a softmax"):
        reliability(logits * 2 - np.array([[0.4, 0.0], [0.6, 0.4]]), labels)
    with pytest.raises(ProfileError, match="n_bins is 0"):
        reliability(logits, labels, n_bins=0)
    with pytest.raises(ProfileError, match="k is 5: expected 1 to 2"):
        top_k_accuracy(logits, labels)
