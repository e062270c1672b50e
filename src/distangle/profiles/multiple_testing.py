"""Adjust p-values for the number of tests."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import false_discovery_control

from distangle.errors import ProfileError

PValues = Float[np.ndarray, " test"]


def _check(p: PValues) -> None:
    wrong = p[(p < 0) | (p > 1)]
    if len(wrong):
        raise ProfileError(f"A p-value is {wrong[0]:g}. Expected values in [0, 1] or NaN. Check where they come from.")


def benjamini_hochberg(p: PValues) -> Float[np.ndarray, " test"]:
    """Return the q-value of every test; NaN stays NaN and is no test.

    Args:
        p: P-values in [0, 1], NaN where there was no test.

    Raises:
        ProfileError: A p-value lies outside [0, 1].

    Source:
        Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57, 289.
    """
    p = np.asarray(p, dtype=np.float64)
    _check(p)
    q = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known], method="bh")
    return q


def simes(p: PValues) -> float:
    """Combine the p-values of several tests into one of their common null.

    The smallest of n * p_(k) / k over the sorted p-values. It holds for independent tests and for tests that rise
    together. The smallest p-value alone would not: five tests of noise are below .05 in 23 % of cases.

    Args:
        p: P-values in [0, 1]; NaN are left out.

    Returns:
        P-value; NaN when no test is left.

    Raises:
        ProfileError: A p-value lies outside [0, 1].

    Source:
        Simes 1986, Biometrika 73, 751.
    """
    p = np.asarray(p, dtype=np.float64)
    _check(p)
    ordered = np.sort(p[~np.isnan(p)])
    if not len(ordered):
        return float("nan")
    return float((len(ordered) * ordered / np.arange(1, len(ordered) + 1)).min())


def combine_doses(p: PValues, compounds: Sequence[Hashable]) -> pd.DataFrame:
    """Combine the p-values of the doses of a compound; adjust over compounds.

    Args:
        p: P-value of every dose, NaN where there was no test.
        compounds: Compound of every dose.

    Returns:
        One row per compound in the order of its first dose: `compound`, `n_doses` (doses with a p-value), `p`, `q`.

    Raises:
        ProfileError: The sizes differ or a p-value lies outside [0, 1].
    """
    p = np.asarray(p, dtype=np.float64)
    if len(p) != len(compounds):
        raise ProfileError(
            f"{len(p)} p-values, but {len(compounds)} compounds. Expected one compound per p-value. "
            "Take both from the same table."
        )
    groups: dict[Hashable, list[float]] = {}
    for value, compound in zip(p, compounds, strict=True):
        groups.setdefault(compound, []).append(float(value))
    combined = np.array([simes(np.array(values)) for values in groups.values()], dtype=np.float64)
    return pd.DataFrame(
        {
            "compound": list(groups),
            "n_doses": [int((~np.isnan(values)).sum()) for values in groups.values()],
            "p": combined,
            "q": benjamini_hochberg(combined),
        }
    )
