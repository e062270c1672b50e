"""Whether the folds can teach and test what is to be predicted."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from distangle.errors import FoldError, nearest
from distangle.screen.folds import HELD_OUT, TRAIN, Folds, fold_columns
from distangle.screen.perturbation import class_list
from distangle.screen.table import Screen


@dataclass(frozen=True, kw_only=True)
class LabelReport:
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


def check_labels(screen: Screen, folds: Folds, label: str = "perturbation") -> LabelReport:
    """Count the classes of a column in both folds.

    Args:
        screen: The screen that the folds divide.
        folds: Training and held-out; what is unlabelled or aside is not counted.
        label: The column to predict; "" in it is an unknown label.

    Raises:
        FoldError: No such column, or fewer than two classes to train.
    """
    columns = fold_columns(screen)
    if label not in columns:
        message = f"No column {label!r} to predict. {nearest(label, columns)}"
        raise FoldError(message)
    labels = screen.sites[label].astype(str).tolist()
    counts: dict[str, Counter[str]] = defaultdict(Counter, {TRAIN: Counter(), HELD_OUT: Counter()})
    for fold, name in zip(folds.of(screen).tolist(), labels, strict=True):
        counts[fold][name] += 1
    unknown = {fold: count.pop("", 0) for fold, count in counts.items()}
    trained = class_list(counts[TRAIN])
    if len(trained) < 2:
        there = f"only {trained[0]!r}" if trained else f"no known {label}"
        message = (
            f"The training fold of {folds.description} has {there} in column {label!r} "
            f"({unknown[TRAIN]} sites without a label): two classes are the least. "
            "Hold out less, or predict another column."
        )
        raise FoldError(message)
    classes = class_list([*counts[TRAIN], *counts[HELD_OUT]])
    return LabelReport(
        label=label,
        classes=classes,
        n_train=tuple(counts[TRAIN][name] for name in classes),
        n_held_out=tuple(counts[HELD_OUT][name] for name in classes),
        never_trained=tuple(name for name in classes if not counts[TRAIN][name]),
        never_held_out=tuple(name for name in classes if not counts[HELD_OUT][name]),
        n_unknown_train=unknown[TRAIN],
        n_unknown_held_out=unknown[HELD_OUT],
    )
