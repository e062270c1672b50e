import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.metrics import adjusted_rand_score, silhouette_score

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.similarity import clusters, find_clusters, similarity_matrix


def groups(n_groups=6, n_per_group=8, noise=0.15, dimension=20):
    """Rows of several directions with lengths of their own, in random order; also the group of every row."""
    rng = rng_for(n_groups, "groups")
    directions = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0][:n_groups]
    truth = rng.permutation(np.repeat(np.arange(n_groups), n_per_group))
    vectors = directions[truth] + noise * rng.normal(size=(len(truth), dimension))
    return vectors * rng.uniform(0.5, 9, size=(len(truth), 1)), truth


def test_similarity_is_the_cosine_with_names():
    table = similarity_matrix(np.array([[1.0, 0], [3, 3], [-2, 0], [0, 0]]), ["a", "b", "c", "d"])
    assert table.index.tolist() == table.columns.tolist() == ["a", "b", "c", "d"]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(table.loc["a"], [1, half, -1, 0])
    np.testing.assert_allclose(table.loc["d"], 0)
    np.testing.assert_array_equal(table, table.T)


@pytest.mark.parametrize("n_groups", [2, 3, 6])
def test_planted_groups_are_found_with_their_number(n_groups):
    vectors, truth = groups(n_groups)
    clustering = find_clusters(vectors)
    assert adjusted_rand_score(clustering.labels, truth) == 1
    assert sorted(set(clustering.labels.tolist())) == list(range(1, n_groups + 1))
    assert clustering.silhouette > 0.5
    assert clustering.reason == ""
    np.testing.assert_array_equal(clusters(vectors), clustering.labels)


def test_clusters_are_numbered_and_contiguous_in_the_order_of_the_leaves():
    vectors, _ = groups()
    clustering = find_clusters(vectors)
    assert sorted(clustering.order.tolist()) == list(range(len(vectors)))
    assert (np.diff(clustering.labels[clustering.order]) >= 0).all()
    # Similar rows are drawn side by side.
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    neighbor_cosine = (directions[clustering.order[1:]] * directions[clustering.order[:-1]]).sum(axis=1).mean()
    assert neighbor_cosine > (directions[1:] * directions[:-1]).sum(axis=1).mean() + 0.3


@pytest.mark.parametrize("n_clusters", [1, 2, 5, 9, 48])
def test_a_number_or_a_threshold_cuts_the_tree_of_scipy(n_clusters):
    vectors, _ = groups(noise=0.4)
    tree = linkage(pdist(vectors, "cosine"), "average")
    expected = fcluster(tree, n_clusters, criterion="maxclust")
    clustering = find_clusters(vectors, n_clusters=n_clusters)
    assert adjusted_rand_score(clustering.labels, expected) == 1
    if 1 < n_clusters < 48:
        assert clustering.silhouette == pytest.approx(silhouette_score(vectors, expected, metric="cosine"))
    else:
        assert np.isnan(clustering.silhouette)
        assert clustering.reason
    cluster_labels = clusters(vectors, threshold=0.6)
    assert adjusted_rand_score(cluster_labels, fcluster(tree, 0.6, criterion="distance")) == 1


def test_the_number_is_that_of_the_greatest_silhouette():
    vectors, _ = groups(noise=0.35)
    scores = {
        n: silhouette_score(vectors, clusters(vectors, n_clusters=n), metric="cosine") for n in range(2, len(vectors))
    }
    clustering = find_clusters(vectors)
    assert clustering.labels.max() == max(scores, key=scores.get)
    assert clustering.silhouette == pytest.approx(max(scores.values()))


def test_vectors_that_are_all_equally_far_are_one_cluster():
    clustering = find_clusters(np.eye(6))
    assert clustering.labels.tolist() == [1] * 6
    assert np.isnan(clustering.silhouette)
    assert clustering.reason.startswith("1 cluster(s) of 6 vectors")


def test_vectors_of_zeros_are_in_no_cluster_and_drawn_last():
    vectors, truth = groups(3)
    vectors[[2, 5]] = 0
    clustering = find_clusters(vectors)
    assert clustering.labels[[2, 5]].tolist() == [0, 0]
    assert clustering.n_without_direction == 2
    assert clustering.order[-2:].tolist() == [2, 5]
    rest = clustering.labels > 0
    assert adjusted_rand_score(clustering.labels[rest], truth[rest]) == 1
    few_clusters = find_clusters(np.array([[0.0, 0], [1, 2], [0, 0]]))
    assert few_clusters.labels.tolist() == [0, 1, 0]
    assert few_clusters.order.tolist() == [1, 0, 2]
    assert few_clusters.reason == "1 vector(s) that are not all zeros; expected at least 2."


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_clusters": 0}, r"0 clusters of 48 vectors that are not all zeros; expected 1 to 48"),
        ({"n_clusters": 49}, r"49 clusters of 48 vectors"),
        ({"threshold": 2.5}, r"The threshold is 2.5; expected a distance"),
        ({"threshold": 0.5, "n_clusters": 3}, r"3 clusters and the threshold 0.5; expected one of them"),
    ],
)
def test_options_without_sense_are_refused(options, text):
    with pytest.raises(ProfileError, match=text):
        clusters(groups()[0], **options)


def test_features_without_an_answer_are_refused():
    with pytest.raises(ProfileError, match=r"1 vector\(s\); expected at least 2 to compare"):
        clusters(np.ones((1, 3)))
    with pytest.raises(ProfileError, match=r"Row 1 has values that are not finite"):
        clusters(np.array([[1.0], [np.inf]]))
    with pytest.raises(ProfileError, match=r"2 vectors, 2 names, 1 of them different; expected equal numbers"):
        similarity_matrix(np.ones((2, 3)), ["a", "a"])
