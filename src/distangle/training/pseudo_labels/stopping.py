"""Count every assignment of pseudo labels, and end them when they do harm."""

from collections.abc import Mapping, Sequence

import numpy as np

from distangle.training.config import PseudoLabels

FEW = 8  # wells: fewer say nothing about how labels are distributed, or how many are right
Counted = Mapping[str, float]


def count_assignment(
    *,
    labels: np.ndarray,
    accepted: np.ndarray,
    confidence: np.ndarray,
    choices: np.ndarray,
    before: np.ndarray | None,
    truth: np.ndarray,
    labelled: np.ndarray,
) -> dict[str, float]:
    """Return what is logged of an assignment; what cannot be said is left out.

    Args:
        labels: int [well], the class given to each unlabelled well.
        accepted: bool [well], whether the label is used.
        confidence: float [well], probability of the given class.
        choices: int [well], the likeliest class of the network, before any plan of plates.
        before: int [well], `choices` of the assignment before; None for the first.
        truth: int [well], the true class; -1 where nobody knows it. Only counted, never trained on.
        labelled: int [well], classes of the labelled wells: how evenly classes should occur.
    """
    known = truth >= 0
    counted = {
        "pseudo_accept_rate": float(accepted.mean()),
        "pseudo_confidence": float(confidence[accepted].mean()) if accepted.any() else 0.0,
        "pseudo_entropy": relative_entropy(labels[accepted], labelled),
        "pseudo_choice_entropy": relative_entropy(choices, labelled),
    }
    if before is not None:
        counted["pseudo_agreement"] = float((choices == before).mean())
    if known.any():
        counted["pseudo_accuracy"] = float((labels[known] == truth[known]).mean())
        if (accepted & known).any():
            counted["pseudo_known"] = float((accepted & known).sum())
            counted["pseudo_precision"] = float((labels == truth)[accepted & known].mean())
    return counted


def relative_entropy(labels: np.ndarray, labelled: np.ndarray) -> float:
    """Return the entropy of classes as a share of the largest expected, in [0, 1].

    Expected is that of the labelled wells, or of as many wells that all differ where there are too few.

    Args:
        labels: int [well].
        labelled: int [well].
    """
    if len(labels) < FEW:
        return 1.0
    most = min(_entropy(labelled), float(np.log(len(labels))))
    return min(1.0, _entropy(labels) / most) if most else 1.0


def reason_to_stop(rounds: Sequence[Counted], settings: PseudoLabels) -> str | None:
    """Say why the newest assignment, and any after it, must not be used.

    None where it may.

    Args:
        rounds: Counts of all assignments so far, the newest last.
        settings: The bounds.
    """
    newest = rounds[-1]
    for name, whose in (("pseudo_entropy", "the accepted labels"), ("pseudo_choice_entropy", "all unlabelled wells")):
        if newest[name] < settings.min_entropy:
            return (
                f"the classes of {whose} collapse: their entropy is {newest[name]:.2f} of that of the labelled wells, "
                f"below pseudo_labels.min_entropy={settings.min_entropy:g}"
            )
    precision = newest.get("pseudo_precision")
    if precision is not None and newest["pseudo_confidence"] - precision > settings.max_gap:
        return (
            f"confident and wrong: the mean probability of the accepted labels is {newest['pseudo_confidence']:.2f}, "
            f"their precision {precision:.2f}; the gap is above pseudo_labels.max_gap={settings.max_gap:g}"
        )
    if precision is not None and newest["pseudo_known"] >= FEW and precision < settings.min_precision:
        return (
            f"too many are wrong: {precision:.2f} of the {newest['pseudo_known']:.0f} accepted labels that are known "
            f"are right, below pseudo_labels.min_precision={settings.min_precision:g}"
        )
    for name, word in (("pseudo_accuracy", "accuracy on unlabelled wells"), ("pseudo_agreement", "agreement")):
        values = [counted[name] for counted in rounds if name in counted]
        # Two rounds running: one may be the noise of a high learning rate.
        if len(values) > 2 and max(values) - max(values[-2:]) > settings.max_drop:
            return (
                f"the {word} fell from {max(values):.2f} to {values[-1]:.2f}, two rounds running more than "
                f"pseudo_labels.max_drop={settings.max_drop:g} below its best"
            )
    return None


def _entropy(labels: np.ndarray) -> float:
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float((shares * np.log(1 / shares)).sum())
