"""Constrain labels of wells by the plate plan.

Which treatments share a plate, and how often.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax

T = TypeVar("T", bound=Hashable)
IMPOSSIBLE = -1e4  # a log probability that nobody chooses and that still adds up


@dataclass(frozen=True)
class PlateLayoutConstraint:
    """Rules that the labelled plates keep without exception.

    They are used for plates without labels.

    Attributes:
        once: No plate carries a class in two wells.
        groups: Classes that occur together on plates, int64 [group][class]; the groups are disjoint. Empty where
            all classes share plates, or no plate is known.
        group_once: No experiment carries a group on two plates.
        n_classes: Classes in all.
        remarks: What does not apply, and why.
    """

    once: bool
    groups: tuple[np.ndarray, ...]
    group_once: bool
    n_classes: int
    remarks: tuple[str, ...] = ()

    def allowed(self, logits: np.ndarray, places: Sequence[tuple[Hashable, Hashable]]) -> np.ndarray:
        """Return which classes the group of its plate leaves each well.

        The result is bool [well, class].

        The groups of the plates of an experiment are chosen together, each once where the labelled experiments
        have each once, by what all wells of the plates say.

        Args:
            logits: float [well, class], NaN nowhere.
            places: Experiment and plate of each well.
        """
        allowed = np.ones(logits.shape, dtype=bool)
        if not self.groups:
            return allowed
        said = log_softmax(logits.astype(np.float64), axis=1)
        inside = np.stack([np.logaddexp.reduce(said[:, group], axis=1) for group in self.groups], axis=1)
        members_of: dict[Hashable, list[list[int]]] = {}
        for (experiment, _), wells in positions_by_value(places).items():
            members_of.setdefault(experiment, []).append(wells)
        for members in members_of.values():
            votes = np.stack([np.maximum(inside[wells], -20.0).sum(axis=0) for wells in members])
            best = votes.argmax(axis=1)
            if self.group_once and len(members) <= len(self.groups):
                best = linear_sum_assignment(-votes)[1]
            for wells, group in zip(members, best, strict=True):
                outside = np.setdiff1d(np.arange(self.n_classes), self.groups[int(group)])
                allowed[np.asarray(wells)[:, None], outside] = False
        return allowed

    def choose(
        self, logits: np.ndarray, places: Sequence[tuple[Hashable, Hashable]], allowed: np.ndarray
    ) -> tuple[np.ndarray, list[str]]:
        """Choose a class for each well.

        It is the likeliest, or on each plate the likeliest one-to-one assignment.

        Args:
            logits: float [well, class].
            places: Experiment and plate of each well.
            allowed: bool [well, class]; at least one a well.

        Returns:
            int64 [well], and sentences on plates where one-to-one does not apply.
        """
        said = np.where(allowed, log_softmax(np.where(allowed, logits, -np.inf), axis=1), IMPOSSIBLE)
        chosen = said.argmax(axis=1)
        remarks: list[str] = []
        if not self.once:
            return chosen, remarks
        for place, members in positions_by_value(places).items():
            wells = np.array(members)
            n_open = int(allowed[wells].any(axis=0).sum())
            if len(wells) > n_open:
                remarks.append(
                    f"{place[0]} plate {place[1]} has {len(wells)} wells for {n_open} classes: its pseudo labels are "
                    f"the likeliest ones, not one-to-one"
                )
                continue
            wells_of, classes = linear_sum_assignment(-np.maximum(said[wells], IMPOSSIBLE))
            chosen[wells[wells_of]] = classes
        return chosen, remarks


def learn_constraint(
    places: Sequence[tuple[Hashable, Hashable]], labels: np.ndarray, *, n_classes: int
) -> PlateLayoutConstraint:
    """Return what labelled wells say of the plan of the plates.

    Args:
        places: Experiment and plate of each labelled well.
        labels: int [well], its class.
        n_classes: Classes in all.
    """
    on: dict[tuple[Hashable, Hashable], list[int]] = {}
    for place, label in zip(places, labels.tolist(), strict=True):
        on.setdefault(place, []).append(label)
    twice = [(place, found) for place, found in on.items() if len(set(found)) < len(found)]
    remarks = []
    if twice:
        (experiment, plate), found = twice[0]
        remarks.append(
            f"one-to-one does not apply: {len(twice)} of {len(on)} labelled plates carry a class in two wells "
            f"(the first is {experiment} plate {plate}, {len(found)} wells of {len(set(found))} classes)"
        )
    groups = _groups([set(found) for found in on.values()])
    group_once = True
    if len(groups) < 2:
        groups = ()
        remarks.append("groups do not apply: the classes of the labelled plates overlap")
    else:
        group_of = {label: k for k, group in enumerate(groups) for label in group.tolist()}
        carried = [(place[0], group_of[found[0]]) for place, found in on.items()]
        group_once = len(set(carried)) == len(carried)
    return PlateLayoutConstraint(
        once=not twice, groups=groups, group_once=group_once, n_classes=n_classes, remarks=tuple(remarks)
    )


def no_constraint(n_classes: int) -> PlateLayoutConstraint:
    """Return the structure that says nothing."""
    return PlateLayoutConstraint(once=False, groups=(), group_once=False, n_classes=n_classes)


def _groups(sets: Sequence[set[int]]) -> tuple[np.ndarray, ...]:
    """Join the sets that share a member; a plate with failed wells still belongs to its group."""
    joined: list[set[int]] = []
    for one in sets:
        apart = [group for group in joined if not group & one]
        joined = [*apart, set(one).union(*(group for group in joined if group & one))]
    return tuple(np.array(sorted(group), dtype=np.int64) for group in sorted(joined, key=min))


def positions_by_value(values: Iterable[T]) -> dict[T, list[int]]:
    """Return the positions of every value, in the order of their first positions."""
    positions: dict[T, list[int]] = {}
    for k, value in enumerate(values):
        positions.setdefault(value, []).append(k)
    return positions
