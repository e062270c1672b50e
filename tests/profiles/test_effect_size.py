"""Effect size: by hand, without bias for few replicates, larger for larger effects."""

import numpy as np
import pytest

from distangle.profiles.effect_size import ControlDistances
from distangle.profiles.relations import energy_distance


def test_one_plate_by_hand() -> None:
    features = np.array([[0.0], [2], [5], [9]])
    is_control = np.array([True, True, False, False])
    distances = ControlDistances(features, is_control, np.zeros(4, dtype=int))
    # 2 * (5 + 3 + 9 + 7) / 4 - |5 - 9| - |0 - 2|
    assert distances.effect_size(np.array([2, 3])) == pytest.approx(12 - 4 - 2)
    assert np.isnan(distances.effect_size(np.array([2])))


def test_two_plates_by_hand() -> None:
    # Controls 0 and 2, replicate 5; controls 10 and 14, replicate 16. Less the means: 4 and 4.
    features = np.array([[0.0], [2], [5], [10], [14], [16]])
    is_control = np.array([True, True, False, True, True, False])
    distances = ControlDistances(features, is_control, np.array([0, 0, 0, 1, 1, 1]))
    a, b = 1 * np.sqrt(3), 2 * np.sqrt(3)  # controls lie at -a, a and -b, b
    between = (abs(4 - b) + abs(4 + b)) / 2 + (abs(4 - a) + abs(4 + a)) / 2
    within_mean = 0 + (2 * abs(a - b) + 2 * abs(a + b)) / 4
    assert distances.effect_size(np.array([2, 5])) == pytest.approx(between - within_mean)


def test_a_plate_without_two_controls_does_not_count() -> None:
    features = np.array([[0.0], [2], [5], [9], [1], [7]])
    is_control = np.array([True, True, False, False, True, False])
    distances = ControlDistances(features, is_control, np.array([0, 0, 0, 0, 1, 1]))
    assert distances.effect_size(np.array([2, 3, 5])) == distances.effect_size(np.array([2, 3]))


@pytest.mark.parametrize("plates_of", [(0, 1), (0, 0), (0, 0, 1), (0, 1, 2, 3)])
def test_noise_has_no_effect_on_average(plates_of: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    rows = np.arange(len(plates_of))
    plates = np.concatenate([np.array(plates_of), np.repeat(np.arange(4), 4)])
    is_control = np.arange(len(plates)) >= len(rows)
    values = [
        ControlDistances(rng.normal(size=(len(plates), 8)) + 9 * plates[:, None], is_control, plates).effect_size(rows)
        for _ in range(600)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_a_larger_effect_is_larger() -> None:
    rng = np.random.default_rng(0)
    noise, plates = rng.normal(size=(12, 5)), np.repeat([0, 1], 6)
    is_control = np.tile([False, True, True, True, True, True], 2)
    sizes = [
        ControlDistances(noise + effect * ~is_control[:, None], is_control, plates).effect_size(np.array([0, 6]))
        for effect in (0, 1, 2, 4)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < 1 < sizes[-1]


def test_unbiased_energy_distance_equals_plain_loops() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)) + 1
    between = np.mean([np.linalg.norm(p - q) for p in a for q in b])
    within_means = [
        np.mean([np.linalg.norm(x[i] - x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b)
    ]
    assert energy_distance(a, b, unbiased=True) == pytest.approx(2 * between - sum(within_means))
