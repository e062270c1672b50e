"""Variance between experiments, plates, wells and sites, and edge effects: planted, and from a textbook."""

import numpy as np
import pandas as pd
import pytest

from distangle.core.stats import LEVELS, variance_components
from distangle.images.quality.plate_effects import edge_effect, median_plate, wells_of


def nested_values(
    rng: np.random.Generator,
    spreads: tuple[float, float, float, float],
    *,
    n: tuple[int, int, int, int],
    holes: float = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    rows, values = [], []
    for e in range(n[0]):
        of_experiment = rng.normal(0, spreads[0])
        for p in range(n[1]):
            of_plate = of_experiment + rng.normal(0, spreads[1])
            for w in range(n[2]):
                of_well = of_plate + rng.normal(0, spreads[2])
                for s in range(n[3]):
                    if rng.random() >= holes:
                        rows.append((f"E{e}", str(p), f"w{w}", s))
                        values.append(10 + of_well + rng.normal(0, spreads[3]))
    return np.array(values), pd.DataFrame(rows, columns=["experiment", "plate", "well", "site"])


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_planted_components_come_back_on_average_also_from_groups_of_any_size(holes: float) -> None:
    rng, variances = np.random.default_rng(0), (2.0, 1.0, 0.5, 1.5)
    components = np.array(
        [
            list(variance_components(*nested_values(rng, variances, n=(8, 3, 6, 3), holes=holes)).values())
            for _ in range(120)
        ],
        dtype=float,
    )
    error = components.std(axis=0, ddof=1) / np.sqrt(len(components))
    assert np.all(np.abs(components.mean(axis=0) - np.square(variances)) < 4 * error + 0.01), components.mean(axis=0)


def test_a_balanced_screen_gives_the_mean_squares_of_the_textbook() -> None:
    values, places = nested_values(np.random.default_rng(1), (3, 2, 1, 1), n=(4, 3, 5, 2))
    y = values.reshape(4, 3, 5, 2)
    by_well, by_plate, by_experiment = y.mean(3), y.mean((2, 3)), y.mean((1, 2, 3))
    ms_site = ((y - by_well[..., None]) ** 2).sum() / (4 * 3 * 5)
    ms_well = 2 * ((by_well - by_plate[..., None]) ** 2).sum() / (4 * 3 * 4)
    ms_plate = 10 * ((by_plate - by_experiment[:, None]) ** 2).sum() / (4 * 2)
    ms_experiment = 30 * ((by_experiment - y.mean()) ** 2).sum() / 3
    components = variance_components(values, places)
    assert components == pytest.approx(
        {
            "experiment": (ms_experiment - ms_plate) / 30,
            "plate": (ms_plate - ms_well) / 10,
            "well": (ms_well - ms_site) / 2,
            "site": ms_site,
        }
    )


def test_an_inestimable_component_is_none_and_part_of_the_finer_level() -> None:
    values, places = nested_values(np.random.default_rng(2), (0, 0, 1, 1), n=(1, 2, 30, 1))
    components = variance_components(values, places)
    assert components["experiment"] is None
    assert components["site"] is None
    assert components["well"] == pytest.approx(2.0, rel=0.6)
    assert list(components) == list(LEVELS)


def plates(rng: np.random.Generator, *, border: float, n: int = 6) -> tuple[pd.DataFrame, np.ndarray]:
    rows, values = [], []
    for plate in range(n):
        shift = rng.normal(0, 3)
        for row in range(1, 9):
            for column in range(1, 13):
                at_border = row in (1, 8) or column in (1, 12)
                rows.append(("E1", str(plate), row, column))
                values.append(shift + border * at_border + rng.normal(0, 1))
    return pd.DataFrame(rows, columns=["experiment", "plate", "row", "column"]), np.array(values)


def test_a_planted_border_is_found_with_its_size_and_none_where_none_is() -> None:
    rng = np.random.default_rng(3)
    effect = edge_effect(wells_of(*plates(rng, border=0.6)))
    assert effect is not None
    assert effect.difference == pytest.approx(0.6, abs=0.25)
    assert (effect.p_value, effect.n_plates) == (0.001, 6)
    alarms = sum(edge_effect(wells_of(*plates(rng, border=0.0, n=2)), seed=k).p_value < 0.05 for k in range(40))  # type: ignore[union-attr]
    assert alarms <= 6  # two are to be expected


def test_the_median_plate_is_free_of_what_a_plate_as_a_whole_has() -> None:
    table, values = plates(np.random.default_rng(4), border=2.0)
    plate = median_plate(wells_of(table, values), (16, 24))
    assert np.isnan(plate[0]).all()
    assert np.nanmean(plate[1, 1:13]) - np.nanmean(plate[3:6, 3:10]) == pytest.approx(2.0, abs=0.4)
    assert edge_effect(wells_of(table.iloc[:3], values[:3])) is None
