"""Temperatures fitted on other groups: hand-made logits, planted temperatures, and labels that must not be used."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from distangle.inference.calibration import fit_temperature
from distangle.inference.cross_fit import cross_fit
from distangle.results import Predictions

NAMES = ("a", "b", "c")


def wells(groups: list[str], labels: np.ndarray, logits: np.ndarray, *, fold: str = "held_out") -> Predictions:
    table = pd.DataFrame(
        {
            "Metadata_Experiment": groups,
            "Metadata_Plate": "1",
            "Metadata_Role": "treatment",
            "Metadata_Fold": fold,
            "perturbation": [NAMES[k] for k in labels],
            "reason": "",
        }
    )
    return Predictions(
        level="well", table=table, logits=logits.astype(np.float32), embedding=np.zeros((len(table), 2), np.float32),
        perturbations=NAMES, views=1,
    )  # fmt: skip


def planted_logits(n: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3)) * temperature
    return logits, (rng.random((n, 1)) > softmax(logits / temperature, axis=1).cumsum(axis=1)[:, :-1]).sum(axis=1)


def two_groups() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return logits of E1, overconfident by a factor of 4, and of E2, well calibrated."""
    (one, of_one), (two, of_two) = planted_logits(1500, 4.0, 0), planted_logits(1500, 1.0, 1)
    return ["E1"] * 1500 + ["E2"] * 1500, np.concatenate([of_one, of_two]), np.concatenate([one, two])


def test_each_group_has_the_temperature_of_the_other() -> None:
    groups, labels, logits = two_groups()
    calibration, confidence = cross_fit(wells(groups, labels, logits), set(NAMES))
    single = logits.astype(np.float32)
    expected = {
        "E1": fit_temperature(single[1500:], labels[1500:]),
        "E2": fit_temperature(single[:1500], labels[:1500]),
    }
    assert dict(calibration.temperatures) == pytest.approx(expected)
    assert calibration.temperatures["E1"] == pytest.approx(1, rel=0.1)
    assert calibration.temperatures["E2"] == pytest.approx(4, rel=0.1)
    by_hand = softmax(logits[:1500] / expected["E1"], axis=1).max(axis=1)
    np.testing.assert_allclose(confidence[:1500], by_hand, rtol=1e-5)
    assert (calibration.reason, calibration.groups_over, calibration.n) == ("", "experiment", 3000)


def test_labels_of_a_group_have_no_part_in_its_confidences() -> None:
    groups, labels, logits = two_groups()
    altered = labels.copy()
    altered[:1500] = np.random.default_rng(2).permutation(altered[:1500])
    altered[:900] = logits[:900].argmax(axis=1)
    first, second = (cross_fit(wells(groups, one, logits), set(NAMES))[1] for one in (labels, altered))
    np.testing.assert_array_equal(first[:1500], second[:1500])
    assert not np.array_equal(first[1500:], second[1500:])


def test_a_common_temperature_brings_the_error_down() -> None:
    parts = [planted_logits(800, 3.0, seed) for seed in range(3)]
    labels, logits = np.concatenate([part[1] for part in parts]), np.concatenate([part[0] for part in parts])
    calibration, _ = cross_fit(wells([f"E{k}" for k in range(3) for _ in range(800)], labels, logits), set(NAMES))
    assert calibration.ece_before is not None
    assert calibration.ece_after is not None
    assert calibration.ece_before > 0.15
    assert calibration.ece_after < 0.04


def test_the_curve_before_is_counted_by_hand() -> None:
    # Confidences 0.9 (right, wrong) and 0.6 (right), in each of two experiments.
    shares = np.log([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.6, 0.2, 0.2]] * 2)
    calibration, _ = cross_fit(wells(["E1"] * 3 + ["E2"] * 3, np.array([0, 1, 0] * 2), shares), set(NAMES))
    bins = {round(one.low, 1): one for one in calibration.before if one.n}
    assert len(calibration.before) == 10
    (high,) = [one for low, one in bins.items() if low >= 0.8]
    (middle,) = [one for low, one in bins.items() if low < 0.8]
    assert (high.n, high.confidence, high.accuracy) == (4, pytest.approx(0.9), 0.5)
    assert (middle.n, middle.confidence, middle.accuracy) == (2, pytest.approx(0.6), 1.0)
    assert calibration.ece_before == pytest.approx((4 * 0.4 + 2 * 0.4) / 6)
    assert [one.accuracy for one in calibration.before if not one.n] == [None] * 8


def test_unlabeled_wells_are_calibrated_and_training_wells_are_not() -> None:
    groups, labels, logits = two_groups()
    predictions = wells([*groups, "E3", "E3"], np.append(labels, [0, 0]), np.vstack([logits, logits[:2]]))
    predictions.table.loc[3000, ["perturbation", "Metadata_Fold"]] = ["", "aside"]
    predictions.table.loc[3001, "Metadata_Fold"] = "train"
    calibration, confidence = cross_fit(predictions, set(NAMES))
    assert set(calibration.temperatures) == {"E1", "E2"}
    assert np.isfinite(confidence[:3001]).all()
    assert np.isnan(confidence[3001])


def test_one_group_has_no_temperature_but_a_reason() -> None:
    _, labels, logits = two_groups()
    calibration, confidence = cross_fit(wells(["E1"] * 3000, labels, logits), set(NAMES))
    assert calibration.reason == (
        "No temperature: 1 held-out plate has scored wells, and a temperature is fitted on other plates than it is "
        "applied to."
    )
    assert (calibration.ece_before, calibration.before, dict(calibration.temperatures)) == (None, (), {})
    assert np.isnan(confidence).all()
    empty_fit, _ = cross_fit(wells(["E1"] * 3000, labels, logits, fold="train"), set(NAMES))
    assert empty_fit.reason.startswith("No temperature: no held-out well is scored")


def test_a_network_without_an_error_has_no_temperature() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 5
    calibration, confidence = cross_fit(wells(["E1", "E1", "E2", "E2"], logits.argmax(axis=1), logits), set(NAMES))
    assert calibration.reason.startswith("No temperature for experiment E1, fitted on the others: All of 2 rows are")
    assert np.isnan(confidence).all()
