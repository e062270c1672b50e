import numpy as np
import pandas as pd
import pytest

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.sphering import choose_epsilon, fit_sphering
from distangle.results.profiles import Profiles

KINDS = ["zca", "zca-cor", "pca"]


def controls(values, experiments, plates=None):
    table = pd.DataFrame(
        {
            "Metadata_Experiment": experiments,
            "Metadata_Plate": plates if plates is not None else ["1"] * len(values),
            "Metadata_Role": "negative_control",
        }
    )
    names = tuple(f"f{k}" for k in range(values.shape[1]))
    return Profiles(level="well", table=table, features=values.astype(np.float32), feature_names=names)


def rows(n=400, d=5, seed=0, offset=100.0):
    rng = rng_for(seed, "rows")
    return offset + rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.arange(1, d + 1)


def covariance_error(values):
    return float(np.abs(np.cov(values, rowvar=False) - np.eye(values.shape[1])).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_fitted_rows_have_the_identity_as_covariance(kind, offset):
    values = rows(offset=offset)
    assert covariance_error(fit_sphering(values, kind, epsilon=1e-9).apply(values)) < 1e-9


def test_zca_by_hand():
    # Variances 2/3 * 9 and 2/3 * 1 along the axes: the map is diagonal, and epsilon is added to the singular values.
    values = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    sizes = np.sqrt([18, 2])
    for epsilon in (0.0, 0.5):
        expected = values * np.sqrt(3) / (sizes + epsilon)
        np.testing.assert_allclose(fit_sphering(values, "zca", epsilon=epsilon).apply(values), expected, atol=1e-12)


def test_zca_is_the_inverse_root_of_the_covariance_and_zca_cor_that_of_the_correlation():
    values = rows()
    centred = values - values.mean(axis=0)

    def root(matrix):
        sizes, vectors = np.linalg.eigh(matrix)
        return vectors / np.sqrt(sizes) @ vectors.T

    zca = fit_sphering(values, "zca", epsilon=0.0).apply(values)
    np.testing.assert_allclose(zca, centred @ root(np.cov(values, rowvar=False)), atol=1e-8)
    standard = centred / values.std(axis=0, ddof=1)
    cor = fit_sphering(values, "zca-cor", epsilon=0.0).apply(values)
    np.testing.assert_allclose(cor, standard @ root(np.corrcoef(values, rowvar=False)), atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_rows_than_features_whiten_the_axes_that_vary(kind):
    values = rows(n=4, d=7)
    sphering = fit_sphering(values, kind, epsilon=0.0)
    assert sphering.rank == 3
    np.testing.assert_array_equal(sphering.sizes[3:], sphering.sizes[2])
    sizes = np.linalg.eigvalsh(np.cov(sphering.apply(values), rowvar=False))
    np.testing.assert_allclose(sizes, [0, 0, 0, 0, 1, 1, 1], atol=1e-9)
    assert np.isfinite(sphering.apply(rows(n=20, d=7, seed=3))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_feature_and_a_copy_do_not_explode(kind):
    values = rows(d=4)
    values = np.concatenate([values, np.full((400, 1), 5.0), values[:, :1]], axis=1)
    sphering = fit_sphering(values, kind, epsilon=0.0)
    assert (sphering.rank, sphering.scale[4]) == (4, 0)
    other = values.copy()
    other[:, 4] = 1e6
    np.testing.assert_array_equal(sphering.apply(other), sphering.apply(values))
    assert np.abs(sphering.apply(values)).max() < 10


def test_unfit_rows_are_refused():
    with pytest.raises(ProfileError, match=r"Sphering has 1 negative controls\. Expected at least 2"):
        fit_sphering(np.zeros((1, 3)), "zca", epsilon=0.0)
    with pytest.raises(ProfileError, match="All 5 negative controls have equal profiles"):
        fit_sphering(np.ones((5, 3)), "zca", epsilon=0.0)
    with pytest.raises(ProfileError, match=r"epsilon of sphering is -1\.0\. Expected"):
        fit_sphering(rows(), "zca", epsilon=-1.0)


def test_epsilon_is_small_where_the_covariance_is_known_and_larger_where_it_is_not():
    many, few = rows(n=2000, offset=0), rng_for(4, "few").normal(size=(40, 30))
    choice = choose_epsilon(controls(many, np.repeat(["a", "b", "c", "d"], 500)), "zca")
    unknown = choose_epsilon(controls(few, np.repeat(["a", "b", "c", "d"], 10)), "zca")
    assert (choice.n_folds, choice.held_out, choice.n_controls) == (4, "experiment", 2000)
    # In units of the smallest singular value of the fit.
    smallest = np.linalg.svd(many - many.mean(axis=0), compute_uv=False)[-1]
    assert choice.epsilon < 0.1 * smallest
    assert unknown.epsilon > np.linalg.svd(few - few.mean(axis=0), compute_uv=False)[-1]
    best = unknown.whitening_errors[unknown.candidates.index(unknown.epsilon)]
    assert best < unknown.whitening_errors[0]


def test_log_likelihood_is_that_of_the_normal_density():
    from scipy.stats import multivariate_normal

    values = rows(n=60, d=3).astype(np.float32).astype(np.float64)
    names = np.repeat(["a", "b"], 30)
    result = choose_epsilon(controls(values, names), "zca", candidates=[1e-9, 2.0])
    total = 0.0
    for name in ("a", "b"):
        fit, out = values[names != name], values[names == name]
        total += multivariate_normal(fit.mean(axis=0), np.cov(fit, rowvar=False)).logpdf(out).sum()
    expected = (total / 60 + 1.5 * np.log(2 * np.pi)) / 3
    assert result.log_likelihoods[0] == pytest.approx(expected, rel=1e-6)


def test_plates_are_held_out_where_there_is_one_experiment():
    plates = np.repeat(list("123456789"), 20)
    result = choose_epsilon(controls(rows(n=180), ["a"] * 180, plates))
    assert (result.held_out, result.n_folds) == ("plate", 5)
    with pytest.raises(ProfileError, match=r"180 negative controls are of 1 plate\. Expected 2 plates or more"):
        choose_epsilon(controls(rows(n=180), ["a"] * 180))
    with pytest.raises(ProfileError, match=r"candidates of epsilon are \[\]"):
        choose_epsilon(controls(rows(n=180), ["a"] * 180, plates), candidates=[])
