"""Make folds of whole groups, stratified by label, and folds from options."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from distangle.core.random import rng_for
from distangle.errors import FoldError
from distangle.screen.folds.coverage import check_target
from distangle.screen.folds.folds import Folds, build_folds, folds_by_experiment, hold_nothing_out, hold_out
from distangle.screen.folds.hidden_labels import hide_labels_by
from distangle.screen.folds.wilds import by_wilds, parse_part
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
        screen: The screen to split.
        group: The groups: `experiment`, `plate` (of one experiment) or `well`; wells split plates, which is refused
            unless `force`.
        n_folds: Number of sets; every group is held out in exactly one.
        fold: Index of the set, from 0.
        seed: Seed of the random assignment.
        label: The column to stratify by.
        force: As in `hold_out`.

    Raises:
        FoldError: Fewer groups than sets, no such set, no such column, or something on both sides.
    """
    if group not in GROUPS:
        raise FoldError(f"Unknown group {group!r}: expected experiment, plate or well.")
    check_target(screen, label)
    member = screen.sites.groupby(GROUPS[group], sort=True).ngroup().to_numpy()
    n_groups = int(member.max()) + 1 if len(member) else 0
    if not (2 <= n_folds <= n_groups):
        raise FoldError(f"{n_folds} folds of {n_groups} {group}s: expected from 2 to as many folds as {group}s.")
    if not (0 <= fold < n_folds):
        raise FoldError(f"No fold {fold} of {n_folds}: they count from 0 to {n_folds - 1}.")
    codes = np.unique(screen.sites[label].astype(str).to_numpy(dtype=object), return_inverse=True)[1]
    set_of_group = assign_groups(member, codes, n_sets=n_folds, rng=rng_for(seed, "stratified folds", group))
    is_held_out = set_of_group[member] == fold
    description = f"{group}s, fold {fold} of {n_folds}, stratified by {label}, seed {seed}"
    return build_folds(screen, is_held_out, description, force=force)


def assign_groups(
    member: np.ndarray | Sequence[int], codes: np.ndarray | Sequence[int], *, n_sets: int, rng: np.random.Generator
) -> np.ndarray:
    """Assign whole groups to sets so that every label is spread evenly.

    The assignment is greedy: groups in order of decreasing size go to the set where their labels are rarest, and in a
    tie to the smallest set. This is steepest descent of the sum of squares of (set, label) counts, which is smallest
    for an even spread.

    Args:
        member: Group of each row, from 0.
        codes: Label of each row, from 0.
        n_sets: Number of sets.
        rng: Orders groups of equal size.

    Returns:
        Set of each group, int [group].
    """
    pairs, counts = np.unique(np.stack([np.asarray(member), np.asarray(codes)]), axis=1, return_counts=True)
    n_groups = int(np.max(member)) + 1
    starts = np.searchsorted(pairs[0], np.arange(n_groups + 1))
    sizes = np.bincount(np.asarray(member), minlength=n_groups)
    shuffled = rng.permutation(n_groups)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    label_counts = np.zeros((n_sets, int(np.max(codes)) + 1))
    totals = np.zeros(n_sets)
    set_of_group = np.empty(n_groups, dtype=int)
    for group in order:
        part = slice(starts[group], starts[group + 1])
        labels, n = pairs[1, part], counts[part]
        rises = label_counts[:, labels] @ n  # half the growth of the sum of squares, up to a constant
        best = int(np.lexsort((totals, rises))[0])
        label_counts[best, labels] += n
        totals[best] += n.sum()
        set_of_group[group] = best
    return set_of_group


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
    """Make folds from the options of `distangle folds`.

    Args:
        screen: The screen to split.
        by: What to hold out, such as `replicate=2`, `experiment=HUVEC-02,RPE-01` or `wilds=test`; `none` for nothing;
            None for sets of experiments.
        hidden: Sites whose labels to hide, in the same form; None for none.
        n_folds: Number of sets of groups; None for five, or the number of groups if smaller.
        fold: Index of the set to hold out; None for the first.
        group: The groups of sets that are stratified by label; None for experiments, balanced by cell type.
        label: The column to predict, by which groups are stratified.
        seed: As in `folds_by_experiment`.
        force: As in `hold_out`.

    Raises:
        FoldError: As in `hold_out`, `folds_by_experiment`, `stratified_group_folds`, `by_wilds` and `hide_labels_by`;
            `by` without `=`, or together with a number of folds; or no such column as `label`.
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
        raise FoldError(f"{by} already defines what is held out: leave out the number of folds and their groups.")
    else:
        column, separator, values = by.partition("=")
        requested = [value.strip() for value in values.split(",") if value.strip()]
        if not separator or not requested:
            raise FoldError(f"Cannot hold out {by!r}. Expected COLUMN=VALUE,VALUE such as experiment=HUVEC-02,RPE-01.")
        if column.strip() == "wilds" and len(requested) == 1:
            folds = by_wilds(screen, part=parse_part(requested[0]), force=force)
        else:
            folds = hold_out(screen, column=column.strip(), values=requested, force=force)
    return folds if hidden is None else hide_labels_by(screen, folds, hidden)
