"""A third fold: sites whose labels training does not see."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from distangle.errors import FoldError
from distangle.screen.folds.folds import HELD_OUT, TRAIN, UNLABELLED, Folds, match_values
from distangle.screen.roles import natural_sort_key
from distangle.screen.screen import Screen


def hide_labels(screen: Screen, folds: Folds, *, column: str = "experiment", values: Sequence[str]) -> Folds:
    """Move sites by their `column` from the training to the unlabelled fold.

    Their labels are then never trained on. Their images may be, under pseudo labels; labels that are known all
    the same tell how precise those were. The reported fold stays apart from both.

    Args:
        screen: The screen that the folds divide.
        folds: Training and held out.
        column: `experiment`, `plate`, or another column of the table.
        values: Which of its values.

    Raises:
        FoldError: No such column or value, a site that is held out, or none left to train on.
    """
    groups, wanted = match_values(screen, column, values, to="hide labels")
    fold = pd.Series(folds.of(screen), dtype="str")
    chosen = groups.isin(wanted).to_numpy()
    refuse_reported(screen, folds, chosen.nonzero()[0].tolist())
    if not (fold[~chosen] == TRAIN).any():
        raise FoldError(
            f"With the labels of {column}={','.join(wanted)} hidden nothing is left to train on. Hide fewer."
        )
    table = folds.table.copy()
    keys = list(screen.sites.loc[chosen, list(table.columns[:-1])].itertuples(index=False, name=None))
    hidden = pd.MultiIndex.from_frame(table[list(table.columns[:-1])]).isin(keys)
    table["fold"] = pd.Series(table["fold"].mask(hidden, UNLABELLED), dtype="str")
    said = "; ".join(word for word in (folds.unlabelled, f"{column}={','.join(wanted)}") if word)
    return dataclasses.replace(folds, table=table, unlabelled=said)


def hide_labels_by(screen: Screen, folds: Folds, by: str) -> Folds:
    """Hide labels as a command line asks.

    Args:
        screen: The screen that the folds divide.
        folds: Training and held out.
        by: Such as `experiment=HUVEC-02,RPE-01` or `split=test`.

    Raises:
        FoldError: As in `hide_labels`, or `by` is no such pair.
    """
    column, separator, values = by.partition("=")
    if not separator:
        raise FoldError(
            f"Cannot hide the labels of {by!r}. Expected COLUMN=VALUE,VALUE such as experiment=HUVEC-02,RPE-01."
        )
    named = [value.strip() for value in values.split(",") if value.strip()]
    return hide_labels(screen, folds, column=column.strip(), values=named)


def refuse_reported(screen: Screen, folds: Folds, rows: Sequence[int]) -> None:
    """Refuse pseudo labels for sites of the fold whose score is reported.

    Args:
        screen: The screen.
        folds: What is held out.
        rows: Sites that are to get a pseudo label, positions in the screen.

    Raises:
        FoldError: One of them is held out; names how many and which experiments.
    """
    fold = folds.of(screen)
    reported = [row for row in rows if fold[row] == HELD_OUT]
    if not reported:
        return
    experiments = sorted(set(screen.sites["experiment"].iloc[reported]), key=natural_sort_key)
    raise FoldError(
        f"{len(reported)} sites of {', '.join(experiments)} are held out ({folds.description}) and would get pseudo "
        f"labels: a score on them would be too good, and no longer one of unseen plates. Hold out other "
        f"experiments than those whose labels are hidden: a second, untouched fold."
    )
