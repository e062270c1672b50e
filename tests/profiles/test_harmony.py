import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.alignment import align, fit_alignment
from distangle.profiles.batch_effects import clisi, ilisi
from distangle.profiles.harmony import Harmony, HarmonySettings, fit_harmony, ridge_shifts
from distangle.results.profiles import Profiles

EVEN = (1, 1, 1)


def planted_batches(compositions=(EVEN, EVEN), n=600, seed=0):
    """Three populations on orthogonal axes in batches, each with its offset; values, batches, populations."""
    rng = rng_for(seed, "planted")
    centres = np.linalg.qr(rng.normal(size=(10, 10)))[0][:3] * 6
    values, batches, populations = [], [], []
    for batch, composition in enumerate(compositions):
        population = rng.choice(3, n, p=np.array(composition) / sum(composition))
        offset = rng.normal(size=10) * 1.4
        values.append(centres[population] + offset + 0.6 * rng.normal(size=(n, 10)))
        batches += [batch] * n
        populations.append(population)
    return np.concatenate(values), np.array(batches), np.concatenate(populations)


def table_of(batches, perturbations, plates=None):
    return pd.DataFrame(
        {
            "Metadata_Experiment": [f"e{batch}" for batch in batches],
            "Metadata_Plate": "1" if plates is None else plates,
            "Metadata_Well": [f"w{row}" for row in range(len(batches))],
            "Metadata_Perturbation": perturbations,
        }
    )


def profiles_of(values, batches, perturbations, plates=None):
    return Profiles(
        level="well",
        table=table_of(batches, [f"p{name}" for name in perturbations], plates),
        features=np.asarray(values, dtype=np.float32),
        feature_names=tuple(f"f{column}" for column in range(values.shape[1])),
    )


def mixing_share(values, batches, populations):
    """Return the mixing of batches, divided by that of batches in random order within each population."""
    rng, best = rng_for(0, "order"), batches.copy()
    for population in np.unique(populations):
        rows = populations == population
        best[rows] = rng.permutation(batches[rows])
    return ilisi(values, batches, 30).value / ilisi(values, best, 30).value


@pytest.mark.parametrize("second", [EVEN, (8, 1, 1)], ids=["equal", "unequal"])
def test_batches_mix_and_populations_stay(second):
    values, batches, populations = planted_batches((EVEN, second))
    assert mixing_share(values, batches, populations) < 0.05
    fit = fit_harmony(values, batches)
    result = fit.correct(values, batches, fit.shares)
    assert mixing_share(result, batches, populations) > 0.85
    assert clisi(result, populations, 30).value > 0.99
    assert fit.converged
    # The means of a population are equal, though the batches hold different numbers of it.
    for population in range(3):
        first, other = (result[(populations == population) & (batches == batch)].mean(axis=0) for batch in (0, 1))
        assert np.linalg.norm(first - other) < 1  # of 6 before


def test_a_population_of_one_batch_stays_where_it_is():
    values, batches, populations = planted_batches((EVEN, (1, 1, 0)), n=1200)
    fit = fit_harmony(values, batches)
    result = fit.correct(values, batches, fit.shares)
    assert clisi(result, populations, 30).value > 0.99
    assert mixing_share(result, batches, populations) > 0.8


def test_the_objective_falls_and_the_shares_are_shares():
    values, batches, _ = planted_batches()
    fit = fit_harmony(values, batches)
    differences = np.diff(fit.objectives)
    assert len(differences) >= 2
    assert (differences < 1e-3 * np.abs(fit.objectives[1:])).all()
    np.testing.assert_allclose(fit.shares.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(fit.sizes.sum(), len(values), rtol=1e-5)
    assert fit.shares.shape == (1200, 40)
    assert fit.settings.n_clusters == 40
    assert not fit_harmony(values, batches, HarmonySettings(max_iterations=1)).converged


def test_equal_seeds_give_equal_results_and_others_do_not():
    values, batches, _ = planted_batches(n=100)
    results = [fit_harmony(values, batches, HarmonySettings(seed=seed)).shifts for seed in (3, 3, 4)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2])


def test_rows_in_another_order_of_batches_are_the_rows_they_were():
    values, batches, populations = planted_batches(n=300)
    order = rng_for(1, "order").permutation(len(values))
    fit = fit_harmony(values[order], batches[order])
    result = fit.correct(values[order], batches[order], fit.shares)
    assert mixing_share(result, batches[order], populations[order]) > 0.75
    assert clisi(result, populations[order], 30).value > 0.99


def test_one_correction_is_the_ridge_regression_of_the_paper():
    rng = rng_for(0, "ridge")
    batches, ridge = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2]), 1.5
    values, shares = rng.normal(size=(9, 4)), rng.random((9, 3))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = values.copy()
    for cluster in range(3):
        gram, moment = np.zeros((4, 4)), np.zeros((4, 4))
        for row in range(9):
            design = np.zeros(4)
            design[0] = design[1 + batches[row]] = 1
            gram += shares[row, cluster] * np.outer(design, design)
            moment += shares[row, cluster] * np.outer(design, values[row])
        weights = np.linalg.solve(gram + np.diag([0, ridge, ridge, ridge]), moment)
        for row in range(9):
            expected[row] -= shares[row, cluster] * weights[1 + batches[row]]
    sizes = np.stack([shares[batches == batch].sum(axis=0) for batch in range(3)])
    sums = np.stack([shares[batches == batch].T @ values[batches == batch] for batch in range(3)])
    shifts, origins = ridge_shifts(sums, sizes, ridge)
    harmony = Harmony(
        settings=HarmonySettings(),
        centroids=np.eye(3, 4),
        origins=origins,
        shifts=shifts,
        sizes=sizes,
        shares=shares,
        objectives=(0.0,),
        converged=True,
    )
    np.testing.assert_allclose(harmony.correct(values, batches, shares), expected, atol=1e-12)


def test_one_cluster_is_centering_by_ridge():
    values, batches = np.array([[1.0], [3], [9], [11]]), np.array([0, 0, 1, 1])
    fit = fit_harmony(values, batches, HarmonySettings(n_clusters=1, ridge=1e-6))
    np.testing.assert_allclose(fit.correct(values, batches, fit.shares)[:, 0], [5, 7, 5, 7], atol=1e-4)
    # With ridge 2 a batch of two rows moves half of the way from 2 and 10 to 6.
    fit = fit_harmony(values, batches, HarmonySettings(n_clusters=1, ridge=2.0))
    np.testing.assert_allclose(fit.correct(values, batches, fit.shares)[:, 0], [3, 5, 7, 9], atol=1e-4)


def test_without_theta_unequal_clusters_are_free():
    # Two batches of two populations each, none of them shared: only the penalty mixes them.
    rng = rng_for(0, "free")
    batches = np.repeat([0, 1], 200)
    values = np.where(batches[:, None] == 0, [5.0, 0], [0, 5.0]) + 0.3 * rng.normal(size=(400, 2))
    free, tied = (fit_harmony(values, batches, HarmonySettings(theta=theta, n_clusters=2)) for theta in (0.0, 4.0))
    assert free.sizes.min() < 1
    assert np.linalg.norm(free.shifts, axis=2).max() < np.linalg.norm(tied.shifts, axis=2).max()


def test_new_batches_come_to_the_rows_of_the_fit_which_do_not_move():
    values, batches, populations = planted_batches((EVEN, EVEN, (2, 1, 1)), n=400)
    profiles = profiles_of(values, batches, populations)
    old = batches < 2
    alignment = fit_alignment(profiles.select(old), ["harmony"])
    before = alignment.apply(profiles.select(old)).features.copy()
    np.testing.assert_array_equal(before, align(profiles.select(old), ["harmony"]).features)
    new = alignment.apply(profiles.select(~old))
    entry = new.provenance["alignment"][0]
    assert entry["new_batches"] == ["e2"]
    assert entry["n_rows"] == {"e2": 400}
    both_features, is_new = np.concatenate([before, new.features]), (~old).astype(int)
    assert mixing_share(np.concatenate([before, values[~old]]), is_new, populations) < 0.05
    assert mixing_share(both_features, is_new, populations) > 0.7
    assert clisi(both_features, populations, 30).value > 0.99
    # New rows beside those of the fit change nothing, and the rows of the fit do not move.
    np.testing.assert_array_equal(alignment.apply(profiles.select(old)).features, before)
    all_features = alignment.apply(profiles).features
    np.testing.assert_allclose(all_features[~old], new.features, atol=1e-5)
    np.testing.assert_allclose(all_features[old], before, atol=0.05)


def test_other_rows_of_a_batch_of_the_fit_get_its_shifts():
    values, batches, populations = planted_batches(n=600)
    profiles, half = profiles_of(values, batches, populations), np.arange(1200) % 2 == 0
    result = fit_alignment(profiles.select(half), ["harmony"]).apply(profiles.select(~half))
    assert result.provenance["alignment"][0]["new_batches"] == []
    assert mixing_share(result.features, batches[~half], populations[~half]) > 0.7
    assert clisi(result.features, populations[~half], 30).value > 0.99


def test_the_chain_knows_experiments_and_plates_and_keeps_the_provenance():
    values, batches, populations = planted_batches(n=60)
    profiles = profiles_of(values, batches * 0, populations, plates=[str(batch) for batch in batches])
    result = align(profiles, ["harmony-plate"])
    entry = result.provenance["alignment"][0]
    assert entry["step"] == "harmony-plate"
    assert entry["group"] == "plate"
    assert entry["n_rows"] == {"e0/0": 60, "e0/1": 60}
    assert entry["n_clusters"] == 4
    assert entry["n_iterations"] == len(entry["objectives"])
    assert entry["converged"] in (True, False)
    assert (entry["theta"], entry["sigma"], entry["ridge"], entry["seed"]) == (2, 0.1, 1, 0)
    json.dumps(result.provenance)
    with pytest.raises(ProfileError, match=r"'harmony' has 1 experiment, e0, so .* mix it with\. Expected 2 exp"):
        align(profiles, ["harmony"])


def test_batches_that_decide_the_perturbation_or_have_one_row_are_refused():
    values, batches, populations = planted_batches(n=30)
    with pytest.raises(ProfileError, match=r"'harmony' would erase the perturbation, .* only one on e0 \(p0\), e1"):
        align(profiles_of(values, batches, batches), ["harmony"])
    batches_with_single = np.where(np.arange(60) == 59, 2, batches)
    with pytest.raises(ProfileError, match=r"'harmony' has too few rows on e2 \(1\)\. Expected at least 2"):
        align(profiles_of(values, batches_with_single, populations), ["harmony"])
    alignment = fit_alignment(profiles_of(values, batches, populations), ["harmony"])
    with pytest.raises(ProfileError, match=r"erase the perturbation, as there is only one on e7 \(p1\)"):
        alignment.apply(profiles_of(values[:9], [7] * 9, [1] * 9))
    with pytest.raises(ProfileError, match=r"too few rows on e7 \(1\)"):
        alignment.apply(profiles_of(values[:1], [7], [1]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batches": np.zeros(60, int)}, r"Harmony has 1 batch\(es\), so there is nothing to mix\. Expected 2 or more"),
        ({"batches": np.arange(60).clip(58) - 58}, r"Batch 1 has 1 row\(s\)\. Expected at least 2 in each"),
        ({"values": np.full((60, 2), np.nan)}, r"numbers that are not finite\. Expected numbers"),
    ],
)
def test_values_without_an_answer_are_refused(change, text):
    options = {"values": rng_for(0, "x").normal(size=(60, 2)), "batches": np.arange(60) % 2} | change
    with pytest.raises(ProfileError, match=text):
        fit_harmony(options["values"], options["batches"])


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"sigma": 0.0}, "The sigma of Harmony is 0.0. Expected a number above 0."),
        ({"ridge": -1.0}, "The ridge of Harmony is -1.0. Expected a number above 0."),
        ({"n_clusters": 0}, "The n_clusters of Harmony is 0. Expected a number of at least 1."),
        ({"theta": np.nan}, "The theta of Harmony is nan. Expected a number of at least 0."),
    ],
)
def test_settings_without_sense_are_refused(setting, text):
    with pytest.raises(ProfileError) as error:
        dataclasses.replace(HarmonySettings(), **setting)
    assert str(error.value) == text


def test_equal_rows_and_rows_of_zeros_are_no_failure():
    values = np.repeat(np.array([[0.0, 0], [1, 0]]), 40, axis=0)
    fit = fit_harmony(values, np.arange(80) % 2, HarmonySettings(n_clusters=5))
    assert np.isfinite(fit.correct(values, np.arange(80) % 2, fit.shares)).all()
    assert np.isfinite(fit.correct(values, np.arange(80) % 2)).all()
    assert np.isfinite(fit.extend(values)).all()
