import importlib.util

import numpy as np
import pytest

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.map import map_profiles
from distangle.profiles.project import Projection, project


def groups(n_per_group=20, dimension=12):
    """Three directions with noise and lengths of their own, and the group of every row."""
    rng = rng_for(0, "groups")
    truth = np.repeat(np.arange(3), n_per_group)
    vectors = np.eye(3, dimension)[truth] + 0.06 * rng.normal(size=(len(truth), dimension))
    return vectors * rng.uniform(1, 9, size=(len(truth), 1)), truth


def purity(coordinates, truth):
    """Share of rows whose nearest other row is of their group."""
    points = np.stack([coordinates.x, coordinates.y], axis=1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((truth[distances.argmin(axis=1)] == truth).mean())


@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_groups_are_neighbors_in_the_map(method):
    vectors, truth = groups()
    result = map_profiles(vectors, method=method, seed=3, neighbors=10)
    assert purity(result, truth) == 1
    assert (result.method, result.seed, result.neighbors) == (method, 3, 0 if method == "pca" else 10)
    assert result.is_sampled.all()


def test_the_map_is_the_projection_of_the_directions():
    vectors, _ = groups()
    result = map_profiles(vectors, seed=1, neighbors=5)
    expected = project(vectors, Projection(method="tsne", seed=1, neighbors=5))
    np.testing.assert_array_equal(np.stack([result.x, result.y], axis=1), expected)
    assert not np.array_equal(map_profiles(vectors, seed=2, neighbors=5).x, result.x)
    # 59 others allow a perplexity of 19.
    assert map_profiles(vectors).neighbors == 19


def test_rows_beyond_the_sample_lie_in_their_group():
    vectors, truth = groups(n_per_group=100)
    result = map_profiles(vectors, neighbors=10, max_rows=90)
    assert result.is_sampled.sum() == 90
    assert purity(result, truth) == 1
    second = map_profiles(vectors, neighbors=10, max_rows=90)
    np.testing.assert_array_equal(second.x, result.x)
    assert not np.array_equal(map_profiles(vectors, seed=1, neighbors=10, max_rows=90).is_sampled, result.is_sampled)
    assert map_profiles(vectors, method="pca", max_rows=90).is_sampled.all()


def test_a_row_beside_the_sample_lies_at_the_weighted_mean_of_its_five_nearest():
    vectors, _ = groups()
    result = map_profiles(vectors, neighbors=5, max_rows=40)
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    sample, row = np.flatnonzero(result.is_sampled), np.flatnonzero(~result.is_sampled)[7]
    distances = np.linalg.norm(directions[sample] - directions[row], axis=1)
    nearest = np.argsort(distances)[:5]
    weights = 1 / distances[nearest]
    for axis in (result.x, result.y):
        assert axis[row] == pytest.approx(np.average(axis[sample[nearest]], weights=weights), abs=1e-3)


def test_few_rows_are_laid_out_by_pca():
    vectors, _ = groups(n_per_group=2)
    result = map_profiles(vectors, method="tsne")
    assert (result.method, result.neighbors) == ("pca", 0)
    np.testing.assert_allclose(result.x, map_profiles(vectors, method="pca").x)


def test_maps_without_an_answer_are_refused(monkeypatch):
    vectors, _ = groups()
    with pytest.raises(ProfileError, match=r"1 profile\(s\); expected at least 2 for a map"):
        map_profiles(vectors[:1])
    with pytest.raises(ProfileError, match=r"0 neighbors and 20000 rows; expected at least 1 and 8"):
        map_profiles(vectors, neighbors=0)
    broken = vectors.copy()
    broken[4, 1] = np.inf
    with pytest.raises(ProfileError, match="Row 4 has values that are not finite"):
        map_profiles(broken)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProfileError, match=r"t-SNE needs openTSNE, which is not installed: pip install"):
        map_profiles(vectors)
    assert map_profiles(vectors, method="pca").method == "pca"
