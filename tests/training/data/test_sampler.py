import numpy as np
import pytest

from distangle.errors import ConfigError
from distangle.training import resolve_config
from distangle.training.data.sampler import check_composition, pure_batches, whole_batches
from distangle.training.schedule import epoch_order


def places_of(*plates: tuple[int, int]) -> np.ndarray:
    """(experiment, sites) of each plate; plates are numbered through."""
    return np.array([(experiment, plate) for plate, (experiment, n) in enumerate(plates) for _ in range(n)])


def cut_batches(places: np.ndarray, *, by: str = "plate", batch_size: int = 8, epoch: int = 0) -> list[np.ndarray]:
    order = np.random.default_rng(epoch).permutation(len(places))
    return pure_batches(order, places, by=by, batch_size=batch_size, seed=0, epoch=epoch)


@pytest.mark.parametrize(("by", "column"), [("plate", 1), ("experiment", 0)])
def test_every_batch_is_of_one_plate_or_experiment_and_every_visit_is_in_one(by: str, column: int) -> None:
    places = places_of((0, 16), (0, 20), (1, 9), (1, 31))
    batches = cut_batches(places, by=by)
    for batch in batches:
        assert len(set(places[batch, column])) == 1
        assert 4 <= len(batch) <= 8
    assert sorted(np.concatenate(batches)) == list(range(76))
    assert len(batches) == {"plate": 2 + 3 + 2 + 4, "experiment": 5 + 5}[by]


def test_plates_of_less_than_half_a_batch_share_batches_within_their_experiment() -> None:
    # Half of 8 is 4: the plates of 3, 2 and 2 sites of experiment 0 make 7; those of experiment 1 stay apart.
    places = places_of((0, 8), (0, 3), (0, 2), (0, 2), (1, 5))
    batches = cut_batches(places)
    members = sorted(sorted(set(places[batch, 1])) for batch in batches)
    assert members == [[0], [1, 2, 3], [4]]
    assert sorted(map(len, batches)) == [5, 7, 8]


def test_a_lone_small_plate_joins_the_smallest_other_plate_of_its_experiment() -> None:
    places = places_of((0, 16), (0, 12), (0, 1), (1, 8))
    batches = cut_batches(places)
    mixed = [batch for batch in batches if len(set(places[batch, 1])) > 1]
    rows_of_batches = np.concatenate([batch for batch in batches if set(places[batch, 1]) & {1, 2}])
    assert len(mixed) == 1
    assert sorted(rows_of_batches) == list(range(16, 29))
    assert sorted(np.concatenate(batches)) == list(range(37))
    assert min(map(len, batches)) >= 4


def test_an_experiment_of_one_visit_is_left_out_and_a_small_one_is_a_small_batch() -> None:
    batches = cut_batches(places_of((0, 8), (1, 1), (2, 2)))
    assert sorted(map(len, batches)) == [2, 8]
    assert 8 not in np.concatenate(batches)


def test_balance_keeps_its_quota_in_pure_batches() -> None:
    labels = np.array([0] * 30 + [1] * 6)
    places = np.stack([np.arange(36) % 2, np.arange(36) % 4], axis=1)
    order = epoch_order(labels, balance=1.0, seed=0, epoch=0)
    batches = pure_batches(order, places, by="plate", batch_size=4, seed=0, epoch=0)
    assert np.bincount(labels[np.concatenate(batches)]).tolist() == [18, 18]
    assert all(len(set(places[batch, 1])) == 1 for batch in batches)


def test_the_order_of_batches_is_a_function_of_seed_and_epoch_and_mixes_experiments() -> None:
    places = places_of((0, 80), (1, 80))
    order = np.arange(160)
    one, two = (pure_batches(order, places, by="plate", batch_size=8, seed=0, epoch=epoch) for epoch in (3, 3))
    other = pure_batches(order, places, by="plate", batch_size=8, seed=0, epoch=4)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert [a[0] for a in one] != [b[0] for b in other]
    turns = [int(places[batch[0], 0]) for batch in one]
    assert turns != sorted(turns)
    assert turns != sorted(turns, reverse=True)


def test_random_batches_are_full_and_leave_out_the_rest() -> None:
    batches = whole_batches(np.arange(11), batch_size=4)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_pure_batches_and_pseudo_labels_are_refused_together() -> None:
    config = resolve_config("scratch", ["batches.pure=plate", "pseudo_labels.strategy=alpha_ramp"])
    with pytest.raises(ConfigError, match=r"batches.pure=plate does not go with pseudo_labels.strategy=alpha_ramp.*"):
        check_composition(config)
    check_composition(resolve_config("scratch", ["batches.pure=plate"]))


def test_controls_beside_batches_that_are_not_pure_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"batch_norm.n_controls=4 needs batches of one plate or experiment.*batches.pure=plate"
    ):
        check_composition(resolve_config("scratch", ["batch_norm.n_controls=4"]))
