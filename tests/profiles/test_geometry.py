import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import pairwise_distances, roc_auc_score, silhouette_samples, silhouette_score
from sklearn.neighbors import NearestNeighbors

from distangle.core.random import rng_for
from distangle.errors import ExplanationError, RunError
from distangle.explain.templates.unused_classes import training_wells, unused_class_separation
from distangle.profiles.geometry import (
    compare_with_random,
    cosines,
    dispersion,
    nearest,
    neighbor_purity,
    random_dispersions,
    silhouettes,
    simplex_gap,
    unit,
)
from distangle.screen import hold_out
from tiny_run import CLASSES, tiny_screen


def simplex(n, *, dimension):
    """Return n unit vectors with equal angles, as large as possible, rotated at random in a larger space."""
    centred = np.eye(n) - 1 / n
    rotated = np.linalg.qr(rng_for(1, "turn").normal(size=(dimension, dimension)))[0][:, :n]
    return centred @ rotated.T


def clusters(n_labels=3, n_per_label=6, dimension=8, noise=0.3, seed=0):
    rng = rng_for(seed, "clusters")
    centres = rng.normal(size=(n_labels, dimension))
    labels = np.repeat([f"p{k}" for k in range(n_labels)], n_per_label)
    return np.repeat(centres, n_per_label, axis=0) + noise * rng.normal(
        size=(n_labels * n_per_label, dimension)
    ), labels.tolist()


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_simplex_has_no_gap_and_every_pair_at_its_angle(n):
    pairs = cosines(simplex(n, dimension=9))
    assert simplex_gap(pairs) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(nearest(pairs).angle_deg, math.degrees(math.acos(-1 / (n - 1))), rtol=1e-6)


def test_vectors_at_right_angles_miss_the_simplex_by_one_part_of_all_the_others():
    pairs = cosines(np.eye(5) * 3)
    assert simplex_gap(pairs) == pytest.approx(1 / 4)
    np.testing.assert_allclose(nearest(pairs).angle_deg, 90)


def test_nearest_angles_by_hand():
    # Two at 0 and 60 degrees, one at 200: its nearest is the one at 60, 140 degrees away.
    angles = np.radians([0, 60, 200])
    result = nearest(cosines(np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [0.1]]))
    np.testing.assert_allclose(result.angle_deg, [60, 60, 140])
    assert result.index.tolist() == [1, 0, 1]


def test_a_vector_of_zeros_is_at_right_angles_to_all():
    result = cosines(np.array([[0.0, 0], [1, 0], [0, 2]]))
    assert result.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert not unit(np.zeros((1, 3))).any()


def test_one_vector_has_no_angles():
    with pytest.raises(ExplanationError, match=r"1 vector\(s\); expected at least 2 to measure angles"):
        dispersion(np.ones((1, 4)))


def test_silhouettes_are_those_of_scikit_learn():
    vectors, labels = clusters(noise=0.6)
    labels = [*labels[:-1], "alone"]
    expected = silhouette_samples(vectors, labels, metric="cosine")
    np.testing.assert_allclose(silhouettes(cosines(vectors), labels), expected, atol=1e-12)
    assert expected[-1] == 0
    assert silhouettes(cosines(vectors), ["same"] * len(labels)) is None
    assert silhouettes(cosines(vectors), [str(k) for k in range(len(labels))]) is None


def test_purity_is_the_share_of_equal_labels_among_the_neighbors_of_scikit_learn():
    vectors, labels = clusters(noise=1.0)
    result = neighbor_purity(cosines(vectors), labels, k=4)
    search = NearestNeighbors(n_neighbors=4, metric="precomputed").fit(pairwise_distances(vectors, metric="cosine"))
    names = np.array(labels)
    expected = (names[search.kneighbors(return_distance=False)] == names[:, None]).mean(axis=1)
    np.testing.assert_allclose(result, expected)
    assert 0 < result.mean() < 1


def test_sites_of_one_well_are_no_neighbors_of_each_other():
    # Two wells per label, two nearly equal sites per well: without excluding the well, all neighbors are pure.
    angles = np.radians([0, 1, 90, 91, 2, 3, 92, 93])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels, wells = ["a", "a", "a", "a", "b", "b", "b", "b"], ["A1", "A1", "A2", "A2", "B1", "B1", "B2", "B2"]
    assert neighbor_purity(cosines(vectors), labels, k=1).tolist() == [1] * 8
    assert neighbor_purity(cosines(vectors), labels, k=1, apart=wells).tolist() == [0] * 8
    purity = neighbor_purity(cosines(vectors), labels, k=1, apart=["A1"] * 8)
    assert np.isnan(purity).all()


def test_fewer_neighbors_than_asked_for_are_counted_as_many_as_they_are():
    vectors = np.array([[1.0, 0], [1, 0.1], [0, 1]])
    np.testing.assert_allclose(neighbor_purity(cosines(vectors), ["a", "a", "b"], k=10), [0.5, 0.5, 0])


def test_spread_by_hand():
    result = dispersion(np.array([[3.0, 0], [0, 1], [-1, 0], [0, -3]]))
    # 12 ordered pairs: eight at right angles, four opposite.
    assert result["norm_mean"] == 2
    assert result["norm_cv"] == 0.5
    assert result["nearest_angle_deg_mean"] == result["nearest_angle_deg_min"] == pytest.approx(90)
    assert result["cosine_mean"] == pytest.approx(-1 / 3)
    assert result["cosine_sd"] == pytest.approx(math.sqrt(1 / 3 - 1 / 9))
    assert result["simplex_gap"] == pytest.approx((8 * (1 / 3) + 4 * (2 / 3)) / 12)


def test_random_vectors_lie_within_what_random_vectors_give():
    draws = random_dispersions(12, 16, rng=rng_for(2, "draws"), n_draws=200)
    result = compare_with_random(rng_for(3, "vectors").normal(size=(12, 16)) * 7, draws)
    assert (result["n"], result["dimension"], result["simplex_possible"]) == (12, 16, True)
    for name in ("norm_cv", "nearest_angle_deg_mean", "cosine_mean", "cosine_sd", "simplex_gap"):
        low, high = result[name]["random_range"]
        assert low <= result[name]["value"] <= high, name
        assert low <= result[name]["random"] <= high
    comparison = compare_with_random(simplex(12, dimension=16), draws)
    assert comparison["nearest_angle_deg_mean"]["value"] > comparison["nearest_angle_deg_mean"]["random_range"][1]
    assert comparison["simplex_gap"]["value"] < comparison["simplex_gap"]["random_range"][0]


def test_more_vectors_than_dimensions_and_one_can_be_no_simplex():
    draws = random_dispersions(6, 4, rng=rng_for(2, "draws"), n_draws=5)
    assert compare_with_random(np.eye(6)[:, :4] + 1, draws)["simplex_possible"] is False
    assert compare_with_random(np.eye(5)[:, :4] + 1, draws[:1])["simplex_possible"] is True


def test_unused_classes_that_is_small_and_collapsed_is_told_apart_wholly():
    rng = rng_for(4, "templates")
    templates = rng.normal(size=(20, 30))
    is_unused = np.arange(20) >= 14
    templates[is_unused] = 0.1 * (np.ones(30) + 0.2 * rng.normal(size=(6, 30)))
    result = unused_class_separation(templates, is_unused, rng=rng_for(5, "shuffles"), k=5, n_draws=199)
    norms = np.linalg.norm(templates, axis=1)
    pairs = cosines(templates)
    assert (result["n_unused"], result["n_real"]) == (6, 14)
    assert result["auroc_norm"] == roc_auc_score(is_unused, norms) == 0
    others = [np.delete(pairs[k], k).mean() for k in range(20)]
    assert result["auroc_mean_cosine"] == roc_auc_score(is_unused, others) == 1
    assert result["norm_unused"] == pytest.approx(norms[is_unused].mean())
    assert result["norm_real"] == pytest.approx(norms[~is_unused].mean())
    unused_pairs = [pairs[i, j] for i in range(14, 20) for j in range(14, 20) if i != j]
    assert result["cosine_unused_unused"] == pytest.approx(np.mean(unused_pairs))
    assert result["cosine_unused_unused"] > 0.9
    assert result["cosine_unused_real"] == pytest.approx(pairs[:14, 14:].mean())
    assert result["cosine_real_real"] == pytest.approx(
        np.mean([pairs[i, j] for i in range(14) for j in range(14) if i != j])
    )
    expected = silhouette_score(templates, is_unused, metric="cosine")
    assert result["silhouette"] == pytest.approx(expected)
    assert (result["purity"], result["purity_random"]) == (1, 5 / 19)
    assert result["p_norm"] == result["p_mean_cosine"] == result["p_silhouette"] == 1 / 200


def test_unused_classes_like_all_others_is_not_told_apart():
    p_values = []
    for trial in range(40):
        templates = rng_for(6, "templates", trial).normal(size=(16, 12))
        result = unused_class_separation(
            templates, np.arange(16) < 5, rng=rng_for(7, "shuffles", trial), k=5, n_draws=49
        )
        p_values.append([result["p_norm"], result["p_mean_cosine"], result["p_silhouette"]])
    assert ((np.array(p_values) <= 0.1).sum(axis=0) <= 9).all()  # of 40 at 10 %
    assert (np.array(p_values).mean(axis=0) > 0.35).all()


def test_no_unused_classes_or_nothing_else_is_no_comparison_and_one_unused_classes_class_has_no_pair():
    templates = rng_for(8, "templates").normal(size=(5, 4))
    for flags in (np.zeros(5, dtype=bool), np.ones(5, dtype=bool)):
        assert unused_class_separation(templates, flags, rng=rng_for(9, "shuffles"), k=5, n_draws=9) is None
    single = unused_class_separation(templates, np.arange(5) == 2, rng=rng_for(9, "shuffles"), k=5, n_draws=9)
    assert single["cosine_unused_unused"] is None
    assert single["n_unused"] == 1


def test_training_wells_are_counted_from_the_folds(tmp_path):
    screen = tiny_screen(tmp_path)  # 8 wells an experiment: 3 of the first two classes, 2 of the last
    folds = hold_out(screen, column="experiment", values=["E3"])
    result = training_wells(screen, folds, [*CLASSES, "unused 1"], target="perturbation")
    assert result.tolist() == [6, 6, 4, 0]
    folds_by_perturbation = hold_out(screen, column="perturbation", values=["taxol"], force=True)
    assert training_wells(screen, folds_by_perturbation, CLASSES, target="perturbation").tolist() == [9, 0, 6]
    # Two sites are one well.
    twice = pd.concat([screen.sites, screen.sites.assign(site=screen.sites["site"] + 1)], ignore_index=True)
    second = dataclasses.replace(screen, sites=twice)
    folds = hold_out(second, column="experiment", values=["E3"])
    assert training_wells(second, folds, CLASSES, target="perturbation").tolist() == [6, 6, 4]
    with pytest.raises(RunError, match="The screen has no column 'dose', which the run learned"):
        training_wells(second, folds, CLASSES, target="dose")
