"""The table of hits: effect size and agreement by hand, columns, order, doses."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distangle.profiles.aggregation import aggregate
from distangle.profiles.hits import hit_table, replicate_agreement
from distangle.profiles.relations import nearest_and_opposite
from distangle.profiles.sphering import control_mask
from distangle.results.profile_result import HIT_COLUMNS
from distangle.results.profiles import Profiles
from planted_profiles import planted_profiles


def hits_of(wells: Profiles) -> pd.DataFrame:
    perturbations = aggregate(wells, to="perturbation", how="mean")
    treatments = perturbations.select(~control_mask(perturbations))
    names = treatments.table["Metadata_Perturbation"].tolist()
    return hit_table(
        wells,
        perturbations,
        nearest_and_opposite(treatments.features, names),
        is_control=control_mask(wells),
        clusters={"a0": 2},
        channels={"a0": ("DNA", 1.5)},
        n_draws=199,
        seed=0,
    )


def test_agreement_is_the_mean_cosine_of_pairs() -> None:
    angles = np.radians([0, 60, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [2], [3]]
    expected = (np.cos(np.radians(60)) + np.cos(np.radians(90)) + np.cos(np.radians(30))) / 3
    assert replicate_agreement(vectors) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(replicate_agreement(vectors[:1]))


def test_rows_are_perturbations_the_strongest_first() -> None:
    wells = planted_profiles(0, n_pairs=2, n_inactive=2)
    wells = wells.select((wells.table["Metadata_Experiment"] == "E0").to_numpy())
    table = hits_of(wells)
    assert tuple(table.columns[: len(HIT_COLUMNS)]) == HIT_COLUMNS
    assert sorted(table["perturbation"]) == ["a0", "a1", "b0", "b1", "none0", "none1"]
    assert set(table["perturbation"][:4]) == {"a0", "a1", "b0", "b1"}
    row = table.set_index("perturbation").loc["a0"]
    assert (row["n_wells"], row["n_plates"], row["n_experiments"]) == (2, 2, 1)
    assert (row["channel"], row["channel_shapley"], row["cluster"]) == ("DNA", 1.5, 2)
    assert row["Metadata_Gene"] == "0"
    assert row["nearest"] == "b0"
    assert table["q"].is_monotonic_increasing


def test_a_perturbation_that_cannot_be_tested_stays_with_its_reason() -> None:
    wells = planted_profiles(0, n_pairs=1, n_inactive=1)
    single = wells.table["Metadata_Perturbation"].ne("a0").to_numpy(copy=True)
    single[np.flatnonzero(~single)[0]] = True
    row = hits_of(wells.select(single)).set_index("perturbation").loc["a0"]
    assert row["reason"] == "one replicate; at least 2 are needed"
    assert row[["p", "q", "mean_average_precision", "replicate_agreement", "effect_size"]].isna().all()


def test_doses_of_a_compound_are_joined_by_simes() -> None:
    wells = planted_profiles(0, n_pairs=2, n_inactive=2)
    compound = wells.table["Metadata_Perturbation"].replace({"a0": "x", "none0": "x"})
    table = hits_of(replace(wells, table=wells.table.assign(Metadata_Compound=compound)))
    rows = table[table["Metadata_Compound"] == "x"]
    p = np.sort(rows["p"].to_numpy())
    assert rows["p_of_compound"].tolist() == pytest.approx([min(2 * p[0], p[1])] * 2)
    assert rows["n_doses"].tolist() == [2, 2]
