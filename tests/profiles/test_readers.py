"""Every source gives its planted rows, and bad rows are refused with a reason."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.profiles.readers import ProfilesFile, read_profiles
from distangle.results.predictions import Predictions


def frame(n: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Metadata_Plate": ["7"] * n,
            "Metadata_Well": [f"a{number + 1}" for number in range(n)],
            "Metadata_Compound": ["DMSO", *["NA"] * (n - 1)],
            "Metadata_Concentration": [0.0, *[float(number) for number in range(1, n)]],
            "f": np.arange(n) + 0.5,
            "g": np.arange(n) * 2.0,
        }
    )


def write(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


def sums(file: ProfilesFile) -> None:
    assert file.n_found == len(file.profiles) + len(file.refused)
    assert f"{len(file.refused)} refused" in file.sentence()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_table(tmp_path: Path, ending: str) -> None:
    file = read_profiles(write(tmp_path / f"t.{ending}", frame()))
    sums(file)
    table = file.profiles.table
    assert file.profiles.level == "well"
    assert table["Metadata_Well"].tolist() == ["A01", "A02", "A03"]
    assert table["Metadata_Perturbation"].tolist() == ["DMSO", "NA@1", "NA@2"]
    assert table["Metadata_Compound"].tolist() == ["DMSO", "NA", "NA"]
    assert table["Metadata_Role"].tolist() == ["negative_control", "treatment", "treatment"]
    assert table["Metadata_Experiment"].tolist() == ["", "", ""]
    assert file.profiles.feature_names == ("f", "g")
    np.testing.assert_array_equal(file.profiles.features, np.array([[0.5, 0], [1.5, 2], [2.5, 4]], np.float32))


def test_roles_and_experiment(tmp_path: Path) -> None:
    table = frame().assign(Metadata_Batch="b", Metadata_pert_type=["control", "trt", ""])
    table["Metadata_control_type"] = ["negcon", "", "poscon_cp"]
    result = read_profiles(write(tmp_path / "t.csv", table)).profiles.table
    assert result["Metadata_Role"].tolist() == ["negative_control", "treatment", "positive_control"]
    assert result["Metadata_Experiment"].tolist() == ["b"] * 3
    result = read_profiles(write(tmp_path / "t.csv", frame()), negative_control=["NA"]).profiles.table
    assert result["Metadata_Role"].tolist() == ["negative_control"] * 3
    with pytest.raises(ProfileError, match="no perturbation DMSo"):
        read_profiles(tmp_path / "t.csv", negative_control=["DMSo"])
    with pytest.raises(ProfileError, match="no column 'x'"):
        read_profiles(tmp_path / "t.csv", perturbation="x")


def test_refused_rows(tmp_path: Path) -> None:
    table = pd.concat([frame(40)] * 2, ignore_index=True)
    table["Metadata_Plate"] = ["1"] * 40 + ["2"] * 40
    table.loc[1, "f"] = np.nan
    table.loc[2, "g"] = np.inf
    table.loc[3, "Metadata_Well"] = "well"
    table.loc[5, "Metadata_Well"] = "A05"  # the well of row 4, with another label
    table.loc[79] = table.loc[78]
    table["h"] = np.where(np.arange(80) < 5, np.nan, 1.0)
    file = read_profiles(write(tmp_path / "t.csv", table))
    sums(file)
    reasons = dict(file.refused)
    assert list(reasons) == [f"t.csv row {n}" for n in (2, 3, 4, 5, 6, 80)]
    assert reasons["t.csv row 2"] == "1 of 2 features NaN, infinite or too large: f"
    assert reasons["t.csv row 3"] == "1 of 2 features NaN, infinite or too large: g"
    assert reasons["t.csv row 4"] == "'well' is no well name, expected one such as B02"
    assert reasons["t.csv row 5"] == "well A05 of plate 1 has the perturbations 'NA@4' and 'NA@5'"
    assert "has an earlier row" in reasons["t.csv row 80"]
    assert file.left_out == (("h", "it is NaN in 5 of 80 rows"),)


def test_contradictory_tables(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no column Metadata_Plate.*Metadata_Well, Metadata_Compound.*Rename"):
        read_profiles(write(tmp_path / "t.csv", frame().drop(columns="Metadata_Plate")))
    with pytest.raises(ProfileError, match="holds no row"):
        read_profiles(write(tmp_path / "t.csv", frame()[:0]))
    with pytest.raises(ProfileError, match="no numeric feature"):
        read_profiles(write(tmp_path / "t.csv", frame().drop(columns=["f", "g"])))
    with pytest.raises(ProfileError, match="does not exist"):
        read_profiles(tmp_path / "absent.csv")
    write(tmp_path / "t.csv", frame())
    write(tmp_path / "u.csv", frame().assign(Metadata_Plate="8"))
    assert len(read_profiles(tmp_path).profiles) == 6
    write(tmp_path / "u.csv", frame().drop(columns="g"))
    with pytest.raises(ProfileError, match=r"u.csv lacks 1 features of the other tables: g\."):
        read_profiles(tmp_path)


def test_deep_profiler(tmp_path: Path) -> None:
    (tmp_path / "P1" / "B02").mkdir(parents=True)
    cells = np.array([[1, 2], [3, 6]], np.float32)
    metadata = np.array({"Plate": "P1"}, dtype=object)  # a pickle, which is never read
    np.savez(tmp_path / "P1" / "B02" / "4.npz", features=cells, metadata=metadata)
    np.savez(tmp_path / "P1" / "c3_1.npz", features=cells * 2)
    np.savez(tmp_path / "P1" / "c3_2.npz", features=cells[:0])
    np.savez(tmp_path / "P1" / "c3_3.npz", features=np.array([{}], dtype=object))
    np.savez(tmp_path / "P1" / "c3_4.npz", features=cells * np.nan)
    file = read_profiles(tmp_path)
    sums(file)
    assert file.profiles.level == "site"
    places = file.profiles.table[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]].to_numpy().tolist()
    assert places == [["P1", "B02", "4"], ["P1", "C03", "1"]]
    np.testing.assert_array_equal(file.profiles.features, np.array([[2, 4], [4, 8]], np.float32))
    assert len(file.refused) == 3


def test_h5ad_needs_its_package(tmp_path: Path) -> None:
    if importlib.util.find_spec("anndata"):
        pytest.skip("anndata is installed")
    (tmp_path / "a.h5ad").write_bytes(b"")
    with pytest.raises(ProfileError, match=r"pip install '\.\[profiles\]'"):
        read_profiles(tmp_path / "a.h5ad")


def test_run(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "Metadata_Experiment": "e", "Metadata_Plate": "1", "Metadata_Well": ["B02", "B03"], "Metadata_Site": "1",
            "Metadata_Role": ["treatment", "untreated"], "Metadata_Fold": "held_out", "perturbation": ["s1", ""],
            "predicted": "s1", "reason": "",
        }
    )  # fmt: skip
    table.loc[1, "reason"] = "no file"
    embedding = np.array([[1, 2], [np.nan, np.nan]], np.float32)
    (tmp_path / "run" / "predictions").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    for name in ("config.yaml", "screen.json", "folds.parquet"):
        (tmp_path / "run" / name).write_text("")
    Predictions(
        level="site", table=table, logits=embedding[:, :1], embedding=embedding, perturbations=("s1",), views=1
    ).write(tmp_path / "run" / "predictions")
    file = read_profiles(tmp_path / "run")
    sums(file)
    assert file.refused == (("run row 2", "no file"),)
    assert file.profiles.table["Metadata_Perturbation"].tolist() == ["s1"]
    np.testing.assert_array_equal(file.profiles.features, embedding[:1])


@pytest.mark.real
def test_bbbc021(real_data: Path) -> None:
    path = real_data / "bbbc021_singlecell/meta/BBBC021_feature_selected_mad_robustize.csv"
    if not path.exists():
        pytest.skip(f"{path.name} not found")
    file = read_profiles(path)
    sums(file)
    assert (file.n_found, len(file.profiles.feature_names)) == (632, 189)
    assert (file.profiles.table["Metadata_Role"] == "negative_control").sum() == 330
    print(file.sentence(), file.refused[:3])
