"""Count every assignment of pseudo labels, and stop them when they do harm."""

from collections.abc import Mapping, Sequence

import numpy as np

from distangle.training.config import PseudoLabels

MIN_WELLS = 8  # needed for an entropy or a precision
Counts = Mapping[str, float]


def count_assignment(
    *,
    labels: np.ndarray,
    accepted: np.ndarray,
    confidence: np.ndarray,
    choices: np.ndarray,
    previous: np.ndarray | None,
    truth: np.ndarray,
    labelled_classes: np.ndarray,
) -> dict[str, float]:
    """Return the logged metrics of an assignment, without those that are unknown.

    Args:
        labels: int [well], class assigned to each unlabelled well.
        accepted: bool [well], whether the label is used.
        confidence: float [well], probability of the assigned class.
        choices: int [well], most probable class of the network, without the plate layout.
        previous: int [well], `choices` of the previous assignment; None for the first.
        truth: int [well], true class; -1 if unknown. For counts only, never for training.
        labelled_classes: int [well], classes of the labelled wells; the expected distribution of classes.
    """
    is_known = truth >= 0
    counts = {
        "pseudo_accept_rate": float(accepted.mean()),
        "pseudo_confidence": float(confidence[accepted].mean()) if accepted.any() else 0.0,
        "pseudo_entropy": relative_entropy(labels[accepted], labelled_classes),
        "pseudo_choice_entropy": relative_entropy(choices, labelled_classes),
    }
    if previous is not None:
        counts["pseudo_agreement"] = float((choices == previous).mean())
    if is_known.any():
        counts["pseudo_accuracy"] = float((labels[is_known] == truth[is_known]).mean())
        if (accepted & is_known).any():
            counts["pseudo_known"] = float((accepted & is_known).sum())
            counts["pseudo_precision"] = float((labels == truth)[accepted & is_known].mean())
    return counts


def relative_entropy(labels: np.ndarray, labelled_classes: np.ndarray) -> float:
    """Return the entropy of classes as a share of the maximum expected, in [0, 1].

    The maximum is the entropy of the labelled wells, or of as many wells of different classes if that is smaller.

    Args:
        labels: int [well].
        labelled_classes: int [well].
    """
    if len(labels) < MIN_WELLS:
        return 1.0
    max_entropy = min(_entropy(labelled_classes), float(np.log(len(labels))))
    return min(1.0, _entropy(labels) / max_entropy) if max_entropy else 1.0


def reason_to_stop(rounds: Sequence[Counts], settings: PseudoLabels) -> str | None:
    """Return the reason to stop pseudo labels at the newest assignment, or None.

    Args:
        rounds: Metrics of all assignments so far, the newest last.
        settings: The bounds.
    """
    newest = rounds[-1]
    for name, owner in (("pseudo_entropy", "the accepted labels"), ("pseudo_choice_entropy", "all unlabelled wells")):
        if newest[name] < settings.min_entropy:
            return (
                f"the classes of {owner} collapse: their entropy is {newest[name]:.2f} of that of the labelled wells, "
                f"below pseudo_labels.min_entropy={settings.min_entropy:g}"
            )
    precision = newest.get("pseudo_precision")
    if precision is not None and newest["pseudo_confidence"] - precision > settings.max_gap:
        return (
            f"confident and wrong: the mean probability of the accepted labels is {newest['pseudo_confidence']:.2f}, "
            f"their precision {precision:.2f}; the gap is above pseudo_labels.max_gap={settings.max_gap:g}"
        )
    if precision is not None and newest["pseudo_known"] >= MIN_WELLS and precision < settings.min_precision:
        return (
            f"too many are wrong: {precision:.2f} of the {newest['pseudo_known']:.0f} accepted labels with a known "
            f"class are correct, below pseudo_labels.min_precision={settings.min_precision:g}"
        )
    for name, quantity in (("pseudo_accuracy", "accuracy on unlabelled wells"), ("pseudo_agreement", "agreement")):
        values = [counts[name] for counts in rounds if name in counts]
        # Two rounds in a row: a single one may be noise of a high learning rate.
        if len(values) > 2 and max(values) - max(values[-2:]) > settings.max_drop:
            return (
                f"the {quantity} fell from {max(values):.2f} to {values[-1]:.2f}, in two rounds in a row more than "
                f"pseudo_labels.max_drop={settings.max_drop:g} below its best"
            )
    return None


def _entropy(labels: np.ndarray) -> float:
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float((shares * np.log(1 / shares)).sum())
