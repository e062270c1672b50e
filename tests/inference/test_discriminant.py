"""Test the linear discriminant against that of scikit-learn."""

import warnings

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from distangle.inference import discriminant
from distangle.inference.discriminant import fit_discriminant


def planted_features(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, n_classes, n_features = (int(rng.integers(*bounds)) for bounds in ((60, 300), (3, 9), (1, 7)))
    code = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])
    features = rng.normal(size=(len(code), n_features)) * rng.uniform(0.1, 5, n_features)
    labels = np.array([f"c{k}" for k in code], dtype=object)
    if seed % 3 == 0:
        labels[0] = "a class of one row"
    return features + code[:, None] * rng.uniform(0, 1, n_features), labels


@pytest.mark.parametrize("seed", range(12))
def test_weights_and_predictions_are_those_of_scikit_learn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discriminant, "BLOCK_ROWS", 17)
    features, labels = planted_features(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features, labels.astype(str))
    result = fit_discriminant(features, labels)
    np.testing.assert_allclose(result.coefficients, reference.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(result.intercepts, reference.intercept_, rtol=1e-7, atol=1e-9)
    assert result.predict(features).tolist() == reference.predict(features).tolist()


def test_a_planted_shift_is_recovered() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["low", "high"] * 200, dtype=object)
    features = rng.normal(size=(400, 3)) + 6 * (labels == "high")[:, None] * np.array([1, 0, 0])
    predicted_labels = fit_discriminant(features[:200], labels[:200]).predict(features[200:])
    assert (predicted_labels == labels[200:]).mean() > 0.98
