"""Empirical Bayes estimates of groups: variance components by hand, and planted ones recovered."""

import numpy as np

from distangle.core.shrinkage import Correction, GroupPrior, estimate_group, estimate_prior, shrinkage_factors


def test_variance_components_by_hand() -> None:
    # Two groups of two wells: means 1 and 5, within squares 2 + 2 = 4 over 2 degrees, between 2 * (4 + 4) / 1 = 16.
    values = np.array([[0.0], [2.0], [4.0], [6.0]])
    prior = estimate_prior(values, np.array([0, 0, 1, 1]))
    assert prior.within[0] == 2.0
    assert prior.between[0] == (16.0 - 2.0) / 2.0
    assert prior.center[0] == 3.0
    np.testing.assert_allclose(prior.log_std, 0.5 * np.log(2.0))


def test_planted_components_are_recovered() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(400), rng.integers(1, 6, 400))
    values = 10 + 2.0 * rng.normal(size=(400, 1))[groups] + 3.0 * rng.normal(size=(len(groups), 1))
    prior = estimate_prior(values, groups)
    assert abs(prior.center[0] - 10) < 0.5
    assert abs(prior.within[0] - 9) < 1
    assert abs(prior.between[0] - 4) < 1.2


def test_a_group_of_few_wells_is_corrected_less_and_one_of_none_not_at_all() -> None:
    prior = GroupPrior(*(np.array([value]) for value in (0.0, 4.0, 1.0, 0.0, 0.0)))
    offset, scale = estimate_group(prior, np.array([0, 1, 4, 4000]), np.array([[0.0], [8.0], [32.0], [32000.0]]))
    np.testing.assert_allclose(offset[:, 0], [0.0, 8 / 5, 4.0, 8 * 4000 / 4004], rtol=1e-12)
    np.testing.assert_array_equal(scale, 0)
    np.testing.assert_allclose(shrinkage_factors(prior, np.array([0, 1, 4]))[:, 0], [0, 1 / 5, 1 / 2])


def test_the_shrunk_estimate_is_nearer_to_the_truth_than_the_mean_and_than_nothing() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(600, 1))
    groups = np.repeat(np.arange(600), 3)
    values = truth[groups] + 2.0 * rng.normal(size=(1800, 1))
    prior = estimate_prior(values, groups)
    means = values.reshape(600, 3, 1).mean(1)
    shrunk, _ = estimate_group(prior, np.full(600, 3), means * 3)
    error = [float(((estimate - truth) ** 2).mean()) for estimate in (shrunk, means, np.zeros_like(truth))]
    assert error[0] < 0.9 * min(error[1:])


def test_one_group_or_one_well_in_each_corrects_nothing() -> None:
    values = np.random.default_rng(3).normal(size=(6, 2))
    for groups in (np.zeros(6, dtype=int), np.arange(6)):
        prior = estimate_prior(values, groups)
        assert (prior.between == 0).all()
        offset, scale = estimate_group(prior, np.array([3.0]), values[:3].sum(0)[None] + 100, values[:3].sum(0)[None])
        np.testing.assert_allclose(offset[0], prior.center)
        assert (scale == 0).all()


def test_differing_standard_deviations_are_distinguished_from_equal_ones() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(50), 8)
    base = rng.normal(size=(400, 1))
    other = base * np.exp(rng.normal(0, 0.7, 50))[groups][:, None]
    even, uneven = estimate_prior(base, groups), estimate_prior(other, groups)
    assert even.log_std_variance[0] < 0.05
    assert abs(uneven.log_std_variance[0] - 0.49) < 0.2
    wells = other[groups == 0]
    _, scale = estimate_group(uneven, np.array([8]), wells.sum(0)[None], (wells**2).sum(0)[None])
    differs = np.log(wells.std(ddof=1)) - uneven.log_std[0]
    certain = uneven.log_std_variance[0] / (uneven.log_std_variance[0] + 1 / 14)  # eight wells
    np.testing.assert_allclose(scale[0, 0], certain * differs)


def test_a_prior_survives_its_rows_and_a_correction_its_words() -> None:
    prior = estimate_prior(np.random.default_rng(5).normal(size=(9, 3)), np.repeat([0, 1, 2], 3))
    np.testing.assert_allclose(GroupPrior.from_rows(prior.as_rows()).center, prior.center, rtol=1e-6)
    assert str(Correction()) == "none"
    assert str(Correction(method="standardize", group="plate", wells="all")) == "standardize by the wells of the plate"
