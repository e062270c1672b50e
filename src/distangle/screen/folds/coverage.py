"""Check that folds can teach and test a target, and that a well has one label."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from distangle.errors import FoldError, did_you_mean
from distangle.screen.folds.folds import HELD_OUT, TRAIN, Folds, fold_columns
from distangle.screen.roles import ordered_classes
from distangle.screen.screen import Screen


@dataclass(frozen=True, kw_only=True)
class ClassCoverage:
    """Which classes the folds can teach and test.

    Attributes:
        label: The column that is to be predicted.
        classes: The known classes of both folds, in natural order.
        n_train: Training sites of each class.
        n_held_out: Held-out sites of each class.
        never_trained: Classes that only held-out sites have: they cannot be predicted, and are not scored.
        never_held_out: Classes that are trained and not tested.
        n_unknown_train: Training sites without a label.
        n_unknown_held_out: Held-out sites without a label.
    """

    label: str
    classes: tuple[str, ...]
    n_train: tuple[int, ...]
    n_held_out: tuple[int, ...]
    never_trained: tuple[str, ...]
    never_held_out: tuple[str, ...]
    n_unknown_train: int
    n_unknown_held_out: int

    def blanks(self) -> Iterator[str]:
        """Say how many sites have no label, and what to do; nothing where all have one."""
        counts = (
            ("training", self.n_unknown_train, self.n_train),
            ("held-out", self.n_unknown_held_out, self.n_held_out),
        )
        said = [f"{unknown} of {unknown + sum(known)} {side} sites" for side, unknown, known in counts if unknown]
        if said:
            yield (
                f"{' and '.join(said)} have no label in column {self.label!r}: no label is learnt from them, and "
                "they are not scored. To use them, fill the column in in the table and index again."
            )


def target_columns(screen: Screen) -> list[str]:
    """Return the columns that can be learnt: perturbation, cell type, extra columns."""
    return ["perturbation", "cell_type", *screen.card.extra_columns]


def check_target(screen: Screen, label: str) -> None:
    """Refuse a label that is no column of the screen.

    Args:
        screen: The screen.
        label: The column to predict, as somebody typed it.

    Raises:
        FoldError: No such column; names the nearest one.
    """
    if label not in fold_columns(screen):
        raise FoldError(f"No column {label!r} to predict. {did_you_mean(label, target_columns(screen))}")


@dataclass(frozen=True, kw_only=True)
class WellLabels:
    """How many wells have one label.

    Attributes:
        labelled: Wells with at least one labelled site.
        several: Of these, wells whose sites hold several labels.
        partial: Of these, wells of one label that some of their sites lack.
    """

    labelled: int
    several: int
    partial: int

    @property
    def single(self) -> bool:
        """Whether every labelled well has one label, at all of its sites."""
        return not (self.several or self.partial)


def count_well_labels(wells: pd.DataFrame, labels: Sequence[str] | np.ndarray) -> WellLabels:
    """Count the wells whose sites share a label.

    Args:
        wells: What names the well of each site, such as the columns `experiment`, `plate` and `well`.
        labels: Of each site; "" for none.
    """
    names = np.asarray(labels, dtype=object).astype(str)
    pairs = wells.assign(**{_LABEL: names}).drop_duplicates()
    groups = pairs[_LABEL].ne("").groupby([pairs[name] for name in wells.columns], sort=False)
    n_known, n_all = groups.sum().to_numpy(), groups.size().to_numpy()
    return WellLabels(
        labelled=int((n_known > 0).sum()),
        several=int((n_known > 1).sum()),
        partial=int(((n_known == 1) & (n_all > 1)).sum()),
    )


def class_coverage(screen: Screen, folds: Folds, label: str = "perturbation") -> ClassCoverage:
    """Count the classes of a column in both folds.

    Args:
        screen: The screen that the folds divide.
        folds: Training and held-out; what is unlabelled or aside is not counted.
        label: The column to predict; "" in it is an unknown label.

    Raises:
        FoldError: No such column, fewer than two classes to train, or no label on both sides.
    """
    check_target(screen, label)
    labels = screen.sites[label].astype(str).tolist()
    counts: dict[str, Counter[str]] = defaultdict(Counter, {TRAIN: Counter(), HELD_OUT: Counter()})
    for fold, name in zip(folds.of(screen).tolist(), labels, strict=True):
        counts[fold][name] += 1
    unknown = {fold: count.pop("", 0) for fold, count in counts.items()}
    trained = ordered_classes(counts[TRAIN])
    if len(trained) < 2:
        there = f"only {trained[0]!r}" if trained else f"no known {label}"
        raise FoldError(
            f"The training fold of {folds.description} has {there} in column {label!r} "
            f"({unknown[TRAIN]} sites without a label): two classes are the least. "
            "Hold out less, or predict another column."
        )
    if counts[HELD_OUT] and not counts[TRAIN].keys() & counts[HELD_OUT].keys():
        raise _nothing_shared(screen, folds, label, counts)
    classes = ordered_classes([*counts[TRAIN], *counts[HELD_OUT]])
    return ClassCoverage(
        label=label,
        classes=classes,
        n_train=tuple(counts[TRAIN][name] for name in classes),
        n_held_out=tuple(counts[HELD_OUT][name] for name in classes),
        never_trained=tuple(name for name in classes if not counts[TRAIN][name]),
        never_held_out=tuple(name for name in classes if not counts[HELD_OUT][name]),
        n_unknown_train=unknown[TRAIN],
        n_unknown_held_out=unknown[HELD_OUT],
    )


def _nothing_shared(screen: Screen, folds: Folds, label: str, counts: dict[str, Counter[str]]) -> FoldError:
    """Say that no label can be tested, and which columns have labels that can."""
    in_all = counts[TRAIN] + counts[HELD_OUT]
    once = "; each is there once, as the name of a row is" if set(in_all.values()) == {1} else ""
    fold = folds.of(screen)
    others = []
    for column in target_columns(screen):
        values = screen.sites[column].astype(str) if column in screen.sites.columns else pd.Series(dtype=str)
        sides = [set(values[fold == name]) - {""} for name in (TRAIN, HELD_OUT)] if len(values) else [set(), set()]
        # As many labels as sites are names of rows, though one may be there twice.
        if column != label and len(sides[0]) > 1 and sides[0] & sides[1] and values.nunique() <= len(values) / 2:
            others.append(column)
    advice = f"Learn another column (`--target {others[0]}`" if others else "Learn another column"
    advice += f"; or {', '.join(others[1:4])})" if len(others) > 1 else ")" if others else ""
    return FoldError(
        f"No label of column {label!r} is on both sides of {folds.description}: {len(counts[TRAIN])} labels are for "
        f"training and {len(counts[HELD_OUT])} others held out{once}. None could be scored. {advice}, or hold out "
        "groups whose labels are trained on elsewhere."
    )


_LABEL = "label of the site"
