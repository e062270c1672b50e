import itertools
import math

import numpy as np
import pytest

from distangle.errors import ProfileError
from distangle.profiles import block_permutation, retrieval
from distangle.profiles.label_retrieval import consistency
from distangle.profiles.retrieval import activity, average_precision, expected_average_precision


def rays(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def seven_profiles():
    return rays(0, 11, 50, 20, 38, 91, 180), ["a"] * 3 + ["dmso"] * 4, np.arange(7) >= 3, np.zeros(7, int)


def plain_ap(features, query, positives, negatives):
    """Walk down the list of a query and count."""
    cosine = features @ features[query] / np.linalg.norm(features, axis=1) / np.linalg.norm(features[query])
    order = sorted([*positives, *negatives], key=lambda row: -cosine[row])
    hits, values = 0, []
    for rank, row in enumerate(order, start=1):
        if row in positives:
            hits += 1
            values.append(hits / rank)
    return sum(values) / len(values)


def plain_map(features, members, pool, blocks):
    """Mean over members of the average precision against the rest of the pool in the block of the member."""
    return np.mean(
        [
            plain_ap(
                features,
                query,
                [row for row in members if row != query],
                [row for row in pool if row not in members and blocks[row] == blocks[query]],
            )
            for query in members
        ]
    )


@pytest.mark.parametrize(
    ("n_positives", "n_negatives", "expected"),
    [(1, 16, 0.202327), (3, 16, 0.277087), (1, 63, 0.074123), (3, 64, 0.099620), (4, 15, 0.322269), (10, 90, 0.138067)],
)
def test_expected_average_precision_has_known_values(n_positives, n_negatives, expected):
    assert expected_average_precision(n_positives, n_negatives) == pytest.approx(expected, abs=6e-7)


def test_expected_average_precision_is_the_mean_over_all_orders():
    values = []
    for places in itertools.combinations(range(1, 10), 3):
        values.append(np.mean([count / place for count, place in enumerate(places, start=1)]))
    assert expected_average_precision(3, 6) == pytest.approx(np.mean(values)) == pytest.approx(0.485747, abs=1e-6)
    assert expected_average_precision(1, 0) == 1


def test_seven_vectors_have_the_values_worked_out_by_hand():
    features, names, is_control, blocks = seven_profiles()
    for query, value in enumerate([0.75, 0.5, 0.366667]):
        cosine = features @ features[query]
        other_rows = [row for row in range(3) if row != query]
        assert average_precision(cosine[other_rows], cosine[3:]) == pytest.approx(value, abs=1e-6)
    row = activity(features, names, is_control, blocks).iloc[0]
    assert row["mean_average_precision"] == pytest.approx(0.538889, abs=1e-6)
    assert row["normalized"] == pytest.approx(0.025822, abs=1e-6)
    assert row["p"] == row["q"] == pytest.approx(15 / 35)
    assert (row["n_replicates"], row["n_draws"], row["reason"]) == (3, 0, "")


def two_plates(rng):
    """Three perturbations and four controls on two plates, the third perturbation on one plate only."""
    names = ["a", "a", "b", *["dmso"] * 4, "a", "b", "b", "c", "c", *["dmso"] * 3]
    blocks = np.array([5] * 7 + [2] * 8)
    return rng.normal(size=(15, 4)), np.array(names, dtype=object), blocks


def test_activity_agrees_with_loops_on_two_plates():
    features, names, blocks = two_plates(np.random.default_rng(3))
    is_control = names == "dmso"
    table = activity(features, names, is_control, blocks)
    assert table["perturbation"].tolist() == ["a", "b", "c"]
    for row in table.itertuples():
        members = np.flatnonzero(names == row.perturbation)
        pool = [k for k in np.flatnonzero(is_control | (names == row.perturbation)) if blocks[k] in blocks[members]]
        observed = plain_map(features, list(members), pool, blocks)
        assert row.mean_average_precision == pytest.approx(observed)
        choices = [
            itertools.combinations([k for k in pool if blocks[k] == block], int((blocks[members] == block).sum()))
            for block in np.unique(blocks[members])
        ]
        null = [plain_map(features, sum(one, ()), pool, blocks) for one in itertools.product(*choices)]
        assert row.p == pytest.approx(np.mean(np.array(null) >= observed - 1e-9))
        assert row.n_draws == 0


def test_sampled_p_is_close_to_the_exact_one_and_never_zero(monkeypatch):
    features, names, blocks = two_plates(np.random.default_rng(3))
    exact = activity(features, names, names == "dmso", blocks)["p"]
    monkeypatch.setattr(block_permutation, "EXACT_DRAWS", 0)
    early = activity(features, names, names == "dmso", blocks, n_draws=4000, seed=1)
    has_stopped = early["n_draws"] < 4000
    assert has_stopped.any()
    np.testing.assert_allclose(early["p"][has_stopped], 100 / early["n_draws"][has_stopped])
    np.testing.assert_allclose(early["p"], exact, rtol=0.4, atol=4 * math.sqrt(0.25 / 4000))
    monkeypatch.setattr(block_permutation, "ENOUGH", 4001)
    sampled = activity(features, names, names == "dmso", blocks, n_draws=4000, seed=1)
    np.testing.assert_allclose(sampled["p"], exact, atol=4 * math.sqrt(0.25 / 4000))
    assert (sampled["n_draws"] == 4000).all()
    second = activity(features, names, names == "dmso", blocks, n_draws=4000, seed=1)
    np.testing.assert_array_equal(sampled["p"], second["p"])
    shifted = features + 100.0 * (names == "a")[:, None]
    assert activity(shifted, names, names == "dmso", blocks, n_draws=9)["p"][0] >= 1 / 10
    assert activity(shifted, names, names == "dmso", blocks, n_draws=0)["p"].isna().all()


def test_planted_perturbation_is_found_and_ties_count_against_replicates():
    rng = np.random.default_rng(0)
    names = np.repeat(["hit", "none", "dmso"], [4, 4, 16])
    features = rng.normal(size=(24, 8)) + 6.0 * (names == "hit")[:, None]
    table = activity(features, names, names == "dmso", np.zeros(24, int)).set_index("perturbation")
    assert table.loc["hit", "mean_average_precision"] == table.loc["hit", "normalized"] == 1
    assert table.loc["hit", "p"] == pytest.approx(1 / math.comb(20, 4))
    assert table.loc["none", "p"] > 0.05
    equal_profiles = activity(np.ones((24, 8)), names, names == "dmso", np.zeros(24, int))
    assert (equal_profiles["mean_average_precision"] < 0.2).all()
    assert (equal_profiles["p"] > 0.9).all()


def test_perturbations_without_a_value_stay_with_their_reason():
    features = np.random.default_rng(0).normal(size=(9, 4))
    names = np.array(["one", "bare", "bare", "half", "half", "dmso", "dmso", "dmso", "dmso"])
    table = activity(features, names, names == "dmso", np.array([0, 1, 1, 0, 1, 0, 0, 0, 0]))
    assert table["mean_average_precision"].isna().tolist() == [True, True, False]
    assert table["q"].isna().tolist() == [True, True, False]
    assert table["reason"].tolist() == [
        "one replicate; at least 2 are needed",
        "no negative control on the plates of its replicates",
        "",
    ]
    assert table["n_queries"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(("replicates", "plates"), [(2, 1), (4, 1), (8, 1), (4, 4), (8, 4)])
def test_p_is_calibrated_on_noise(replicates, plates):
    rng = np.random.default_rng([replicates, plates])
    p = []
    for _ in range(300):
        names = np.array(["x"] * replicates + ["dmso"] * 16 * plates)
        blocks = np.concatenate([np.arange(replicates) % plates, np.repeat(np.arange(plates), 16)])
        features = rng.normal(size=(len(names), 20)) + rng.normal(size=(plates, 20))[blocks]
        p.append(activity(features, names, names == "dmso", blocks, n_draws=199, seed=int(rng.integers(2**31)))["p"][0])
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) <= 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("with_weeks", [False, True])
def test_consistency_agrees_with_loops(with_weeks, monkeypatch):
    monkeypatch.setattr(retrieval, "_ROWS", 5)
    rng = np.random.default_rng(1)
    features = rng.normal(size=(18, 5))
    names = np.repeat(list("abcdef"), 3)
    weeks = np.tile([0, 1, 2], 6)
    of_name = {"a": {"x"}, "b": {"x", "y"}, "c": {"y"}, "d": {"z"}, "e": set(), "f": {"x"}}
    labels = [of_name[name] for name in names]
    rows, table = consistency(features, names, labels, not_same=weeks if with_weeks else None)
    for row in rows.itertuples():
        positives = [
            k
            for k in range(18)
            if row.label in labels[k] and names[k] != names[row.row] and (not with_weeks or weeks[k] != weeks[row.row])
        ]
        negatives = [k for k in range(18) if not labels[k] & labels[row.row]]
        assert (row.n_positives, row.n_negatives) == (len(positives), len(negatives))
        if row.label == "z":
            assert np.isnan(row.average_precision)
        else:
            assert row.average_precision == pytest.approx(plain_ap(features, row.row, positives, negatives))
    assert table["label"].tolist() == ["x", "y", "z"]
    assert table["n_perturbations"].tolist() == [3, 2, 0]
    x = rows[rows["label"] == "x"]["average_precision"]
    assert table["mean_average_precision"][0] == pytest.approx(x.mean())
    assert table["reason"][2] == "no other perturbation has the label"


def test_planted_label_is_consistent():
    names = np.repeat(["a", "b", "c", "d"], 2)
    features = rays(0, 1, 3, 6, 90, 94, 180, 185)
    table = consistency(features, names, [{"x"}] * 4 + [set()] * 4)[1]
    assert table["mean_average_precision"].tolist() == [1.0]
    assert table["normalized"].tolist() == [1.0]


def test_bad_input_is_named():
    features, names, is_control, blocks = seven_profiles()
    with pytest.raises(ProfileError, match="7 rows of features, but 6 values of perturbations"):
        activity(features, names[:6], is_control, blocks)
    with pytest.raises(ProfileError, match=r"n_draws is -1\. Expected 0 or more"):
        activity(features, names, is_control, blocks, n_draws=-1)
    with pytest.raises(ProfileError, match="None of 7 rows is a negative control"):
        activity(features, names, np.zeros(7, bool), blocks)
    features[4, 0] = np.nan
    with pytest.raises(ProfileError, match="Row 4 of the features holds NaN"):
        activity(features, names, is_control, blocks)
    with pytest.raises(ProfileError, match="0 positives and 3 negatives"):
        expected_average_precision(0, 3)
    with pytest.raises(ProfileError, match="the text 'x'"):
        consistency(rays(0, 1), ["a", "b"], ["x", "y"])
    with pytest.raises(ProfileError, match="None of 2 rows has a label"):
        consistency(rays(0, 1), ["a", "b"], [set(), set()])


def test_a_plate_of_controls_alone_gives_an_empty_table():
    table = activity(np.eye(3), ["dmso"] * 3, np.ones(3, bool), np.zeros(3, int))
    assert len(table) == 0
    assert {"perturbation", "p", "q", "reason"} <= set(table.columns)


def test_draws_that_end_early_give_the_p_of_all_draws_on_average(monkeypatch):
    features, names, blocks = two_plates(np.random.default_rng(3))
    exact = activity(features, names, names == "dmso", blocks)["p"]
    monkeypatch.setattr(block_permutation, "EXACT_DRAWS", 0)
    monkeypatch.setattr(block_permutation, "ENOUGH", 10)
    monkeypatch.setattr(block_permutation, "_FIRST_DRAWS", 7)  # the end lies inside of a later batch
    p = np.mean([activity(features, names, names == "dmso", blocks, seed=seed)["p"] for seed in range(60)], axis=0)
    # 10 / n is too large by about p / 10 on average, never too small.
    assert (p > exact * 0.9).all()
    assert (p < exact * 1.3 + 0.02).all()
