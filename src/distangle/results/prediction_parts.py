"""Parts of a prediction on disk, from which an interrupted prediction goes on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class PredictionPart:
    """Predictions of the sites of some whole plates.

    Attributes:
        rows: int64 [row], sites of the screen.
        reasons: Why each could not be read; "" if it could.
        logits: By number of views, float32 [row, class]; NaN for unreadable sites.
        embedding: By number of views, float32 [row, dimension]; NaN for unreadable sites.
        statistics: float32 [row, 2, channel], mean and standard deviation of each image; NaN for unreadable sites.
    """

    rows: np.ndarray
    reasons: tuple[str, ...]
    logits: Mapping[int, np.ndarray]
    embedding: Mapping[int, np.ndarray]
    statistics: np.ndarray
