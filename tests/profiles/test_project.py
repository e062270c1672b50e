import importlib.util
import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.manifold import trustworthiness as reference

from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.profiles.project import Projection, project, projections, trustworthiness

TSNE = Projection(method="tsne", seed=1, neighbors=5)


def two_groups(n_per_group=10, dimension=12, seed=0):
    rng = rng_for(seed, "groups")
    first, second = np.zeros(dimension), np.zeros(dimension)
    first[0], second[1] = 5, 5
    return np.concatenate(
        [
            first + 0.3 * rng.normal(size=(n_per_group, dimension)),
            second + 0.3 * rng.normal(size=(n_per_group, dimension)),
        ]
    )


def separation(points, n_per_group=10):
    """Distance of two groups in units of the spread within them."""
    first, second = points[:n_per_group], points[n_per_group:]
    mean_distance = np.mean([pdist(group).mean() for group in (first, second)])
    return np.linalg.norm(first.mean(0) - second.mean(0)) / mean_distance


def test_pca_is_the_projection_on_the_two_largest_axes_of_the_directions():
    vectors = rng_for(1, "vectors").normal(size=(9, 6)) * np.arange(1, 10)[:, None]
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    directions_left, sizes, _ = np.linalg.svd(directions - directions.mean(0), full_matrices=False)
    result = project(vectors, Projection(method="pca"))
    np.testing.assert_allclose(np.abs(result), np.abs(directions_left[:, :2] * sizes[:2]), atol=1e-9)
    # The length of a template is not part of the map.
    np.testing.assert_allclose(result, project(vectors * 7, Projection(method="pca")), atol=1e-12)


def test_two_vectors_and_one_dimension_still_have_a_region():
    assert project(np.array([[1.0], [-2]]), Projection(method="pca")).shape == (2, 2)


@pytest.mark.parametrize("layout", [Projection(method="pca"), TSNE], ids=["pca", "tsne"])
def test_two_groups_stay_two_groups(layout):
    assert separation(project(two_groups(), layout)) > 2
    noise = rng_for(2, "noise").normal(size=(20, 12))
    assert separation(project(noise, layout)) < 1


def test_equal_seeds_give_equal_maps_and_others_do_not():
    vectors = two_groups()
    first, second = project(vectors, TSNE), project(vectors, TSNE)
    assert np.array_equal(first, second)
    assert not np.allclose(first, project(vectors, Projection(method="tsne", seed=2, neighbors=5)))
    assert not np.allclose(first, project(vectors, Projection(method="tsne", seed=1, neighbors=3)))


@pytest.mark.slow
def test_umap_keeps_two_groups_and_its_seed():
    layout = Projection(method="umap", seed=1, neighbors=5)
    result = project(two_groups(), layout)
    assert separation(result) > 2
    assert np.array_equal(result, project(two_groups(), layout))


def test_trustworthiness_is_that_of_scikit_learn_and_1_for_a_faithful_map():
    angles = np.linspace(0, 1, 9) ** 2 * math.pi / 2  # no two distances are equal
    plane = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert trustworthiness(plane * 3, plane, k=3) == 1
    shuffled = plane[rng_for(3, "order").permutation(9)]
    result = trustworthiness(plane * 3, shuffled, k=3)
    assert result == pytest.approx(reference(plane, shuffled, n_neighbors=3))
    assert result < 0.9
    assert trustworthiness(plane, shuffled, k=100) == pytest.approx(reference(plane, shuffled, n_neighbors=4))
    assert trustworthiness(plane[:2], plane[:2], k=3) is None


def test_perplexities_are_bounded_by_the_number_of_vectors_and_counted_once():
    def methods_for(n, *methods):
        result = projections(n, methods=methods, seeds=(0, 1), perplexities=(5, 30, 50), neighbors=15)
        return [layout.name for layout in result]

    assert methods_for(100, "pca", "tsne") == [
        "pca", "tsne_perplexity5_seed0", "tsne_perplexity5_seed1", "tsne_perplexity30_seed0",
        "tsne_perplexity30_seed1", "tsne_perplexity33_seed0", "tsne_perplexity33_seed1",
    ]  # fmt: skip
    assert methods_for(61, "tsne")[2:] == ["tsne_perplexity20_seed0", "tsne_perplexity20_seed1"]
    assert methods_for(12, "tsne", "umap") == [
        "tsne_perplexity3_seed0", "tsne_perplexity3_seed1", "umap_neighbors11_seed0", "umap_neighbors11_seed1",
    ]  # fmt: skip
    assert methods_for(7, "tsne", "pca", "umap") == ["pca"]


@pytest.mark.parametrize(("method", "message"), [("tsne", "t-SNE needs openTSNE"), ("umap", "UMAP needs umap")])
def test_a_package_that_is_not_there_is_named_with_what_installs_it(monkeypatch, method, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExplanationError) as error:
        project(two_groups(), Projection(method=method, neighbors=5))
    assert str(error.value) == f"{message}, which is not installed: pip install '.[maps]'. PCA needs nothing."
    assert project(two_groups(), Projection(method="pca")).shape == (20, 2)
