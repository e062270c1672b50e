import numpy as np
import pandas as pd
import pytest

from distangle.cli.words import one_of_each
from distangle.errors import ConfigError
from distangle.explain.grouped import grouped
from distangle.results import Explanation


def explanation() -> Explanation:
    table = pd.DataFrame({
        "Metadata_Experiment": "HUVEC-01",
        "Metadata_Plate": ["1", "1", "1", "2"],
        "Metadata_Well": ["B03", "B02", "B02", "B02"],
        "Metadata_Site": [1, 1, 2, 1],
        "Metadata_Cell_Type": "HUVEC",
        "Metadata_Role": "treatment",
        "perturbation": ["b", "a", "a", "a"],
        "predicted": ["a", "a", "b", "a"],
        "explained": ["a", "a", "b", "a"],
        "probability": [0.5, 0.9, 0.3, 0.7],
        "shapley_1": [1.0, 2.0, 4.0, 0.0],
        "shapley_p_1": [0.5, 0.1, 0.1, 0.2],
        "correlation_p_1": [0.5, 0.1, 0.1, 0.2],
        "deletion_auc": [np.nan, 0.2, np.nan, 0.4],
        "deletion_p": [np.nan, 0.02, np.nan, 0.04],
    })  # fmt: skip
    maps = np.stack([np.full((2, 2), value, dtype=np.float32) for value in (0.1, 0.2, 0.6, 0.0)])
    return Explanation(table=table, maps=maps, settings={}, summary={})


def test_a_well_has_the_mean_of_its_sites_and_no_mean_of_p_values() -> None:
    found = grouped(explanation())
    wells = found.wells
    assert wells is not None
    assert found.well_maps is not None
    assert wells[["Metadata_Plate", "Metadata_Well"]].to_numpy().tolist() == [["1", "B02"], ["1", "B03"], ["2", "B02"]]
    assert wells["sites"].tolist() == [2, 1, 1]
    assert wells["shapley_1"].tolist() == [3.0, 1.0, 0.0]
    assert wells["perturbation"].tolist() == ["a", "b", "a"]
    assert wells["predicted"].tolist() == ["a | b", "a", "a"]
    assert wells["deletion_auc"].tolist()[::2] == [0.2, 0.4]
    assert not [name for name in wells.columns if "_p" in name.removeprefix("Metadata_P")]
    np.testing.assert_allclose(found.well_maps[:, 0, 0], [0.4, 0.1, 0.0], atol=1e-6)


def test_perturbations_are_what_was_explained_by_cell_type() -> None:
    found = grouped(explanation())
    assert found.perturbations is not None
    assert found.perturbation_maps is not None
    assert found.perturbations["explained"].tolist() == ["a", "b"]
    assert found.perturbations["sites"].tolist() == [3, 1]
    np.testing.assert_allclose(found.perturbations["shapley_1"], [1.0, 4.0])
    np.testing.assert_allclose(found.perturbation_maps[:, 0, 0], [0.1, 0.6], atol=1e-6)


def test_names_with_commas_between_are_read_once_each() -> None:
    known = ("faithfulness", "filters")
    assert one_of_each("filters, faithfulness,filters", known, flag="--parts") == ["filters", "faithfulness"]
    with pytest.raises(ConfigError, match=r"--parts 'filter': 'filter' is none of them\. Did you mean 'filters'"):
        one_of_each("filter", known, flag="--parts")
