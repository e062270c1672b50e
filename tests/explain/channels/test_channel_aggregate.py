import numpy as np
import pandas as pd
import pytest

from distangle.core.random import rng_for
from distangle.explain import channel_attention, inverse_attention
from distangle.explain.aggregate import perturbation_scores, well_scores
from distangle.explain.summary import summarize

N, CHANNELS = 6, 2


@pytest.fixture
def table():
    return pd.DataFrame({
        "Metadata_Experiment": ["E2", "E2", "E1", "E1", "E1", "E2"],
        "Metadata_Plate": "1",
        "Metadata_Well": ["B02", "B02", "B02", "C03", "B02", "D04"],
        "Metadata_Site": [1, 2, 1, 1, 2, 1],
        "Metadata_Cell_Type": ["U2OS", "U2OS", "RPE", "RPE", "RPE", "U2OS"],
        "Metadata_Role": ["treatment"] * 5 + ["negative_control"],
        "perturbation": ["a", "a", "a", "b", "a", "none"],
        "predicted": ["a", "b", "a", "b", "a", "none"],
        "explained": ["a", "b", "a", "b", "a", "none"],
        "probability": [0.9, 0.3, 0.8, 0.7, 0.6, 0.5],
    })  # fmt: skip


@pytest.fixture
def scores():
    rng = rng_for(1, "found")
    null = rng.uniform(0.5, 1, (N, 200, CHANNELS))
    return {
        "shapley": np.arange(12.0).reshape(N, CHANNELS),
        "shapley_p": np.array([[0.1, 0.2], [0.3, 0.9], [0.5, 0.5], [0.04, 1.0], [0.1, 0.1], [1.0, 1.0]]),
        "ablation": -np.arange(12.0).reshape(N, CHANNELS),
        "eq15": np.full((N, CHANNELS), 0.75),
        "eq15_null": null,
        "correlation": np.tile([0.0, 9.0], (N, 1)),
        "correlation_null": null,
        "interactions": np.ones((N, CHANNELS, CHANNELS)),
    }


def maps():
    return rng_for(2, "maps").uniform(size=(N, 8, 8)).astype(np.float32)


def test_a_row_per_well_holds_means_and_tests_of_its_sites(table, scores):
    enlarged_maps = maps()
    wells = well_scores(table, enlarged_maps, scores, rng=rng_for(3, "wells"))
    well_table = wells.table.set_index(["Metadata_Experiment", "Metadata_Well"])
    assert list(well_table.index) == [("E1", "B02"), ("E1", "C03"), ("E2", "B02"), ("E2", "D04")]
    assert "Metadata_Site" not in well_table
    assert well_table["sites"].tolist() == [2, 1, 2, 1]
    pair = well_table.loc[("E2", "B02")]
    assert (pair["perturbation"], pair["predicted"], pair["explained"]) == ("a", "a | b", "a | b")
    assert pair["probability"] == pytest.approx(0.6)
    assert (pair["shapley_1"], pair["shapley_2"], pair["ablation_1"]) == (1.0, 2.0, -1.0)
    # Twice the mean of 0.1 and 0.3; of 0.2 and 0.9 more than 1. A well of one site keeps its own.
    assert (pair["shapley_p_1"], pair["shapley_p_2"]) == (pytest.approx(0.4), 1)
    assert well_table.loc[("E1", "C03"), "shapley_p_1"] == 0.04
    assert "ablation_p_1" not in well_table  # no control well to compare with
    assert well_table.loc[("E1", "B02"), "correlation_p_1"] == 1
    assert well_table.loc[("E1", "B02"), "correlation_p_2"] == 1 / 201
    np.testing.assert_allclose(wells.maps[2], enlarged_maps[[0, 1]].mean(0), atol=1e-6)
    assert well_table["edge_share"].notna().all()


def test_the_mean_of_a_well_is_tested_against_means_of_as_many_random_maps(table, scores):
    # 0.9 lies at 20 % from the top of one map's scores; of the mean of two, uniform in 0.5 to 1, at 8 %.
    scores["eq15"] = np.full((N, CHANNELS), 0.9)
    well_table = well_scores(table, maps(), scores, rng=rng_for(3, "wells")).table
    one, two = (well_table.loc[well_table["sites"] == n, "eq15_p_1"].mean() for n in (1, 2))
    assert one == pytest.approx(0.2, abs=0.06)
    assert two == pytest.approx(0.08, abs=0.04)


def test_a_row_per_perturbation_and_cell_type_holds_an_interval_over_experiments(table, scores):
    table = table.assign(explained="a", Metadata_Cell_Type="RPE")
    one = perturbation_scores(table, maps(), scores).table
    assert one[["sites", "wells", "experiments"]].to_numpy().tolist() == [[6, 4, 2]]
    assert one["shapley_1"].item() == pytest.approx(5)
    assert np.isnan(one["shapley_low_1"].item())  # of two experiments
    with_six_experiments = perturbation_scores(table.assign(Metadata_Experiment=list("ABCDEF")), maps(), scores).table
    assert with_six_experiments["shapley_low_1"].item() < 5 < with_six_experiments["shapley_high_1"].item()


def test_perturbations_are_kept_apart_by_cell_type_and_one_experiment_has_no_interval(table, scores):
    perturbation_table = perturbation_scores(table, maps(), scores).table
    keys = perturbation_table[["explained", "Metadata_Cell_Type", "sites"]].to_numpy().tolist()
    assert keys == [["a", "RPE", 2], ["a", "U2OS", 1], ["b", "RPE", 1], ["b", "U2OS", 1], ["none", "U2OS", 1]]
    assert perturbation_table["shapley_low_1"].isna().all()


def test_the_summary_tells_cell_types_apart_and_warns_of_control_wells(table, scores):
    output = summarize(table, scores, channels=["w1", "w2"], rng=rng_for(5, "summary"), n_draws=50)
    assert {name: (entry["sites"], entry["wells"]) for name, entry in output["cell_types"].items()} == {
        "RPE": (3, 2), "U2OS": (3, 2),
    }  # fmt: skip
    assert output["cell_types"]["RPE"]["shapley"]["mean"] == pytest.approx([6, 7])
    assert output["cell_types"]["RPE"]["top_channel"] == "w2"
    assert output["cell_types"]["RPE"]["ablation"]["mean"] == pytest.approx([-6, -7])
    assert len(output["ablation"]["p"]) == len(output["ablation"]["p_family"]) == CHANNELS
    assert output["interactions"]["mean"] == [[1, 1], [1, 1]]
    assert output["interactions"]["interval"] is None  # of two experiments
    summary_of_six = summarize(table.assign(Metadata_Experiment=list("ABCDEF")), scores, channels=["w1", "w2"],
                     rng=rng_for(5, "summary"), n_draws=50)  # fmt: skip
    assert np.shape(summary_of_six["interactions"]["interval"]) == (CHANNELS, CHANNELS, 2)
    assert output["warnings"] == [
        "1 of the explained wells is a control well (E2 1 D04). Their explanation shows what the network uses for its "
        "prediction, not an effect of a perturbation."
    ]
    summary = summarize(table[:5], {name: values[:5] for name, values in scores.items()}, channels=["w1", "w2"],
                        rng=rng_for(5, "summary"), n_draws=50)  # fmt: skip
    assert summary["warnings"] == []


def test_many_control_wells_are_named_in_part(table, scores):
    wells = [f"B{k:02d}" for k in range(N)]
    output = summarize(table.assign(Metadata_Role="untreated", Metadata_Well=wells), scores, channels=["w1", "w2"],
                     rng=rng_for(5, "summary"), n_draws=50)["warnings"][0]  # fmt: skip
    assert output.startswith("6 of the explained wells are control wells (E2 1 B00, E2 1 B01, ")
    assert "E2 1 B04" not in output  # rows 2 to 4 are of E1
    assert output.split(")")[0].endswith("E1 1 B04 and 1 more")


def test_the_inverse_of_equation_15_is_the_reciprocal_distance_max_normalized():
    # Map (1, 0): distances 0.6, 1 and 0.8; the nearest becomes 1, the others 0.6 / distance.
    enlarged_maps = np.array([[[1.0, 0.0]]], dtype=np.float32)
    raw = np.array([[[[102, 0]], [[0, 0]], [[51, 0]]]], dtype=np.uint8)
    attention = channel_attention(enlarged_maps, raw, scaling="raw255")
    np.testing.assert_allclose(inverse_attention(attention), [[1, 0.6, 0.75]], atol=1e-6)


def test_the_inverse_takes_nulls_too_and_is_never_nan():
    attention = np.array([[[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [0.25, 0.5, 1.0]]])
    expected = [[[1, 0, 0], [0, 0, 0]], [[1, 1, 0], [1, 0.5, 0.25]]]
    assert inverse_attention(attention).tolist() == expected
