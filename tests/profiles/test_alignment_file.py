"""A fitted alignment goes into a file and comes back for new plates."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from distangle.core.result_files import MissingResultError
from distangle.errors import ProfileError
from distangle.profiles.alignment import STEPS, fit_alignment
from distangle.profiles.alignment_file import FILE, read_alignment, write_alignment
from distangle.profiles.compute import ProfileOptions, compute_profiles
from distangle.profiles.readers import ProfilesFile
from distangle.profiles.run import write_profiles
from distangle.results import ProfileResult
from distangle.results.profiles import Profiles
from planted_profiles import planted_profiles


def two_halves() -> tuple[Profiles, Profiles]:
    """Return the plates of two experiments, and those of the other two."""
    profiles = planted_profiles(0, n_pairs=8, n_inactive=10)
    first = profiles.table["Metadata_Experiment"].isin(["E0", "E1"]).to_numpy()
    return profiles.select(first), profiles.select(~first)


@pytest.mark.parametrize("step", [step for step in STEPS if step != "position"])
def test_every_step_comes_back_and_aligns_new_plates_alike(step: str, tmp_path: Path) -> None:
    plates, new = two_halves()
    alignment = fit_alignment(plates, ["center-plate", step], epsilon=1e-2)
    copy = read_alignment(write_alignment(alignment, tmp_path / FILE))
    assert copy.name == f"center-plate + {step}"
    for wells in (plates, new):
        expected, result = alignment.apply(wells), copy.apply(wells)
        np.testing.assert_array_equal(result.features, expected.features)
        assert result.feature_names == expected.feature_names
        assert json.dumps(result.provenance["alignment"]) == json.dumps(expected.provenance["alignment"])


def test_the_means_of_positions_come_back(tmp_path: Path) -> None:
    plates, _ = two_halves()
    alignment = fit_alignment(plates, ["position"])
    copy = read_alignment(write_alignment(alignment, tmp_path / FILE))
    np.testing.assert_array_equal(copy.apply(plates).features, alignment.apply(plates).features)


def test_new_plates_keep_the_sphering_of_the_fit() -> None:
    plates, new = two_halves()
    options = ProfileOptions(alignment=("center-plate", "sphere-zca"), map="pca", n_draws=99)
    _, alignment = compute_profiles(ProfilesFile(profiles=plates, n_found=len(plates)), options)
    result, _ = compute_profiles(ProfilesFile(profiles=new, n_found=len(new)), options, alignment=alignment)
    sphering = [step for step in result.wells.provenance["alignment"] if step["step"] == "sphere-zca"][0]
    # 2 experiments x 2 plates x 16 controls, half of them for the test.
    assert sphering["n_controls"] == 32
    assert "The alignment (center-plate + sphere-zca) was fitted on other plates." in result.settings["notes"]
    active = result.hits[result.hits["perturbation"].str[0].isin(["a", "b"])]
    assert (active["q"] <= 0.05).mean() >= 0.95


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"alignment.safetensors does not exist. Expected the folder of an earlier"):
        read_alignment(tmp_path)
    plates, _ = two_halves()
    path = write_alignment(fit_alignment(plates, ["sphere-zca"], epsilon=0.1), tmp_path / FILE)
    arrays = load_file(path)
    file_content = path.read_bytes()
    path.write_bytes(file_content[:-10])
    with pytest.raises(ProfileError, match="alignment.safetensors"):
        read_alignment(path)
    for content in (
        {"class": "Popen", "fields": {"args": "true"}},
        {"class": "GroupStep", "fields": {}},
        {"class": "Sphering", "fields": {"kind": "zca"}},
        [1, 2],
        {"class": "Alignment", "fields": {"steps": [1], "feature_names": []}},
    ):
        save_file(arrays, path, metadata={"alignment": json.dumps(content)})
        with pytest.raises(ProfileError, match="alignment.safetensors"):
            read_alignment(path)
    save_file(arrays, path)
    with pytest.raises(ProfileError, match="alignment.safetensors"):
        read_alignment(path)


def test_a_new_alignment_never_lies_beside_old_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = planted_profiles(0, n_pairs=1, n_inactive=1)
    file = ProfilesFile(profiles=profiles, n_found=len(profiles))
    quick = ProfileOptions(map="pca", n_draws=99)
    write_profiles(*compute_profiles(file, quick), tmp_path)
    assert ProfileResult.read(tmp_path).settings["alignment"] == read_alignment(tmp_path).name.split(" + ")
    other = compute_profiles(file, replace(quick, alignment=("mad-plate",)))
    monkeypatch.setattr(ProfileResult, "write", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_profiles(*other, tmp_path)
    assert read_alignment(tmp_path).name == "mad-plate"
    with pytest.raises(MissingResultError, match="No profiles at"):
        ProfileResult.read(tmp_path)
