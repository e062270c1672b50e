"""Hide labels: a third fold of sites whose labels training does not see."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from distangle.errors import FoldError
from distangle.screen.folds.folds import HELD_OUT, TRAIN, UNLABELLED, Folds, match_values
from distangle.screen.roles import natural_sort_key
from distangle.screen.screen import Screen


def hide_labels(screen: Screen, folds: Folds, *, column: str = "experiment", values: Sequence[str]) -> Folds:
    """Move sites by their `column` from the training to the unlabeled fold.

    Their labels are not used in training, but their images may be used with pseudo labels. If the hidden labels are
    known, they measure the precision of the pseudo labels. The held-out fold is separate from both.

    Args:
        screen: The screen of the folds.
        folds: The folds.
        column: `experiment`, `plate`, or another column of the table.
        values: Values of the column.

    Raises:
        FoldError: No such column or value, a held-out site among them, or no training site left.
    """
    groups, requested = match_values(screen, column, values, to="hide labels")
    fold = pd.Series(folds.of(screen), dtype="str")
    is_hidden = groups.isin(requested).to_numpy()
    refuse_reported(screen, folds, is_hidden.nonzero()[0].tolist())
    if not (fold[~is_hidden] == TRAIN).any():
        raise FoldError(
            f"With the labels of {column}={','.join(requested)} hidden, no training site is left. Hide fewer labels."
        )
    table = folds.table.copy()
    keys = list(screen.sites.loc[is_hidden, list(table.columns[:-1])].itertuples(index=False, name=None))
    is_hidden_row = pd.MultiIndex.from_frame(table[list(table.columns[:-1])]).isin(keys)
    table["fold"] = pd.Series(table["fold"].mask(is_hidden_row, UNLABELLED), dtype="str")
    description = "; ".join(part for part in (folds.unlabelled, f"{column}={','.join(requested)}") if part)
    return dataclasses.replace(folds, table=table, unlabelled=description)


def hide_labels_by(screen: Screen, folds: Folds, by: str) -> Folds:
    """Hide labels by a command-line option.

    Args:
        screen: The screen of the folds.
        folds: The folds.
        by: Such as `experiment=HUVEC-02,RPE-01` or `split=test`.

    Raises:
        FoldError: As in `hide_labels`, or `by` has another form.
    """
    column, separator, values = by.partition("=")
    if not separator:
        raise FoldError(
            f"Cannot hide the labels of {by!r}. Expected COLUMN=VALUE,VALUE such as experiment=HUVEC-02,RPE-01."
        )
    requested = [value.strip() for value in values.split(",") if value.strip()]
    return hide_labels(screen, folds, column=column.strip(), values=requested)


def refuse_reported(screen: Screen, folds: Folds, rows: Sequence[int]) -> None:
    """Refuse pseudo labels for held-out sites.

    Args:
        screen: The screen.
        folds: The folds.
        rows: Sites to pseudo-label, as positions in the screen.

    Raises:
        FoldError: A site is held out; the message lists the experiments.
    """
    fold = folds.of(screen)
    held_out = [row for row in rows if fold[row] == HELD_OUT]
    if not held_out:
        return
    experiments = sorted(set(screen.sites["experiment"].iloc[held_out]), key=natural_sort_key)
    raise FoldError(
        f"{len(held_out)} sites of {', '.join(experiments)} are held out ({folds.description}) and would get pseudo "
        f"labels: their score would be inflated, and not of unseen plates. Hold out other experiments than those "
        f"with hidden labels."
    )
