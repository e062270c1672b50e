"""One table per plate and one of all plates; reading them gives the same wells and features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.export import write_plates
from distangle.export.pycytominer_files import file_names
from distangle.profiles.readers import read_profiles
from distangle.results import Profiles

PLATES = (("E1", "1"), ("E2", "1"), ("E 2", "1"), ("E/2", "1"), ("e1", "1"), ("", "E1_1"))


def example() -> Profiles:
    rng = np.random.default_rng(0)
    rows = [(e, p, well, role) for e, p in PLATES for well, role in (("B02", "negative_control"), ("B03", "treatment"))]
    table = pd.DataFrame(rows, columns=["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Role"])
    table["Metadata_Perturbation"] = ["DMSO", "taxol"] * len(PLATES)
    table["n_sites"] = 2
    features = rng.normal(size=(len(table), 3)).astype(np.float32)
    profiles = Profiles(level="well", table=table, features=features, feature_names=("a", "b", "c"))
    return profiles.select(rng.permutation(len(table)))


def test_every_plate_has_its_own_table_and_one_has_all(tmp_path: Path) -> None:
    profiles = example()
    *plates, assembled_file = write_plates(profiles, tmp_path)
    assert assembled_file == tmp_path / "assembled.parquet"
    assert len({path.name.casefold() for path in plates}) == len(PLATES)
    assert all(path.parent == tmp_path / "plates" for path in plates)
    names = []
    for path in plates:
        frame = pd.read_parquet(path)
        keys = {*zip(frame["Metadata_Experiment"], frame["Metadata_Plate"], strict=True)}
        assert len(keys) == 1
        assert len(frame) == 2
        names += [*keys]
    assert sorted(names) == sorted(PLATES)
    frame = pd.read_parquet(assembled_file)
    assert [name.startswith("Metadata_") for name in frame] == [True] * 6 + [False] * 3
    np.testing.assert_array_equal(frame[["a", "b", "c"]].to_numpy(), profiles.features)


@pytest.mark.parametrize("part", ["", "plates"])
def test_the_reader_of_profiles_reads_the_same_wells_and_features(tmp_path: Path, part: str) -> None:
    profiles = example()
    write_plates(profiles, tmp_path)
    copy = read_profiles(tmp_path / part)
    assert not copy.refused
    keys = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Role", "Metadata_Perturbation"]
    sides = []
    for side in (profiles, copy.profiles):
        assert side.feature_names == ("a", "b", "c")
        order = side.table.sort_values(keys).index.to_numpy()
        sides.append((side.table[keys].iloc[order].to_numpy().tolist(), side.features[order]))
    assert sides[0][0] == sides[1][0]
    np.testing.assert_array_equal(sides[0][1], sides[1][1])


def test_names_of_files_are_safe_and_differ() -> None:
    names = file_names([*PLATES, ("..", "../x"), ("", ""), ("a" * 300, "1")])
    assert names[1] == "E2_1"
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name.replace("_", "").replace("-", "").replace(".", "").isalnum() for name in names)
    assert all(len(name) < 120 and not name.startswith(".") for name in names)
    assert file_names([("E1", "1")]) == ["E1_1"]


def test_perturbations_and_rows_without_a_plate_are_refused(tmp_path: Path) -> None:
    profiles = example()
    with pytest.raises(ProfileError, match=r"those of a perturbation\. Expected profiles of sites or wells"):
        write_plates(replace(profiles, level="perturbation"), tmp_path)
    bare = replace(profiles, table=profiles.table.drop(columns="Metadata_Plate"))
    with pytest.raises(ProfileError, match=r"without the column Metadata_Plate"):
        write_plates(bare, tmp_path)
    twice = replace(profiles, table=profiles.table.assign(Metadata_n_sites=1))
    with pytest.raises(ProfileError, match=r"two columns that would be called 'Metadata_n_sites'"):
        write_plates(twice, tmp_path)
    assert not list(tmp_path.iterdir())
