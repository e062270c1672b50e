"""Wells unlike the training: angles worked out by hand, ranks, and a planted class that was never trained."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from distangle.inference.open_set import ClassCenters, add_open_set_score, add_out_of_fold_score, share_nearer
from distangle.results import Predictions

N_CLASSES, SIZE = 6, 12


def directions_at(*degrees: float) -> np.ndarray:
    """Vectors in the plane, of several lengths."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.linspace(1, 3, len(degrees))[:, None]


def test_distances_are_cosines_of_angles() -> None:
    centers = ClassCenters.fit(directions_at(0, 20, 90), np.array(["a", "a", "b"]))
    assert centers.names == ("a", "b")
    expected = [1 - np.cos(np.deg2rad(one)) for one in (0, 30, 10, 90)]
    np.testing.assert_allclose(centers.distances(directions_at(10, 40, 100, 180)), expected, atol=1e-12)


def test_a_training_well_is_measured_without_itself() -> None:
    embedding, labels = directions_at(0, 20, 60), np.array(["a", "a", "b"])
    centers = ClassCenters.fit(embedding, labels)
    # 0 is 20 degrees from the other a; b has no other well, and its nearest mean is that of a, at 10.
    expected = [1 - np.cos(np.deg2rad(one)) for one in (20, 20, 50)]
    np.testing.assert_allclose(centers.distances(embedding, labels), expected, atol=1e-12)


def test_ranks_are_counted_by_hand() -> None:
    ranks = share_nearer(np.array([0.0, 1.0, 1.5, 9.0]), np.array([3.0, 1.0, 2.0, 1.0]))
    assert ranks.tolist() == [0.0, 0.25, 0.5, 1.0]


def planted_wells(n_experiments: int, *, seed: int = 0) -> Predictions:
    """Six trained classes and one that only held-out experiments have; the last experiments are held out."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(N_CLASSES + 1, SIZE))
    rows = []
    vectors = []
    for experiment in range(n_experiments + 2):
        held_out = experiment >= 2
        for label in range(N_CLASSES + held_out):
            for _ in range(8):
                rows.append((f"E{experiment}", f"t{label}", "held_out" if held_out else "train"))
                vectors.append(centers[label] + rng.normal(0, 0.45, SIZE))
    table = pd.DataFrame(rows, columns=["Metadata_Experiment", "perturbation", "Metadata_Fold"])
    table = table.assign(Metadata_Plate="1", Metadata_Role="treatment", reason="")
    return Predictions(
        level="well", table=table, logits=np.zeros((len(table), 1), np.float32),
        embedding=np.array(vectors, dtype=np.float32), perturbations=("t0",), views=8,
    )  # fmt: skip


def test_a_planted_class_is_unlike_the_training() -> None:
    wells = planted_wells(3)
    result, sentence = add_open_set_score(wells, wells, is_same_screen=True)
    held_out = result.table[result.table["Metadata_Fold"] == "held_out"]
    is_new = held_out["perturbation"] == f"t{N_CLASSES}"
    assert roc_auc_score(is_new, held_out["unlike_training"]) > 0.95
    assert result.table["unlike_training"][result.table["Metadata_Fold"] == "train"].isna().all()
    assert held_out["unlike_training"].between(0, 1).all()
    # Known wells have uniform ranks, because the references are wells of other held-out experiments.
    assert held_out["unlike_training"][~is_new].mean() == pytest.approx(0.5, abs=0.03)
    assert sentence == "unlike_training is a rank among 144 held-out wells of other experiments."


def test_references_are_of_other_experiments() -> None:
    wells = planted_wells(2)
    first, _ = add_open_set_score(wells, wells, is_same_screen=True)
    is_last = (wells.table["Metadata_Experiment"] == "E3").to_numpy()
    shifted = wells.embedding.copy()
    shifted[is_last] = -shifted[is_last]  # all of E3 lies elsewhere
    other = Predictions(**{**vars(wells), "embedding": shifted})
    second, _ = add_open_set_score(other, other, is_same_screen=True)
    assert second.table["unlike_training"][is_last].mean() > 0.9
    is_second = (wells.table["Metadata_Experiment"] == "E2").to_numpy()
    assert second.table["unlike_training"][is_second].mean() < first.table["unlike_training"][is_second].mean()


def test_with_few_held_out_wells_training_wells_are_the_references() -> None:
    wells = planted_wells(2)
    table = wells.table
    keep = (
        (table["Metadata_Fold"] == "train") | ((table.index % 8 < 1) & (table["Metadata_Experiment"] == "E2"))
    ).values
    few_wells = Predictions(
        **{
            **vars(wells),
            "table": table[keep].reset_index(drop=True),
            "embedding": wells.embedding[keep],
            "logits": wells.logits[keep],
        }
    )
    result, sentence = add_open_set_score(few_wells, few_wells, is_same_screen=True)
    assert "7 wells is a rank among 96 training wells" in sentence
    assert "use their order only" in sentence
    assert result.table["unlike_training"].notna().sum() == 7


def test_wells_of_another_screen_are_ranked_among_the_held_out_wells_of_the_run() -> None:
    source = planted_wells(3)
    new = planted_wells(3)
    new.table["Metadata_Fold"] = "new"
    result, sentence = add_open_set_score(new, source, is_same_screen=False)
    assert "144 held-out wells" in sentence
    assert result.table["unlike_training"].notna().all()


def test_without_training_wells_there_is_a_reason() -> None:
    wells = planted_wells(2)
    result, sentence = add_open_set_score(wells, None, is_same_screen=True)
    assert result is wells
    assert sentence.startswith("No well has a score for unlike wells: the run has no predictions")
    wells.table["Metadata_Fold"] = "held_out"
    assert (
        "0 training wells of treatments are known, and it needs 20"
        in add_open_set_score(wells, wells, is_same_screen=True)[1]
    )


def cross_validation(*, n_wells: int = 8, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Two networks, each with other experiments, and its own scale of logits; class t9 was never trained."""
    rng = np.random.default_rng(seed)
    rows, logits = [], []
    for network, experiments in (("1", ("E0", "E1")), ("2", ("E2", "E3"))):
        for experiment in experiments:
            for label in (0, 1, 2, 9):
                for _ in range(n_wells):
                    rows.append((experiment, f"t{label}", "held_out" if label < 9 else "excluded", network))
                    values = rng.normal(size=3)
                    if label < 9:
                        values[label] += 5
                    logits.append(values * (1 if network == "1" else 30))
    table = pd.DataFrame(rows, columns=["Metadata_Experiment", "perturbation", "Metadata_Fold", "network"])
    table = table.assign(Metadata_Plate="1", Metadata_Role="treatment", reason="")
    predictions = Predictions(
        level="well", table=table.drop(columns="network"), logits=np.array(logits, np.float32),
        embedding=np.zeros((len(table), 2), np.float32), perturbations=("t0", "t1", "t2"), views=8,
    )  # fmt: skip
    return predictions, table["network"].to_numpy(dtype=object)


def test_after_a_cross_validation_each_network_ranks_the_wells_it_held_out() -> None:
    wells, networks = cross_validation()
    result, sentence = add_out_of_fold_score(wells, networks)
    score, is_new = result.table["unlike_training"], result.table["perturbation"] == "t9"
    assert roc_auc_score(is_new, score) > 0.95
    # Wells like the references have uniform ranks in both networks, though the logits of one are thirty times as large.
    for network in ("1", "2"):
        assert score[(networks == network) & ~is_new].mean() == pytest.approx(0.5, abs=0.08)
    assert sentence == (
        "unlike_training is a rank by the largest logit among wells that the same network of the cross-validation held "
        "out, of other experiments: the final network was trained on all wells."
    )
    # By hand: the first well of E0 among the 24 labeled wells of E1.
    largest = wells.logits.max(axis=1)
    references = ((wells.table["Metadata_Experiment"] == "E1") & ~is_new).to_numpy()
    assert score[0] == pytest.approx((largest[references] > largest[0]).mean())


def test_a_well_has_no_part_in_its_own_references() -> None:
    wells, networks = cross_validation()
    first = add_out_of_fold_score(wells, networks)[0].table["unlike_training"]
    logits = wells.logits.copy()
    is_moved = (wells.table["Metadata_Experiment"] == "E0").to_numpy()
    logits[is_moved] -= 100
    second = add_out_of_fold_score(Predictions(**{**vars(wells), "logits": logits}), networks)[0].table[
        "unlike_training"
    ]
    assert (second[is_moved] == 1).all()
    is_other_network = networks == "2"
    np.testing.assert_array_equal(second[is_other_network], first[is_other_network])


def test_wells_of_the_final_network_or_with_few_references_have_no_score() -> None:
    wells, networks = cross_validation()
    networks[:32] = "0"  # E0: now E1 is alone, with one plate
    result, sentence = add_out_of_fold_score(wells, networks)
    assert result.table["unlike_training"].isna().tolist() == [True] * 64 + [False] * 64
    assert sentence.endswith(" 32 wells have no score, because there are fewer than 20 such wells.")
    few_wells, networks = cross_validation(n_wells=2)
    unscored, reason = add_out_of_fold_score(few_wells, networks)
    assert unscored is few_wells
    assert "No well has a score for unlike wells: after a cross-validation" in reason
