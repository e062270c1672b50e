"""AnnData files hold the features, a unique text index, the map and the provenance, and read back the same."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.export import write_h5ad
from distangle.export.anndata_files import row_names
from distangle.profiles.readers import read_profiles
from distangle.results import Profiles

anndata = pytest.importorskip("anndata", reason="needs the extra profiles")


def example() -> Profiles:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "Metadata_Experiment": ["E1", "E1", "E2", "E2"],
            "Metadata_Plate": ["1", "1", "1", "1"],
            "Metadata_Well": ["B02", "B03", "B02", "B03"],
            "Metadata_Role": ["negative_control", "treatment", "negative_control", "treatment"],
            "Metadata_Perturbation": ["DMSO", "taxol", "DMSO", ""],
            "Metadata_n_sites": [2, 1, 2, 2],
            "Metadata_Dose": [0.0, 0.3, 0.0, np.nan],
        }
    )
    features = rng.normal(size=(4, 3)).astype(np.float32)
    return Profiles(
        level="well", table=table, features=features, feature_names=("a", "b/c", "d"), provenance={"source": "runs/a"}
    )


def test_features_table_map_and_provenance_are_in_their_places(tmp_path: Path) -> None:
    profiles = example()
    coordinates = pd.DataFrame({"x": [0.0, 1, 2, 3], "y": [4.0, 5, 6, 7]})
    data = anndata.read_h5ad(write_h5ad(profiles, tmp_path / "a.h5ad", coordinates=coordinates))
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, profiles.features)
    assert list(data.obs_names) == ["E1/1/B02", "E1/1/B03", "E2/1/B02", "E2/1/B03"]
    assert list(data.var_names) == ["a", "b/c", "d"]
    assert list(data.obs) == list(profiles.table)
    assert list(data.obs["Metadata_Perturbation"]) == ["DMSO", "taxol", "DMSO", ""]
    assert list(data.obs["Metadata_n_sites"]) == [2, 1, 2, 2]
    np.testing.assert_array_equal(data.obsm["X_map"], [[0, 4], [1, 5], [2, 6], [3, 7]])
    content = json.loads(data.uns["distangle"])
    assert (content["level"], content["provenance"]) == ("well", {"source": "runs/a"})


def test_the_reader_of_profiles_reads_the_same_rows(tmp_path: Path) -> None:
    profiles = example()
    copy = read_profiles(write_h5ad(profiles, tmp_path / "a.h5ad")).profiles
    np.testing.assert_array_equal(copy.features, profiles.features)
    for name in ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Role"):
        assert list(copy.table[name]) == list(profiles.table[name])


def test_a_slash_in_a_column_is_no_group_of_the_file(tmp_path: Path) -> None:
    profiles = example()
    odd = replace(profiles, table=profiles.table.rename(columns={"Metadata_Dose": "Metadata_ng/ml"}))
    assert "Metadata_ng_ml" in anndata.read_h5ad(write_h5ad(odd, tmp_path / "a.h5ad")).obs
    both_forms = replace(odd, table=odd.table.assign(**{"Metadata_ng_ml": ""}))
    with pytest.raises(ProfileError, match=r"two columns that would be called 'Metadata_ng_ml'"):
        write_h5ad(both_forms, tmp_path / "b.h5ad")
    assert not (tmp_path / "b.h5ad").exists()


def test_names_of_rows_are_unique() -> None:
    profiles = example()
    perturbations = replace(profiles, level="perturbation")
    assert row_names(perturbations) == ["DMSO", "taxol", "DMSO-2", "row"]
    table = profiles.table.assign(Metadata_Well=["B02", "B02", "B02", "B02"], Metadata_Experiment="")
    assert row_names(replace(profiles, table=table)) == ["1/B02", "1/B02-2", "1/B02-3", "1/B02-4"]
    table = table.assign(Metadata_Well=["B02", "B02-2", "B02", "B02"])
    assert row_names(replace(profiles, table=table)) == ["1/B02", "1/B02-2", "1/B02-3", "1/B02-4"]


def test_a_map_of_other_rows_and_a_repeated_feature_are_refused(tmp_path: Path) -> None:
    profiles = example()
    with pytest.raises(ProfileError, match=r"map has 1 rows .* Expected 4 rows"):
        write_h5ad(profiles, tmp_path / "a.h5ad", coordinates=pd.DataFrame({"x": [0.0], "y": [0.0]}))
    with pytest.raises(ProfileError, match=r"1 names of features twice, such as 'a'"):
        write_h5ad(replace(profiles, feature_names=("a", "a", "d")), tmp_path / "a.h5ad")
    assert not list(tmp_path.iterdir())


def test_without_anndata_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ProfileError, match=r"pip install '\.\[profiles\]'"):
        write_h5ad(example(), tmp_path / "a.h5ad")
