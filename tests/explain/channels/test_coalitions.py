import itertools
import math

import pytest
import torch

from distangle.explain.channels.coalition_outputs import covering_coalitions
from distangle.explain.channels.coalitions import (
    ablation_of,
    alone_of,
    coalitions,
    interaction_weights,
    interactions_of,
    shapley_of,
)


def random_answers(channels, n=4):
    return torch.randn(n, 2**channels, generator=torch.Generator().manual_seed(channels), dtype=torch.float64)


def lookup(row, channels):
    """Look up the output of a set of channels by comparing sets, not bits."""
    table = {frozenset(row_.nonzero()[:, 0].tolist()): k for k, row_ in enumerate(coalitions(channels))}
    return lambda members: row[table[frozenset(members)]].item()


def printed_interaction(v, i, j, channels):
    """Grabisch and Roubens (1999), with T of n - 2 others: (n - t - 2)! t! / (n - 1)!."""
    others = [k for k in range(channels) if k not in (i, j)]
    total = 0.0
    for t in range(len(others) + 1):
        for coalition in itertools.combinations(others, t):
            weight = math.factorial(channels - t - 2) * math.factorial(t) / math.factorial(channels - 1)
            with_both, first, second, neither = {*coalition, i, j}, {*coalition, i}, {*coalition, j}, {*coalition}
            total += weight * (v(with_both) - v(first) - v(second) + v(neither))
    return total


def interaction_over_orders(v, i, j, channels):
    """Treat the pair as one player: over every order, average how much more the second adds after the first."""
    total, orders = 0.0, 0
    for order in itertools.permutations(["pair", *[k for k in range(channels) if k not in (i, j)]]):
        before = set(order[: order.index("pair")])
        total += v(before | {i, j}) - v(before | {i}) - v(before | {j}) + v(before)
        orders += 1
    return total / orders


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_interactions_are_those_of_the_printed_definition_and_of_every_order(channels):
    answers = random_answers(channels)
    result = interactions_of(answers)
    for site, row in enumerate(answers):
        v = lookup(row, channels)
        for i, j in itertools.permutations(range(channels), 2):
            expected = printed_interaction(v, i, j, channels)
            assert result[site, i, j].item() == pytest.approx(expected, abs=1e-12)
            assert interaction_over_orders(v, i, j, channels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_interactions_are_symmetric_and_share_out_the_shapley_values(channels):
    answers = random_answers(channels)
    result = interactions_of(answers)
    torch.testing.assert_close(result, result.mT)
    main_effects = result.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(main_effects + (result.sum(2) - main_effects) / 2, shapley_of(answers))
    torch.testing.assert_close(main_effects.sum(1) + result.triu(1).sum((1, 2)), answers[:, -1] - answers[:, 0])


def test_a_product_of_two_channels_is_all_interaction():
    # v = a b x y over presences x, y: worth a b / 2 to each, a b to the pair, nothing to either by itself.
    present = coalitions(4).double()
    answers = (3.0 * present[:, 1] * present[:, 3])[None]
    result = interactions_of(answers)[0]
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[1, 3] = expected[3, 1] = 3
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(shapley_of(answers)[0], torch.tensor([0, 1.5, 0, 1.5], dtype=torch.float64))


def test_a_sum_of_the_channels_has_no_interaction():
    worth = torch.tensor([3.0, -1.0, 0.5, 2.0, 7.0], dtype=torch.float64)
    result = interactions_of((coalitions(5).double() @ worth)[None])[0]
    torch.testing.assert_close(result, torch.diag(worth))


def test_two_channels_that_say_the_same_interact_against_each_other():
    # v = 1 if either channel is present: removing one changes nothing, each alone gives 1, the interaction is -1.
    present = coalitions(3)
    answers = (present[:, 0] | present[:, 2]).double()[None]
    assert ablation_of(answers)[0].tolist() == [0, 0, 0]
    assert alone_of(answers)[0].tolist() == [1, 0, 1]
    assert interactions_of(answers)[0, 0, 2].item() == pytest.approx(-1)
    torch.testing.assert_close(shapley_of(answers)[0], torch.tensor([0.5, 0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_ablation_takes_one_away_and_alone_leaves_one(channels):
    answers = random_answers(channels)
    for site, row in enumerate(answers):
        v = lookup(row, channels)
        all_channels = set(range(channels))
        for channel in range(channels):
            expected = v(all_channels) - v(all_channels - {channel})
            assert ablation_of(answers)[site, channel].item() == pytest.approx(expected)
            assert alone_of(answers)[site, channel].item() == pytest.approx(v({channel}) - v(set()))


def test_weights_of_a_pair_average_over_disjoint_steps():
    # Each interaction is a mean of double differences: the positive weights add up to 2, all to 0.
    weights = interaction_weights(5)
    for i, j in itertools.combinations(range(5), 2):
        assert weights[:, i, j].clamp(min=0).sum().item() == pytest.approx(2)
        assert weights[:, i, j].sum().item() == pytest.approx(0)


@pytest.mark.parametrize("channels", range(1, 11))
def test_six_coalitions_show_every_pair_of_channels_in_every_state(channels):
    masks = covering_coalitions(channels)
    assert masks.shape == (6, channels)
    for i, j in itertools.combinations(range(channels), 2):
        assert {(bool(a), bool(b)) for a, b in masks[:, [i, j]]} == set(itertools.product([False, True], repeat=2))
    for channel in range(channels):
        assert masks[:, channel].any()
        assert not masks[:, channel].all()
