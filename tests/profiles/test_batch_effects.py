import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.profiles.batch_effects import bras, clisi, graph_connectivity, ilisi, measure_batch_effects, pcr
from distangle.profiles.probes import probe
from distangle.results.profiles import Profiles


def circle(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_bras_of_six_vectors():
    measure = bras(circle(0, 10, 20, 30, 90, 100), ["x"] * 6, list("AABBCC"))
    assert measure.value == pytest.approx(0.029748, abs=1e-6)
    assert (measure.n, measure.n_skipped) == (6, 0)


def test_bras_equals_plain_loops_and_skips_labels_of_one_batch():
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(30, 4)), np.repeat(["a", "b", "c"], 10)
    batches = np.where(labels == "c", 0, rng.integers(3, size=30))
    directions = features / np.linalg.norm(features, axis=1)[:, None]
    means = []
    for label in "ab":
        values = []
        for i in np.flatnonzero(labels == label):
            same_batch = [j for j in np.flatnonzero(labels == label) if batches[j] == batches[i] and j != i]
            rest = [j for j in np.flatnonzero(labels == label) if batches[j] != batches[i]]
            a, b = (
                np.mean([1 - directions[i] @ directions[j] for j in group]) if group else 0
                for group in (same_batch, rest)
            )
            values.append(abs(b - a) / max(a, b) if same_batch else 0)
        means.append(1 - np.mean(values))
    measure = bras(features, labels, batches)
    assert measure.value == pytest.approx(np.mean(means))
    assert (measure.n, measure.n_skipped) == (20, 1)


def test_pcr_of_four_points_and_of_the_components():
    points = np.array([[0, 0], [2, 0], [4, 1], [6, 1]], dtype=float)
    assert pcr(points, list("AABB")).value == pytest.approx(0.809524, abs=1e-6)
    rng = np.random.default_rng(0)
    features, batches = rng.normal(size=(40, 5)), rng.integers(3, size=40)
    u, s, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    scores = u * s
    fit = np.stack([scores[batches == b].mean(axis=0) for b in range(3)])[batches]
    r2 = (fit**2).sum(axis=0) / (scores**2).sum(axis=0)
    assert pcr(features, batches).value == pytest.approx((s**2 * r2).sum() / (s**2).sum())


def test_lisi_of_perfect_mixing_and_of_separate_batches():
    equal, batches = np.ones((201, 2)), np.arange(201) % 2
    assert ilisi(equal, batches, k=200).value == pytest.approx(1, abs=1e-3)
    assert clisi(equal, batches, k=200).value == pytest.approx(0, abs=1e-3)
    two_groups = np.random.default_rng(0).normal(size=(200, 2)) + 100 * (np.arange(200) >= 100)[:, None]
    assert ilisi(two_groups, np.arange(200) >= 100, k=60).value == pytest.approx(0, abs=1e-9)
    assert clisi(two_groups, np.arange(200) >= 100, k=60).value == pytest.approx(1, abs=1e-9)


def test_lisi_does_not_count_the_row_itself():
    # Pairs of one row of each batch: the only neighbor is of the other batch, so one batch counts.
    line = np.repeat(10.0 * np.arange(20), 2)[:, None] + np.tile([0, 1], 20)[:, None]
    assert ilisi(line, np.tile([0, 1], 20), k=1).value == 0


def test_graph_connectivity_of_whole_and_of_split_labels():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(40, 2))
    far_cloud = cloud + 100
    two_clouds, labels = np.concatenate([cloud, far_cloud]), np.repeat(["a", "b"], 40)
    assert graph_connectivity(two_clouds, labels).value == 1
    measure = graph_connectivity(
        np.concatenate([two_clouds, rng.normal(size=(1, 2))]), [*np.tile(["a", "b"], 40), "one"]
    )
    assert measure.value == pytest.approx(0.5)
    assert measure.n_skipped == 1


def test_nothing_to_compute_has_a_reason():
    for measure in (
        bras(circle(0, 10), ["a", "b"], ["A", "B"]),
        pcr(circle(0, 10), ["A", "A"]),
        pcr(np.ones((3, 2)), list("AAB")),
        ilisi(circle(0, 10), ["A", "A"]),
        clisi(circle(0, 10), ["a", "a"]),
        graph_connectivity(circle(0, 10), ["a", "b"]),
    ):
        assert np.isnan(measure.value)
        assert measure.reason


def test_probe_finds_a_planted_target_and_no_other():
    rng = np.random.default_rng(0)
    target, groups = np.tile([0, 1], 120), np.repeat(np.arange(12), 20)
    noise = rng.normal(size=(240, 6))
    with_signal = probe(noise + 5 * target[:, None], target, groups, seed=1, n_shuffles=20)
    assert with_signal.accuracy > 0.95
    assert with_signal.chance == pytest.approx(0.5, abs=0.06)
    assert with_signal.interval[0] <= with_signal.accuracy <= with_signal.interval[1]
    empty = probe(noise, target, groups, seed=1, n_shuffles=50)
    assert empty.chance_range[0] - 0.05 < empty.accuracy < empty.chance_range[1] + 0.05


def test_probe_learns_nothing_from_the_noise_of_groups():
    # Each group has a strong shift, and targets are constant within groups: rows are not independent.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 15)
    features = rng.normal(size=(240, 5)) + 10 * rng.normal(size=(16, 5))[groups]
    result = probe(features, groups % 2, groups, seed=0, n_shuffles=100)
    assert result.chance_range[1] - result.chance_range[0] > 0.3
    assert result.chance_range[0] <= result.accuracy <= result.chance_range[1]


def test_probe_refuses_what_it_cannot_learn():
    with pytest.raises(ProfileError, match="Every class lies in one group"):
        probe(np.ones((4, 2)), [0, 0, 1, 1], [0, 0, 1, 1], seed=0, n_shuffles=2)
    with pytest.raises(ProfileError, match=r"1 class\(es\) in 2 group\(s\)"):
        probe(np.ones((4, 2)), [0] * 4, [0, 0, 1, 1], seed=0, n_shuffles=2)
    with pytest.raises(ProfileError, match="4 vectors, 3 targets and 4 groups"):
        probe(np.ones((4, 2)), [0] * 3, [0, 0, 1, 1], seed=0, n_shuffles=2)
    with pytest.raises(ProfileError, match="4 vectors and 3 labels or batches"):
        pcr(np.ones((4, 2)), [0] * 3)


def screen(*, shift=0.0, fixed_places=False):
    rng = np.random.default_rng(0)
    rows = []
    for experiment in ("E1", "E2"):
        for plate in ("1", "2", "3"):
            names = [f"p{k % 6}" for k in (range(12) if fixed_places else rng.permutation(12))]
            rows += [(experiment, plate, f"A{well + 1:02}", name) for well, name in enumerate(names)]
    columns = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Perturbation"]
    table = pd.DataFrame(rows, columns=columns)
    features = rng.normal(size=(72, 5)) + shift * (table["Metadata_Experiment"] == "E2").to_numpy()[:, None]
    return Profiles(level="well", table=table, features=features.astype(np.float32), feature_names=tuple("abcde"))


def values(table):
    return table.set_index(["name", "of"])["value"]


def test_table_of_a_screen_with_and_without_an_effect_of_the_experiment():
    no_shift, strong = measure_batch_effects(screen()), measure_batch_effects(screen(shift=6))
    assert values(strong)["PCR", "experiment"] > 0.7 > 0.2 > values(no_shift)["PCR", "experiment"]
    assert values(strong)["probe accuracy", "experiment"] == 1
    assert values(strong)["BRAS", "experiment"] < values(no_shift)["BRAS", "experiment"]
    assert values(strong)["iLISI", "experiment"] < values(no_shift)["iLISI", "experiment"]
    chance = no_shift.set_index(["name", "of"])["chance"]
    assert chance["PCR", "experiment"] == pytest.approx(1 / 71)
    assert not no_shift.duplicated(["name", "of"]).any()
    assert len(no_shift) == 18


def test_every_missing_value_has_a_reason():
    table = measure_batch_effects(screen(fixed_places=True))
    assert (table["value"].isna() == (table["reason"] != "")).all()
    position = table[table["of"] == "position"]
    assert position["reason"].str.contains("place and perturbation cannot be told apart").all()
    cell_type = table[table["of"] == "cell type"]
    assert (cell_type["reason"] == "The profiles have no column Metadata_Cell_Type.").all()
