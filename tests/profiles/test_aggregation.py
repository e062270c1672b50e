"""Aggregation gives values computed by hand."""

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.profiles.aggregation import aggregate
from distangle.results.profiles import Profiles


def sites() -> Profiles:
    rows = [
        ("e1", "p", "A01", "1", "x", "k"),
        ("e2", "p", "A01", "1", "x", "k"),  # the same plate name in another experiment
        ("e1", "p", "A01", "2", "x", "l"),
        ("e1", "p", "A01", "3", "x", "k"),
        ("e1", "p", "A02", "1", "", "k"),
    ]
    heads = ("Experiment", "Plate", "Well", "Site", "Perturbation", "Note")
    table = pd.DataFrame(rows, columns=[f"Metadata_{head}" for head in heads])
    features = np.array([[0, 0], [5, 5], [1, 0], [8, 3], [2, 2]], np.float32)
    return Profiles(level="site", table=table, features=features, feature_names=("a", "b"))


@pytest.mark.parametrize(("method", "first"), [("mean", [3, 1]), ("median", [1, 0]), ("medoid", [1, 0])])
def test_wells(method: str, first: list[float]) -> None:
    wells = aggregate(sites(), to="well", how=method)  # type: ignore[arg-type]
    assert wells.level == "well"
    np.testing.assert_array_equal(wells.features, np.array([first, [5, 5], [2, 2]], np.float32))
    assert wells.table["Metadata_N_Sites"].tolist() == [3, 1, 1]
    assert wells.table["Metadata_Note"].tolist() == ["", "k", "k"]
    assert "Metadata_Site" not in wells.table


def test_perturbations() -> None:
    for profiles, value in ((sites(), [3.5, 2]), (aggregate(sites(), to="well", how="mean"), [4, 3])):
        result = aggregate(profiles, to="perturbation", how="mean")
        np.testing.assert_array_equal(result.features, np.array([value], np.float32))
        counts = result.table[[f"Metadata_N_{name}" for name in ("Sites", "Wells", "Plates", "Experiments")]]
        assert counts.to_numpy().tolist() == [[4, 2, 2, 2]]
        assert result.table["Metadata_Experiment"].tolist() == [""]
        assert result.table["Metadata_Plate"].tolist() == ["p"]
        assert result.provenance["aggregation"]["n_rows_without_perturbation"] == 1


def test_a_coarser_level_is_refused() -> None:
    wells = aggregate(sites(), to="well", how="mean")
    with pytest.raises(ProfileError, match="level 'well' cannot become level 'well'"):
        aggregate(wells, to="well", how="mean")
