"""Make folds from command-line options."""

from distangle.errors import FoldError
from distangle.screen.folds import Folds, by_experiment, hold_nothing_out, hold_out
from distangle.screen.grouped import GROUPS, Group, by_group
from distangle.screen.labels import check_target
from distangle.screen.table import Screen
from distangle.screen.unlabelled import hide_labels_by
from distangle.screen.wilds import by_wilds, part_named


def divide(
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
        folds = by_group(screen, group=group, n_folds=n_folds, fold=fold or 0, seed=seed, label=label, force=force)
    elif by is None:
        n_folds = max(2, min(5, screen.sites["experiment"].nunique())) if n_folds is None else n_folds
        folds = by_experiment(screen, n_folds=n_folds, fold=fold or 0, seed=seed, force=force)
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
