import json

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from distangle.core.progress import progress
from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain import (
    BatchStatistics,
    ExplainedSites,
    ExplainSettings,
    PlantedCircle,
    ShapleySettings,
    channel_ablation,
    channel_attention,
    channel_shapley,
    explain_sites,
    grad_cam_maps,
    inverse_attention,
    map_channel_correlation,
)
from distangle.explain.channels.nulls import mean_over_sites
from distangle.model import ModelConfig, build_classifier, collect_statistics, use_statistics
from distangle.results import Explanation
from site_batches import batch

N, CHANNELS, SIZE = 10, 3, 32
NAMES = ("actin", "mito", "nothing", "nuclei")
ABOUT_THE_WAY = ("rng", "settings", "channels_of", "regions", "advance")
FAST = ExplainSettings(n_null_maps=20, n_draws=50, sites_at_once=4)


class Inputs:
    """Ten sites in five wells of two experiments, with their raw images."""

    def __init__(self, dtype=np.uint8):
        rng = rng_for(1, "sites")
        self.raw = rng.integers(0, 255, (N, CHANNELS, SIZE, SIZE)).astype(dtype)
        pixels = torch.from_numpy(self.raw.astype(np.float32))
        self.images = (pixels - pixels.mean((2, 3), keepdim=True)) / pixels.std((2, 3), keepdim=True)
        self.targets = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 0, 0])
        truth = [NAMES[index] for index in self.targets]
        self.table = pd.DataFrame({
            "Metadata_Experiment": ["HUVEC-01"] * 4 + ["HUVEC-02"] * 6,
            "Metadata_Plate": "1",
            "Metadata_Well": [f"B{2 + i // 2:02d}" for i in range(N)],
            "Metadata_Site": [1 + i % 2 for i in range(N)],
            "Metadata_Role": "treatment",
            "perturbation": truth,
            "predicted": [*truth[:9], "mito"],
        }, index=range(100, 100 + N))  # fmt: skip
        config = ModelConfig(backbone="resnet_small", n_channels=CHANNELS, n_perturbations=4, embedding_size=8)
        self.model = build_classifier(config, seed=2).eval()

    def sites(self, **changes):
        fields = {
            "table": self.table,
            "images": self.images,
            "raw": self.raw,
            "cell_types": None,
            "targets": self.targets,
            "channels": ("w1", "w2", "w3"),
            "perturbations": NAMES,
        }
        return ExplainedSites(**(fields | changes))

    def explain(self, **changes):
        options = {name: changes.pop(name) for name in list(changes) if name in ABOUT_THE_WAY}
        sites = self.sites(**changes)
        return explain_sites(self.model, sites, **({"rng": rng_for(3, "explain"), "settings": FAST} | options))


@pytest.fixture(scope="module")
def inputs():
    return Inputs()


@pytest.fixture(scope="module")
def explanation(inputs):
    return inputs.explain()


def test_every_column_is_what_its_own_function_says(inputs, explanation):
    table = explanation.table
    attribution = grad_cam_maps(inputs.model, batch(inputs.images, None, inputs.targets))
    channel_values = channel_shapley(inputs.model, batch(inputs.images, None, inputs.targets))
    np.testing.assert_allclose(explanation.maps, attribution.maps, atol=1e-5)
    np.testing.assert_allclose(table[["shapley_1", "shapley_2", "shapley_3"]], channel_values.values, atol=1e-5)
    maps = attribution.maps.numpy()
    ablation = channel_ablation(inputs.model, batch(inputs.images, None, inputs.targets))
    np.testing.assert_allclose(table[["ablation_1", "ablation_2", "ablation_3"]], ablation.values, atol=1e-5)
    np.testing.assert_allclose(explanation.interactions, channel_values.interactions, atol=1e-5)
    np.testing.assert_allclose(
        table[["eq15_inverse_1", "eq15_inverse_2", "eq15_inverse_3"]],
        inverse_attention(channel_attention(maps, inputs.raw, scaling="raw255")),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        table[["eq15_1", "eq15_2", "eq15_3"]], channel_attention(maps, inputs.raw, scaling="raw255"), atol=1e-5
    )
    np.testing.assert_allclose(
        table[["correlation_1", "correlation_2", "correlation_3"]], map_channel_correlation(maps, inputs.raw), atol=1e-5
    )
    assert table["explained"].tolist() == table["perturbation"].tolist()
    probabilities = attribution.outputs.logits.softmax(1).gather(1, inputs.targets[:, None])[:, 0]
    np.testing.assert_allclose(table["probability"], probabilities, atol=1e-6)
    for name in ("eq15", "eq15_inverse", "correlation"):
        p = table[[f"{name}_p_1", f"{name}_p_2", f"{name}_p_3"]].to_numpy()
        assert p.min() >= 1 / 21
        assert p.max() <= 1
        assert len(np.unique(p)) > 5
    assert "shapley_p_1" not in table  # no control well to compare with
    assert table.index.tolist() == list(range(N))
    assert table["Metadata_Well"].tolist() == inputs.table["Metadata_Well"].tolist()


def test_the_summary_holds_means_intervals_and_nulls_ready_for_json(inputs, explanation):
    text = explanation.summary
    json.dumps(text, allow_nan=False)
    columns = ["shapley_1", "shapley_2", "shapley_3"]
    np.testing.assert_allclose(text["shapley"]["mean"], explanation.table[columns].mean(), atol=1e-6)
    assert (text["interval_over"], text["groups"], text["sites"]) == ("experiment", 2, N)
    for name in ("shapley", "ablation", "eq15", "eq15_inverse", "correlation"):
        assert len(text[name]["p"]) == CHANNELS
        assert text[name]["interval"] is None  # of two experiments
        assert np.array(text[name]["null"]).shape == (CHANNELS, 2)
    by_experiment = explanation.table.groupby("Metadata_Experiment")[columns].mean()
    for name, values in text["shapley"]["by_group"].items():
        np.testing.assert_allclose(values, by_experiment.loc[name], atol=1e-6)
    assert len(text["shapley"]["p"]) == CHANNELS
    tops = explanation.table[columns].to_numpy().argmax(1)
    assert text["shapley_top_channel"] == {f"w{k + 1}": int((tops == k).sum()) for k in range(CHANNELS)}
    top = int(np.argmax(text["shapley"]["mean"]))
    assert text["top_channel"] == f"w{top + 1}"
    assert text["top_channel_share"] == pytest.approx((tops == top).mean())
    assert sum(text["eq15_top_channel"].values()) == N
    assert sum(text["eq15_top_channel_of_random_maps"].values()) == pytest.approx(N)
    assert {name: entry["sites"] for name, entry in text["perturbations"].items()} == {
        "actin": 4, "mito": 2, "nothing": 2, "nuclei": 2,
    }  # fmt: skip
    mito = explanation.table.loc[explanation.table["explained"] == "mito", columns].mean()
    np.testing.assert_allclose(text["perturbations"]["mito"]["shapley"]["mean"], mito, atol=1e-6)
    assert len(text["perturbations"]["actin"]["shapley"]["by_group"]) == 2
    assert text["perturbations"]["mito"]["shapley"]["by_group"] == {}


def test_the_null_of_a_mean_gives_every_site_a_random_map_of_its_own():
    draws = rng_for(4, "null").normal(0, 1, (1000, 3))
    null = mean_over_sites(np.stack([draws] * 25), rng=rng_for(5, "shuffle"))
    # If the 25 sites shared their random maps, the standard deviation would be 1 instead of 1 / 5.
    np.testing.assert_allclose(null.std(axis=0), 0.2, atol=0.03)


def test_one_experiment_falls_back_to_plates_and_few_plates_to_no_interval(inputs):
    table = inputs.table.assign(Metadata_Experiment="HUVEC-01")
    text = explain_with(inputs, table)
    assert (text["interval_over"], text["groups"], text["shapley"]["interval"]) == ("plate", 1, None)
    assert text["shapley"]["by_group"] == {}
    text = explain_with(inputs, table.assign(Metadata_Plate=["1", "2"] * 5))
    assert (text["interval_over"], text["groups"], text["shapley"]["interval"]) == ("plate", 2, None)
    assert list(text["shapley"]["by_group"]) == ["HUVEC-01 plate 1", "HUVEC-01 plate 2"]
    text = explain_with(inputs, table.assign(Metadata_Plate=list("12345") * 2))
    low, high = np.array(text["shapley"]["interval"]).T
    assert (low < text["shapley"]["mean"]).all()
    assert (text["shapley"]["mean"] < high).all()


def explain_with(inputs, table):
    return inputs.explain(table=table).summary


def test_every_row_gets_its_own_explanation_with_the_statistics_of_its_plate(inputs, explanation):
    odd, even = list(range(1, N, 2)), list(range(0, N, 2))
    by_norms = inputs.explain(norms=[BatchStatistics(odd, None), BatchStatistics(even, None)])
    np.testing.assert_allclose(by_norms.maps, explanation.maps, atol=1e-5)
    np.testing.assert_allclose(by_norms.table["shapley_1"], explanation.table["shapley_1"], atol=1e-5)
    statistics = collect_statistics(inputs.model, lambda: [(inputs.images[odd], None)])
    mixed = inputs.explain(norms=[BatchStatistics(odd, statistics), BatchStatistics(even, None)]).table["probability"]
    with use_statistics(inputs.model, statistics):
        probabilities = inputs.explain().table["probability"]
    np.testing.assert_allclose(mixed[odd], probabilities[odd], atol=1e-5)
    np.testing.assert_allclose(mixed[even], explanation.table["probability"][even], atol=1e-5)
    assert np.abs(mixed[odd] - explanation.table["probability"][odd]).max() > 1e-3


def test_what_was_explained_survives_the_disk(explanation, tmp_path):
    explanation.write(tmp_path)
    copy = Explanation.read(tmp_path)
    assert copy.summary == explanation.summary
    assert copy.settings == dict(explanation.settings)
    pd.testing.assert_frame_equal(copy.table, explanation.table)
    pd.testing.assert_frame_equal(copy.wells, explanation.wells)
    pd.testing.assert_frame_equal(copy.perturbations, explanation.perturbations)
    assert np.array_equal(copy.interactions, explanation.interactions)
    assert np.array_equal(copy.well_maps, explanation.well_maps)
    assert np.array_equal(copy.maps, explanation.maps)


def test_equal_generators_give_equal_explanations_in_pieces_of_any_size(inputs, explanation):
    second = inputs.explain(settings=FAST.model_copy(update={"sites_at_once": 3, "max_at_once": 7}))
    np.testing.assert_allclose(second.maps, explanation.maps, atol=1e-5)
    numbers = [name for name in explanation.table if "_p_" in str(name)]
    np.testing.assert_allclose(second.table[numbers], explanation.table[numbers], atol=0.06)
    assert np.array_equal(inputs.explain().maps, explanation.maps)
    assert inputs.explain().summary == explanation.summary


def test_settings_say_what_was_done(inputs, explanation):
    settings = explanation.settings
    last = list(dict(inputs.model.backbone.features.named_children()))[-1]
    assert settings["layer"] == f"features.{last}, after the final ReLU"
    assert settings["scaling"] == "raw255"
    assert settings["channels"] == ["w1", "w2", "w3"]
    assert (settings["head"], settings["score"], settings["removal"], settings["n_null_maps"]) == (
        "softmax", "log_probability", "mean", 20,
    )  # fmt: skip
    assert settings["map_grid"] == list(inputs.model.feature_maps(inputs.images).shape[2:])


def test_sixteen_bit_images_layers_heads_and_controls_pass_through():
    wide_inputs = Inputs(np.uint16)
    settings = FAST.model_copy(
        update={"layer": "features.layer1", "head": "arc", "score": "logit", "removal": "control"}
    )
    result = wide_inputs.explain(settings=settings, controls=wide_inputs.images.flip(0))
    assert result.settings["scaling"] == "min_max"
    assert result.settings["layer"] == "features.layer1"
    expected = grad_cam_maps(
        wide_inputs.model, batch(wide_inputs.images, None, wide_inputs.targets), layer="features.layer1", head="arc"
    )
    np.testing.assert_allclose(result.maps, expected.maps, atol=1e-5)
    channel_values = channel_shapley(
        wide_inputs.model,
        batch(wide_inputs.images, None, wide_inputs.targets, controls=wide_inputs.images.flip(0)),
        ShapleySettings(output="logit", removal="control"),
    )
    np.testing.assert_allclose(result.table[["shapley_1", "shapley_2", "shapley_3"]], channel_values.values, atol=1e-5)


def test_wells_and_perturbations_are_the_sites_together(explanation):
    columns = ["shapley_1", "ablation_2", "eq15_inverse_3", "correlation_1"]
    wells = explanation.table.groupby(["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"])[columns].mean()
    np.testing.assert_allclose(explanation.wells[columns], wells, atol=1e-6)
    assert explanation.wells["sites"].tolist() == [2] * 5
    assert len(explanation.well_maps) == 5
    perturbations = explanation.table.groupby("explained")[columns].mean()
    np.testing.assert_allclose(explanation.perturbations[columns], perturbations, atol=1e-6)
    assert explanation.perturbations["explained"].tolist() == sorted(NAMES)


def test_a_site_is_compared_with_control_wells_explained_by_the_same_rule(inputs, explanation):
    rows = [4, 6, 8]
    baselines = inputs.sites().take(rows)
    result = inputs.explain(
        control_sites=baselines, norms=[BatchStatistics([0, 2, 4, 6, 8], None), BatchStatistics([1, 3, 5, 7, 9], None)]
    )
    values = explanation.table[["shapley_1", "shapley_2", "shapley_3"]].to_numpy()
    wells = explanation.table["Metadata_Well"].tolist()
    for site in range(N):
        others = [row for row in rows if wells[row] != wells[site]]
        for k in range(3):
            as_high = sum(values[row, k] >= values[site, k] - 1e-6 for row in others)
            assert result.table[f"shapley_p_{k + 1}"][site] == pytest.approx((1 + as_high) / (1 + len(others)))
            null = [values[row, k] for row in others]
            expected = {
                "mean": sum(null) / len(null),
                "low": np.quantile(null, 0.025),
                "high": np.quantile(null, 0.975),
            }
            for part, value in expected.items():
                assert result.table[f"shapley_null_{part}_{k + 1}"][site] == pytest.approx(value, abs=1e-5)
    assert "shapley_null_low_1" not in explanation.table
    assert "ablation_p_3" in result.table
    assert "shapley_p_1" in result.wells
    assert result.settings["n_control_wells"] == 3
    assert explanation.settings["n_control_wells"] == 0


def test_other_wells_of_the_plate_can_stand_in(inputs):
    result = inputs.explain(
        settings=FAST.model_copy(update={"removal": "other_well"}), other_wells=inputs.images.flip(0)
    )
    channel_values = channel_shapley(
        inputs.model,
        batch(inputs.images, None, inputs.targets, other_wells=inputs.images.flip(0)),
        ShapleySettings(removal="other_well"),
    )
    np.testing.assert_allclose(result.table[["shapley_1", "shapley_2", "shapley_3"]], channel_values.values, atol=1e-5)


def test_labels_are_permuted_where_there_are_several(inputs, explanation):
    assert len(explanation.summary["shapley"]["p_labels"]) == CHANNELS
    assert len(explanation.summary["ablation"]["p_labels"]) == CHANNELS
    assert inputs.explain(targets=torch.ones(N, dtype=torch.int64)).summary["shapley"]["p_labels"] is None


def test_a_planted_truth_is_compared_and_a_real_screen_has_none(inputs, explanation):
    assert explanation.planted is None
    result = inputs.explain(channels_of={"actin": (1,), "mito": (2,)}, regions={0: PlantedCircle(8.0, 8.0, 4.0)})
    # Rows 0, 1, 8 (actin), 2, 3 (mito); row 9 was predicted wrongly.
    assert result.planted["top_shapley_is_planted"]["n_total"] == 5
    assert result.planted["map_peak_in_place"]["n_total"] == 1


def test_maps_get_the_size_of_the_raw_images_when_the_network_saw_binned_ones(inputs):
    raw = inputs.raw.repeat(2, axis=2).repeat(2, axis=3)
    assert inputs.explain(raw=raw).maps.shape == (N, 2 * SIZE, 2 * SIZE)


def test_progress_is_told_once_per_piece(inputs):
    messages = []
    inputs.explain(advance=messages.append)
    assert messages == ["4 sites", "8 sites", "10 sites"]
    with progress("explain", 0, n_steps=1, console=Console(quiet=True)) as advance:
        inputs.explain(advance=advance)
    assert advance.count == "3/3 batch"


def test_pieces_that_do_not_belong_together_are_refused(inputs):
    with pytest.raises(ExplanationError, match="2 channel names, 3 channels of images, 3 of raw images"):
        inputs.explain(channels=("w1", "w2"))
    with pytest.raises(ExplanationError, match="3 names of perturbations for a model of 4"):
        inputs.explain(perturbations=NAMES[:3])
    with pytest.raises(ExplanationError, match=r"lacks \['predicted'\]. Give the rows of `Predictions.table`"):
        explain_with(inputs, inputs.table.drop(columns="predicted"))
    with pytest.raises(ExplanationError, match="'rows': 9, 'images': 10"):
        explain_with(inputs, inputs.table[:9])


def test_a_function_mapped_over_sites_gives_its_rows_in_the_order_of_the_table(inputs):
    sites = inputs.sites(norms=[BatchStatistics([9, 1, 3], None), BatchStatistics([0, 2, 4, 5, 6, 7, 8], None)])
    sizes = []

    def count(site_batch):
        sizes.append(len(site_batch))
        return {"rows": np.array(site_batch.rows), "targets": site_batch.targets.numpy()}

    result = sites.map(count, batch_size=2, device=torch.device("cpu"))
    assert sizes == [2, 1, 2, 2, 2, 1]
    assert result["rows"].tolist() == list(range(N))
    assert result["targets"].tolist() == inputs.targets.tolist()


def test_without_a_removal_controls_replace_a_channel_where_there_are_any(inputs):
    assert inputs.explain(controls=inputs.images.flip(0)).settings["removal"] == "control"
    assert inputs.explain().settings["removal"] == "mean"


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        ExplainSettings(layers="features.norm5")
