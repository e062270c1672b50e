import itertools

import numpy as np
import pytest

from distangle.training.pseudo_labels.constraints import PlateLayoutConstraint, learn_constraint, no_constraint

# Two experiments, two plates each; classes 0-2 share a plate, 3-5 the other; rotated between the experiments.
PLACES = [(e, p) for e, p in (("E1", "1"), ("E1", "2"), ("E2", "1"), ("E2", "2")) for _ in range(3)]
LABELS = np.array([0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0])


def test_groups_and_once_are_learnt_from_labelled_plates() -> None:
    constraint = learn_constraint(PLACES, LABELS, n_classes=7)
    assert (constraint.unique_per_plate, constraint.unique_group_per_experiment, constraint.remarks) == (True, True, ())
    assert [group.tolist() for group in constraint.groups] == [[0, 1, 2], [3, 4, 5]]


def test_a_plate_with_failed_wells_still_belongs_to_its_group() -> None:
    rows = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]  # class 2 is missing on E1 plate 1
    constraint = learn_constraint([PLACES[k] for k in rows], LABELS[rows], n_classes=6)
    assert [group.tolist() for group in constraint.groups] == [[0, 1, 2], [3, 4, 5]]


def test_what_does_not_apply_is_said() -> None:
    twice = learn_constraint([*PLACES, ("E1", "1")], np.array([*LABELS, 2]), n_classes=6)
    assert not twice.unique_per_plate
    assert twice.remarks == (
        "one-to-one does not apply: 1 of 4 labelled plates carry a class in two wells (first: E1 plate 1, "
        "4 wells of 3 classes)",
    )
    overlapping = learn_constraint(PLACES, np.array([0, 1, 2, 2, 4, 5, 5, 4, 3, 2, 1, 0]), n_classes=6)
    assert overlapping.groups == ()
    assert "groups do not apply: the classes of the labelled plates overlap" in overlapping.remarks
    other = learn_constraint(PLACES, np.array([0, 1, 2, 1, 0, 2, 5, 4, 3, 2, 1, 0]), n_classes=6)
    assert not other.unique_group_per_experiment


def test_one_to_one_is_the_best_of_all_permutations() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4, 4))
    structure = PlateLayoutConstraint(unique_per_plate=True, groups=(), unique_group_per_experiment=False, n_classes=4)
    all_allowed = np.ones((4, 4), bool)
    classes, remarks = structure.assign(logits, [("E", "1")] * 4, all_allowed)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    best = max(itertools.permutations(range(4)), key=lambda p: sum(log_probabilities[k, c] for k, c in enumerate(p)))
    assert tuple(classes) == best
    assert remarks == []
    # Plates are independent: each class may occur once on each.
    both_experiments, _ = structure.assign(
        np.vstack([logits, logits]), [("E", "1")] * 4 + [("E", "2")] * 4, np.ones((8, 4), bool)
    )
    assert tuple(both_experiments) == best * 2


def test_a_plate_with_more_wells_than_classes_is_not_forced() -> None:
    structure = PlateLayoutConstraint(unique_per_plate=True, groups=(), unique_group_per_experiment=False, n_classes=2)
    logits = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    classes, (remark,) = structure.assign(logits, [("E", "7")] * 3, np.ones((3, 2), bool))
    assert classes.tolist() == [0, 0, 1]
    assert remark == (
        "E plate 7 has 3 wells for 2 classes: its pseudo labels are the most probable ones, not one-to-one"
    )


def test_without_structure_the_likeliest_allowed_class_is_taken() -> None:
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    allowed = np.array([[True, True, True], [False, True, True]])
    classes, _ = no_constraint(3).assign(logits, [("E", "1")] * 2, allowed)
    assert classes.tolist() == [0, 1]


@pytest.mark.parametrize("is_unique", [True, False])
def test_the_groups_of_the_plates_of_an_experiment_are_chosen_together(is_unique: bool) -> None:
    groups = (np.array([0, 1]), np.array([2, 3]))
    structure = PlateLayoutConstraint(
        unique_per_plate=False, groups=groups, unique_group_per_experiment=is_unique, n_classes=5
    )
    # Both plates look a little more like the first group, plate 1 more so.
    certain, uncertain = [4.0, 4.0, 0.0, 0.0, 0.0], [2.0, 2.0, 1.5, 1.5, 0.0]
    allowed = structure.allowed_classes(
        np.array([certain, certain, uncertain, uncertain]), [("E", "1")] * 2 + [("E", "2")] * 2
    )
    assert np.flatnonzero(allowed[0]).tolist() == [0, 1]
    assert np.flatnonzero(allowed[2]).tolist() == ([2, 3] if is_unique else [0, 1])
    assert (allowed[0] == allowed[1]).all()
