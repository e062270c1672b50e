import numpy as np
import pytest

from distangle.training import resolve_config
from distangle.training.schedule import epoch_order, learning_rate, rate_at, step_batches

LABELS = np.array([0] * 16 + [1] * 4 + [2] * 1)


def test_the_rate_warms_up_peaks_and_ends_near_zero() -> None:
    rates = [rate_at(step, total=110, warmup=10) for step in range(110)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    assert np.all(np.diff(rates[10:]) < 0)


def test_the_second_stage_starts_again_and_ends_where_the_ancestors_did() -> None:
    config = resolve_config("seed", ["optim.second_stage.from_epoch=90"], epochs=130)
    rates = [learning_rate(config, step=step, per_epoch=10) for step in range(1300)]
    assert rates[0] == pytest.approx(1.5e-4)
    assert rates[450] == pytest.approx(0.75e-4)  # halfway through the first cosine
    assert rates[899] < 1e-9
    assert rates[900] == pytest.approx(6e-5)
    assert rates[1200] == pytest.approx(3e-5)
    assert rates[1299] == pytest.approx(1.5e-5, rel=0.01)  # as in the original recipe, which stops at epoch 130 of 150
    assert learning_rate(config, step=5000, per_epoch=10) == 0  # past its end it does not rise again


def test_without_a_second_stage_the_cosine_spans_the_training() -> None:
    config = resolve_config("scratch", ["optim.lr=2e-3", "optim.warmup_epochs=1"], epochs=11)
    rates = [learning_rate(config, step=step, per_epoch=10) for step in range(112)]
    assert rates[:110] == pytest.approx([2e-3 * rate_at(step, total=110, warmup=10) for step in range(110)])
    assert rates[111] == rates[109]  # a last, smaller step of an epoch


@pytest.mark.parametrize(
    ("n_batches", "per_step", "steps"),
    [
        (4, 2, [range(2), range(2, 4)]),
        (5, 2, [range(2), range(2, 4)]),  # the fifth would be a step of half the batch
        (1, 2, [range(1)]),
        (0, 2, []),
        (3, 1, [range(1), range(1, 2), range(2, 3)]),
    ],
)
def test_a_step_is_whole_unless_the_fold_is_too_small(n_batches: int, per_step: int, steps: list[range]) -> None:
    assert step_batches(n_batches, per_step) == steps


def test_a_shuffled_epoch_visits_every_site_once() -> None:
    order = epoch_order(LABELS, balance=0.0, seed=0, epoch=0)
    assert sorted(order) == list(range(21))
    assert not np.array_equal(order, epoch_order(LABELS, balance=0.0, seed=0, epoch=1))
    assert np.array_equal(order, epoch_order(LABELS, balance=0.0, seed=0, epoch=0))


def test_a_balanced_epoch_visits_every_class_equally_often() -> None:
    order = epoch_order(LABELS, balance=1.0, seed=0, epoch=0)
    assert np.bincount(LABELS[order]).tolist() == [7, 7, 7]
    assert len(set(order[LABELS[order] == 0])) == 7  # no site twice before all were seen


def test_a_root_epoch_weighs_classes_by_the_root_of_their_sites() -> None:
    order = epoch_order(LABELS, balance=0.5, seed=0, epoch=0)  # roots 4 : 2 : 1 of 21 sites
    assert np.bincount(LABELS[order]).tolist() == [12, 6, 3]
