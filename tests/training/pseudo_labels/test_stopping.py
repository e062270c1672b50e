import numpy as np
import pytest

from distangle.training import resolve_config
from distangle.training.pseudo_labels.stopping import count_assignment, reason_to_stop, relative_entropy

SETTINGS = resolve_config("scratch").pseudo_labels
EVEN = np.arange(24) % 4


def counts_of(labels: np.ndarray, **changes: object) -> dict[str, float]:
    fields: dict[str, object] = {
        "labels": labels,
        "accepted": np.ones(len(labels), bool),
        "confidence": np.full(len(labels), 0.9),
        "choices": labels,
        "previous": None,
        "truth": np.full(len(labels), -1),
        "labelled_classes": EVEN,
    }
    return count_assignment(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_is_counted_by_hand() -> None:
    labels, is_accepted = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 0]), np.array([True] * 8 + [False] * 2)
    truth = np.array([0, 1, 2, 0, 0, 1, -1, -1, 0, 1])
    previous = np.array([0, 1, 2, 3, 1, 1, 2, 3, 1, 0])
    confidence = np.array([0.5, 1.0] * 5)
    result = counts_of(labels, accepted=is_accepted, truth=truth, previous=previous, confidence=confidence)
    assert result["pseudo_accept_rate"] == 0.8
    assert result["pseudo_confidence"] == 0.75
    assert result["pseudo_precision"] == pytest.approx(5 / 6)  # of six accepted ones with a known truth
    assert result["pseudo_accuracy"] == pytest.approx(6 / 8)
    assert result["pseudo_agreement"] == 0.8
    assert result["pseudo_entropy"] == pytest.approx(1)
    assert "pseudo_precision" not in counts_of(labels)
    assert "pseudo_agreement" not in counts_of(labels)


def test_entropy_is_relative_to_how_evenly_classes_should_occur() -> None:
    assert relative_entropy(np.zeros(20, int), EVEN) == 0
    assert relative_entropy(EVEN, EVEN) == pytest.approx(1)
    assert relative_entropy(np.repeat([0, 1], 10), EVEN) == pytest.approx(0.5)
    # Nine wells that all differ cannot have the entropy of a hundred classes.
    assert relative_entropy(np.arange(9), np.arange(100)) == pytest.approx(1)
    assert relative_entropy(np.zeros(3, int), EVEN) == 1  # three wells are too few


def test_good_labels_go_on() -> None:
    assert reason_to_stop([counts_of(EVEN, truth=EVEN, previous=EVEN)] * 5, SETTINGS) is None


def test_all_one_class_stops() -> None:
    reason = reason_to_stop([counts_of(np.zeros(24, int))], SETTINGS)
    assert reason == (
        "the classes of the accepted labels collapse: their entropy is 0.00 of that of the labelled wells, below "
        "pseudo_labels.min_entropy=0.5"
    )
    # One-to-one labels hide the collapse of a network; its unconstrained choices show it.
    hidden = reason_to_stop([counts_of(EVEN, choices=np.zeros(24, int))], SETTINGS)
    assert hidden is not None
    assert hidden.startswith("the classes of all unlabelled wells collapse")


def test_confident_and_wrong_stops_where_the_truth_is_known() -> None:
    reason = reason_to_stop([counts_of(EVEN, truth=(EVEN + 1) % 4)], SETTINGS)
    assert reason == (
        "confident and wrong: the mean probability of the accepted labels is 0.90, their precision 0.00; the gap is "
        "above pseudo_labels.max_gap=0.5"
    )
    assert reason_to_stop([counts_of(EVEN, truth=np.full(24, -1))], SETTINGS) is None  # no truth is known


def test_labels_of_which_too_few_are_right_stop_however_unsure_they_are() -> None:
    is_wrong = np.arange(24) < 10  # 14 of 24 are right: .58
    unsure = counts_of(EVEN, truth=np.where(is_wrong, (EVEN + 1) % 4, EVEN), confidence=np.full(24, 0.3))
    assert reason_to_stop([unsure], SETTINGS) == (
        "too many are wrong: 0.58 of the 24 accepted labels with a known class are correct, below "
        "pseudo_labels.min_precision=0.6"
    )
    just_enough = counts_of(EVEN, truth=np.where(np.arange(24) < 9, (EVEN + 1) % 4, EVEN), confidence=np.full(24, 0.3))
    assert reason_to_stop([just_enough], SETTINGS) is None  # .625
    few_truths = np.where(np.arange(24) < 7, (EVEN + 1) % 4, -1)  # seven known truths are too few
    assert reason_to_stop([counts_of(EVEN, truth=few_truths, confidence=np.full(24, 0.3))], SETTINGS) is None
    assert reason_to_stop([unsure], SETTINGS.model_copy(update={"min_precision": 0.0})) is None


@pytest.mark.parametrize("name", ["pseudo_accuracy", "pseudo_agreement"])
def test_a_fall_stops_only_when_it_lasts(name: str) -> None:
    def rounds(*values: float) -> list[dict[str, float]]:
        fine = counts_of(EVEN, truth=EVEN, previous=EVEN)
        return [{**fine, name: value} for value in values]

    assert reason_to_stop(rounds(0.9, 0.5), SETTINGS) is None
    assert reason_to_stop(rounds(0.9, 0.9, 0.5), SETTINGS) is None
    assert reason_to_stop(rounds(0.9, 0.5, 0.8), SETTINGS) is None
    assert reason_to_stop(rounds(0.5, 0.7, 0.9), SETTINGS) is None
    reason = reason_to_stop(rounds(0.9, 0.8, 0.6, 0.55), SETTINGS)
    assert reason is not None
    assert "fell from 0.90 to 0.55, in two rounds in a row more than pseudo_labels.max_drop=0.25" in reason
