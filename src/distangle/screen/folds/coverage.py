"""Count the classes and labels of a target in the folds."""

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
    """Classes of a target in the training and the held-out fold.

    Attributes:
        label: The column to predict.
        classes: The known classes of both folds, in natural order.
        n_train: Training sites of each class.
        n_held_out: Held-out sites of each class.
        never_trained: Classes without training sites: they cannot be predicted, and are not scored.
        never_held_out: Classes without held-out sites.
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

    def missing_label_notes(self) -> Iterator[str]:
        """Yield a sentence on sites without a label, if there are any."""
        counts = (
            ("training", self.n_unknown_train, self.n_train),
            ("held-out", self.n_unknown_held_out, self.n_held_out),
        )
        parts = [
            f"{n_unknown} of {n_unknown + sum(n_per_class)} {side} sites"
            for side, n_unknown, n_per_class in counts
            if n_unknown
        ]
        if parts:
            yield (
                f"{' and '.join(parts)} have no label in column {self.label!r}: they are neither "
                "trained on nor scored. To use them, fill in the column in the table and index again."
            )


def target_columns(screen: Screen) -> list[str]:
    """Return the possible targets: perturbation, cell type and extra columns."""
    return ["perturbation", "cell_type", *screen.metadata.extra_columns]


def check_target(screen: Screen, label: str) -> None:
    """Refuse a target that is not a column of the screen.

    Args:
        screen: The screen.
        label: The column to predict, as typed.

    Raises:
        FoldError: No such column; the message suggests the most similar one.
    """
    if label not in fold_columns(screen):
        raise FoldError(f"No column {label!r} to predict. {did_you_mean(label, target_columns(screen))}")


@dataclass(frozen=True, kw_only=True)
class WellLabels:
    """Numbers of wells with one label or several.

    Attributes:
        n_labeled: Wells with at least one labeled site.
        n_ambiguous: Labeled wells with several labels.
        n_partial: Labeled wells with one label that some sites lack.
    """

    n_labeled: int
    n_ambiguous: int
    n_partial: int

    @property
    def single(self) -> bool:
        """Whether every labeled well has one label at all of its sites."""
        return not (self.n_ambiguous or self.n_partial)


def count_well_labels(wells: pd.DataFrame, labels: Sequence[str] | np.ndarray) -> WellLabels:
    """Count the wells whose sites share a label.

    Args:
        wells: Columns that identify the well of each site, such as `experiment`, `plate` and `well`.
        labels: Label of each site; "" for none.
    """
    well = wells.groupby([wells[name] for name in wells.columns], sort=False, dropna=False).ngroup().to_numpy()
    label, names = pd.factorize(np.asarray(labels, dtype=object))
    is_known = np.append([str(name) != "" for name in names], True)  # a missing value, the last, is a name too
    pairs = np.unique(well * len(is_known) + np.where(label < 0, len(names), label))
    n_all = np.bincount(pairs // len(is_known), minlength=1)
    n_known = np.bincount(pairs // len(is_known), weights=is_known[pairs % len(is_known)], minlength=1)
    return WellLabels(
        n_labeled=int((n_known > 0).sum()),
        n_ambiguous=int((n_known > 1).sum()),
        n_partial=int(((n_known == 1) & (n_all > 1)).sum()),
    )


def class_coverage(screen: Screen, folds: Folds, label: str = "perturbation") -> ClassCoverage:
    """Count the classes of a column in both folds.

    Args:
        screen: The screen that the folds divide.
        folds: The folds; sites that are unlabeled or excluded are not counted.
        label: The column to predict; "" in it is an unknown label.

    Raises:
        FoldError: No such column, fewer than two training classes, or no label on both sides.
    """
    check_target(screen, label)
    pairs = pd.DataFrame({"fold": folds.of(screen), "label": screen.sites[label].astype(str)})
    counts: dict[str, Counter[str]] = defaultdict(Counter, {TRAIN: Counter(), HELD_OUT: Counter()})
    sizes = pairs.groupby(["fold", "label"], sort=False).size().reset_index(name="n")
    for fold, name, n in zip(*(sizes[column].tolist() for column in sizes.columns), strict=True):
        counts[fold][name] = n
    unknown = {fold: count.pop("", 0) for fold, count in counts.items()}
    trained = ordered_classes(counts[TRAIN])
    if len(trained) < 2:
        trained_classes = f"only {trained[0]!r}" if trained else f"no known {label}"
        raise FoldError(
            f"The training fold of {folds.description} has {trained_classes} in column {label!r} "
            f"({unknown[TRAIN]} sites without a label): expected at least two classes. "
            "Hold out less, or predict another column."
        )
    if counts[HELD_OUT] and not counts[TRAIN].keys() & counts[HELD_OUT].keys():
        raise _no_shared_label(screen, folds, label, counts)
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


def _no_shared_label(screen: Screen, folds: Folds, label: str, counts: dict[str, Counter[str]]) -> FoldError:
    """Return the error that no label can be tested, with suitable columns."""
    all_counts = counts[TRAIN] + counts[HELD_OUT]
    once_note = "; each occurs once, like the name of a row" if set(all_counts.values()) == {1} else ""
    fold = folds.of(screen)
    others = []
    for column in target_columns(screen):
        values = screen.sites[column].astype(str) if column in screen.sites.columns else pd.Series(dtype=str)
        sides = [set(values[fold == name]) - {""} for name in (TRAIN, HELD_OUT)] if len(values) else [set(), set()]
        # A column with almost as many values as sites holds names of rows.
        if column != label and len(sides[0]) > 1 and sides[0] & sides[1] and values.nunique() <= len(values) / 2:
            others.append(column)
    advice = f"Predict another column (`--target {others[0]}`" if others else "Predict another column"
    advice += f"; or {', '.join(others[1:4])})" if len(others) > 1 else ")" if others else ""
    return FoldError(
        f"No label of column {label!r} is on both sides of {folds.description}: {len(counts[TRAIN])} labels are for "
        f"training and {len(counts[HELD_OUT])} others held out{once_note}. None could be scored. {advice}, or hold out "
        "groups whose labels are trained on elsewhere."
    )
