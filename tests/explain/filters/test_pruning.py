import shutil

import numpy as np
import pytest
import torch

from distangle.core.random import rng_for
from distangle.errors import ExplanationError, RunError
from distangle.explain import FilterSettings, examine_filters, prune_effect
from distangle.explain.filters.layers import choose_layers, filter_layers
from distangle.explain.filters.pruning import PruneCandidate, pruned_network, random_candidates, suggest_candidates
from distangle.explain.filters.similarity import Thresholds
from distangle.inference import predict_run
from distangle.model import ModelConfig, build_classifier, load_model, save_model
from distangle.results import FilterAnalysis, RunFolder
from tiny_run import finish_run, tiny_screen, tiny_start

FIRST, SECOND = "features.denseblock1.denselayer3.conv1", "features.denseblock2.denselayer2.conv1"
FEW = FilterSettings(n_draws=9, n_random=1)


def plant(model):
    """Plant bands, and duplicates of filter 3, in both layers; plant bands of the weights after the norm."""
    with torch.no_grad():
        for name in (FIRST, SECOND):
            layer = choose_layers(model, [name])[0]
            weight, gamma = layer.convolution.weight, layer.input_norm.weight
            weight[10:20] = 0.3 / gamma[None, :, None, None]
            weight[11] *= -1
            for k in range(20, 26):
                weight[k] = 2.0 * weight[3]
                norm = layer.next_layers[0]
                norm.running_mean[k] = 2 * norm.running_mean[3]
                norm.running_var[k] = 4 * (norm.running_var[3] + norm.eps) - norm.eps
                norm.weight[k], norm.bias[k] = 0.5 * norm.weight[3], 0.5 * norm.bias[3]
    return model


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return tiny_screen(tmp_path_factory.mktemp("filters"))


@pytest.fixture(scope="module")
def run(screen):
    run = tiny_start(screen, screen.folder.parent / "run", epochs=2)
    finish_run(run)
    path = run.checkpoints / "model.safetensors"
    model, card = load_model(path)
    save_model(plant(model), path, card=card)
    predict_run(run, screen)
    return run


def network(backbone="densenet_small"):
    return build_classifier(ModelConfig(backbone=backbone, n_channels=2, n_perturbations=3, embedding_size=4), seed=1)


def test_planted_duplicates_and_bands_are_suggested_and_nothing_else():
    model = plant(network())
    layers = filter_layers(model)
    result = suggest_candidates(layers, "merge_duplicates", Thresholds())
    for name in (FIRST, SECOND):
        target_of_filter = {candidate.filter: candidate.into for candidate in result if candidate.layer == name}
        assert {k: target[0] for k, target in target_of_filter.items() if target[0] == 3} == dict.fromkeys(
            range(20, 26), 3
        )
        assert all(target_of_filter[k][1] == pytest.approx(0.5) for k in range(20, 26))
        # Bands of one sign are duplicates of each other; a band of the opposite sign is not.
        assert {k for k, target in target_of_filter.items() if target[0] == 10} == set(range(12, 20))
    assert {candidate.layer for candidate in result} == {FIRST, SECOND}
    bands = suggest_candidates(layers, "zero_bands", Thresholds())
    assert bands == [PruneCandidate(name, k) for name in (FIRST, SECOND) for k in range(10, 20)]
    assert suggest_candidates(filter_layers(network()), "zero_bands", Thresholds()) == []
    assert suggest_candidates(filter_layers(network("resnet_small")), "zero_bands", Thresholds(constant=1e9)) == []


def test_a_duplicate_that_gives_the_same_is_merged_without_any_change():
    model = plant(network()).eval()
    images = torch.from_numpy(rng_for(2, "images").normal(size=(3, 2, 24, 24))).float()
    candidates = [
        candidate
        for candidate in suggest_candidates(filter_layers(model), "merge_duplicates", Thresholds())
        if candidate.into[0] == 3
    ]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        expected = model(images).logits
        with pruned_network(model, candidates):
            assert torch.allclose(model(images).logits, expected, atol=1e-4)
            for name in (FIRST, SECOND):
                outgoing = choose_layers(model, [name])[0].next_layers[1].weight
                assert not outgoing[:, 20:26].any()
        with pruned_network(
            model, [PruneCandidate(candidate.layer, candidate.filter) for candidate in candidates]
        ):  # no filter replaces them
            assert not torch.allclose(model(images).logits, expected, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_share_of_a_merged_filter_is_the_best_over_a_normal_map():
    model = network()
    layer = choose_layers(model, [SECOND])[0]
    norm = layer.next_layers[0]
    with torch.no_grad():
        layer.convolution.weight[9] = layer.convolution.weight[2]
        norm.weight[2], norm.bias[2], norm.weight[9], norm.bias[9] = 1.0, 0.2, 0.7, -0.5
    duplicates = [
        candidate
        for candidate in suggest_candidates([layer], "merge_duplicates", Thresholds())
        if candidate.filter == 9
    ]
    maps_drawn = rng_for(3, "map").normal(size=400_000)
    inputs, removed = np.maximum(maps_drawn + 0.2, 0), np.maximum(0.7 * maps_drawn - 0.5, 0)
    assert duplicates[0].into[0] == 2
    assert duplicates[0].into[1] == pytest.approx((inputs @ removed) / (inputs @ inputs), rel=0.02)
    with torch.no_grad():
        norm.weight[2], norm.bias[2] = (
            -0.0,
            -1.0,
        )  # the ReLU of the remaining filter is never active: it can replace nothing
    assert suggest_candidates([layer], "merge_duplicates", Thresholds())[0].into == (2, 0.0)


def test_a_layer_without_a_convolution_of_its_own_behind_it_is_not_pruned():
    model = network("resnet_small")
    name = filter_layers(model)[0].name
    with (
        pytest.raises(
            ExplanationError, match=rf"{name} is not followed by a norm, a ReLU and a convolution of its own"
        ),
        pruned_network(model, [PruneCandidate(name, 0)]),
    ):
        pass


def test_weights_are_put_back_when_something_fails():
    model = network()
    before = choose_layers(model, [SECOND])[0].next_layers[1].weight.clone()
    with pytest.raises(ZeroDivisionError), pruned_network(model, [PruneCandidate(SECOND, 4, into=(5, 2.0))]):
        raise ZeroDivisionError
    assert torch.equal(before, choose_layers(model, [SECOND])[0].next_layers[1].weight)


def test_random_removals_match_the_layers_and_their_numbers():
    layers = filter_layers(network())
    candidates = [PruneCandidate(FIRST, 1), PruneCandidate(FIRST, 2), PruneCandidate(SECOND, 3)]
    result = random_candidates(layers, candidates, rng_for(4, "draw"))
    assert [candidate.layer for candidate in result] == [FIRST, FIRST, SECOND]
    assert len({(candidate.layer, candidate.filter) for candidate in result}) == 3
    assert result == random_candidates(layers, candidates, rng_for(4, "draw"))
    assert result != random_candidates(layers, candidates, rng_for(5, "draw"))


def test_the_effect_is_counted_over_the_held_out_sites(run, screen):
    merged, zeroed = prune_effect(run, screen, n_random=2)
    assert merged["filters"] == 2 * (6 + 8)
    assert merged["layers"] == {FIRST: 14, SECOND: 14}
    assert merged["n_total"] == 9 * 64
    assert zeroed["filters"] == 20
    for one in (merged, zeroed):
        assert one["sites"] == 8  # those of E3
        assert one["interval"] is None  # a single experiment
        assert one["difference"] == pytest.approx(one["without"] - one["accuracy"])
        assert len(one["random"]) == 2
    table = predict_run(run, screen)[1].table  # the run itself is unchanged
    assert table["reason"].eq("").all()
    sites = (table["Metadata_Fold"] == "held_out").to_numpy()
    from distangle.results import Predictions

    single = Predictions.read(run.predictions, level="site", views=1).table[sites]
    assert merged["accuracy"] == pytest.approx((single["perturbation"] == single["predicted"]).mean())


def test_a_filter_that_decides_is_missed(run, screen, tmp_path):
    """All information passes one layer whose filters are all bands: without them the accuracy is chance."""
    shutil.copytree(run.root, tmp_path / "run")
    copy = RunFolder.open(tmp_path / "run")
    path = copy.checkpoints / "model.safetensors"
    model, card = load_model(path)
    name = "features.denseblock3.denselayer3.conv1"
    layer = choose_layers(model, [name])[0]
    with torch.no_grad():
        model.linear_templates.bias.zero_()
        layer.convolution.weight[:] = 1.0 / layer.input_norm.weight[None, :, None, None]
        model.backbone.features.norm5.weight[:-16] = 0
        model.backbone.features.norm5.bias[:-16] = 0
    save_model(model, path, card=card)
    result = prune_effect(copy, screen, names=[name], n_random=0)[1]
    assert result["filters"] == result["n_total"] == 64
    assert result["random"] == []
    n_without = round(result["without"] * 8)
    assert n_without in (2, 3)  # one and the same answer for all: 3, 3 and 2 sites of a class
    with pytest.raises(ExplanationError, match=r"No 1x1 convolution of these layers is followed by a norm, a ReLU"):
        prune_effect(copy, screen, names=["features.transition1.conv"])


def test_what_is_found_in_a_run_names_the_planted_layers(run, screen, tmp_path):
    result = examine_filters(run, screen=screen, settings=FEW)
    assert result.stored_layers == [FIRST, SECOND]
    assert set(result.weights) == {f"{name}|{kind}" for name in (FIRST, SECOND) for kind in ("printed", "gamma")}
    model, _ = load_model(run.checkpoints / "model.safetensors")
    printed_layer = choose_layers(model, [SECOND])[0]
    np.testing.assert_allclose(result.weights[f"{SECOND}|printed"], printed_layer.filters, rtol=1e-6)
    np.testing.assert_allclose(result.weights[f"{SECOND}|gamma"], printed_layer.folded(), rtol=1e-6)
    assert [one["layer"] for one in result.layers if one["weights"] == "printed"] == [
        layer.name for layer in filter_layers(model)
    ]  # fmt: skip
    record = next(one for one in result.layers if one["layer"] == SECOND and one["weights"] == "gamma")
    assert (record["filters"], record["inputs"], record["dense"]) == (64, 56, True)
    assert record["near_constant"]["value"] == 10 / 64
    assert record["duplicates"]["value"] == 14 / 64
    assert record["duplicates"]["initial"]["p"] == record["duplicates"]["shuffled"]["p"] == 1 / 10
    of_draws = {one["layer"]: one["duplicates"]["shuffled"]["p"] for one in result.layers}
    assert min(p for name, p in of_draws.items() if name not in result.stored_layers) >= 1 / 6  # five draws
    assert result.claim["n_total"] == 9
    assert not result.claim["printed_names"]
    for number in ("variation", "near_constant", "duplicates", "effective_rank"):
        assert sorted(result.claim["rank"]["gamma"][number].values()) in ([1, 1], [1, 2])
    assert any("They stand out among the layers of this network" in message for message in result.sentences)
    assert any(
        message.startswith("Duplicate filters merged (28 of 576): the accuracy over 8 held-out sites")
        for message in result.sentences
    )
    paths = result.write(tmp_path)
    assert [path.name for path in paths] == ["filters.json", "filters.safetensors"]
    copy = FilterAnalysis.read(tmp_path)
    assert copy.layers == result.layers
    assert copy.claim == result.claim
    assert copy.prune == result.prune
    assert all(np.array_equal(copy.weights[name], array) for name, array in result.weights.items())
    with pytest.raises(RunError, match=r"No filters at .*filters\.json\. Run `distangle explain RUN` first"):
        FilterAnalysis.read(tmp_path / "nowhere")


def test_a_network_as_it_was_made_has_nothing_that_stands_out_and_one_without_dense_layers_no_claim(screen, tmp_path):
    run = tiny_start(screen, tmp_path / "run", "network.backbone=resnet_small", epochs=1)
    finish_run(run)
    result = examine_filters(run, screen=screen, layers=["features.layer3.0.downsample.0"], settings=FEW)
    assert result.claim is None
    assert result.prune == []
    assert list(result.weights) == ["features.layer3.0.downsample.0|printed"]
    assert len(result.sentences) == 1
    assert (
        "0 of 128 filters are nearly constant, 0 look uniform (0 of them are near 0), 0 duplicate another"
        in result.sentences[0]
    )
    with pytest.raises(ExplanationError, match=r"No 1x1 convolution of resnet_small is followed by a norm, a ReLU"):
        prune_effect(run, screen)
