import numpy as np
import pytest

from distangle.ablation.compare import HitCounts, _jackknife, _row
from distangle.core.stats import share_interval


def counts(correct: list[list[float]], n: list[list[float]]) -> HitCounts:
    return HitCounts(
        n_correct=np.array(correct, dtype=float), n_scored=np.array(n, dtype=float), n_wells=int(np.sum(n))
    )


def six_groups(value: float, *, spread: float = 0.0) -> HitCounts:
    """Return counts of six groups of ten wells of one class; `spread` separates the groups."""
    return counts([[10 * (value + spread * k)] for k in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)], [[10]] * 6)


def test_of_one_network_it_is_the_interval_of_its_score() -> None:
    run = counts([[3], [5], [6], [9], [7]], [[10]] * 5)
    row = _row("baseline", {("baseline", 0): run}, level="well", views=8, metric="accuracy")
    is_correct = np.concatenate([np.arange(10) < one for one in (3, 5, 6, 9, 7)])
    assert row.interval == pytest.approx(share_interval(is_correct, np.repeat(np.arange(5), 10), wells=np.arange(50)))
    assert (row.value, row.difference, row.n) == (0.6, None, 50)


def test_seeds_that_are_apart_widen_the_interval() -> None:
    one = {("baseline", k): six_groups(0.4) for k in range(3)}
    other = {("baseline", k): six_groups(value) for k, value in enumerate((0.2, 0.4, 0.6))}
    rows = [_row("baseline", runs, level="site", views=1, metric="accuracy") for runs in (one, other)]
    assert [row.value for row in rows] == pytest.approx([0.4, 0.4])
    assert rows[1].by_seed == pytest.approx({0: 0.2, 1: 0.4, 2: 0.6})
    assert rows[0].interval is not None
    assert rows[1].interval is not None
    assert rows[1].interval[0] < rows[0].interval[0] < 0.4 < rows[0].interval[1] < rows[1].interval[1]


def test_classes_that_no_group_has_are_not_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(0, 4, (6, 5)).astype(float)
    n[:, 3], n[0, 0] = 0, 1
    run = HitCounts(n_correct=np.minimum(n, rng.integers(0, 4, (6, 5))), n_scored=n, n_wells=int(n.sum()))
    in_fold = np.array([0, 1, 2, 4])
    recalls = run.n_correct[:, in_fold].sum(axis=0) / n[:, in_fold].sum(axis=0)
    assert _jackknife(run, "balanced accuracy").value == pytest.approx(recalls.mean())
    assert _jackknife(run, "accuracy").value == pytest.approx(run.n_correct.sum() / n.sum())


def test_a_difference_is_taken_within_groups_and_seeds() -> None:
    # Groups and seeds differ widely, but the condition gains exactly 0.1 in each; only the rounding to wells remains.
    base = {("baseline", s): six_groups(0.4 + 0.1 * s, spread=0.05) for s in range(3)}
    better = {
        ("cutmix", s): HitCounts(n_correct=run.n_correct + 1, n_scored=run.n_scored, n_wells=60)
        for (_, s), run in base.items()
    }
    row = _row("cutmix", {**base, **better}, level="well", views=8, metric="accuracy")
    assert row.difference == pytest.approx(0.1)
    assert row.difference_interval == pytest.approx((0.1 - 2.571 / 60, 0.1 + 2.571 / 60), abs=1e-3)
    assert row.interval is not None
    assert row.interval[1] - row.interval[0] > 0.3


def test_a_difference_is_over_the_seeds_that_both_have() -> None:
    base = {("baseline", 0): counts([[1], [1]], [[4], [4]])}
    cutmix_only = {("cutmix", 0): counts([[2], [2]], [[4], [4]]), ("cutmix", 1): counts([[4], [4]], [[4], [4]])}
    row = _row("cutmix", {**base, **cutmix_only}, level="well", views=8, metric="accuracy")
    assert (row.value, row.difference) == (0.75, 0.25)
    row_without_baseline = _row("cutmix", cutmix_only, level="well", views=8, metric="accuracy")
    assert (row_without_baseline.difference, row_without_baseline.difference_interval) == (None, None)


def test_too_few_groups_have_no_interval_and_too_few_seeds_no_difference() -> None:
    three_groups = {(name, s): counts([[1], [1]], [[4], [4]]) for name in ("baseline", "cutmix") for s in range(3)}
    row = _row("cutmix", three_groups, level="site", views=1, metric="accuracy")
    assert (row.value, row.interval, row.difference_interval) == (0.25, None, None)
    for n_seeds, has_interval in ((2, False), (3, True)):
        runs = {(name, s): six_groups(0.5) for name in ("baseline", "cutmix") for s in range(n_seeds)}
        row = _row("cutmix", runs, level="site", views=1, metric="accuracy")
        assert row.interval is not None
        assert (row.difference_interval is not None) == has_interval


@pytest.mark.parametrize(("n_groups", "n_seeds"), [(5, 3), (15, 6)])
@pytest.mark.parametrize(("of_groups", "of_seeds"), [(0.05, 0.03), (0.02, 0.05)])
def test_intervals_hold_the_truth(n_groups: int, n_seeds: int, of_groups: float, of_seeds: float) -> None:
    rng, n_tries = np.random.default_rng(0), 200
    n_held = np.zeros(2)

    def run(level: np.ndarray) -> HitCounts:
        counts_correct = 40 * np.clip(level + 0.02 * rng.normal(size=(n_groups, 1)), 0, 1)
        return HitCounts(n_correct=counts_correct, n_scored=np.full((n_groups, 1), 40.0), n_wells=40 * n_groups)

    for _ in range(n_tries):
        base_level = 0.5 + of_groups * rng.normal(size=(n_groups, 1))
        group_effect = 0.03 * rng.normal(size=(n_groups, 1))
        runs = {}
        for k in range(n_seeds):
            runs["baseline", k] = run(base_level + of_seeds * rng.normal())
            runs["cutmix", k] = run(base_level + group_effect + of_seeds * rng.normal())
        row = _row("cutmix", runs, level="well", views=8, metric="accuracy")
        intervals = (row.interval, 0.5), (row.difference_interval, 0.0)
        n_held += [end is not None and end[0] <= truth <= end[1] for end, truth in intervals]
    assert (n_held / n_tries >= 0.93 - 3 * np.sqrt(0.93 * 0.07 / n_tries)).all()
