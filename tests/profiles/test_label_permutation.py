"""P-values of labels: exact on a few vectors, calibrated on noise, small for planted labels."""

import itertools
import math

import numpy as np
import pytest

from distangle.profiles import label_permutation
from distangle.profiles.label_permutation import LabelPermutation, labels_of_perturbations
from distangle.profiles.label_retrieval import consistency


def labels_at_random(n: int, n_labels: int) -> list[set[str]]:
    return [{f"label{k % n_labels}"} for k in range(n)]


def test_the_statistic_is_the_mean_average_precision_of_consistency() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(24, 6))
    labels = [{f"l{k % 3}", "all of a kind"} if k % 5 == 0 else {f"l{k % 3}"} for k in range(24)]
    perturbations, weeks = np.arange(24) // 2, np.arange(24) % 2
    labels = [labels[2 * perturbation] for perturbation in perturbations]
    for blocks in (None, weeks):
        _, table = consistency(features, perturbations, labels, not_same=blocks)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        vocabulary = sorted(set().union(*labels))
        has = labels_of_perturbations([sorted(labels_of_one) for labels_of_one in labels], perturbations, vocabulary)
        values = LabelPermutation(unit @ unit.T, perturbations, has, blocks).mean_precision(np.arange(12))
        np.testing.assert_allclose(values, table["mean_average_precision"], atol=1e-6)


@pytest.mark.parametrize("sets", ["AAABBBB", "AAAbbBB", "AABB---"])
def test_p_of_few_assignments_is_that_of_all_permutations(sets: str) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(9, 3))
    features[0] += 2 * features[1]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    # A lower-case letter has both labels, `-` has none. The first two perturbations have two rows each.
    has = np.array([[one in "Aab", one in "Bab"] for one in sets])
    permutation = LabelPermutation(unit @ unit.T, np.array([0, 0, 1, 1, 2, 3, 4, 5, 6]), has)
    counts = [sets.count(one) for one in dict.fromkeys(sets)]
    assert permutation.n_assignments() == math.factorial(7) // math.prod(map(math.factorial, counts))
    observed = permutation.mean_precision(np.arange(7))
    null = np.array([permutation.mean_precision(np.array(one)) for one in itertools.permutations(range(7))])
    expected = (null >= observed - 1e-9).sum(axis=0) / np.isfinite(null).sum(axis=0)
    p = permutation.p_values(1, rng=np.random.default_rng(0))
    np.testing.assert_allclose(p, expected, rtol=1e-12)


def test_p_of_many_assignments_is_close_to_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(7, 3))
    features[0] += 2 * features[1]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    has = np.array([[True, False]] * 3 + [[False, True]] * 4)
    permutation = LabelPermutation(unit @ unit.T, np.arange(7), has)
    exact = permutation.p_values(1, rng=np.random.default_rng(0))
    monkeypatch.setattr(label_permutation, "EXACT_DRAWS", 34)
    p = permutation.p_values(2000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(p, exact, atol=0.04)
    assert not np.array_equal(p, exact)


def test_noise_is_calibrated_with_several_rows_of_a_perturbation() -> None:
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        # Three rows of a perturbation are similar: they are not independent evidence for its label.
        features = np.repeat(rng.normal(size=(20, 5)), 3, axis=0) + 0.2 * rng.normal(size=(60, 5))
        labels = [{f"label{k // 3 % 5}"} for k in range(60)]
        _, table = consistency(features, np.arange(60) // 3, labels, n_draws=99, seed=seed)
        p += table["p"].tolist()
    share = np.mean(np.array(p) <= 0.05)
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.12)


def test_planted_labels_have_the_smallest_p() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 8)) * 4
    features = centers[np.arange(32) % 4] + rng.normal(size=(32, 8))
    _, table = consistency(features, np.arange(32), labels_at_random(32, 4), n_draws=199)
    assert table["p"].tolist() == [1 / 200] * 4
    assert table["q"].tolist() == [1 / 200] * 4


def test_a_label_of_one_perturbation_has_no_p() -> None:
    features = np.random.default_rng(0).normal(size=(6, 3))
    _, table = consistency(features, np.arange(6), [{"one"}, *[{"two"}] * 5], n_draws=19)
    assert np.isnan(table.set_index("label").loc["one", ["p", "q"]].astype(float)).all()
    assert table.set_index("label").loc["one", "reason"] == "no other perturbation has the label"
