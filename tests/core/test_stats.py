"""Intervals by hand, and their coverage of a known truth."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binomtest, t

from distangle.core import stats
from distangle.core.stats import MIN_GROUPS, MIN_INTRACLASS, mean_interval, mean_intervals, share_interval

RNG = np.random.default_rng(0)
REPEATS = 200
LEAST = 0.93 - 3 * np.sqrt(0.93 * 0.07 / REPEATS)


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


def test_forty_of_forty_is_not_certain_and_two_groups_have_no_interval() -> None:
    correct, wells = np.ones(40, bool), np.arange(40)
    low, high = share_interval(correct, wells, wells=wells) or (0, 0)
    assert (low, high) == (pytest.approx(binomtest(40, 40).proportion_ci(0.95).low), 1)  # each well alone: .912
    low, high = share_interval(correct, wells % 10, wells=wells) or (0, 0)
    n = 40 / (1 + 3 * MIN_INTRACLASS) * (t.ppf(0.975, 39) / t.ppf(0.975, 9)) ** 2
    assert (low, high) == (pytest.approx(beta.ppf(0.025, n, 1)), 1)
    assert share_interval(correct, wells % (MIN_GROUPS - 1), wells=wells) is None
    assert share_interval(correct, wells % MIN_GROUPS, wells=wells) is not None


def test_the_interval_is_that_of_korn_and_graubard_by_hand() -> None:
    hits = np.array([2, 5, 7, 9, 8, 5])
    group = np.repeat(np.arange(6), 10)
    correct = np.concatenate([np.arange(10) < hit for hit in hits])
    p = hits.sum() / 60
    variance = (hits / 10).var(ddof=1) / 6  # leaving out one of equal groups is the variance of their mean
    n = p * (1 - p) / variance * (t.ppf(0.975, 59) / t.ppf(0.975, 5)) ** 2
    expected = beta.ppf(0.025, n * p, n - n * p + 1), beta.ppf(0.975, n * p + 1, n - n * p)
    assert share_interval(correct, group, wells=np.arange(60)) == pytest.approx(expected)
    # More sites of the same well add no information.
    four = np.repeat(np.arange(60), 4)
    assert share_interval(correct[four], group[four], wells=four) == pytest.approx(expected)


def test_leaving_out_a_group_leaves_out_its_classes() -> None:
    group, kind = RNG.integers(7, size=200), RNG.integers(5, size=200)
    kind = np.where(group == 2, 5 + kind, kind)  # one group has five classes of its own
    correct = RNG.random(200) < 0.6

    def recall(in_sample: np.ndarray) -> float:
        return float(np.mean([correct[in_sample & (kind == one)].mean() for one in np.unique(kind[in_sample])]))

    pairs, pair = np.unique(10 * group + kind, return_inverse=True)
    hits, counts = np.bincount(pair, weights=correct), np.bincount(pair).astype(float)
    left_out = stats.leave_one_group_out(hits, counts, of_group=pairs // 10, of_class=pairs % 10)
    assert left_out.value == pytest.approx(recall(group >= 0))
    assert left_out.without == pytest.approx([recall(group != one) for one in range(7)])
    assert left_out.variance == pytest.approx(6 / 7 * np.square(left_out.without - left_out.value).sum())
    assert left_out.weights.sum() == pytest.approx(1)
    assert left_out.weights[2] == pytest.approx(0.5)  # five of ten classes


def test_a_mean_has_student_s_interval_over_its_groups() -> None:
    values = RNG.standard_normal(8)
    expected = t.interval(0.95, 7, values.mean(), values.std(ddof=1) / np.sqrt(8))
    assert mean_interval(np.repeat(values, 3), np.repeat(list("abcdefgh"), 3)) == pytest.approx(expected)
    two_columns = mean_intervals(np.stack([values, -values], axis=1), np.arange(8))
    assert two_columns is not None
    np.testing.assert_allclose(two_columns[1], -two_columns[0][::-1])
    assert mean_interval(values[:4], np.arange(4)) is None
    # None of 8 wells changed: the interval must still include a change of one.
    assert mean_interval(np.zeros(8), np.arange(8), min_error=1 / 8) == pytest.approx([-2.365 / 8, 2.365 / 8], 1e-3)


@pytest.mark.parametrize("composition", ["same", "other", "own"])
@pytest.mark.parametrize(
    "world",
    [(0.1, 0.15, 5, 20), (0.5, 0.15, 6, 20), (0.95, 0.15, 12, 20), (0.99, 0.05, 5, 5)],
)
def test_intervals_of_accuracies_hold_the_truth(
    simulation: ModuleType, composition: str, world: tuple[float, float, int, int]
) -> None:
    accuracy, spread, n_groups, n_wells = world
    for balanced in (False, True):
        coverage = simulation.share_coverage(
            accuracy, spread, n_groups=n_groups, n_wells=n_wells, repeats=REPEATS, seed=2, balanced=balanced,
            composition=composition,
        )  # fmt: skip
        assert coverage >= LEAST


def test_wells_of_a_group_are_never_assumed_independent(simulation: ModuleType) -> None:
    # Most groups are perfect, a few are not: six equal groups give no estimate of the spread.
    world = {"n_groups": 6, "n_wells": 200, "repeats": REPEATS, "seed": 4, "shape": "beta"}
    assert simulation.share_coverage(0.99, 0.05, **world) >= LEAST


@pytest.mark.parametrize("n_groups", [5, 8, 20])
@pytest.mark.parametrize(
    ("correlation", "skewness", "uneven"), [(0.0, 0, 0.5), (0.5, 0, 0.8), (0.1, 1, 0.5), (0.5, 1, 0.5)]
)
def test_intervals_of_means_hold_the_truth(
    simulation: ModuleType, n_groups: int, correlation: float, skewness: float, uneven: float
) -> None:
    coverage = simulation.mean_coverage(
        correlation, n_groups=n_groups, repeats=500, seed=3, skewness=skewness, uneven=uneven
    )
    assert coverage >= 0.93 - 3 * np.sqrt(0.93 * 0.07 / 500)


@pytest.mark.parametrize(
    ("n_groups", "fault"),
    [
        (3, lambda patch: patch.setattr(stats, "_t_quantile", lambda n: 1.96)),  # ignores the number of groups
        (
            20,
            lambda patch: patch.setattr(stats.LeaveOneGroupOut, "variance", property(_independent)),
        ),  # treats wells as independent
    ],
)
def test_the_simulation_sees_what_is_wrong(
    simulation: ModuleType, monkeypatch: pytest.MonkeyPatch, n_groups: int, fault: Callable[[Any], None]
) -> None:
    fault(monkeypatch)
    monkeypatch.setattr(stats, "MIN_INTRACLASS", 0.0)
    coverage = simulation.share_coverage(0.5, 0.15, n_groups=n_groups, n_wells=50, repeats=REPEATS, seed=2)
    assert coverage < LEAST


def _independent(left_out: stats.LeaveOneGroupOut) -> float:
    return left_out.value * (1 - left_out.value) / (left_out.sizes.sum() / 4)  # four sites a well
