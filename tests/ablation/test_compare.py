import itertools

import numpy as np
import pytest

from distangle.ablation.compare import N_DRAWS, Counts, _row, drawn, values_drawn


def counts(right: list[list[float]], n: list[list[float]]) -> Counts:
    return Counts(right=np.array(right), n=np.array(n))


def test_an_interval_over_two_groups_by_hand() -> None:
    # One run, one class: 1 of 4 right in the first group, 3 of 4 in the second. Drawing two groups gives 1/4, 2/4 or
    # 3/4 with shares 1/4, 1/2, 1/4: the 95 % interval reaches over all of them.
    row = _row("baseline", {("baseline", 0): counts([[1], [3]], [[4], [4]])}, level="site", views=1, metric="accuracy")
    assert (row.value, row.interval, row.difference, row.n) == (0.5, (0.25, 0.75), None, 8)


def test_groups_and_seeds_are_drawn_apart_from_each_other() -> None:
    # Every group alike, the seeds 0.2 and 0.6: what is left is the drawing of seeds. And the other way round.
    seeds = {("baseline", k): counts([[2 * value], [3 * value]], [[2], [3]]) for k, value in enumerate((0.2, 0.6))}
    row = _row("baseline", seeds, level="site", views=1, metric="accuracy")
    assert row.value == pytest.approx(0.4)
    assert row.interval == pytest.approx((0.2, 0.6))
    assert row.by_seed == pytest.approx({0: 0.2, 1: 0.6})
    groups = drawn(3, 3, "groups")
    assert groups.shape == (N_DRAWS, 3)
    assert (groups.sum(axis=1) == 3).all()
    assert abs(np.corrcoef(groups[:, 0], drawn(3, 3, "seeds")[:, 0])[0, 1]) < 0.1
    # Each of three is drawn once on average, with the variance 3 * 1/3 * 2/3 of a binomial.
    assert groups.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.06)
    assert groups.var(axis=0) == pytest.approx([2 / 3] * 3, abs=0.06)


def test_three_groups_and_three_seeds_by_counting_all_their_draws() -> None:
    # Drawn as one, the worst group and the worst seed would come together in 1 of 27 draws; apart, in 1 of 729.
    levels = (-0.2, 0.0, 0.2)
    runs = {
        ("baseline", k): counts([[0.5 + seed + group] for group in levels], [[1]] * 3) for k, seed in enumerate(levels)
    }
    row = _row("baseline", runs, level="site", views=1, metric="accuracy")
    means = [np.mean(chosen) for chosen in itertools.product(levels, repeat=3)]
    exact = np.quantile([0.5 + a + b for a in means for b in means], [0.025, 0.975])
    assert row.interval == pytest.approx(tuple(exact), abs=0.035)


@pytest.mark.parametrize("metric", ["accuracy", "balanced accuracy"])
def test_the_drawn_values_in_plain_loops(metric: str) -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(0, 4, (3, 5)).astype(float)  # some group lacks some class
    runs = [Counts(right=np.minimum(n, rng.integers(0, 4, (3, 5))), n=n) for _ in range(2)]
    groups, seeds = drawn(3, 3, "groups")[:50], drawn(2, 2, "seeds")[:50]
    found = values_drawn(runs, metric, groups, seeds)  # type: ignore[arg-type]
    for k in range(50):
        chosen_groups = [g for g in range(3) for _ in range(int(groups[k, g]))]
        chosen_seeds = [s for s in range(2) for _ in range(int(seeds[k, s]))]
        values = []
        for s in chosen_seeds:
            if metric == "accuracy":
                right = sum(runs[s].right[g, c] for g in chosen_groups for c in range(5))
                values.append(right / sum(n[g, c] for g in chosen_groups for c in range(5)))
            else:
                recalls = []
                for c in range(5):
                    there = sum(n[g, c] for g in chosen_groups)
                    if there:
                        recalls.append(sum(runs[s].right[g, c] for g in chosen_groups) / there)
                values.append(sum(recalls) / len(recalls))
        assert found[k] == pytest.approx(sum(values) / len(values))


def test_a_difference_is_drawn_over_the_same_groups_and_seeds_on_both_sides() -> None:
    # Groups and seeds differ widely, the condition is better by exactly 0.1 in each: nothing is left to draw.
    base = {("baseline", s): counts([[10 * (0.1 + 0.2 * s)], [10 * (0.5 + 0.1 * s)]], [[10], [10]]) for s in range(3)}
    better = {("cutmix", s): Counts(right=run.right + 1, n=run.n) for (_, s), run in base.items()}
    row = _row("cutmix", {**base, **better}, level="well", views=8, metric="accuracy")
    assert row.difference == pytest.approx(0.1)
    assert row.difference_interval == pytest.approx((0.1, 0.1))
    assert row.interval is not None
    assert row.interval[1] - row.interval[0] > 0.3


def test_a_difference_is_over_the_seeds_that_both_have() -> None:
    base = {("baseline", 0): counts([[1], [1]], [[4], [4]])}
    more = {("cutmix", 0): counts([[2], [2]], [[4], [4]]), ("cutmix", 1): counts([[4], [4]], [[4], [4]])}
    row = _row("cutmix", {**base, **more}, level="well", views=8, metric="accuracy")
    assert (row.value, row.difference) == (0.75, 0.25)
    alone = _row("cutmix", more, level="well", views=8, metric="accuracy")
    assert (alone.difference, alone.difference_interval) == (None, None)


def test_one_seed_and_one_group_have_no_interval() -> None:
    row = _row("baseline", {("baseline", 0): counts([[1]], [[4]])}, level="site", views=1, metric="accuracy")
    assert (row.value, row.interval) == (0.25, None)


@pytest.mark.parametrize(("n_groups", "n_seeds", "held"), [(2, 3, 0.73), (3, 3, 0.81), (6, 3, 0.88), (15, 6, 0.92)])
def test_how_often_an_interval_holds_the_truth(n_groups: int, n_seeds: int, held: float) -> None:
    """The shares that docs/ablation.md gives: the fewer groups and seeds, the less 95 % are worth."""
    rng = np.random.default_rng(0)
    groups, seeds = drawn(n_groups, n_groups, "groups")[:1000], drawn(n_seeds, n_seeds, "seeds")[:1000]
    inside, n_tries = 0, 800
    for _ in range(n_tries):
        of_group, of_seed = 0.05 * rng.normal(size=(n_groups, 1)), 0.03 * rng.normal(size=n_seeds)
        runs = [
            Counts(right=0.5 + of_group + of_seed[k] + 0.02 * rng.normal(size=(n_groups, 1)), n=np.ones((n_groups, 1)))
            for k in range(n_seeds)
        ]
        low, high = np.quantile(values_drawn(runs, "accuracy", groups, seeds), [0.025, 0.975])
        inside += low <= 0.5 <= high
    assert inside / n_tries == pytest.approx(held, abs=0.05)
