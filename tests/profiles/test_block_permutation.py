import math

import numpy as np
import pandas as pd
import pytest

from distangle.profiles import block_permutation
from distangle.profiles.block_permutation import Pool, RandomDraws, choose_counter, count_reaching, member_precision
from distangle.profiles.retrieval import activity

LAYOUTS = [((3, 7),), ((1, 2),) * 5, ((2, 2), (2, 5), (1, 1), (3, 9)), ((1, 40), (2, 60), (4, 70))]


def pool_of(layout, seed=0):
    directions = np.random.default_rng(seed).normal(size=(sum(size for _, size in layout), 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Pool.of(directions.astype(np.float32), layout), directions


def plain_sum(directions, layout, members, places):
    """Sum over some members of the average precision among all members and the rest of their own block."""
    block = np.repeat(np.arange(len(layout)), [size for _, size in layout])
    total = 0.0
    for query in members[places]:
        cosine = directions @ directions[query]
        rest = [k for k in range(len(block)) if block[k] == block[query] and k not in members]
        order = sorted([*(k for k in members if k != query), *rest], key=lambda k: -cosine[k])
        hits = [rank for rank, k in enumerate(order, start=1) if k in members]
        total += np.mean([count / rank for count, rank in enumerate(hits, start=1)])
    return total


@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_agree_with_loops(layout):
    pool, directions = pool_of(layout)
    draws = RandomDraws(3).part(pool.layout, 0, 40)
    sums = [plain_sum(directions, layout, draw, pool.queries) for draw in draws]
    for least in np.quantile(sums, [0, 0.3, 0.9]) - 1e-9:
        n_reaching = int((np.array(sums) >= least).sum())
        assert count_reaching(draws, pool.queries, pool.nearer, pool.best(), (least, 99)) == (n_reaching, 40)
    third = np.flatnonzero(np.array(sums) >= min(sums))[2]
    assert count_reaching(draws, pool.queries, pool.nearer, pool.best(), (min(sums) - 1e-9, 3)) == (3, third + 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_loops_count_the_same(layout):
    pytest.importorskip("numba", reason="numba is absent (pip install 'distangle[fast]')")
    from distangle.profiles import block_kernels

    pool, _ = pool_of(layout)
    draws = RandomDraws(3).part(pool.layout, 0, 300)
    outcomes = []
    for least in np.linspace(0.2, 1, 7) * len(pool.queries):
        for limit in (1, 20, 999):
            arguments = (draws, pool.queries, pool.nearer, pool.best(), (float(least) - 1e-9, limit))
            outcomes.append(count_reaching(*arguments))
            assert block_kernels.count_reaching(*arguments) == outcomes[-1]
    assert len(set(outcomes)) > 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_precision_of_members_needs_no_pool(layout):
    pool, directions = pool_of(layout)
    np.testing.assert_allclose(member_precision(directions.astype(np.float32), layout), pool.precision())
    equal_directions = np.ones_like(directions)
    np.testing.assert_allclose(
        member_precision(equal_directions, layout), Pool.of(equal_directions, layout).precision()
    )


def test_no_draw_is_better_than_the_best_precision_of_its_rows():
    for layout in (((3, 6),), ((1, 2), (2, 4), (2, 2))):
        pool, directions = pool_of(layout)
        largest = np.zeros(len(pool.nearer))
        for draw in pool.every_draw():
            for place in pool.queries:
                value = plain_sum(directions, layout, draw, [place])
                largest[draw[place]] = max(largest[draw[place]], value)
        is_query = largest > 0
        np.testing.assert_allclose(pool.best()[is_query], largest[is_query], atol=1e-8)


def test_draws_choose_evenly_within_blocks_and_repeat():
    layout = ((1, 3), (2, 4), (2, 2))
    draws = RandomDraws(1).part(layout, 0, 6000)
    assert all(len(set(draw)) == 5 for draw in draws.tolist())
    share = np.bincount(draws.ravel(), minlength=9) / 6000
    expected = np.array([1 / 3] * 3 + [1 / 2] * 4 + [1] * 2)
    assert (np.abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / 6000)).all()
    second_draws = RandomDraws(1)
    np.testing.assert_array_equal(second_draws.part(layout, 0, 6000), draws)
    assert (second_draws.part(layout, 6000, 10) != draws[:10]).any()
    assert (RandomDraws(2).part(layout, 0, 6000) != draws).any()


def test_only_some_layouts_stay_in_memory(monkeypatch):
    monkeypatch.setattr(block_permutation, "_LAYOUTS", 2)
    draws = RandomDraws(0)
    first = draws.part(((1, 9),), 0, 5)
    assert draws.part(((1, 9),), 0, 5) is first
    for size in (10, 11):
        draws.part(((1, size),), 0, 5)
    second = draws.part(((1, 9),), 0, 5)
    assert second is not first
    np.testing.assert_array_equal(second, first)


def test_compiled_loops_start_only_where_they_pay():
    assert choose_counter([4] * 10, 9999) is count_reaching


def test_p_does_not_depend_on_other_perturbations_or_their_order(monkeypatch):
    monkeypatch.setattr(block_permutation, "EXACT_DRAWS", 0)
    rng = np.random.default_rng(0)
    names = np.array(["a"] * 6 + ["b"] * 6 + ["dmso"] * 12)
    blocks = np.array([0, 0, 0, 1, 1, 1] * 2 + [0] * 6 + [1] * 6)
    features = rng.normal(size=(24, 5)) + 0.7 * (names == "a")[:, None]
    both_results = activity(features, names, names == "dmso", blocks, n_draws=500).set_index("perturbation")
    assert (both_results["n_draws"] > 0).all()
    order = rng.permutation(24)
    in_other_order = activity(features[order], names[order], names[order] == "dmso", blocks[order], n_draws=500)
    without_a = activity(features[names != "a"], names[names != "a"], (names == "dmso")[names != "a"],
                     blocks[names != "a"], n_draws=500)  # fmt: skip
    assert without_a["p"][0] == both_results.loc["b", "p"]
    spread = 4 * np.sqrt(0.25 / 500)
    np.testing.assert_allclose(
        in_other_order.set_index("perturbation")["p"].loc[["a", "b"]], both_results["p"], atol=spread
    )


@pytest.mark.parametrize("plates", [1, 4])
def test_shared_draws_are_calibrated_on_noise(plates):
    rng = np.random.default_rng(plates)
    shares = []
    for seed in range(6):
        names = np.array([*np.repeat(np.arange(60), 4), *[-1] * 16 * plates])
        blocks = np.concatenate([np.arange(240) % plates, np.repeat(np.arange(plates), 16)])
        features = rng.normal(size=(len(names), 20)) + rng.normal(size=(plates, 20))[blocks]
        shares.append((activity(features, names, names == -1, blocks, n_draws=199, seed=seed)["p"] <= 0.05).mean())
    # Perturbations of a screen share their controls, so the error is that of the screens.
    assert abs(np.mean(shares) - 0.05) <= 3 * max(math.sqrt(0.05 * 0.95 / 360), np.std(shares, ddof=1) / math.sqrt(6))


@pytest.mark.parametrize("plates", [1, 3])
def test_mean_average_precision_equals_copairs(plates):
    copairs = pytest.importorskip("copairs.map", reason="copairs is absent (pip install copairs)")
    rng = np.random.default_rng(plates)
    names = np.array([*np.repeat([f"p{k}" for k in range(12)], 6), *["dmso"] * 8 * plates], dtype=object)
    blocks = np.concatenate([np.arange(72) % plates, np.repeat(np.arange(plates), 8)])
    features = rng.normal(size=(len(names), 16))
    is_control = names == "dmso"
    references = np.where(is_control, np.arange(len(names)), -1)
    rows = copairs.average_precision(
        pd.DataFrame({"plate": blocks, "name": names, "reference": references}),
        features,
        pos_sameby=["name", "reference"],
        pos_diffby=[],
        neg_sameby=["plate"],
        neg_diffby=["name", "reference"],
        progress_bar=False,
    )
    precision = rows[~is_control].groupby("name", sort=False)["average_precision"].mean()
    table = activity(features, names, is_control, blocks, n_draws=0).set_index("perturbation")
    np.testing.assert_allclose(table["mean_average_precision"], precision[table.index], atol=1e-9)
    assert table["mean_average_precision"].nunique() == 12


@pytest.mark.parametrize("layout", [[(1, 17)] * 8, [(2, 9), (3, 20), (1, 1), (4, 8)], [(1, 64), (2, 30)]])
def test_counting_the_nearer_rows_is_sorting_them(
    layout: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    # Few values of few features: many cosines are equal.
    features = rng.integers(1, 3, (sum(size for _, size in layout), 4)).astype(np.float32)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    n_nearer = Pool.of(directions, layout).nearer
    monkeypatch.setattr(block_permutation, "_SMALL_BLOCK", (0, 0))
    np.testing.assert_array_equal(n_nearer, Pool.of(directions, layout).nearer)
