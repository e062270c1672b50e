import numpy as np
import pytest

from distangle.errors import ProfileError
from distangle.profiles.relations import energy_distance, in_tails, nearest_and_opposite, recall_of_edges


def circle(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


@pytest.mark.parametrize(("tails", "recall"), [((0.1, 0.9), 0), ((0.2, 0.8), 1)])
def test_tails_of_five_numbers(tails, recall):
    assert in_tails(np.array([1.0, 5.0]), np.arange(1.0, 6.0), tails).mean() == recall


def test_recall_counts_edges_once_and_names_the_unknown():
    # Cosines of pairs from low to high: ad 120 deg, bd 110, cd 65, ac 55, bc 45, ab 10.
    edges = [("a", "b"), ("b", "a"), ("a", "a"), ("a", "c"), ("a", "x"), ("x", "y")]
    result = recall_of_edges(circle(0, 10, 55, 120), ["a", "b", "c", "d"], edges, tails=(1 / 6, 5 / 6))
    assert (result.recall, result.n_edges, result.n_pairs, result.n_unknown) == (0.5, 2, 6, 2)
    assert result.unknown == ("x", "y")
    assert result.chance == pytest.approx(2 / 6)


def test_opposites_count_as_related():
    result = recall_of_edges(circle(0, 10, 55, 120), ["d", "c", "b", "a"], [("a", "d")], tails=(1 / 6, 5 / 6))
    assert result.recall == 1


def test_no_known_edge_has_a_reason():
    result = recall_of_edges(circle(0, 10), ["a", "b"], [("x", "a")])
    assert np.isnan(result.recall)
    assert result.reason == "No edge joins two names with a profile."


def test_nearest_and_opposite():
    table = nearest_and_opposite(circle(0, 10, 55, 120), ["a", "b", "c", "d"], k=2)
    of_a = table[table["name"] == "a"]
    assert of_a["other"].tolist() == ["b", "c", "d", "c"]
    assert of_a["kind"].tolist() == ["nearest"] * 2 + ["opposite"] * 2
    np.testing.assert_allclose(of_a["cosine"], np.cos(np.radians([10, 55, 120, 55])))
    assert len(table) == 16
    assert not (table["name"] == table["other"]).any()


def test_energy_distance_of_two_points_and_of_itself():
    assert energy_distance(np.zeros((5, 5)), np.full((7, 5), 5.0)) == pytest.approx(22.3607, abs=1e-4)
    cloud = np.random.default_rng(0).normal(size=(9, 3))
    assert energy_distance(cloud, cloud) == pytest.approx(0, abs=1e-12)


def test_energy_distance_equals_plain_loops():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)) + 1

    def mean(x, y):
        return np.mean([np.linalg.norm(p - q) for p in x for q in y])

    assert energy_distance(a, b) == pytest.approx(2 * mean(a, b) - mean(a, a) - mean(b, b))


def test_bad_input():
    with pytest.raises(ProfileError, match="2 vectors, 2 names, 1 of them different"):
        nearest_and_opposite(circle(0, 10), ["a", "a"])
    with pytest.raises(ProfileError, match="0 neighbors; expected at least 1"):
        nearest_and_opposite(circle(0, 10), ["a", "b"], k=0)
    with pytest.raises(ProfileError, match="Tails 0.9 and 0.1"):
        recall_of_edges(circle(0, 10), ["a", "b"], [], tails=(0.9, 0.1))
    with pytest.raises(ProfileError, match="Clouds of shape"):
        energy_distance(np.zeros((0, 5)), np.zeros((2, 5)))
