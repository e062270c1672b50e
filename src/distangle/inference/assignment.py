"""Predict the wells of a plate together, each perturbation at most once."""

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from distangle.core.stats import positions_by_value
from distangle.errors import ProfileError
from distangle.inference.calibration import check_finite


def assign_per_plate(
    logits: np.ndarray,
    plates: Sequence[Hashable],
    *,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Predict the most probable classes with at most one well per class and plate.

    This uses the layout of the plate: that no plate holds a perturbation twice. The prediction of a well then depends
    on the other wells of its plate. Report its accuracy apart from that of single wells, and name the layout as used;
    do not apply it to plates whose layout is not known to be so, nor to their control wells.

    Args:
        logits: float [row, class], finite, one row per well. Logits and log probabilities give the same prediction.
        plates: Plate of each row: experiment and plate, since names of plates repeat between experiments.
        allowed: bool [class] or [row, class], the classes that may occur; all if None.

    Returns:
        int64 [row], the assignment with the highest sum of logits on each plate.

    Raises:
        ProfileError: The arrays do not fit, or a plate has more wells than its allowed classes can fill.
    """
    n_rows, n_classes = _check_shape(logits, plates)
    may_be = np.ones(n_classes, dtype=bool) if allowed is None else allowed
    if may_be.shape not in ((n_classes,), (n_rows, n_classes)) or may_be.dtype != np.bool_:
        raise ProfileError(
            f"allowed is {may_be.dtype} {may_be.shape}: expected bool ({n_classes},) or ({n_rows}, {n_classes}). Pass "
            "one truth value per class, or per row and class."
        )
    costs = np.where(may_be, -logits.astype(np.float64), np.inf)
    assigned = np.empty(n_rows, dtype=np.int64)
    for plate, members in positions_by_value(plates).items():
        rows = np.array(members)
        used = np.flatnonzero(np.isfinite(costs[rows]).any(axis=0))
        if len(rows) > len(used):
            raise ProfileError(
                f"Plate {plate} has {len(rows)} wells and {len(used)} allowed classes: expected at most one well per "
                "class. Average the sites of a well, leave out control wells, or predict each well for itself."
            )
        try:
            positions, columns = linear_sum_assignment(costs[np.ix_(rows, used)])
        except ValueError as error:  # raised only if no assignment has a finite cost
            raise ProfileError(
                f"Plate {plate} has {len(rows)} wells that their allowed classes cannot fill one to one. Allow more "
                "classes for these wells."
            ) from error
        assigned[rows[positions]] = used[columns]
    return assigned


def _check_shape(logits: np.ndarray, plates: Sequence[Hashable]) -> tuple[int, int]:
    if logits.ndim != 2 or len(plates) != len(logits):
        raise ProfileError(
            f"logits have the shape {logits.shape}, for {len(plates)} plates: expected [row, class] and a plate per "
            "row. Pass both for the same rows."
        )
    check_finite(logits, name="logits", fix="Leave out unreadable rows, and exclude classes by `allowed`.")
    return logits.shape[0], logits.shape[1]
