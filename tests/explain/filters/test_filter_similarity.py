import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain.filters.layers import PRINTED, choose_layers, filter_layers
from distangle.explain.filters.similarity import (
    Thresholds,
    are_bands,
    average_channels,
    coefficient_of_variation,
    compare_with_nulls,
    duplicate_groups,
    effective_rank,
    is_constant_filter,
    measure_bands,
    shuffle_filters,
    variation,
)
from distangle.explain.sites import freeze
from distangle.model import ModelConfig, build_classifier
from distangle.profiles.geometry import cosines


def network(backbone="densenet_small", **options):
    return build_classifier(
        ModelConfig(backbone=backbone, n_channels=2, n_perturbations=3, embedding_size=4, **options), seed=1
    )


def set_trained_norms(model, seed=2):
    """Set the norms as after training: gain not 1, mean not 0."""
    rng = rng_for(seed, "norms")
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            n = part.num_features
            for tensor, values in (
                (part.weight, rng.uniform(0.5, 1.5, n)), (part.bias, rng.normal(0, 0.3, n)),
                (part.running_mean, rng.normal(0, 0.3, n)), (part.running_var, rng.uniform(0.5, 2, n)),
            ):  # fmt: skip
                tensor.data.copy_(torch.from_numpy(values))
    return model


def test_the_convolution_of_a_layer_is_the_printed_weighted_average_of_its_channels():
    model = set_trained_norms(network()).eval()
    layer = choose_layers(model, ["features.denseblock2.denselayer2.conv1"])[0]
    calls = []
    hook = layer.convolution.register_forward_hook(lambda part, given, outputs: calls.append((given[0], outputs)))
    with freeze(model), torch.no_grad():
        model(torch.from_numpy(rng_for(3, "images").normal(size=(2, 2, 32, 32))).float())
    hook.remove()
    maps, outputs = (tensor.double().numpy() for tensor in calls[0])
    np.testing.assert_allclose(average_channels(maps, layer.filters), outputs, atol=1e-5)
    # The sum of Eq. (14) in plain loops, at one region of one image.
    k, row, column = 7, 3, 5
    total = sum(layer.filters[k, i] * maps[1, i, row, column] for i in range(maps.shape[1]))
    assert outputs[1, k, row, column] == pytest.approx(total, abs=1e-5)


def test_folded_filters_are_what_the_layer_does_to_an_input_that_rises():
    model = set_trained_norms(network()).eval()
    layer = choose_layers(model, ["features.denseblock1.denselayer3.conv1"])[0]
    layer.input_norm.bias.data += 100  # every ReLU is open
    x = torch.from_numpy(rng_for(4, "x").normal(size=(1, layer.convolution.in_channels, 1, 1))).double()

    def through(maps):
        with torch.no_grad():
            return layer.convolution.double()(torch.relu(layer.input_norm.double()(maps)))[0, :, 0, 0].numpy()

    for channel in (0, 5, 17):
        rise = torch.zeros_like(x)
        rise[0, channel] = 1
        np.testing.assert_allclose(through(x + rise) - through(x), layer.folded(spread=True)[:, channel], atol=1e-6)
        spread = math.sqrt(float(layer.input_norm.running_var[channel]) + layer.input_norm.eps)
        np.testing.assert_allclose(
            through(x + rise * spread) - through(x), layer.folded()[:, channel], atol=1e-6
        )  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "name", "before", "behind"),
    [
        ("densenet_small", "features.denseblock1.denselayer2.conv1", "norm1", "conv2"),
        ("densenet_small", "features.transition1.conv", "norm", None),
        ("resnet50", "features.layer1.0.conv1", None, "conv2"),
        ("resnet50", "features.layer1.0.conv3", "bn2", None),
        ("resnet50", "features.layer1.0.downsample.0", None, None),
        ("efficientnet_lite0", "features.blocks.1.expand_conv", None, None),
        ("efficientnet_lite0", "features.blocks.1.project_conv", "bn1", None),
    ],
)
def test_a_layer_knows_the_norm_before_and_the_convolution_behind_it(backbone, name, before, behind):
    model = network(backbone)
    layer = choose_layers(model, [f"backbone.{name}"])[0]
    block = model.backbone.get_submodule(name.rpartition(".")[0])
    assert layer.name == name
    assert layer.input_norm is (getattr(block, before) if before else None)
    assert (layer.next_layers and layer.next_layers[1]) is (getattr(block, behind) if behind else None)
    assert (layer.folded() is None) == (before is None)
    assert layer.convolution.kernel_size == (1, 1)


def test_the_layers_of_figure_10_have_the_shapes_of_densenet_161():
    with torch.device("meta"):
        from distangle.model import PerturbationClassifier

        model = PerturbationClassifier(ModelConfig(n_channels=6, n_perturbations=2))
    layers = choose_layers(model)
    assert [layer.name for layer in layers] == list(PRINTED)
    assert [tuple(layer.convolution.weight.shape[:2]) for layer in layers] == [(192, 336), (192, 240)]
    assert sum(layer.is_dense for layer in filter_layers(model)) == 6 + 12 + 36 + 24


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("densenet_small", ["features.denseblock1.denselayer3.conv1", "features.denseblock2.denselayer2.conv1"]),
        ("resnet_small", ["features.layer2.0.downsample.0", "features.layer4.0.downsample.0"]),
        ("efficientnet_lite0", ["features.blocks.0.project_conv", "features.blocks.10.project_conv"]),
    ],
)
def test_another_network_shows_the_nearest_it_has(backbone, names):
    assert [layer.name for layer in choose_layers(network(backbone))] == names


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_names():
    model = network()
    assert choose_layers(model, ["features.denseblock1.denselayer2"])[0].name.endswith("denselayer2.conv1")
    twice = ["features.denseblock1.denselayer2", "features.denseblock1.denselayer2.conv1"]
    assert len(choose_layers(model, twice)) == 1
    with pytest.raises(ExplanationError) as error:
        choose_layers(model, ["features.denseblock1.denselayer6.conv1"])
    output = str(error.value)
    assert output.startswith("'features.denseblock1.denselayer6.conv1' is no layer of densenet_small. Did you mean ")
    assert "'features.denseblock1.denselayer3.conv1'" in output
    with pytest.raises(ExplanationError, match=r"'features\.conv0' is no 1x1 convolution of densenet_small\. "):
        choose_layers(model, ["features.conv0"])


def test_variation_by_hand():
    filters = np.array([[2.0, 2, 2, 2], [1, 3, 1, 3], [-1, 1, -1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(coefficient_of_variation(filters), [0, 0.5, np.inf, np.inf])
    np.testing.assert_allclose(variation(filters), [0, 1 / math.sqrt(5), 1, 0])
    assert coefficient_of_variation(-filters)[1] == 0.5


def test_a_filter_near_0_looks_like_one_color_and_is_no_average():
    rng = rng_for(5, "weights")
    filters = rng.normal(size=(20, 50))
    filters[3] = 1.5  # an average
    filters[4] *= 1e-6  # near 0: has almost no weight, and is invisible in the figure
    filters[5] = 1.5 + 0.2 * rng.normal(size=50)  # nearly an average, and not of one color
    assert np.flatnonzero(is_constant_filter(filters, flat=0.1)).tolist() == [3, 4]
    assert np.flatnonzero(coefficient_of_variation(filters) <= 0.25).tolist() == [3, 5]
    assert np.flatnonzero(are_bands(filters, Thresholds())).tolist() == [3, 4, 5]
    result = measure_bands(filters, Thresholds())
    assert (result["near_constant"], result["one_color"], result["silent"]) == (2 / 20, 2 / 20, 1 / 20)


def test_effective_rank_by_hand_and_of_the_singular_values_of_numpy():
    assert effective_rank(np.eye(4)) == pytest.approx(4)
    assert effective_rank(np.ones((3, 7))) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 7))) == 0
    # Singular values 3 and 1: shares 3/4 and 1/4.
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(4 / 3**0.75)
    for shape in ((5, 9), (9, 5)):
        filters = rng_for(6, "rank").normal(size=shape)
        sizes = np.linalg.svd(filters, compute_uv=False)
        shares = sizes / sizes.sum()
        assert effective_rank(filters) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_duplicates_join_the_nearest_head_and_small_steps_make_no_chain():
    angles = np.radians([0, 10, 20, 90, 95, 180, 3])
    filters = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [5], [1], [2], [1], [1], [9]])
    above = math.cos(math.radians(12))
    # 10 joins 0, 20 is 20 from the head of its group and begins its own; 180 is no duplicate of 0.
    assert duplicate_groups(cosines(filters), above=above).tolist() == [0, 0, 2, 3, 3, 5, 0]
    assert measure_bands(filters, Thresholds(duplicate=above))["duplicates"] == pytest.approx(3 / 7)


def test_neighbors_that_are_alike_are_a_block_and_alike_ones_far_apart_are_none():
    rng = rng_for(7, "weights")
    base = rng.normal(size=(4, 30))
    side_by_side = np.repeat(base, 5, axis=0) + 0.1 * rng.normal(size=(20, 30))
    dealt_out = side_by_side.reshape(4, 5, 30).transpose(1, 0, 2).reshape(20, 30)
    first, second = measure_bands(side_by_side, Thresholds()), measure_bands(dealt_out, Thresholds())
    assert first["neighbor_cosine"] > 0.8
    assert second["neighbor_cosine"] < 0.4
    for name in ("cosine_size", "duplicates", "effective_rank", "variation"):
        assert first[name] == pytest.approx(second[name])


def draws(filters, n, seed):
    rng = rng_for(seed, "draws")
    return {"shuffled": (shuffle_filters(filters, rng) for _ in range(n))}


def test_shuffling_keeps_the_weights_and_nothing_else():
    filters = rng_for(8, "weights").normal(size=(6, 9))
    other = shuffle_filters(filters, rng_for(9, "shuffle"))
    assert sorted(other.ravel()) == sorted(filters.ravel())
    assert not np.array_equal(np.sort(other, axis=1), np.sort(filters, axis=1))
    assert not np.array_equal(np.sort(other, axis=0), np.sort(filters, axis=0))


def test_planted_bands_and_blocks_are_significant_and_random_weights_are_not():
    rng = rng_for(10, "weights")
    weights = rng.normal(size=(24, 40))
    weights[4:10] = 1.2  # a block of bands
    weights[14:18] = weights[13]
    result = compare_with_nulls(weights, Thresholds(), nulls=draws(weights, 39, 11))
    for name in (
        "variation",
        "near_constant",
        "one_color",
        "cosine_size",
        "neighbor_cosine",
        "duplicates",
        "effective_rank",
    ):
        assert result[name]["shuffled"]["p"] == 1 / 40, name
    assert result["duplicates"]["value"] == (5 + 4) / 24
    assert result["near_constant"]["value"] == result["one_color"]["value"] == 6 / 24
    low, high = result["effective_rank"]["shuffled"]["random_range"]
    assert result["effective_rank"]["value"] < low <= high
    small = {name: [] for name in ("variation", "cosine_size", "neighbor_cosine", "effective_rank")}
    for trial in range(60):
        filters = rng_for(12, "weights", trial).normal(size=(10, 12))
        output = compare_with_nulls(filters, Thresholds(), nulls=draws(filters, 19, trial))
        for name, result in small.items():
            result.append(output[name]["shuffled"]["p"] <= 0.1)
        assert output["near_constant"]["shuffled"]["p"] == 1  # none, and none in any draw
    assert {name: np.mean(result) < 0.22 for name, result in small.items()} == dict.fromkeys(small, True)


def test_a_convolution_of_torch_agrees_for_any_filters():
    rng = rng_for(13, "any")
    maps, filters = rng.normal(size=(2, 5, 3, 4)), rng.normal(size=(7, 5))
    expected = functional.conv2d(torch.from_numpy(maps), torch.from_numpy(filters)[..., None, None]).numpy()
    np.testing.assert_allclose(average_channels(maps, filters), expected)
