"""At most one well per class and plate: every permutation of small plates, and a screen with a planted layout."""

from itertools import permutations

import numpy as np
import pytest
from scipy.special import log_softmax

from distangle.errors import ProfileError
from distangle.inference.assignment import assign_per_plate


def best_by_hand(logits: np.ndarray, allowed: np.ndarray) -> tuple[int, ...]:
    """The classes of a plate with the highest sum among all permutations."""
    n_wells, n_classes = logits.shape
    choices = [
        choice
        for choice in permutations(range(n_classes), n_wells)
        if all(allowed[well, label] for well, label in enumerate(choice))
    ]
    return max(choices, key=lambda choice: sum(logits[well, label] for well, label in enumerate(choice)))


@pytest.mark.parametrize(("n_wells", "n_classes"), [(1, 1), (1, 4), (3, 5), (4, 4), (4, 6)])
def test_the_best_of_all_permutations_is_found(n_wells: int, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        logits = rng.normal(size=(n_wells, n_classes))
        best = best_by_hand(logits, np.ones(logits.shape, dtype=bool))
        assert assign_per_plate(logits, ["P1"] * n_wells).tolist() == list(best)
        assert assign_per_plate(log_softmax(logits, axis=1), ["P1"] * n_wells).tolist() == list(best)


def test_plates_of_one_name_in_two_experiments_are_two_plates() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(12, 5))
    plates = [("E1", "1"), ("E2", "1"), ("E1", "2")] * 4
    assigned = assign_per_plate(logits, plates)
    assert assigned.dtype == np.int64
    for plate in set(plates):
        rows = [k for k, name in enumerate(plates) if name == plate]
        assert tuple(assigned[rows]) == best_by_hand(logits[rows], np.ones((4, 5), dtype=bool))


def test_only_allowed_classes_are_assigned() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        logits = rng.normal(size=(3, 6))
        allowed = rng.random((3, 6)) < 0.5
        allowed[np.arange(3), [5, 3, 1]] = True  # one assignment exists
        assert assign_per_plate(logits, [1] * 3, allowed=allowed).tolist() == list(best_by_hand(logits, allowed))
        classes = np.array([True, False, True, True, False, True])
        best = best_by_hand(logits, np.tile(classes, (3, 1)))
        assert assign_per_plate(logits, [1] * 3, allowed=classes).tolist() == list(best)


def test_a_wrong_well_is_corrected_by_its_plate() -> None:
    logits = np.array([[5.0, 0.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.0, 1.0]])  # well 1 alone would be class 0
    assert logits.argmax(axis=1).tolist() == [0, 0, 2]
    assert assign_per_plate(logits, ["P"] * 3).tolist() == [0, 1, 2]
    assert assign_per_plate(logits, ["P", "Q", "P"]).tolist() == [0, 0, 2]


def planted_layout(seed: int, *, n_wells: int = 50) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Eight plates with a class of 60 in each well, and logits that favor it by 2.5 standard deviations."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([rng.permutation(60)[:n_wells] for _ in range(8)])
    logits = rng.normal(size=(len(truth), 60))
    logits[np.arange(len(truth)), truth] += 2.5
    return logits, truth, np.repeat(np.arange(8), n_wells).tolist()


def test_a_planted_layout_gains_accuracy() -> None:
    gains = []
    for seed in range(10):
        logits, truth, plates = planted_layout(seed)
        gains.append(np.mean(assign_per_plate(logits, plates) == truth) - np.mean(logits.argmax(axis=1) == truth))
    assert np.mean(gains) > 0.04
    assert min(gains) > 0


def test_a_class_preferred_in_every_well_changes_nothing_on_full_plates() -> None:
    logits, truth, plates = planted_layout(0, n_wells=60)
    preferring = logits + 100.0 * (np.arange(60) == 7)
    assert set(preferring.argmax(axis=1)) == {7}
    assert assign_per_plate(preferring, plates).tolist() == assign_per_plate(logits, plates).tolist()
    assert np.mean(assign_per_plate(preferring, plates) == truth) > 0.5


def test_plates_that_cannot_be_filled_are_refused() -> None:
    logits = np.zeros((3, 4))
    with pytest.raises(ProfileError, match=r"Plate \('E1', '1'\) has 3 wells and 2 allowed classes"):
        assign_per_plate(logits, [("E1", "1")] * 3, allowed=np.array([True, True, False, False]))
    with pytest.raises(ProfileError, match="Plate P has 5 wells and 4 allowed classes: expected at most one well per"):
        assign_per_plate(np.zeros((5, 4)), ["P"] * 5)
    allowed = np.array([[True, False, False, False], [True, False, False, False], [True] * 4])
    with pytest.raises(ProfileError, match="Plate P has 3 wells that their allowed classes cannot fill one to one"):
        assign_per_plate(logits, ["P"] * 3, allowed=allowed)


def test_arrays_that_do_not_fit_are_refused() -> None:
    logits = np.zeros((2, 3))
    with pytest.raises(ProfileError, match=r"shape \(2, 3\), for 1 plates"):
        assign_per_plate(logits, ["P"])
    with pytest.raises(ProfileError, match=r"allowed is float64 \(2, 3\): expected bool \(3,\) or \(2, 3\)"):
        assign_per_plate(logits, ["P", "P"], allowed=logits)
    with pytest.raises(ProfileError, match="Row 1 of the logits has a value that is not finite"):
        assign_per_plate(np.array([[0.0, 1.0], [0.0, -np.inf]]), ["P", "P"])
    assert assign_per_plate(np.zeros((0, 3)), []).shape == (0,)
