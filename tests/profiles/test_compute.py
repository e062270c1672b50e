"""From profiles to hits, neighbors and batch effects, on planted truth and bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError, RunError
from distangle.profiles.compute import ProfileOptions, compute_profiles, read_edges
from distangle.profiles.readers import ProfilesFile
from distangle.results import ProfileResult, Profiles
from planted_profiles import planted_profiles

FAST = ProfileOptions(map="pca", n_draws=499)


def compute(profiles: Profiles, options: ProfileOptions = FAST, **keywords: object) -> ProfileResult:
    file = ProfilesFile(profiles=profiles, n_found=len(profiles))
    return compute_profiles(file, options, **keywords)[0]  # type: ignore[arg-type]


def measure(result: ProfileResult, name: str, target: str, *, alignment: str) -> pd.Series:
    table = result.batch_effects
    return table[(table["name"] == name) & (table["of"] == target) & (table["alignment"] == alignment)].iloc[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_strong_batch_effects_go_and_planted_perturbations_stay(seed: int) -> None:
    result = compute(planted_profiles(seed))
    hits = result.hits
    active = hits["perturbation"].str[0].isin(["a", "b"])
    is_hit = hits["q"] <= 0.05
    assert is_hit[active].mean() >= 0.95
    n_inactive = int((~active).sum())
    assert is_hit[~active].mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_inactive)
    equal = hits.loc[active, "nearest"].str[1:] == hits.loc[active, "perturbation"].str[1:]
    assert equal.mean() >= 0.95
    stages = ("none", "center-plate")
    before, after = (measure(result, "probe accuracy", "experiment", alignment=name) for name in stages)
    assert before["value"] > 3 * before["chance"]
    assert after["value"] <= 1.5 * after["chance"]
    raw, aligned = (measure(result, "mAP", "perturbation", alignment=name) for name in stages)
    assert aligned["low"] > raw["value"]


def test_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    profiles = planted_profiles(0, n_pairs=2, n_inactive=1)
    result = compute(profiles, replace(FAST, label="Metadata_Gene"), edges=[("a0", "b0"), ("a1", "x")])
    paths = result.write(tmp_path)
    assert all(path.exists() for path in paths)
    copy = ProfileResult.read(tmp_path)
    for name in ("hits", "neighbors", "batch_effects", "coordinates", "consistency", "relations", "refused"):
        pd.testing.assert_frame_equal(getattr(copy, name), getattr(result, name), check_dtype=False)
    np.testing.assert_array_equal(copy.wells.features, result.wells.features)
    assert copy.settings == result.settings
    assert [step["step"] for step in copy.wells.provenance["alignment"]] == ["center-plate"]
    replace(result, consistency=None).write(tmp_path)
    assert ProfileResult.read(tmp_path).consistency is None
    (tmp_path / "hits.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="hits.parquet"):
        ProfileResult.read(tmp_path)


def test_the_similarity_has_alike_perturbations_beside_each_other() -> None:
    result = compute(planted_profiles(0, n_pairs=5, n_inactive=0))
    assert result.similarity is not None
    names = result.similarity["perturbation"].tolist()
    assert list(result.similarity.columns) == ["perturbation", *names]
    assert [name[1:] for name in names[::2]] == [name[1:] for name in names[1::2]]
    square = result.similarity[names].to_numpy()
    np.testing.assert_allclose(np.diag(square), 1, atol=1e-6)
    np.testing.assert_allclose(square, square.T, atol=1e-12)
    cluster = result.hits.set_index("perturbation")["cluster"]
    assert all(cluster[f"a{k}"] == cluster[f"b{k}"] for k in range(5))


def test_labels_and_relations_that_were_planted_are_found() -> None:
    profiles = planted_profiles(3, n_pairs=6, n_inactive=4)
    edges = [(f"a{k}", f"b{k}") for k in range(6)]
    result = compute(profiles, replace(FAST, label="Metadata_Gene"), edges=[*edges, ("a0", "lost")])
    assert result.consistency is not None
    assert result.consistency["mean_average_precision"].tolist() == [1.0] * 6
    assert result.relations is not None
    assert result.relations.loc[1, ["recall", "n_edges", "n_unknown"]].tolist() == [1.0, 6, 1]
    assert "1 known relation has a name without a profile, such as lost: left out." in result.settings["notes"]
    other = compute(profiles, replace(FAST, label="Metadata_Gene", not_same="Metadata_Experiment"))
    assert other.consistency is not None
    assert other.consistency["n_queries"].tolist() == [8] * 6  # two perturbations in each of four experiments
    assert (other.consistency["mean_average_precision"] > 0.9).all()


def test_wells_without_a_perturbation_are_aligned_and_said() -> None:
    profiles = planted_profiles(0, n_pairs=2, n_inactive=2)
    table = profiles.table.copy()
    table.loc[table["Metadata_Perturbation"] == "none0", ["Metadata_Perturbation", "Metadata_Role"]] = ["", "unknown"]
    result = compute(replace(profiles, table=table))
    assert len(result.wells) == len(profiles)
    assert "none0" not in set(result.hits["perturbation"])
    assert f"8 of {len(profiles)} wells have no perturbation; they are aligned only." in result.settings["notes"]


def test_sites_become_wells_first() -> None:
    wells = planted_profiles(0, n_pairs=2, n_inactive=1)
    table = pd.concat([wells.table.assign(Metadata_Site=site) for site in ("1", "2")], ignore_index=True)
    shift = np.ones_like(wells.features)
    sites = replace(
        wells, level="site", table=table, features=np.concatenate([wells.features + shift, wells.features - shift])
    )
    result = compute(sites, replace(FAST, alignment=()))
    assert result.settings["level"] == "site"
    np.testing.assert_allclose(result.wells.features, wells.features, atol=1e-4)
    assert set(result.wells.table["Metadata_N_Sites"]) == {2}


def test_screens_without_controls_or_perturbations_are_refused() -> None:
    profiles = planted_profiles(0, n_pairs=1, n_inactive=1)
    treatments = profiles.select((profiles.table["Metadata_Role"] == "treatment").to_numpy())
    with pytest.raises(ProfileError, match="None of 24 wells is a negative control; the perturbations are a0, b0"):
        compute(treatments)
    controls = profiles.select((profiles.table["Metadata_Role"] != "treatment").to_numpy())
    with pytest.raises(ProfileError, match=r"None of 128 wells has a perturbation.*--perturbation COLUMN"):
        compute(controls)
    with pytest.raises(ProfileError, match="no column 'Metadata_moa'. Expected one of: Metadata_Experiment"):
        compute(profiles, replace(FAST, label="Metadata_moa"))
    with pytest.raises(ProfileError, match="no step 'center-plates' of alignment. Did you mean 'center-plate'"):
        compute(profiles, replace(FAST, alignment=("center-plates",)))


def test_plates_of_few_perturbations_are_said_when_their_mean_is_subtracted() -> None:
    small, large = planted_profiles(0, n_pairs=2, n_inactive=1), planted_profiles(0, n_pairs=3, n_inactive=2)
    notes = compute(small).settings["notes"]
    assert any(note.startswith("Half of the plates hold 5 perturbations or fewer.") for note in notes)
    assert any("which center-plate removes. Compare with `--align none`" in note for note in notes)
    for result in (compute(large), compute(small, replace(FAST, alignment=("center-controls",)))):
        assert not any("perturbations or fewer" in note for note in result.settings["notes"])


def test_one_perturbation_has_no_neighbor() -> None:
    profiles = planted_profiles(0, n_pairs=0, n_inactive=1)
    result = compute(profiles)
    assert result.hits[["nearest", "opposite"]].iloc[0].tolist() == ["", ""]
    with pytest.raises(ProfileError, match="None of 1 known relations joins two perturbations with profiles"):
        compute(profiles, edges=[("a", "b")])


def test_edges_are_the_first_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text("a,b,score\nTP53, MDM2,1\nX,,2\n")
    assert read_edges(path) == [("TP53", "MDM2")]
    path.write_text("a;b\nTP53;MDM2\n")
    with pytest.raises(ProfileError, match="has 1 column: a;b. Expected two, one name of a perturbation in each"):
        read_edges(path)
    with pytest.raises(ProfileError, match="absent.csv"):
        read_edges(tmp_path / "absent.csv")


def test_an_alignment_is_fitted_on_named_wells_and_goes_to_new_plates() -> None:
    profiles = planted_profiles(0, n_pairs=3, n_inactive=2)
    options = replace(FAST, alignment=("center-controls",), fit_on=("Metadata_Perturbation=none0",))
    file = ProfilesFile(profiles=profiles, n_found=len(profiles))
    result, fitted = compute_profiles(file, options)
    assert fitted.fit_on == options.fit_on
    assert result.settings["fit_on"] == ["Metadata_Perturbation=none0"]
    # none0 has one well per plate, and its plate is centered on it.
    table = result.wells.table
    np.testing.assert_allclose(result.wells.features[table["Metadata_Perturbation"] == "none0"], 0, atol=1e-5)
    assert "none0" not in set(result.hits["perturbation"])
    notes = result.settings["notes"]
    assert "1 perturbations are not compared, because all their wells fit the alignment: none0." in notes
    assert any(note.startswith("8 wells with Metadata_Perturbation=none0 fit the alignment in place") for note in notes)
    second = compute(profiles, FAST, alignment=fitted)
    np.testing.assert_allclose(second.wells.features, result.wells.features, atol=1e-5)
    assert second.settings["fit_on"] == ["Metadata_Perturbation=none0"]


def test_wells_to_fit_on_need_a_step_that_uses_them() -> None:
    profiles = planted_profiles(0, n_pairs=1, n_inactive=1)
    with pytest.raises(ProfileError, match=r"No step of the alignment \(center-plate\) is fitted on the wells with"):
        compute(profiles, replace(FAST, fit_on=("Metadata_Perturbation=none0",)))
    options = replace(FAST, alignment=("tvn-plate",), fit_on=("Metadata_Perturbation=none0",))
    with pytest.raises(ProfileError, match=r"'tvn-plate' has too few named wells on E0/P0 \(1\)"):
        compute(profiles, options)
