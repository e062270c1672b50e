"""Metadata of plates and wells join the rows of profiles."""

from pathlib import Path

import pytest

from distangle.errors import ProfileError
from distangle.profiles.readers import ProfilesFile, read_profiles

TABLE = """Metadata_Plate,Metadata_Well,f
P1,A01,1
P1,A02,2
P2,A01,3
"""


def read_folder(folder: Path, metadata: str, **options: str) -> ProfilesFile:
    (folder / "features.csv").write_text(TABLE)
    (folder / "metadata.csv").write_text(metadata)
    return read_profiles(folder / "features.csv", metadata=folder / "metadata.csv", **options)  # type: ignore[arg-type]


def test_perturbation_role_and_experiment_come_from_the_metadata(tmp_path: Path) -> None:
    file = read_folder(
        tmp_path,
        "plate,Well,compound,Metadata_control_type,Batch\nP1,a1,dmso,negcon,7\nP2,A1,taxol,,8\nP3,A1,x,,8\n",
        perturbation="Metadata_compound",
    )
    table = file.profiles.table
    assert table["Metadata_Perturbation"].tolist() == ["dmso", "", "taxol"]
    assert table["Metadata_Role"].tolist() == ["negative_control", "unknown", "treatment"]
    assert table["Metadata_Experiment"].tolist() == ["7", "", "8"]
    assert file.notes == ("metadata: 2 of 3 profiles have a row in metadata.csv; 1 of its 3 rows have no profile.",)


def test_metadata_of_wells_alone_hold_for_every_plate(tmp_path: Path) -> None:
    file = read_folder(tmp_path, "Well,Perturbation\nA01,s1\nA02,s2\n")
    assert file.profiles.table["Metadata_Perturbation"].tolist() == ["s1", "s2", "s1"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("Barcode,Compound\nP1,x\n", "has neither a column Plate nor Well: Metadata_Barcode, Metadata_Compound"),
        (
            "Plate,Well,Compound\nQ1,A01,x\n",
            "No profile has a row in .*: the profiles have P1 A01, the metadata Q1 A01",
        ),
        ("Plate,Compound\nP1,x\nP1,y\n", "2 rows that contradict each other, such as two of plate P1"),
        ("Plate,f\n", "No profile has a row in .*the metadata no row"),
    ],
)
def test_metadata_that_do_not_meet_are_refused(tmp_path: Path, metadata: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read_folder(tmp_path, metadata)


def test_a_value_that_contradicts_the_profiles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("Metadata_Plate,Metadata_Well,Metadata_Compound,f\nP1,A01,x,1\nP1,A02,,2\n")
    (tmp_path / "m.csv").write_text("Plate,Well,Compound\nP1,A01,x\nP1,A02,y\n")
    assert read_profiles(tmp_path / "f.csv", metadata=tmp_path / "m.csv").profiles.table[
        "Metadata_Perturbation"
    ].tolist() == ["x", "y"]
    (tmp_path / "m.csv").write_text("Plate,Well,Compound\nP1,A01,z\n")
    with pytest.raises(ProfileError, match="gives 1 profiles another Metadata_Compound, such as 'z' for 'x'"):
        read_profiles(tmp_path / "f.csv", metadata=tmp_path / "m.csv")
