"""Folds of whole groups, stratified by label."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from distangle.errors import FoldError
from distangle.randomness import generator
from distangle.screen.folds import Folds, divided
from distangle.screen.labels import check_target
from distangle.screen.table import PLATE_COLUMNS, WELL_COLUMNS, Screen

Group = Literal["experiment", "plate", "well"]
GROUPS: dict[Group, list[str]] = {
    "experiment": ["experiment"],
    "plate": list(PLATE_COLUMNS),
    "well": list(WELL_COLUMNS),
}


def by_group(
    screen: Screen,
    *,
    group: Group,
    n_folds: int,
    fold: int,
    seed: int,
    label: str = "perturbation",
    force: bool = False,
) -> Folds:
    """Hold out one of `n_folds` sets of whole groups, stratified by label.

    Args:
        screen: The screen to divide.
        group: What stays whole: `experiment`, `plate` (of one experiment) or `well`; wells divide plates, which is
            refused unless `force`.
        n_folds: How many sets; every group is held out in exactly one of them.
        fold: Which set, from 0.
        seed: Another seed deals the groups out in another way.
        label: The column to spread.
        force: As in `hold_out`.

    Raises:
        FoldError: Fewer groups than sets, no such set, no such column, or something on both sides.
    """
    if group not in GROUPS:
        raise FoldError(f"Cannot keep {group!r} whole: expected experiment, plate or well.")
    check_target(screen, label)
    member = screen.sites.groupby(GROUPS[group], sort=True).ngroup().to_numpy()
    n_groups = int(member.max()) + 1 if len(member) else 0
    if not (2 <= n_folds <= n_groups):
        raise FoldError(f"{n_folds} folds of {n_groups} {group}s: expected from 2 to as many folds as {group}s.")
    if not (0 <= fold < n_folds):
        raise FoldError(f"No fold {fold} of {n_folds}: they count from 0 to {n_folds - 1}.")
    codes = np.unique(screen.sites[label].astype(str).to_numpy(dtype=object), return_inverse=True)[1]
    dealt = deal(member, codes, n_sets=n_folds, rng=generator(seed, "stratified folds", group))
    held = dealt[member] == fold
    description = f"{group}s, fold {fold} of {n_folds}, stratified by {label}, seed {seed}"
    return divided(screen, held, description, force=force)


def deal(
    member: np.ndarray | Sequence[int], codes: np.ndarray | Sequence[int], *, n_sets: int, rng: np.random.Generator
) -> np.ndarray:
    """Assign whole groups to sets so that every label is spread evenly.

    The choice is greedy.

    Large groups go first; each to the set where its labels are rarest so far, and of equal ones to the smallest.
    This is steepest descent of the sum of squares of (set, label) counts, which is least where labels are even.

    Args:
        member: Group of each row, from 0.
        codes: Label of each row, from 0.
        n_sets: How many sets.
        rng: Orders groups of one size.

    Returns:
        Set of each group, int [group].
    """
    pairs, counts = np.unique(np.stack([np.asarray(member), np.asarray(codes)]), axis=1, return_counts=True)
    n_groups = int(np.max(member)) + 1
    starts = np.searchsorted(pairs[0], np.arange(n_groups + 1))
    sizes = np.bincount(np.asarray(member), minlength=n_groups)
    shuffled = rng.permutation(n_groups)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    held = np.zeros((n_sets, int(np.max(codes)) + 1))
    totals = np.zeros(n_sets)
    chosen = np.empty(n_groups, dtype=int)
    for group in order:
        part = slice(starts[group], starts[group + 1])
        labels, n = pairs[1, part], counts[part]
        rises = held[:, labels] @ n  # half of what the sum of squares grows by, but for what all sets share
        best = int(np.lexsort((totals, rises))[0])
        held[best, labels] += n
        totals[best] += n.sum()
        chosen[group] = best
    return chosen
