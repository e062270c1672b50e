import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from distangle.core.random import rng_for
from distangle.explain import combine_p_values, control_p_value, labels_null


def by_hand(by_target, targets, groups, means):
    """Every permutation of the groups' labels, when each group has one label."""
    import itertools

    names = sorted(set(groups))
    label = {name: targets[groups.index(name)] for name in names}
    exceeds = []
    for order in itertools.permutations(names):
        label_of_name = {name: label[other] for name, other in zip(names, order, strict=True)}
        draw = [by_target[site, :, label_of_name[group]] for site, group in enumerate(groups)]
        exceeds.append(np.mean(draw, axis=0) >= means - 1e-12)
    return np.mean(exceeds, axis=0)


def test_the_null_of_permuted_labels_is_that_of_every_permutation():
    rng = rng_for(1, "labels")
    by_target, targets, groups = rng.normal(size=(5, 2, 3)), np.array([0, 0, 1, 2, 1]), ["a", "a", "b", "c", "d"]
    result = labels_null(by_target, targets, rng=rng, groups=groups, n_draws=4000)
    means = np.mean([by_target[site, :, target] for site, target in enumerate(targets)], axis=0)
    np.testing.assert_allclose(result.means, means)
    np.testing.assert_allclose(result.p, by_hand(by_target, targets, groups, means), atol=0.03)


def test_a_channel_that_moves_each_image_to_its_own_label_is_found_and_one_that_moves_all_alike_is_not():
    rng = rng_for(2, "labels")
    targets = np.arange(40) % 4
    by_target = rng.normal(0, 0.1, (40, 3, 4))
    by_target[:, 0] += 0.5 * (targets[:, None] == np.arange(4))
    by_target[:, 1] += 5  # a large value, the same for every label
    by_target[:, 2] += np.array([3.0, 0, 0, 0])  # towards the first label, whatever the image
    result = labels_null(by_target, targets, rng=rng)
    assert result.p[0] == result.p_family.min() == 1 / 1001
    assert (result.p[1:] > 0.05).all()


def test_p_of_permuted_labels_is_uniform_where_labels_mean_nothing():
    p = []
    for trial in range(300):
        rng = rng_for(3, "labels", trial)
        by_target, targets = rng.normal(size=(12, 1, 3)), rng.permutation(np.repeat(np.arange(3), 4))
        p.append(labels_null(by_target, targets, rng=rng, n_draws=99).p[0])
    assert kstest(p, "uniform").pvalue > 0.01


def test_sites_of_a_well_share_their_label_and_count_once():
    # Two wells of 20 sites: two permutations, of which one is as observed.
    by_target = np.zeros((40, 1, 2))
    targets = np.repeat([0, 1], 20)
    by_target[np.arange(40), 0, targets] = 1
    wells = ["B02"] * 20 + ["B03"] * 20
    assert labels_null(by_target, targets, rng=rng_for(4, "labels"), groups=wells).p[0] == pytest.approx(0.5, abs=0.06)
    assert labels_null(by_target, targets, rng=rng_for(4, "labels")).p[0] == 1 / 1001


def test_one_label_cannot_be_permuted():
    assert labels_null(np.ones((4, 2, 1)), np.zeros(4, dtype=int), rng=rng_for(5, "labels")) is None


def test_equal_scores_are_never_significant_whatever_the_rounding():
    by_target = np.full((7, 2, 3), 0.1)
    result = labels_null(by_target, np.arange(7) % 3, rng=rng_for(6, "labels"), n_draws=50)
    assert (result.p == 1).all()


def test_control_wells_that_score_as_high_are_counted_by_hand():
    untreated, wells = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 9.0]]), ["c1", "c2", "c3"]
    result = control_p_value(
        np.array([[1.0, 6.0], [3.0, 4.0]]), ["t", "c3"], control_scores=untreated, control_wells=wells
    )
    # The treated well: 1.0 is reached by 2 of 3, 6.0 by 1. The well c3 is not compared with itself: 0 and 2 of 2.
    np.testing.assert_allclose(result, [[3 / 4, 2 / 4], [1 / 3, 3 / 3]])


def test_without_a_control_well_there_is_no_p():
    result = control_p_value(np.ones((1, 2)), ["c1"], control_scores=np.ones((1, 2)), control_wells=["c1"])
    assert np.isnan(result).all()


def test_p_against_control_wells_is_uniform_for_a_control_well_even_when_the_answer_was_chosen():
    p = []
    for trial in range(400):
        rng = rng_for(7, "untreated", trial)
        # Score of one channel for each of five answers; every well is explained by the answer it favors.
        scores = rng.normal(size=(20, 5)).max(axis=1)[:, None]
        names = [f"c{k}" for k in range(20)]
        p.append(control_p_value(scores[:1], names[:1], control_scores=scores[1:], control_wells=names[1:])[0, 0])
    result = np.array(p)
    assert kstest(result - 0.025, "uniform").pvalue > 0.01  # p takes steps of 1 / 20; compare their centers
    assert binomtest(int((result <= 0.05).sum()), 400, 0.05).pvalue > 0.01


def test_p_values_of_a_well_are_joined_without_assuming_that_its_sites_are_independent():
    assert combine_p_values(np.array([[0.04, 0.9]])).tolist() == [0.04, 0.9]
    np.testing.assert_allclose(combine_p_values(np.array([[0.01, 0.5], [0.03, 0.9]])), [0.04, 1.0])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_joined_p_is_valid_for_sites_that_depend_on_each_other(share):
    rng = rng_for(8, "joined")
    own_p, common = rng.uniform(size=(2000, 2)), rng.uniform(size=(2000, 1))
    p = np.where(rng.uniform(size=(2000, 1)) < share, common, own_p)
    combined = np.array([combine_p_values(pair[:, None])[0] for pair in p])
    for level in (0.05, 0.2):
        assert (combined <= level).mean() <= level + 0.015
