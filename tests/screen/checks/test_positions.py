"""Test predictions from positions against plain loops over the rows."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from distangle.screen.checks.leaks import predict_from_position
from distangle.screen.checks.shared_layouts import _modes_without
from distangle.screen.plates import split_well


def first_of_most(labels: list[str]) -> str:
    return Counter(labels).most_common(1)[0][0]


def by_loops(wells: pd.DataFrame, labels: np.ndarray, training: np.ndarray) -> dict[str, list[str]]:
    """The same rule, one row at a time: the first key that training rows have."""
    rows = [(e, p, split_well(w) or w) for e, p, w in wells.itertuples(index=False)]
    training_rows = [k for k in range(len(rows)) if training[k]]

    def predict(matches: list[list[int]]) -> str:
        first = next((match for match in matches if match), training_rows)
        return first_of_most([labels[k] for k in first])

    position, plate = [], []
    for experiment, name, well in rows:
        in_experiment = [k for k in training_rows if rows[k][0] == experiment]
        on_plate = [k for k in training_rows if rows[k][1] == name]
        at_well = [k for k in training_rows if rows[k][2] == well]
        position.append(
            predict([[k for k in in_experiment if k in at_well], [k for k in on_plate if k in at_well], at_well])
        )
        plate.append(predict([[k for k in in_experiment if k in on_plate], on_plate]))
    return {"position": position, "plate": plate}


@pytest.mark.parametrize("seed", range(20))
def test_position_and_plate_are_those_of_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    wells = pd.DataFrame(
        {
            "experiment": rng.choice(["E1", "E2", "E3"], n),
            "plate": rng.choice(["1", "2"], n),
            "well": rng.choice(["A01", "a1", "B02", "b2", "not a well"], n),
        }
    )
    labels = rng.choice(["x", "y", "z", ""], n).astype(object)
    training = rng.random(n) < 0.6
    predictions = predict_from_position(wells, labels, training)
    if not training.any():
        assert predictions == {}
        return
    assert {name: column.tolist() for name, column in predictions.items()} == by_loops(wells, labels, training)


def test_ties_go_to_the_label_of_the_first_training_row_of_the_key() -> None:
    wells = pd.DataFrame({"experiment": ["E"] * 5, "plate": ["1"] * 5, "well": ["A01", "B01", "B01", "A01", "B01"]})
    labels = np.array(["x", "y", "x", "y", ""], dtype=object)
    predictions = predict_from_position(wells, labels, np.array([True, True, True, True, False]))
    assert predictions["position"].tolist() == ["x", "y", "y", "x", "y"]


def modes_by_loops(place: np.ndarray, batch: np.ndarray, code: np.ndarray) -> list[int]:
    modes = []
    for k in range(len(code)):
        others = Counter(code[(place == place[k]) & (batch != batch[k])].tolist())
        modes.append(min(others, key=lambda one: (-others[one], one)) if others else -1)
    return modes


@pytest.mark.parametrize("seed", range(40))
def test_the_most_frequent_code_of_other_batches_is_that_of_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    place, batch, code = (
        np.unique(rng.integers(0, int(rng.integers(1, top)), n), return_inverse=True)[1] for top in (5, 6, 8)
    )
    assert _modes_without(place, batch, code).tolist() == modes_by_loops(place, batch, code)
