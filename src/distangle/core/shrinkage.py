"""Correct batch effects by the wells of a group, as far as they exceed noise."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

Method = Literal["none", "center", "standardize"]
GROUP_COLUMNS = {"experiment": ["experiment"], "plate": ["experiment", "plate"]}
_TINY = 1e-12  # floor of a variance


class Correction(BaseModel):
    """Setting of the correction of features within a group of wells.

    Attributes:
        method: `center` subtracts the group's mean; `standardize` also divides by its standard deviation.
        group: Level at which wells are compared.
        wells: Wells that the estimate uses: the negative controls, or all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "none"
    group: Literal["experiment", "plate"] = "experiment"
    wells: Literal["controls", "all"] = "controls"

    def __str__(self) -> str:
        if self.method == "none":
            return "none"
        whose = "negative controls" if self.wells == "controls" else "wells"
        return f"{self.method} by the {whose} of the {self.group}"


@dataclass(frozen=True)
class GroupPrior:
    """Between-group and within-group variance of every feature.

    Attributes:
        center: Mean of a typical group, [feature].
        within: Variance of wells about the mean of their group, [feature].
        between: Variance of the groups' true means, [feature]; 0 where well noise explains all differences.
        log_std: Logarithm of the standard deviation of wells in a typical group, [feature].
        log_std_variance: Variance of the true logarithms of the groups' standard deviations, [feature].
    """

    center: np.ndarray
    within: np.ndarray
    between: np.ndarray
    log_std: np.ndarray
    log_std_variance: np.ndarray

    def as_rows(self) -> np.ndarray:
        """Return all fields as float32 [5, feature]."""
        rows = [self.center, self.within, self.between, self.log_std, self.log_std_variance]
        return np.stack(rows).astype(np.float32)

    @classmethod
    def from_rows(cls, rows: np.ndarray) -> "GroupPrior":
        """Return the prior of rows from `as_rows`."""
        return cls(*np.asarray(rows, dtype=np.float64))


def estimate_prior(values: np.ndarray, groups: np.ndarray) -> GroupPrior:
    r"""Estimate how much groups of training wells differ beyond well noise.

    The variance components of a one-way layout with groups of any size,

    $$ \sigma^2 = \frac{SSW}{N - G}, \quad \tau^2 = \max\left(0, \frac{MSB - \sigma^2}{n_0}\right), \quad
       n_0 = \frac{N - \sum_g n_g^2 / N}{G - 1} $$

    With one group, or one well in every group, the two cannot be separated, and tau is 0: no correction.

    Source: Searle, Casella & McCulloch 1992, Variance components, sec. 3.6.

    Args:
        values: float [well, feature].
        groups: int [well], the group of each.
    """
    values = np.asarray(values, dtype=np.float64)
    _, member = np.unique(groups, return_inverse=True)
    n = np.bincount(member).astype(np.float64)
    n_wells, n_groups = len(values), len(n)
    means = _sums(values, member, len(n)) / n[:, None]
    scatter = _sums((values - means[member]) ** 2, member, len(n))
    grand = values.mean(0)
    if n_groups < 2 or n_wells == n_groups:
        nothing = np.zeros_like(grand)
        within = values.var(0) if n_wells == n_groups else scatter.sum(0) / (n_wells - n_groups)
        return GroupPrior(grand, within, nothing, 0.5 * np.log(np.maximum(within, _TINY)), nothing)
    within = scatter.sum(0) / (n_wells - n_groups)
    effective = (n_wells - (n**2).sum() / n_wells) / (n_groups - 1)
    mean_square = (n[:, None] * (means - grand) ** 2).sum(0) / (n_groups - 1)
    between = np.maximum(0.0, (mean_square - within) / effective)
    precision = 1.0 / np.maximum(between + within / n[:, None], _TINY)
    center = (precision * means).sum(0) / precision.sum(0)
    several = n > 1
    logs = 0.5 * np.log(np.maximum(scatter[several] / (n[several, None] - 1), _TINY))
    log_std = 0.5 * np.log(np.maximum(within, _TINY))
    log_std_variance = np.zeros_like(grand)
    if several.sum() > 1:
        noise = (0.5 / (n[several] - 1)).mean()  # variance of the logarithm of a standard deviation: 1 / (2 (n - 1))
        log_std_variance = np.maximum(0.0, logs.var(0, ddof=1) - noise)
    return GroupPrior(center, within, between, log_std, log_std_variance)


def estimate_group(
    prior: GroupPrior, count: np.ndarray, total: np.ndarray, squares: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the offset of the sites of groups and the logarithm of their scale.

    With n wells of mean m, and t, sigma and tau of the prior, the offset is

    $$ t + b (m - t), \quad b = \frac{\tau^2}{\tau^2 + \sigma^2 / n} $$

    the posterior mean of a normal model: with few wells, or wells as different as groups, it approaches t, the same
    for all groups, which corrects nothing.

    Source: Efron & Morris 1975, Data analysis using Stein's estimator and its generalizations.

    Args:
        prior: From the training wells.
        count: float [row], number of wells of each estimate; may be 0.
        total: float [row, feature], the sum of their values.
        squares: float [row, feature], the sum of their squares; None for offsets only.

    Returns:
        Offsets and log scales, both float [row, feature]; log scales are zeros without `squares`.
    """
    n = np.asarray(count, dtype=np.float64)[:, None]
    mean = total / np.maximum(n, 1.0)
    share = shrinkage_factors(prior, count)
    offset = prior.center + share * (mean - prior.center)
    if squares is None:
        return offset, np.zeros_like(offset)
    variance = np.maximum(squares - n * mean**2, 0.0) / np.maximum(n - 1.0, 1.0)
    logs = 0.5 * np.log(np.maximum(variance, _TINY))
    noise = np.where(n > 1, 0.5 / np.maximum(n - 1.0, 1.0), np.inf)
    certain = np.divide(
        prior.log_std_variance,
        prior.log_std_variance + noise,
        out=np.zeros_like(offset),
        where=prior.log_std_variance > 0,
    )
    return offset, np.where(certain > 0, certain * (logs - prior.log_std), 0.0)


def shrinkage_factors(prior: GroupPrior, count: np.ndarray) -> np.ndarray:
    """Return b of `estimate_group`, float [row, feature].

    It is the share of a group's difference that the correction removes.
    """
    n = np.asarray(count, dtype=np.float64)[:, None]
    signal = n * prior.between
    return np.asarray(np.divide(signal, signal + prior.within, out=np.zeros_like(signal), where=signal > 0))


def _sums(values: np.ndarray, member: np.ndarray, n_groups: int) -> np.ndarray:
    sums = np.zeros((n_groups, values.shape[1]))
    np.add.at(sums, member, values)
    return sums
