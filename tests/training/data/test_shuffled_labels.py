"""Shuffled labels, a null of the training: within plates, well by well."""

import dataclasses
import itertools

import numpy as np
import pandas as pd

from distangle.results import RunFolder
from distangle.training import train
from distangle.training.data.sites import TrainingSites, shuffle_labels
from tiny_run import tiny_screen, tiny_start

# Two plates with eight wells of two sites each.
WELLS = tuple(f"B{k:02d}" for k in range(2, 10))
SITES = pd.DataFrame(
    [("E1", plate, well, site) for plate, well, site in itertools.product("12", WELLS, (1, 2))],
    columns=["experiment", "plate", "well", "site"],
)


def training_sites() -> TrainingSites:
    labels = np.repeat(np.arange(16), 2)
    return TrainingSites(rows=np.arange(32), names=("",) * 32, labels=labels, cell_types=None, statistics=None)


def test_labels_are_dealt_over_the_wells_of_a_plate_and_sites_of_a_well_keep_one():
    shuffled_labels = shuffle_labels(training_sites(), SITES, seed=3).labels
    assert (shuffled_labels[::2] == shuffled_labels[1::2]).all()
    assert sorted(shuffled_labels[:16:2]) == list(range(8))
    assert sorted(shuffled_labels[16::2]) == list(range(8, 16))
    assert (shuffled_labels[:16:2] != np.arange(8)).sum() >= 4
    assert (shuffled_labels[16::2] - 8 != shuffled_labels[:16:2]).any()  # each plate by itself
    np.testing.assert_array_equal(shuffled_labels, shuffle_labels(training_sites(), SITES, seed=3).labels)
    assert (shuffled_labels != shuffle_labels(training_sites(), SITES, seed=4).labels).any()


def test_some_sites_of_a_screen_are_dealt_by_their_own_wells():
    some_rows = np.array([0, 1, 4, 20, 30])
    few_sites = dataclasses.replace(
        training_sites(), rows=some_rows, names=("",) * 5, labels=training_sites().labels[some_rows]
    )
    shuffled_labels = shuffle_labels(few_sites, SITES, seed=1).labels
    assert shuffled_labels[0] == shuffled_labels[1]
    assert sorted({shuffled_labels[0], shuffled_labels[2]}) == [0, 2]
    assert sorted(shuffled_labels[3:]) == [10, 15]


def test_labels_that_differ_within_wells_are_dealt_over_the_sites_of_a_plate():
    mixed = np.where(np.arange(32) < 16, np.arange(32) % 2, 2 + np.arange(32) // 8)  # on plate 1 only
    one = dataclasses.replace(training_sites(), labels=mixed)
    shuffled_labels = shuffle_labels(one, SITES, seed=3).labels
    assert sorted(shuffled_labels[:16]) == [0] * 8 + [1] * 8
    assert sorted(shuffled_labels[16:]) == [4] * 8 + [5] * 8
    assert (
        shuffled_labels[16::2] != shuffled_labels[17::2]
    ).any()  # labels per site, though one well has a single label
    assert (
        len({tuple(pair) for pair in shuffled_labels[:16].reshape(8, 2)}) > 1
    )  # the first site's label is not its well's
    np.testing.assert_array_equal(shuffled_labels, shuffle_labels(one, SITES, seed=3).labels)


def test_a_training_on_shuffled_labels_says_so_and_learns_other_labels(tmp_path):
    screen = tiny_screen(tmp_path)
    messages: list[str] = []
    metrics = {}
    for name, flags in (("true", ()), ("shuffled", ("shuffle_labels=true",))):
        tiny_start(screen, tmp_path / name, *flags, epochs=1)
        train(RunFolder.open(tmp_path / name), advance=lambda _: None, say=messages.append)
        metrics[name] = (tmp_path / name / "metrics.csv").read_text()
    remarks = [line for line in messages if "permuted within" in line]
    assert remarks == ["labels: permuted within each plate (shuffle_labels=true): a null, not a result."]
    assert metrics["true"] != metrics["shuffled"]
