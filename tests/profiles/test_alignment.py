import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.alignment import STEPS, align, fit_alignment
from distangle.results.profiles import Profiles


def profiles_of(rows, features):
    """rows: (experiment, plate, well, perturbation), where the perturbation `dmso` is the negative control."""
    table = pd.DataFrame(
        rows, columns=["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Perturbation"]
    )
    table["Metadata_Role"] = ["negative_control" if row[3] == "dmso" else "treatment" for row in rows]
    values = np.asarray(features, dtype=np.float32)
    return Profiles(
        level="well",
        table=table,
        features=values,
        feature_names=tuple(f"f{k}" for k in range(values.shape[1])),
        provenance={"source": "hand"},
    )


def two_plates():
    """Controls 1, 3 and a treatment 8 on plate 1; controls 10, 14, 12 and a treatment 20 on plate 2; f1 constant."""
    rows = [
        ("a", "1", "A01", "dmso"),
        ("a", "1", "A02", "dmso"),
        ("a", "1", "A03", "x"),
        ("a", "2", "A01", "dmso"),
        ("a", "2", "A02", "dmso"),
        ("a", "2", "A03", "dmso"),
        ("a", "2", "A04", "x"),
    ]
    return profiles_of(rows, [[1, 7], [3, 7], [8, 7], [10, 7], [14, 7], [12, 7], [20, 7]])


def screen(n_experiments=4, n_plates=2, n_controls=24, n_features=6, shift=6.0):
    """Eight perturbations in pairs of neighbors, at positions that change, with a shift and a gain per plate."""
    rng = rng_for(1, "screen")
    # Pairs along orthogonal axes of white noise; mild mixing keeps them pairs before and after whitening.
    pairs = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0][:4] * 5
    mixing = np.eye(n_features) + 0.15 * rng.normal(size=(n_features, n_features))
    truth = (np.repeat(pairs, 2, axis=0) + 0.4 * rng.normal(size=(8, n_features))) @ mixing
    rows, values = [], []
    for experiment in range(n_experiments):
        offset = shift * rng.normal(size=n_features)
        for plate in range(n_plates):
            experiment_center = offset + 0.3 * shift * rng.normal(size=n_features)
            names = ["dmso"] * n_controls + [f"p{k}" for k in range(8)] * 3
            wells = rng.permutation(len(names))
            for name, well in zip(names, wells, strict=True):
                effect = 0 if name == "dmso" else truth[int(name[1])]
                rows.append((f"e{experiment}", f"{plate}", f"A{well + 1:02d}", name))
                values.append(experiment_center + effect + rng.normal(size=n_features) @ mixing)
    return profiles_of(rows, values)


def centroid_accuracy(profiles, column):
    """Leave-one-plate-number-out accuracy of the nearest centroid."""
    labels = profiles.table[column].to_numpy()
    plates = profiles.table["Metadata_Plate"].to_numpy()
    hits = []
    for plate in np.unique(plates):
        train, test = plates != plate, plates == plate
        names = np.unique(labels[train])
        centres = np.stack([profiles.features[train & (labels == name)].mean(axis=0) for name in names])
        distances = np.linalg.norm(profiles.features[test][:, None] - centres[None], axis=2)
        hits.append(names[distances.argmin(axis=1)] == labels[test])
    return float(np.concatenate(hits).mean())


def neighbors(profiles):
    """Nearest other perturbation of every perturbation, by the cosine of their means."""
    labels = profiles.table["Metadata_Perturbation"].to_numpy()
    means = np.stack([profiles.features[labels == f"p{k}"].mean(axis=0) for k in range(8)])
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(8)
    return cosine.argmax(axis=1).tolist()


ROOT2, ROOT13 = np.sqrt(2), np.sqrt(13)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["center-plate"], [-3, -1, 4, -4, 0, -2, 6]),
        (["center-controls"], [-1, 1, 6, -2, 2, 0, 8]),
        (["scale-controls"], np.array([1 / ROOT2, 3 / ROOT2, 8 / ROOT2, 5, 7, 6, 10])),
        (["center-plate", "scale-plate"], [-3 / ROOT13, -1 / ROOT13, 4 / ROOT13, *(np.array([-4, 0, -2, 6]) / 4.3205)]),
        # Medians 2 and 12, absolute deviations 1, 1 and 2, 2, 0.
        (["mad-controls"], np.array([-1, 1, 6, -1, 1, 0, 4]) / 1.4826),
        # Medians 3 and 13, absolute deviations 2, 0, 5 and 3, 1, 1, 7.
        (["mad-plate"], np.array([-2 / 2, 0, 5 / 2, -3 / 2, 1 / 2, -1 / 2, 7 / 2]) / 1.4826),
        (["center-experiment"], np.array([1, 3, 8, 10, 14, 12, 20]) - 68 / 7),
        (["scale-experiment"], np.array([1, 3, 8, 10, 14, 12, 20]) / np.std([1, 3, 8, 10, 14, 12, 20], ddof=1)),
    ],
)
def test_steps_by_hand(steps, expected):
    result = align(two_plates(), steps)
    np.testing.assert_allclose(result.features[:, 0], expected, atol=1e-5)
    assert result.features.dtype == np.float32
    # A constant feature is 0 after every step: its center is itself, or its scale is 0.
    np.testing.assert_array_equal(result.features[:, 1], 0)


def test_provenance_lists_steps_controls_and_constant_features():
    result = align(two_plates(), ["center-controls", "scale-controls"])
    first, second = result.provenance["alignment"]
    assert first == {
        "step": "center-controls",
        "group": "plate",
        "wells": "controls",
        "n_wells": {"a/1": 2, "a/2": 3},
    }
    assert second["constant_features"] == {"f1": 2}
    assert result.provenance["source"] == "hand"
    json.dumps(result.provenance)
    twice_aligned = align(result, ["center-plate"])
    assert [entry["step"] for entry in twice_aligned.provenance["alignment"]] == [
        "center-controls",
        "scale-controls",
        "center-plate",
    ]


def test_position_subtracts_the_mean_of_the_wells_at_that_position():
    rows = [
        ("a", "1", "A01", "x"),
        ("a", "1", "A02", "y"),
        ("a", "2", "A01", "y"),
        ("a", "2", "A02", "x"),
    ]
    profiles = profiles_of(rows, [[1], [10], [3], [20]])
    alignment = fit_alignment(profiles, ["position"])
    np.testing.assert_allclose(alignment.apply(profiles).features[:, 0], [-1, -5, 1, 5])
    # The fitted means are subtracted from a new plate, not its own.
    new = profiles_of([("b", "1", "A02", "z")], [[16]])
    np.testing.assert_allclose(alignment.apply(new).features, [[1]])
    with pytest.raises(ProfileError, match=r"no mean for the wells C03\. Expected positions"):
        alignment.apply(profiles_of([("b", "1", "C03", "z")], [[16]]))


def test_position_is_refused_where_it_decides_the_perturbation():
    # As in RxRx1: the control is in B02 of every plate, all else changes position.
    rows = []
    for plate in range(4):
        rows.append(("a", str(plate), "B02", "dmso"))
        rows += [("a", str(plate), f"C0{(k + plate) % 4 + 1}", f"p{k}") for k in range(4)]
    profiles = profiles_of(rows, rng_for(0, "x").normal(size=(len(rows), 3)))
    with pytest.raises(ProfileError, match=r"erase 1 of 5 perturbations, .* decides them: dmso \(B02\)\. Expected"):
        align(profiles, ["position"])
    moving = profiles.select((profiles.table["Metadata_Well"] != "B02").to_numpy())
    assert len(align(moving, ["position"])) == 16
    with pytest.raises(ProfileError, match="'position' has 1 plate"):
        align(profiles.select(np.arange(5)), ["position"])


@pytest.mark.parametrize("kind", ["sphere-zca", "sphere-zca-cor", "sphere-pca"])
def test_covariance_of_the_controls_is_the_identity_after_sphering(kind):
    profiles = screen()
    result = align(profiles, ["center-controls", kind], epsilon=1e-9)
    controls = result.features[(profiles.table["Metadata_Role"] == "negative_control").to_numpy()]
    np.testing.assert_allclose(np.cov(controls.astype(np.float64), rowvar=False), np.eye(6), atol=1e-6)
    entry = result.provenance["alignment"][-1]
    assert (entry["n_controls"], entry["rank"], entry["epsilon_choice"]) == (192, 6, "given")
    names = [f"PC_{k}" for k in range(1, 7)] if kind == "sphere-pca" else [f"f{k}" for k in range(6)]
    assert list(result.feature_names) == names


CHAINS = [
    ["center-controls"],
    ["center-controls", "scale-controls"],
    ["mad-controls"],
    ["center-plate", "scale-plate"],
    ["mad-plate"],
    ["center-controls", "sphere-zca"],
    ["center-controls", "sphere-zca-cor"],
    ["center-controls", "sphere-pca"],
    ["tvn-plate"],
]


@pytest.mark.parametrize("steps", CHAINS, ids="+".join)
def test_a_planted_batch_effect_goes_and_planted_neighbors_stay(steps):
    profiles = screen()
    assert centroid_accuracy(profiles, "Metadata_Experiment") > 0.8
    result = align(profiles, steps)
    assert abs(centroid_accuracy(result, "Metadata_Experiment") - 1 / 4) < 0.1
    assert neighbors(result) == [1, 0, 3, 2, 5, 4, 7, 6]
    before = centroid_accuracy(profiles, "Metadata_Perturbation")
    assert centroid_accuracy(result, "Metadata_Perturbation") > before + 0.2


def test_tvn_of_experiments_gives_every_experiment_the_same_controls():
    profiles = screen(n_plates=1)
    result = align(profiles, ["tvn"])
    control = (profiles.table["Metadata_Role"] == "negative_control").to_numpy()
    for experiment in ("e0", "e3"):
        experiment_controls = result.features[
            control & (profiles.table["Metadata_Experiment"] == experiment).to_numpy()
        ]
        np.testing.assert_allclose(experiment_controls.mean(axis=0), 0, atol=1e-5)
        # Variances v of standardized controls become v / (v + 1/2).
        assert np.linalg.eigvalsh(np.cov(experiment_controls, rowvar=False)).max() < 1
    assert neighbors(result) == [1, 0, 3, 2, 5, 4, 7, 6]


def test_tvn_of_one_feature_by_hand():
    profiles = profiles_of(
        [("a", "1", f"A{k}", name) for k, name in enumerate(["dmso"] * 3 + ["x"])], [[1], [2], [3], [5]]
    )
    # The controls have mean 2 and variance 1; then 1 + 1/2.
    np.testing.assert_allclose(np.abs(align(profiles, ["tvn"]).features[:, 0]), np.array([1, 0, 1, 3]) / np.sqrt(1.5))


def test_new_plates_use_their_own_controls_and_the_fitted_sphering():
    profiles = screen()
    is_new = (profiles.table["Metadata_Experiment"] == "e3").to_numpy()
    alignment = fit_alignment(profiles.select(~is_new), ["center-controls", "sphere-zca"], epsilon=0.1)
    new = profiles.select(is_new)
    shifted = dataclasses.replace(new, features=new.features + np.float32(100))
    result = alignment.apply(new)
    np.testing.assert_allclose(alignment.apply(shifted).features, result.features, atol=1e-3)
    centred = align(new, ["center-controls"])
    matrix = alignment.steps[1].sphering
    np.testing.assert_allclose(result.features, matrix.apply(centred.features), atol=1e-5)
    assert result.provenance["alignment"][1]["n_controls"] == 144
    other_features = dataclasses.replace(new, feature_names=tuple("abcdef"))
    with pytest.raises(ProfileError, match="6 features, and they are not the 6 of the fit"):
        alignment.apply(other_features)


@pytest.mark.parametrize("step", sorted(name for name in STEPS if "controls" in name or "tvn" in name))
def test_a_plate_without_controls_is_named(step):
    profiles = two_plates()
    table = profiles.table.assign(Metadata_Role=["treatment"] * 3 + ["negative_control"] * 3 + ["treatment"])
    profiles = dataclasses.replace(profiles, table=table)
    if step == "tvn":
        profiles = dataclasses.replace(profiles, table=table.assign(Metadata_Experiment=["a"] * 3 + ["b"] * 4))
    with pytest.raises(
        ProfileError, match=rf"'{step}' has too few negative controls on a(/1)? \(0\)\. Expected at least"
    ):
        align(profiles, [step])


def test_batches_of_one_perturbation_are_refused():
    rows = [("a", "1", "A01", "x"), ("a", "1", "A02", "x"), ("a", "2", "A01", "y"), ("a", "2", "A02", "z")]
    profiles = profiles_of(rows, [[1], [2], [3], [4]])
    for step in ("center-plate", "mad-plate"):
        with pytest.raises(ProfileError, match=r"erase the perturbation, as there is only one on a/1 \(x\)\. Expected"):
            align(profiles, [step])
    assert len(align(profiles, ["center-experiment"])) == 4
    controls = profiles.table["Metadata_Perturbation"].eq("x").map({True: "negative_control", False: "treatment"})
    plate_of_controls = dataclasses.replace(profiles, table=profiles.table.assign(Metadata_Role=controls))
    np.testing.assert_allclose(align(plate_of_controls, ["center-plate"]).features[:2, 0], [-0.5, 0.5])


def test_unknown_steps_and_unfit_profiles_are_refused():
    profiles = two_plates()
    with pytest.raises(ProfileError, match=r"no step 'centre-plate' of alignment\. Did you mean 'center-plate'"):
        align(profiles, ["centre-plate"])
    with pytest.raises(ProfileError, match="no column 'Metadata_Role', but this needs negative controls"):
        align(dataclasses.replace(profiles, table=profiles.table.drop(columns="Metadata_Role")), ["center-controls"])
    with pytest.raises(ProfileError, match="profiles of perturbations, which are of no plate"):
        align(dataclasses.replace(profiles, level="perturbation"), ["center-plate"])
    with pytest.raises(ProfileError, match="no profiles to align"):
        align(profiles.select(np.arange(0)), ["center-plate"])
    broken = profiles.features.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ProfileError, match="features f1 have values that are not finite"):
        align(profiles.reindexed(broken), ["center-plate"])


def test_no_steps_change_nothing():
    profiles = two_plates()
    np.testing.assert_array_equal(align(profiles, []).features, profiles.features)


@pytest.mark.parametrize("rows", [np.array([True, False] * 3 + [True]), np.array([0, 2, 4, 6])])
def test_some_rows_of_profiles_have_their_own_features(rows):
    subset = two_plates().select(rows)
    np.testing.assert_array_equal(subset.features[:, 0], [1, 8, 14, 20])
    assert subset.table["Metadata_Well"].tolist() == ["A01", "A03", "A02", "A04"]
    assert subset.table.index.tolist() == [0, 1, 2, 3]
