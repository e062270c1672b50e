import numpy as np
import pandas as pd
import pytest

from distangle.cli.arguments import parse_choices
from distangle.errors import ConfigError
from distangle.explain.aggregate import add_group_means
from distangle.results import Explanation


def explanation() -> Explanation:
    table = pd.DataFrame({
        "Metadata_Experiment": "HUVEC-01",
        "Metadata_Plate": ["1", "1", "1", "2"],
        "Metadata_Well": ["B03", "B02", "B02", "B02"],
        "Metadata_Site": [1, 1, 2, 1],
        "Metadata_Cell_Type": "HUVEC",
        "explained": ["a", "a", "b", "a"],
        "probability": [0.5, 0.9, 0.3, 0.7],
        "shapley_1": [1.0, 2.0, 4.0, 0.0],
        "deletion_auc": [np.nan, 0.2, np.nan, 0.4],
        "deletion_p": [np.nan, 0.02, np.nan, 0.04],
        "cells_share": [0.5, 0.25, 0.75, 1.0],
    })  # fmt: skip
    wells = pd.DataFrame({
        "Metadata_Experiment": "HUVEC-01",
        "Metadata_Plate": ["1", "1", "2"],
        "Metadata_Well": ["B02", "B03", "B02"],
        "shapley_1": [3.0, 1.0, 0.0],
    })  # fmt: skip
    perturbations = pd.DataFrame({"explained": ["a", "b"], "Metadata_Cell_Type": "HUVEC", "shapley_1": [1.0, 4.0]})
    maps = np.zeros((4, 2, 2), dtype=np.float32)
    return Explanation(table=table, maps=maps, settings={}, summary={}, wells=wells, perturbations=perturbations)


def test_wells_and_perturbations_get_the_means_of_what_was_added_to_sites_later_and_no_mean_of_p_values() -> None:
    result = add_group_means(explanation())
    assert result.wells is not None
    assert result.perturbations is not None
    assert list(result.wells.columns[3:]) == ["shapley_1", "deletion_auc", "cells_share"]
    np.testing.assert_array_equal(result.wells["deletion_auc"], [0.2, np.nan, 0.4])
    assert result.wells["cells_share"].tolist() == [0.5, 0.5, 1.0]
    assert result.wells["shapley_1"].tolist() == [3.0, 1.0, 0.0]
    assert list(result.perturbations.columns[2:]) == ["shapley_1", "deletion_auc", "cells_share"]
    np.testing.assert_allclose(result.perturbations["deletion_auc"], [0.3, np.nan])
    np.testing.assert_allclose(result.perturbations["cells_share"], [1.75 / 3, 0.75])


def test_names_with_commas_between_are_read_once_each() -> None:
    effect = ("faithfulness", "filters")
    assert parse_choices("filters, faithfulness,filters", effect, flag="--parts") == ["filters", "faithfulness"]
    with pytest.raises(ConfigError, match=r"--parts 'filter': unknown name 'filter'\. Did you mean 'filters'"):
        parse_choices("filter", effect, flag="--parts")
