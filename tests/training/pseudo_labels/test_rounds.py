import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distangle.training import resolve_config
from distangle.training.pseudo_labels.rounds import Assignment, interleave, shuffle_within_source
from distangle.training.schedule import epoch_order


def assignment_of(n: int, *, first: int = 100, n_classes: int = 4) -> Assignment:
    columns = (np.arange(n) % n_classes)[:, None]
    return Assignment(positions=np.arange(first, first + n), columns=columns, shares=np.ones((n, 1), np.float32))


def mix(n_labelled: int, n_pseudo: int, *, share: float, batch_size: int, epoch: int = 0, seed: int = 0) -> np.ndarray:
    config = resolve_config("scratch", [f"pseudo_labels.labelled_share={share}"], seed=seed)
    labels = np.arange(n_labelled) % 4
    order = epoch_order(labels, balance=config.class_balance, seed=seed, epoch=epoch)
    return interleave(order, assignment_of(n_pseudo), batch_size=batch_size, config=config, epoch=epoch)


def test_a_pseudo_label_by_hand() -> None:
    result = Assignment(
        positions=np.array([7, 9]),
        columns=np.array([[2, 0], [1, 2]]),
        shares=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
    ).label_rows(np.array([9, 7, 9]), n_classes=3)
    np.testing.assert_array_equal(result, [[0, 0.5, 0.5], [0.25, 0, 0.75], [0, 0.5, 0.5]])


@given(
    n_pseudo=st.integers(1, 99),
    share=st.floats(0.01, 1.0),
    batch_size=st.integers(2, 24),
    n_batches=st.integers(1, 4),
    rest=st.integers(0, 1),
)
def test_every_batch_keeps_its_least_share_of_labelled_images(
    n_pseudo: int, share: float, batch_size: int, n_batches: int, rest: int
) -> None:
    n_labelled = min(100, batch_size * n_batches + rest)
    mixed = mix(n_labelled, n_pseudo, share=share, batch_size=batch_size)
    assert len(mixed) == n_labelled
    for start in range(0, n_labelled - batch_size + 1, batch_size):
        labelled = (mixed[start : start + batch_size] < 100).mean()
        assert labelled >= share - 1e-9
        assert labelled >= n_labelled / (n_labelled + n_pseudo) - 0.5 / batch_size - 1e-9


def test_pseudo_labelled_images_come_as_often_as_if_they_were_appended() -> None:
    mixed = mix(80, 20, share=0.5, batch_size=20)
    assert ((mixed >= 100).reshape(4, 20).sum(1) == 4).all()
    assert len(set(mixed[mixed >= 100])) > 10  # not one and the same
    assert np.array_equal(mixed, mix(80, 20, share=0.5, batch_size=20))
    assert not np.array_equal(mixed, mix(80, 20, share=0.5, batch_size=20, epoch=1))


def test_a_labelled_share_of_one_leaves_the_order_alone() -> None:
    assert (mix(40, 40, share=1.0, batch_size=8) < 100).all()


def test_partners_are_of_the_same_kind_and_as_before_where_there_is_one_kind() -> None:
    kinds = np.array([0, 1, 0, 0, 1, 2, 0, 1], np.int8)
    partners = shuffle_within_source(np.random.default_rng(3), kinds)
    assert sorted(partners) == list(range(8))
    assert (kinds[partners] == kinds).all()
    assert len({tuple(shuffle_within_source(np.random.default_rng(seed), kinds)) for seed in range(20)}) > 5
    one_source = shuffle_within_source(np.random.default_rng(3), np.zeros(8, np.int8))
    assert np.array_equal(one_source, np.random.default_rng(3).permutation(8))


def test_the_soft_label_of_a_site_that_was_not_accepted_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="The site at position 103 has no pseudo label"):
        assignment_of(3).label_rows(np.array([101, 103]), n_classes=4)
