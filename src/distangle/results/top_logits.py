"""Keep the highest logits of each row, with what their probabilities need."""

import numpy as np

MAX_CLASSES = 256  # up to so many classes, all logits are stored by default
DEFAULT_TOP = 32  # logits of a row that are stored by default with more classes
BLOCK_ROWS = 4096


def default_top(n_classes: int) -> int | None:
    """Return how many logits of a row are stored by default; None for all."""
    return None if n_classes <= MAX_CLASSES else DEFAULT_TOP


def highest_logits(logits: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the highest logits of each row, their classes, and a sum over all.

    The probability of a stored class is exp(logit - sum), exactly as with all logits.

    Args:
        logits: float32 [row, class]; rows of NaN stay NaN.
        top: Number of logits of each row.

    Returns:
        float32 [row, top], highest first; uint16 or uint32 [row, top]; float32 [row], the logarithm of the sum of the
        exponentials of all logits.
    """
    n_rows, n_classes = logits.shape
    values = np.empty((n_rows, top), dtype=np.float32)
    classes = np.empty((n_rows, top), dtype=np.uint16 if n_classes <= 1 << 16 else np.uint32)
    log_sums = np.empty(n_rows, dtype=np.float32)
    for start in range(0, n_rows, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = np.asarray(logits[rows], dtype=np.float32)
        chosen = np.argpartition(-block, min(top, n_classes - 1), axis=1)[:, :top]
        order = np.lexsort((chosen, -np.take_along_axis(block, chosen, axis=1)), axis=1)
        chosen = np.take_along_axis(chosen, order, axis=1)
        classes[rows], values[rows] = chosen, np.take_along_axis(block, chosen, axis=1)
        largest = block.max(axis=1, keepdims=True)
        exponentials = np.exp((block - largest).astype(np.float64)).sum(axis=1)
        log_sums[rows] = largest[:, 0] + np.log(exponentials)
    return values, classes, log_sums


def spread_logits(values: np.ndarray, classes: np.ndarray, log_sums: np.ndarray, n_classes: int) -> np.ndarray:
    """Return logits of all classes, from the highest ones.

    The others of a row share the remaining probability evenly. None of them is above the stored ones. The
    probabilities of the stored classes and the predicted class are right, the order of the others is unknown.

    Args:
        values: float32 [row, top], from `highest_logits`.
        classes: Their classes, [row, top].
        log_sums: float32 [row].
        n_classes: Number of classes.

    Returns:
        float32 [row, class].
    """
    top = values.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = 1 - np.exp(values.astype(np.float64) - log_sums[:, None]).sum(axis=1)
        other = log_sums + np.log(np.maximum(rest, 1e-30) / max(1, n_classes - top))
    other = np.minimum(other, values.min(axis=1))
    logits = np.repeat(other.astype(np.float32)[:, None], n_classes, axis=1)
    np.put_along_axis(logits, classes.astype(np.int64), values, axis=1)
    return logits
