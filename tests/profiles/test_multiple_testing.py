import numpy as np
import pytest

from distangle.errors import ProfileError
from distangle.profiles.multiple_testing import benjamini_hochberg, combine_doses, simes


def test_benjamini_hochberg_agrees_with_values_by_hand_and_passes_nan():
    q = benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.03, 0.5]))
    np.testing.assert_allclose(q, [0.04, np.nan, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
    assert benjamini_hochberg(np.array([])).shape == (0,)


def test_simes_takes_the_smallest_scaled_p():
    assert simes(np.array([0.04, 0.5, 0.01])) == pytest.approx(0.03)
    assert simes(np.array([0.04, 0.04, 0.04])) == pytest.approx(0.04)
    assert simes(np.array([0.2, np.nan])) == pytest.approx(0.2)
    assert np.isnan(simes(np.array([np.nan])))


def test_simes_is_exact_on_independent_noise_where_the_smallest_p_is_not():
    p = np.random.default_rng(0).random((4000, 5))
    error = np.sqrt(0.05 * 0.95 / 4000)
    assert abs(np.mean([simes(row) <= 0.05 for row in p]) - 0.05) < 3 * error
    assert np.mean(p.min(axis=1) <= 0.05) == pytest.approx(1 - 0.95**5, abs=0.02)


def test_doses_are_combined_per_compound():
    table = combine_doses(np.array([0.04, 0.3, 0.01, np.nan]), ["b", "a", "b", "c"])
    assert table["compound"].tolist() == ["b", "a", "c"]
    assert table["n_doses"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(table["p"], [0.02, 0.3, np.nan])
    np.testing.assert_allclose(table["q"], [0.04, 0.3, np.nan])


def test_bad_p_values_are_named():
    with pytest.raises(ProfileError, match=r"A p-value is 1\.5"):
        benjamini_hochberg(np.array([0.1, 1.5]))
    with pytest.raises(ProfileError, match="A p-value is -0.1"):
        simes(np.array([-0.1]))
    with pytest.raises(ProfileError, match="2 p-values, but 1 compounds"):
        combine_doses(np.array([0.1, 0.2]), ["a"])
