import numpy as np
import pandas as pd
import pytest

from distangle.errors import ExplanationError
from distangle.explain import PERTURBATION, WELL, edge_area, edge_shares, mean_maps


def rows(*keys):
    names = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Cell_Type", "explained"]
    return pd.DataFrame(list(keys), columns=names)


def constant(*values, size=4):
    return np.stack([np.full((size, size), value, dtype=np.float32) for value in values])


TABLE = rows(
    ("E2", "1", "B02", "RPE", "actin"),
    ("E1", "1", "B02", "HUVEC", "actin"),
    ("E1", "1", "B02", "HUVEC", "golgi"),
    ("E1", "2", "B02", "HUVEC", "actin"),
)


def test_a_well_is_the_mean_of_its_sites_and_no_other_plates():
    result = mean_maps(TABLE, constant(0.1, 0.2, 0.6, 0.8), by=WELL)
    assert result.table[list(WELL)].to_numpy().tolist() == [["E1", "1", "B02"], ["E1", "2", "B02"], ["E2", "1", "B02"]]
    np.testing.assert_allclose(result.maps[:, 0, 0], [0.4, 0.8, 0.1], atol=1e-7)
    assert result.table["sites"].tolist() == [2, 1, 1]
    assert result.table["explained"].tolist() == ["actin | golgi", "actin", "actin"]
    assert result.maps.dtype == np.float32


def test_a_perturbation_is_kept_apart_by_cell_type():
    result = mean_maps(TABLE, constant(0.1, 0.2, 0.6, 0.8))
    assert result.table[list(PERTURBATION)].to_numpy().tolist() == [
        ["actin", "HUVEC"],
        ["actin", "RPE"],
        ["golgi", "HUVEC"],
    ]
    np.testing.assert_allclose(result.maps[:, 0, 0], [0.5, 0.1, 0.6], atol=1e-7)
    over_all = mean_maps(TABLE, constant(0.1, 0.2, 0.6, 0.8), by=["explained"])
    assert over_all.table["explained"].tolist() == ["actin", "golgi"]
    np.testing.assert_allclose(over_all.maps[:, 0, 0], [1.1 / 3, 0.6], atol=1e-7)


def test_empty_maps_count_as_zeros_and_are_counted():
    result = mean_maps(TABLE, constant(0.0, 0.0, 0.6, 0.8), by=["explained"])
    assert result.table["empty"].tolist() == [2, 0]
    np.testing.assert_allclose(result.maps[0, 0, 0], 0.8 / 3, atol=1e-7)


def test_the_outer_band_is_counted_by_hand():
    maps = np.zeros((4, 8, 8), dtype=np.float32)
    maps[0] = 1  # even: 28 of 64 pixels are outermost
    maps[1, 0, 3], maps[1, 4, 4] = 1, 3
    maps[2, 7, 7] = 0.5
    assert edge_area((8, 8)) == 28 / 64
    shares = edge_shares(maps)
    np.testing.assert_allclose(shares[:3], [28 / 64, 0.25, 1.0], atol=1e-7)
    assert np.isnan(shares[3])
    assert edge_area((16, 8), band=0.25) == 1 - (8 * 4) / (16 * 8)
    table = rows(*[("E1", "1", f"B0{k}", "RPE", "actin") for k in range(4)])
    result = mean_maps(table, maps, by=WELL)
    np.testing.assert_allclose(result.table["edge_ratio"][:3], [1, 0.25 * 64 / 28, 64 / 28], atol=1e-6)


def test_maps_that_look_at_the_border_show_in_the_class_mean_and_others_do_not():
    rng = np.random.default_rng(0)
    rows_, columns = np.mgrid[:32, :32]
    maps = []
    for _ in range(60):
        row, column = rng.uniform(0, 32, 2)
        maps.append(np.exp(-((rows_ - row) ** 2 + (columns - column) ** 2) / 18))
    for _ in range(60):
        maps.append(np.exp(-((rows_ - 2) ** 2) / 4) * np.ones(32))
    table = rows(*[("E1", "1", "B02", "RPE", "anywhere" if k < 60 else "border") for k in range(120)])
    result = mean_maps(table, np.stack(maps).astype(np.float32)).table.set_index("explained")["edge_ratio"]
    assert 0.8 < result["anywhere"] < 1.2
    assert result["border"] > 1.8


def test_what_does_not_fit_is_refused():
    with pytest.raises(ExplanationError, match="4 rows and 3 maps: expected at least one row, and one map per row"):
        mean_maps(TABLE, constant(0, 0, 0))
    with pytest.raises(ExplanationError, match="no column 'Metadata_Wel'. Did you mean 'Metadata_Well'"):
        mean_maps(TABLE, constant(0, 0, 0, 0), by=["Metadata_Wel"])
