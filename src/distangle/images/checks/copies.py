"""The same pixels under two names, whatever format or compression the files have."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from distangle.images.checks.planes import finding
from distangle.screen import HELD_OUT, TRAIN
from distangle.screen.checks.finding import Severity
from distangle.screen.problems import Problem


def check_same_pixels(planes: pd.DataFrame, *, fold: np.ndarray | None = None) -> Iterator[Problem]:
    """Find planes with the same pixels at two sites, other than constant planes.

    Args:
        planes: From `survey`, those that could be read.
        fold: Of every site of the screen; None where no folds are looked at.
    """
    varied = planes[planes["spread"] > 0]
    repeated = varied[varied.duplicated("digest", keep=False)]
    for _, group in repeated.groupby("digest", sort=False):
        rows = group.to_dict("records")
        places = [
            f"{r['experiment']} plate {r['plate']} well {r['well']} site {r['site']} {r['channel']}" for r in rows
        ]
        more = f" and {len(places) - 4} more" if len(places) > 4 else ""
        one_site = group["position"].nunique() == 1
        splits = sorted(set(group["split"]))
        what = f"{' = '.join(places[:4])}{more}"
        crossed = fold is not None and {TRAIN, HELD_OUT} <= set(fold[group["position"].to_numpy()].tolist())
        if one_site:
            kind, fix = (
                "two channels with the same pixels",
                "One was exported under the name of the other: export again.",
            )
        elif crossed:
            kind, fix = "same pixels on both sides of the folds", "Index without the copy, or hold out both."
        elif len(splits) > 1:
            kind, fix = "same pixels on both sides of the split", "Find out which is the copy, and index without it."
            what += f", in the splits {' and '.join(map(repr, splits))}"
        else:
            kind, fix = "same pixels at two places", "Find out which is the copy, and index without it."
        severity: Severity = "error" if one_site or crossed or len(splits) > 1 else "warning"
        yield finding(rows[0], severity, kind, what, fix, count=len(group))
