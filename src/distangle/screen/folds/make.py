"""Folds of whole groups, stratified by label.

Make folds from command-line options.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from distangle.core.random import rng_for
from distangle.errors import FoldError
from distangle.screen.folds.coverage import check_target
from distangle.screen.folds.folds import Folds, build_folds, folds_by_experiment, hold_nothing_out, hold_out
from distangle.screen.folds.hidden_labels import hide_labels_by
from distangle.screen.folds.wilds import by_wilds, part_named
from distangle.screen.screen import PLATE_COLUMNS, WELL_COLUMNS, Screen

Group = Literal["experiment", "plate", "well"]
GROUPS: dict[Group, list[str]] = {
    "experiment": ["experiment"],
    "plate": list(PLATE_COLUMNS),
    "well": list(WELL_COLUMNS),
}


def stratified_group_folds(
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
    dealt = assign_groups(member, codes, n_sets=n_folds, rng=rng_for(seed, "stratified folds", group))
    held = dealt[member] == fold
    description = f"{group}s, fold {fold} of {n_folds}, stratified by {label}, seed {seed}"
    return build_folds(screen, held, description, force=force)


def assign_groups(
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


def folds_from_options(
    screen: Screen,
    *,
    by: str | None = None,
    hidden: str | None = None,
    n_folds: int | None = None,
    fold: int | None = None,
    group: Group | None = None,
    label: str = "perturbation",
    seed: int = 0,
    force: bool = False,
) -> Folds:
    """Divide a screen as a command line asks.

    One argument for each option of `distangle folds`.

    Args:
        screen: The screen to divide.
        by: What to hold out, such as `replicate=2`, `experiment=HUVEC-02,RPE-01` or `wilds=test`; `none` for nothing;
            None deals out experiments.
        hidden: Whose labels the training does not see, in the same words; None for nobody's.
        n_folds: How many sets of experiments; None is five, or as many as there are.
        fold: Which of them is held out; None is the first.
        group: What stays whole when groups are dealt out with every label spread evenly; None deals out experiments
            with the cell types spread evenly.
        label: The column that will be predicted; `group` spreads it.
        seed: As in `by_experiment`.
        force: As in `hold_out`.

    Raises:
        FoldError: As in `hold_out`, `by_experiment`, `by_group`, `by_wilds` and `hide_labels_by`; or words without
            `=`, or `by` beside a number of folds; or no such column as `label`.
    """
    check_target(screen, label)
    if by == "none":
        if n_folds is not None or fold is not None or group is not None:
            raise FoldError("`--hold-out none` trains on everything: leave out the number of folds and their groups.")
        folds = hold_nothing_out(screen)
    elif by is None and group is not None:
        n_folds = max(2, min(5, len(screen.sites[GROUPS[group]].drop_duplicates()))) if n_folds is None else n_folds
        folds = stratified_group_folds(
            screen, group=group, n_folds=n_folds, fold=fold or 0, seed=seed, label=label, force=force
        )
    elif by is None:
        n_folds = max(2, min(5, screen.sites["experiment"].nunique())) if n_folds is None else n_folds
        folds = folds_by_experiment(screen, n_folds=n_folds, fold=fold or 0, seed=seed, force=force)
    elif n_folds is not None or fold is not None or group is not None:
        raise FoldError(f"{by} says already what is held out: leave out the number of folds and their groups.")
    else:
        column, separator, values = by.partition("=")
        named = [value.strip() for value in values.split(",") if value.strip()]
        if not separator or not named:
            raise FoldError(f"Cannot hold out {by!r}. Expected COLUMN=VALUE,VALUE such as experiment=HUVEC-02,RPE-01.")
        if column.strip() == "wilds" and len(named) == 1:
            folds = by_wilds(screen, part=part_named(named[0]), force=force)
        else:
            folds = hold_out(screen, column=column.strip(), values=named, force=force)
    return folds if hidden is None else hide_labels_by(screen, folds, hidden)
