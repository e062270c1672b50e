"""Learn the plate layout from labelled wells, and constrain pseudo labels by it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax

from distangle.core.stats import positions_by_value

MIN_LOG_PROBABILITY = -1e4  # finite, and lower than any log probability that is chosen


@dataclass(frozen=True)
class PlateLayoutConstraint:
    """Rules that hold on all labelled plates, applied to plates without labels.

    Attributes:
        unique_per_plate: Whether no plate carries a class in two wells.
        groups: Classes that occur together on plates, int64 [group][class]; the groups are disjoint. Empty when the
            labelled plates give no groups.
        unique_group_per_experiment: Whether no experiment carries a group on two plates.
        n_classes: Number of classes.
        remarks: Rules that do not apply, with the reason.
    """

    unique_per_plate: bool
    groups: tuple[np.ndarray, ...]
    unique_group_per_experiment: bool
    n_classes: int
    remarks: tuple[str, ...] = ()

    def allowed_classes(self, logits: np.ndarray, plates: Sequence[tuple[Hashable, Hashable]]) -> np.ndarray:
        """Return the classes that the group of its plate allows each well.

        The groups of the plates of an experiment are chosen together, from the logits of all wells of each plate. Each
        group is used once if the labelled experiments use each once.

        Args:
            logits: float [well, class], without NaN.
            plates: Experiment and plate of each well.

        Returns:
            bool [well, class].
        """
        allowed = np.ones(logits.shape, dtype=bool)
        if not self.groups:
            return allowed
        log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
        group_scores = np.stack(
            [np.logaddexp.reduce(log_probabilities[:, group], axis=1) for group in self.groups], axis=1
        )
        wells_by_experiment: dict[Hashable, list[list[int]]] = {}
        for (experiment, _), wells in positions_by_value(plates).items():
            wells_by_experiment.setdefault(experiment, []).append(wells)
        for wells_by_plate in wells_by_experiment.values():
            votes = np.stack([np.maximum(group_scores[wells], -20.0).sum(axis=0) for wells in wells_by_plate])
            best_groups = votes.argmax(axis=1)
            if self.unique_group_per_experiment and len(wells_by_plate) <= len(self.groups):
                best_groups = linear_sum_assignment(-votes)[1]
            for wells, group in zip(wells_by_plate, best_groups, strict=True):
                outside = np.setdiff1d(np.arange(self.n_classes), self.groups[int(group)])
                allowed[np.asarray(wells)[:, None], outside] = False
        return allowed

    def assign(
        self, logits: np.ndarray, plates: Sequence[tuple[Hashable, Hashable]], allowed: np.ndarray
    ) -> tuple[np.ndarray, list[str]]:
        """Assign a class to each well.

        It is the most probable class, or on each plate the most probable one-to-one assignment.

        Args:
            logits: float [well, class].
            plates: Experiment and plate of each well.
            allowed: bool [well, class]; at least one class per well.

        Returns:
            int64 [well], and notes on plates without a one-to-one assignment.
        """
        log_probabilities = np.where(
            allowed, log_softmax(np.where(allowed, logits, -np.inf), axis=1), MIN_LOG_PROBABILITY
        )
        assigned = log_probabilities.argmax(axis=1)
        remarks: list[str] = []
        if not self.unique_per_plate:
            return assigned, remarks
        for plate, members in positions_by_value(plates).items():
            wells = np.array(members)
            n_allowed = int(allowed[wells].any(axis=0).sum())
            if len(wells) > n_allowed:
                remarks.append(
                    f"{plate[0]} plate {plate[1]} has {len(wells)} wells for {n_allowed} classes: its pseudo "
                    f"labels are the most probable ones, not one-to-one"
                )
                continue
            wells_of, classes = linear_sum_assignment(-np.maximum(log_probabilities[wells], MIN_LOG_PROBABILITY))
            assigned[wells[wells_of]] = classes
        return assigned, remarks


def learn_constraint(
    plates: Sequence[tuple[Hashable, Hashable]], labels: np.ndarray, *, n_classes: int
) -> PlateLayoutConstraint:
    """Return the rules of the plate layout that labelled wells imply.

    Args:
        plates: Experiment and plate of each labelled well.
        labels: int [well], class of each labelled well.
        n_classes: Number of classes.
    """
    labels_by_plate: dict[tuple[Hashable, Hashable], list[int]] = {}
    for plate, label in zip(plates, labels.tolist(), strict=True):
        labels_by_plate.setdefault(plate, []).append(label)
    repeated = [(plate, classes) for plate, classes in labels_by_plate.items() if len(set(classes)) < len(classes)]
    remarks = []
    if repeated:
        (experiment, plate_name), classes = repeated[0]
        remarks.append(
            f"one-to-one does not apply: {len(repeated)} of {len(labels_by_plate)} labelled plates carry a class in "
            f"two wells (first: {experiment} plate {plate_name}, {len(classes)} wells of {len(set(classes))} classes)"
        )
    groups = _merge_overlapping([set(classes) for classes in labels_by_plate.values()])
    unique_group = True
    if len(groups) < 2:
        groups = ()
        remarks.append("groups do not apply: the classes of the labelled plates overlap")
    else:
        group_of = {label: k for k, group in enumerate(groups) for label in group.tolist()}
        group_of_plates = [(plate[0], group_of[classes[0]]) for plate, classes in labels_by_plate.items()]
        unique_group = len(set(group_of_plates)) == len(group_of_plates)
    return PlateLayoutConstraint(
        unique_per_plate=not repeated,
        groups=groups,
        unique_group_per_experiment=unique_group,
        n_classes=n_classes,
        remarks=tuple(remarks),
    )


def no_constraint(n_classes: int) -> PlateLayoutConstraint:
    """Return a constraint without rules."""
    return PlateLayoutConstraint(
        unique_per_plate=False, groups=(), unique_group_per_experiment=False, n_classes=n_classes
    )


def _merge_overlapping(sets: Sequence[set[int]]) -> tuple[np.ndarray, ...]:
    """Merge sets that share a member; plates with failed wells stay in their group."""
    groups: list[set[int]] = []
    for labels in sets:
        disjoint = [other for other in groups if not other & labels]
        groups = [*disjoint, set(labels).union(*(other for other in groups if other & labels))]
    return tuple(np.array(sorted(other), dtype=np.int64) for other in sorted(groups, key=min))
