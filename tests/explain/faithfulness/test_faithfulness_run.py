import dataclasses
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from distangle.core.progress import Progress
from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain import (
    BatchStatistics,
    ExplainedSites,
    FaithfulnessSettings,
    NetworkSites,
    OtherNetworks,
    examine,
    random_smooth_maps,
)
from distangle.explain.faithfulness import map_method, maps_of, verdicts
from distangle.explain.faithfulness.run import _order_rows
from distangle.model import ModelConfig, build_classifier
from distangle.results import Faithfulness
from hand_made import chosen_sites, network

SIDE = 3
FAST = FaithfulnessSettings(
    n_sites=6,
    n_curve_sites=6,
    n_channel_sites=2,
    n_stored_maps=2,
    n_null_maps=3,
    n_steps=4,
    n_networks=3,
    channel_augmentations=1,
)


def rng():
    return rng_for(1, "examine")


def brightness(model, site_batch):
    """Return a "map" that ignores the network."""
    return site_batch.images.mean(1)


def corner(model, site_batch):
    """A "map" that always points at one corner of the camera."""
    height, width = site_batch.images.shape[2:]
    return -torch.arange(float(height * width)).reshape(1, height, width).expand(len(site_batch.images), -1, -1)


def to_display_size(maps):
    """Maps as an explanation keeps them: positive, at the size of the images."""
    return np.kron(np.maximum(maps, 0) / maps.max((1, 2), keepdims=True), np.ones((16, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def sites():
    return chosen_sites(side=SIDE)[0]


@pytest.fixture(scope="module")
def maps(model, sites):
    return to_display_size(maps_of(map_method(), model, sites, batch_size=6))


class Steps(Progress):
    """Record the steps of a progress."""

    def __init__(self):
        super().__init__("explain", 0, unit="", n_steps=1, console=Console(quiet=True))
        self.told = []

    def __call__(self, output):
        super().__call__(output)
        self.told.append(output)


@pytest.fixture(scope="module")
def faithfulness(model, sites, maps):
    steps = Steps()
    result = examine(model, sites, maps, rng=rng(), settings=FAST, advance=steps)
    assert steps.count == f"{len(steps.told)}/{len(steps.told)} test"  # announced as many steps as were done
    steps = steps.told
    assert steps == [
        "curves, control",
        "curves, blur",
        "channels of augmented images",
        "randomized weights",
        "other targets",
        "augmented images",
    ]
    return result


def test_true_maps_of_a_network_known_on_paper_stand_every_test(faithfulness):
    verdict = faithfulness.summary["verdicts"]
    # Constant regions have no detail: a blur takes little away, so that `control` alone decides.
    assert faithfulness.summary["curves"]["control"]["deletion"]["probability"]["p"] < 0.05
    assert faithfulness.summary["curves"]["control"]["insertion"]["probability"]["p"] < 0.05
    assert verdict["views"] == verdict["targets"] == "passes"
    assert "fails" not in verdict.values()
    assert faithfulness.sentences[-1].startswith("verdict: no test failed")


def test_maps_that_ignore_the_network_are_not_to_be_believed(model, sites):
    maps_drawn = maps_of(brightness, model, sites, batch_size=6)
    result = examine(model, sites, to_display_size(maps_drawn), rng=rng(), settings=FAST, method=brightness)
    assert result.summary["verdicts"]["randomization"] == "fails"
    assert result.summary["verdicts"]["targets"] == "fails"
    assert result.summary["randomization"]["stages"][-1]["mean"] == pytest.approx(1)
    assert "DO NOT TRUST THESE MAPS: they fail" in result.sentences[-1]
    assert "randomization, targets" in result.sentences[-1]
    assert "the maps have a rank correlation of 1.00 with the maps of the network" in result.sentences[1]
    assert result.settings["method"] == "given"
    assert "layer" not in result.settings


def test_random_maps_fail_deletion_and_insertion(model, sites):
    maps_drawn = random_smooth_maps(
        6, grid=(SIDE, SIDE), size=(16 * SIDE, 16 * SIDE), rng=rng_for(2, "random")
    ).enlarged()
    result = examine(model, sites, maps_drawn, rng=rng(), settings=FAST)
    assert result.summary["verdicts"]["deletion"] == "fails"
    assert result.summary["verdicts"]["insertion"] == "fails"
    assert "DO NOT TRUST THESE MAPS: they fail deletion, insertion" in result.sentences[-1]


def test_maps_that_stay_with_the_camera_fail_the_views(model, sites, maps):
    result = examine(model, sites, maps, rng=rng(), settings=FAST, method=corner)
    assert result.summary["verdicts"]["views"] == "fails"
    assert "augmentations" in result.sentences[-1]


def test_the_table_holds_what_the_tests_gave_for_each_examined_site(model, sites, maps, faithfulness):
    assert faithfulness.table["row"].tolist() == _order_rows(sites, n_sites=6, rng=rng())
    short_result = examine(
        model,
        sites,
        maps,
        rng=rng(),
        settings=FAST.model_copy(update={"n_sites": 4, "n_curve_sites": 2, "n_steps": 9}),
    )
    assert short_result.table.columns.tolist() == [
        "row",
        "deletion_auc",
        "insertion_auc",
        "deletion_p",
        "insertion_p",
        "stability",
        "after_randomization",
        "other_targets",
    ]
    assert len(short_result.table) == 4
    curves = short_result.arrays["curves/control/deletion"]
    assert curves.shape == (2, 10)
    np.testing.assert_allclose(
        short_result.table["deletion_auc"][:2], np.trapezoid(curves, np.linspace(0, 1, 10)), atol=1e-6
    )
    insertion = np.trapezoid(short_result.arrays["curves/control/insertion"], np.linspace(0, 1, 10))
    np.testing.assert_allclose(short_result.table["insertion_auc"][:2], insertion, atol=1e-6)
    assert short_result.table[["deletion_auc", "deletion_p", "insertion_p"]][2:].isna().all(axis=None)
    assert short_result.table["deletion_p"][:2].between(0.25, 1).all()
    # The planted regions first: no random map is as good.
    assert (
        short_result.table["deletion_p"][:2].tolist() == short_result.table["insertion_p"][:2].tolist() == [0.25, 0.25]
    )
    np.testing.assert_allclose(short_result.table["stability"], 1, atol=1e-9)
    assert short_result.table["after_randomization"].mean() == pytest.approx(
        short_result.summary["randomization"]["stages"][-1]["mean"]
    )
    assert short_result.table["other_targets"].mean() == pytest.approx(short_result.summary["targets"]["mean"])
    joined = short_result.columns(6)
    assert joined.index.tolist() == list(range(6))
    assert joined["stability"].notna().sum() == 4
    first = int(short_result.table["row"][0])
    assert joined["deletion_auc"][first] == short_result.table["deletion_auc"][0]


def test_the_summary_has_means_intervals_and_nulls(faithfulness):
    output = faithfulness.summary
    json.dumps(output, allow_nan=False)
    one = output["curves"]["control"]
    deletion = one["deletion"]["probability"]
    assert deletion["mean"] == pytest.approx(faithfulness.table["deletion_auc"].mean())
    assert deletion["interval"] is None  # of too few experiments
    assert deletion["difference"]["mean"] == pytest.approx(deletion["mean"] - deletion["random"])
    np.testing.assert_allclose(deletion["curve"], faithfulness.arrays["curves/control/deletion"].mean(0), atol=1e-6)
    np.testing.assert_allclose(
        deletion["random_curve"], faithfulness.arrays["curves/control/random"].mean(0), atol=1e-6
    )
    insertion = one["insertion"]["probability"]
    np.testing.assert_allclose(insertion["curve"], faithfulness.arrays["curves/control/insertion"].mean(0), atol=1e-6)
    # Both insertion curves begin with the control image and end with the image.
    assert insertion["random_curve"][0] == pytest.approx(insertion["curve"][0])
    assert insertion["random_curve"][-1] == pytest.approx(insertion["curve"][-1])
    assert insertion["difference"]["mean"] > 0 > deletion["difference"]["mean"]
    assert one["sites"] == 6
    assert one["deleted"] == pytest.approx([0, 2 / 9, 4 / 9, 7 / 9, 1])
    assert one["inserted"] == pytest.approx([0, 2 / 9, 5 / 9, 7 / 9, 1])
    assert output["interval_over"] == "experiment"
    stages = output["randomization"]["stages"]
    assert [stage["stage"] for stage in stages][:2] == ["templates", "neck"]
    assert output["randomization"]["before_training"] == stages[-1]["stage"] == "features.conv1"
    assert output["randomization"]["channels"]["features.conv1"]["chance"] == pytest.approx(1 / 3)
    views = output["views"]
    assert views["mean"] == pytest.approx(1)
    assert views["channels"] == {
        "sites": 2,
        "views": 2,
        "std": pytest.approx(0, abs=1e-5),
        "mean_absolute": pytest.approx(views["channels"]["mean_absolute"]),
        "same_top_channel": 1.0,
    }
    assert (output["seeds"], output["shuffled"]) == (None, None)


def test_what_was_written_is_read_back(faithfulness, tmp_path):
    paths = faithfulness.write(tmp_path)
    assert [path.name for path in paths] == ["faithfulness.json", "faithfulness.npz"]
    copy = Faithfulness.read(tmp_path)
    assert copy.summary == faithfulness.summary
    assert copy.settings == faithfulness.settings
    assert copy.sentences == faithfulness.sentences
    np.testing.assert_allclose(copy.table, faithfulness.table)
    assert set(copy.arrays) == set(faithfulness.arrays)
    for name, values in faithfulness.arrays.items():
        np.testing.assert_allclose(copy.arrays[name], values, atol=1e-7)


def test_maps_of_the_network_and_of_an_untrained_one_are_kept_as_they_are_shown(model, sites, faithfulness):
    map_arrays = faithfulness.arrays["maps/trained"]
    rows = faithfulness.table["row"][:2].tolist()
    expected = maps_of(map_method(), model, sites, batch_size=6)[rows]
    assert map_arrays.shape == faithfulness.arrays["maps/untrained/features.conv1"].shape == (2, 48, 48)
    assert map_arrays.max() == 1
    assert map_arrays.min() >= 0
    for one, regions in zip(map_arrays, expected, strict=True):
        middle = one[8::16, 8::16] + one[7::16, 7::16]  # the centres of the regions: the enlarged map is the map there
        assert np.corrcoef(middle.ravel(), regions.ravel())[0, 1] > 0.99


def test_other_seeds_and_shuffled_labels_are_compared_where_they_are_given(model, sites, maps):
    small = FAST.model_copy(update={"n_sites": 4, "n_curve_sites": 1, "n_channel_sites": 0, "n_networks": 1})
    config = ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=3, embedding_size=2)
    other = build_classifier(config, seed=4).eval()
    result = examine(
        model,
        sites,
        maps,
        rng=rng(),
        settings=small,
        other_networks=OtherNetworks(seeds=[NetworkSites(model, sites)], shuffled=NetworkSites(other, sites)),
    )
    assert result.summary["seeds"]["similarity"]["mean"] == pytest.approx(1)
    assert result.summary["seeds"]["sites"] == 4
    assert result.summary["shuffled"]["similarity"]["mean"] < 0.6
    assert result.summary["verdicts"]["seeds"] == "passes"
    assert result.summary["verdicts"]["shuffled"] in ("passes", "weak")
    assert result.summary["views"]["channels"] is None
    assert result.summary["randomization"]["channels"] == {}
    assert "networks of other seeds: rank correlation of the maps 1.00" in result.sentences[3]
    assert "a network trained on shuffled labels: rank correlation of the maps" in result.sentences[3]
    assert "top channel" not in result.sentences[2]
    shuffled_result = examine(
        model, sites, maps, rng=rng(), settings=small, other_networks=OtherNetworks(shuffled=NetworkSites(model, sites))
    )
    assert shuffled_result.summary["verdicts"]["shuffled"] == "fails"


def test_equal_generators_give_equal_results(model, sites, maps, faithfulness):
    second = examine(model, sites, maps, rng=rng(), settings=FAST)
    assert second.summary == faithfulness.summary


def test_the_model_is_left_as_it_was_found(sites, maps):
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examine(model, sites, maps, rng=rng(), settings=FAST.model_copy(update={"n_sites": 1}))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_sites_are_dealt_over_perturbations_and_control_wells_come_last(sites):
    table = sites.table.assign(Metadata_Role=["negative_control", *["treatment"] * 5])
    with_control = dataclasses.replace(sites, table=table, targets=torch.tensor([0, 1, 1, 1, 1, 2]))
    rows = _order_rows(with_control, n_sites=4, rng=rng())
    assert len(set(rows)) == 4
    assert 0 not in rows
    assert 5 in rows[:2]
    assert _order_rows(with_control, n_sites=9, rng=rng())[-1] == 0


def test_a_part_of_the_sites_has_its_own_of_everything(sites):
    full_sites = dataclasses.replace(
        sites,
        cell_types=torch.arange(12.0).reshape(6, 2),
        references=torch.arange(18.0).reshape(6, 3),
        controls=torch.arange(6.0)[:, None, None, None].expand_as(sites.images),
        norms=[
            BatchStatistics([5, 1], None),
            BatchStatistics([0, 2], {"a": torch.ones(1)}),
            BatchStatistics([3, 4], None),
        ],
    )
    part = full_sites.take([4, 0, 5])
    assert isinstance(part, ExplainedSites)
    assert part.table["Metadata_Well"].tolist() == ["B06", "B02", "B07"]
    assert part.table.index.tolist() == [0, 1, 2]
    assert torch.equal(part.images, sites.images[[4, 0, 5]])
    assert (part.raw == sites.raw[[4, 0, 5]]).all()
    assert part.targets.tolist() == [1, 1, 2]
    assert part.cell_types.tolist() == [[8, 9], [0, 1], [10, 11]]
    assert part.references[:, 0].tolist() == [12, 0, 15]
    assert part.controls[:, 0, 0, 0].tolist() == [4, 0, 5]
    assert [(rows, statistics is None) for rows, statistics in part.norms] == [([2], True), ([1], False), ([0], True)]
    assert sites.take([2]).controls is sites.controls
    assert sites.take([2]).norms is None


def test_maps_of_other_sites_are_refused(model, sites, maps):
    with pytest.raises(ExplanationError, match="5 maps for 6 sites. Give the maps of the same explanation."):
        examine(model, sites, maps[:5], rng=rng(), settings=FAST)


def summary_with(**changes):
    """Return a summary that passes every test, with changes."""
    curve = {"curve": [0.9, 0.5, 0.1], "p": 0.001}
    metric_curves = {"deletion": {"probability": curve}, "insertion": {"probability": curve}}
    return {
        "grid": [8, 8],
        "curves": {"control": metric_curves, "blur": metric_curves},
        "randomization": {
            "before_training": "conv1",
            "stages": [
                {"stage": "neck", "mean": 0.9, "absolute": 0.9},
                {"stage": "conv1", "mean": 0.0, "absolute": 0.2},
            ],
        },
        "targets": {"mean": 0.1},
        "views": {"mean": 0.9},
        "seeds": None,
        "shuffled": None,
    } | changes


def curve(p, *, end=0.1):
    one = {"probability": {"curve": [0.9, end], "p": p}}
    return {"deletion": one, "insertion": one}


def stages(neck, last, *, absolute=0.2, before="conv1"):
    output = [("neck", neck), ("conv1", last)]
    rows = [{"stage": stage, "mean": mean, "absolute": absolute} for stage, mean in output]
    return {"before_training": before, "stages": rows}


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({}, "deletion", "passes"),
        ({"curves": {"control": curve(0.2), "blur": curve(0.01)}}, "deletion", "weak"),
        ({"curves": {"control": curve(0.2), "blur": curve(0.3)}}, "insertion", "fails"),
        ({"curves": {"control": curve(0.001, end=0.88), "blur": curve(0.3)}}, "deletion", "fails"),
        ({"curves": {"blur": curve(0.001, end=0.88)}}, "deletion", "cannot say"),
        ({}, "randomization", "passes"),
        ({"randomization": stages(0.9, 0.3)}, "randomization", "weak"),
        ({"randomization": stages(0.9, 0.6)}, "randomization", "fails"),
        ({"randomization": stages(0.6, 0.0, before="neck")}, "randomization", "fails"),
        ({"randomization": stages(0.1, 0.0, absolute=0.7)}, "randomization", "weak"),
        ({"targets": {"mean": 0.6}}, "targets", "weak"),
        ({"targets": {"mean": 0.85}}, "targets", "fails"),
        ({"views": {"mean": 0.4}}, "views", "weak"),
        ({"views": {"mean": 0.2}}, "views", "fails"),
        ({"seeds": {"similarity": {"mean": 0.2}}}, "seeds", "fails"),
        ({"seeds": {"similarity": {"mean": 0.5}}}, "seeds", "passes"),
        ({"shuffled": {"similarity": {"mean": 0.2}}}, "shuffled", "passes"),
        ({"shuffled": {"similarity": {"mean": 0.3}}}, "shuffled", "weak"),
        ({"shuffled": {"similarity": {"mean": 0.7}}}, "shuffled", "fails"),
        ({"grid": [2, 4]}, "randomization", "cannot say"),
        ({"grid": [2, 4]}, "views", "cannot say"),
        ({"grid": [2, 4]}, "targets", "cannot say"),
        ({"grid": [3, 3]}, "views", "passes"),
    ],
)
def test_verdicts_follow_from_limits_fixed_beforehand(changes, name, verdict):
    assert verdicts(summary_with(**changes))[name] == verdict


def test_a_network_of_one_perturbation_has_no_verdict_on_targets():
    assert "targets" not in verdicts(summary_with(targets=None))
