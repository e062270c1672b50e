import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from distangle.core.random import rng_for
from distangle.explain import (
    channel_attention,
    map_channel_correlation,
    null_channel_attention,
    null_correlation,
    p_values,
    random_smooth_maps,
    shapley_null,
)


def raw_images(sites=3, channels=4, shape=(24, 20), seed=1):
    return rng_for(seed, "raw").integers(0, 180, (sites, channels, *shape), dtype=np.uint8)


def test_random_maps_are_smooth_and_lie_in_0_to_1_with_their_maximum_at_1():
    maps = random_smooth_maps(50, grid=(8, 6), size=(64, 48), rng=rng_for(1, "maps"))
    enlarged_maps = maps.enlarged()
    assert enlarged_maps.shape == (50, 64, 48)
    assert enlarged_maps.min() >= 0
    np.testing.assert_allclose(enlarged_maps.max((1, 2)), 1, atol=1e-6)
    assert len(np.unique(enlarged_maps.reshape(50, -1), axis=0)) == 50
    for axis in (1, 2):
        # Neighboring cells of noise differ by 1.41 standard deviations; after smoothing over one cell by 0.66.
        assert np.diff(maps.grid, axis=axis).std() < maps.grid.std()


def test_random_maps_are_a_pure_function_of_the_generator():
    first, second, other = (
        random_smooth_maps(5, grid=(4, 4), size=(16, 16), rng=rng_for(seed, "maps")).enlarged() for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_grid_of_one_cell_gives_empty_maps_and_no_nan():
    maps = random_smooth_maps(3, grid=(1, 1), size=(4, 4), rng=rng_for(1, "maps"))
    assert np.array_equal(maps.enlarged(), np.zeros((3, 4, 4)))
    assert np.isfinite(null_channel_attention(maps, raw_images(shape=(4, 4)), scaling="raw255")).all()
    assert np.array_equal(null_correlation(maps, raw_images(shape=(4, 4))), np.zeros((3, 3, 4)))


@pytest.mark.parametrize("scaling", ["raw255", "min_max"])
@pytest.mark.parametrize(("grid", "size"), [((4, 5), (24, 20)), ((7, 3), (24, 20)), ((24, 20), (24, 20))])
def test_the_null_of_equation_15_is_equation_15_of_every_random_map(scaling, grid, size):
    raw = raw_images()
    maps = random_smooth_maps(6, grid=grid, size=size, rng=rng_for(2, "maps"))
    result = null_channel_attention(maps, raw, scaling=scaling)
    for draw, one in enumerate(maps.enlarged()):
        expected = channel_attention(np.stack([one] * 3), raw, scaling=scaling)
        np.testing.assert_allclose(result[:, draw], expected, rtol=1e-5)


@pytest.mark.parametrize(("grid", "size"), [((4, 5), (24, 20)), ((7, 3), (24, 20))])
def test_the_null_of_the_correlation_is_the_correlation_with_every_random_map(grid, size):
    raw = raw_images()
    raw[1, 2] = 5
    maps = random_smooth_maps(6, grid=grid, size=size, rng=rng_for(3, "maps"))
    result = null_correlation(maps, raw)
    for draw, one in enumerate(maps.enlarged()):
        np.testing.assert_allclose(result[:, draw], map_channel_correlation(np.stack([one] * 3), raw), atol=1e-6)


def test_p_values_by_hand_with_ties_counted_and_never_0():
    null = np.array([[[0.1, 5.0], [0.2, 5.0], [0.3, 5.0]]])
    result = p_values(np.array([[0.2, 6.0]]), null)
    # 0.2 and 0.3 reach 0.2: (1 + 2) / (1 + 3); nothing reaches 6: 1 / 4.
    assert result.tolist() == [[0.75, 0.25]]


def test_p_values_of_random_maps_are_uniform():
    raw = raw_images(1, 2, (24, 24))
    rng = rng_for(4, "maps")
    null = null_correlation(random_smooth_maps(400, grid=(6, 6), size=(24, 24), rng=rng), raw)
    observed = null_correlation(random_smooth_maps(300, grid=(6, 6), size=(24, 24), rng=rng), raw)
    result = np.array([p_values(observed[:, draw], null)[0, 0] for draw in range(300)])
    assert kstest(result, "uniform").pvalue > 0.01


def test_a_channel_that_always_wins_is_told_from_a_random_one():
    values = rng_for(5, "values").normal(0, 1, (40, 6))
    values[:, 4] += 1.5
    result = shapley_null(values, rng=rng_for(6, "draws"))
    np.testing.assert_allclose(result.means, values.mean(0))
    assert result.p[4] == 1 / 1001
    assert (np.delete(result.p, 4) > 0.05).all()
    assert (result.p_family >= result.p).all()
    # Shuffling keeps the sum over channels of every draw.
    np.testing.assert_allclose(result.null.sum(1), values.mean(0).sum())


def test_the_null_of_the_channels_is_calibrated_and_the_family_wise_one_too():
    trials = [
        shapley_null(rng_for(7, "values", i).normal(0, 1, (12, 6)), rng=rng_for(8, "draws", i), n_draws=99)
        for i in range(300)
    ]
    single = np.array([trial.p[0] for trial in trials])
    family = np.array([trial.p_family.min() for trial in trials])
    for result in (single, family):
        assert binomtest(int((result <= 0.05).sum()), 300, 0.05).pvalue > 0.01


def test_sites_of_a_well_share_one_shuffle():
    # Two wells of 50 identical sites: 50 copies count as one site.
    values = np.repeat(np.array([[3.0, 0, 0, 0, 0, 0], [3.0, 0, 0, 0, 0, 0]]), 50, axis=0)
    wells = ["B02"] * 50 + ["B03"] * 50
    with_groups = shapley_null(values, rng=rng_for(9, "draws"), groups=wells)
    # Both wells must draw the first channel first: 1 / 36.
    assert with_groups.p[0] == pytest.approx(1 / 36, abs=0.012)
    assert shapley_null(values, rng=rng_for(9, "draws")).p[0] == 1 / 1001


def test_equal_channels_are_never_significant_whatever_the_rounding():
    values = np.full((7, 6), 0.1, dtype=np.float64)
    result = shapley_null(values, rng=rng_for(10, "draws"), n_draws=200)
    assert (result.p == 1).all()


def test_a_draw_that_adds_the_same_numbers_in_another_order_counts_as_equal():
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last digit; of 0.4, 0.6, 0.6 and 0.8, three reach 0.6.
    values = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    result = shapley_null(values, rng=rng_for(11, "draws"))
    np.testing.assert_allclose(result.p, 0.75, atol=0.05)


def test_draws_are_a_pure_function_of_the_generator():
    values = rng_for(5, "values").normal(0, 1, (10, 6))
    first, second = (shapley_null(values, rng=rng_for(1, "draws"), n_draws=20).null for _ in range(2))
    assert np.array_equal(first, second)
