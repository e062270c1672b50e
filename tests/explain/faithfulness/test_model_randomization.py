import copy

import numpy as np
import pytest
import torch
from torch import nn

from distangle.core.random import rng_for
from distangle.core.shrinkage import Correction
from distangle.errors import ExplanationError
from distangle.explain import BatchStatistics, ShapleySettings
from distangle.explain.faithfulness import (
    cascade,
    map_method,
    maps_of,
    model_randomization,
    random_similarity,
    similarity,
)
from distangle.explain.faithfulness.consistency import similarity_to_other_targets
from distangle.explain.faithfulness.map_similarity import SiteShapley, mean_of_random, same_top, shapley_values
from distangle.explain.faithfulness.model_randomization import stages_of
from distangle.explain.sites import SiteBatch
from distangle.model import ModelConfig, build_classifier
from hand_made import chosen_sites, network


def rng(word="randomised"):
    return rng_for(1, word)


def brightness(model, site_batch):
    """Return a "map" that ignores the network."""
    return site_batch.images.mean(1)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def sites():
    return chosen_sites()[0]


def test_the_likeness_of_two_maps_is_the_correlation_of_their_ranks():
    first = np.array([[[1.0, 2.0], [3.0, 4.0]]] * 4)
    second = np.array([
        [[10.0, 20.0], [30.0, 99.0]],
        [[9.0, 5.0], [2.0, -7.0]],
        [[2.0, 1.0], [3.0, 4.0]],  # 1 - 6 * (1 + 1) / (4 * 15)
        [[5.0, 5.0], [5.0, 5.0]],
    ])  # fmt: skip
    np.testing.assert_allclose(similarity(first, second), [1, -1, 0.8, 0], atol=1e-12)


def test_random_smooth_maps_are_as_often_like_as_unlike():
    null = random_similarity(grid=(8, 8), rng=rng(), n_draws=400)
    assert null.shape == (400,)
    assert abs(null.mean()) < 0.05
    # Neighbors of a smooth map share a value: fewer regions count than the 64 of a map of noise (0.126).
    assert 0.18 < null.std() < 0.35
    low, high = mean_of_random(null, n_sites=25, rng=rng(), n_draws=400)
    assert -0.15 < low < -0.05
    assert 0.05 < high < 0.15


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("resnet_small", ["layer4", "layer3", "layer2", "layer1", "bn1", "conv1"]),
        (
            "densenet_small",
            ["norm5", "denseblock3", "transition2", "denseblock2", "transition1", "denseblock1", "norm0", "conv0"],
        ),
        ("efficientnet_lite0", [*(f"blocks.{k}" for k in range(10, -1, -1)), "bn0", "conv_stem"]),
    ],
)
def test_the_cascade_draws_one_part_after_the_other_anew_and_leaves_the_rest(backbone, names):
    config = ModelConfig(
        backbone=backbone, n_channels=2, n_perturbations=3, embedding_size=4, freeze_backbone="eff" in backbone
    )
    model = build_classifier(config, seed=1)
    with torch.no_grad():
        for part in model.modules():  # norms as after a training
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.weight.add_(0.5)
                part.bias.add_(0.5)
                part.running_mean.add_(0.5)
                part.running_var.add_(0.5)
                part.num_batches_tracked.add_(7)
    before = copy.deepcopy(model.state_dict())
    stages = [f"features.{name}" for name in names]
    assert [name for name, _ in stages_of(model)] == ["templates", "neck", *stages]
    stage_names, untrained = [], []
    new: set[str] = set()
    for step in cascade(model, seed=5):
        stage_names.append(step.stage)
        result = step.model.state_dict()
        changes = {name for name in result if not torch.equal(result[name], before[name])}
        assert changes > new
        prefix = {"templates": ("linear_templates.", "cosine_templates."), "neck": ("neck.",)}.get(
            step.stage, (f"backbone.{step.stage}.",)
        )
        assert changes - new == {name for name in before if name.startswith(prefix)}
        new = changes
        untrained += [step.stage] * step.trained_parts
    assert stage_names == ["templates", "neck", *stages]
    assert new == set(before)
    fresh = build_classifier(config, seed=5).state_dict()
    assert all(torch.equal(result[name], fresh[name]) for name in fresh)
    assert untrained == (["neck"] if config.freeze_backbone else [stages[-1]])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_seeds_draw_other_networks(model):
    first, second, other = (
        [step.model.linear_templates.weight.detach().clone() for step in cascade(model, seed=seed)][0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def centred_network():
    config = ModelConfig(
        backbone="resnet_small",
        n_channels=3,
        n_perturbations=3,
        embedding_size=4,
        freeze_backbone=True,
        correction=Correction(method="center"),
    )
    return build_classifier(config, seed=2).eval()


def piece_of(model, sites, *, controls):
    statistics = {}
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            statistics |= {f"{name}.mean": torch.full((part.num_features,), 3.0)}
            statistics |= {f"{name}.variance": torch.full((part.num_features,), 5.0)}
    return SiteBatch(
        rows=list(range(len(sites))),
        images=sites.images,
        cell_types=None,
        targets=sites.targets,
        references=torch.full((len(sites), model.n_features), 9.0),
        controls=controls,
        other_wells=None,
        bn_statistics=statistics,
    )


def test_a_new_part_takes_neither_the_norm_statistics_nor_the_references_of_the_old_weights(sites):
    model = centred_network()
    site_batch = piece_of(model, sites, controls=sites.images[:1] + 1)
    for step in cascade(model, seed=3):
        fitting = step.adapt(site_batch)
        for name, values in fitting.bn_statistics.items():
            new = name.startswith(tuple(f"{part}." for part in step.parts))
            old, fresh = (5.0, 1.0) if name.endswith(".variance") else (3.0, 0.0)
            assert (values == (fresh if new else old)).all()
        if step.stage in ("templates", "neck"):
            assert fitting.references is site_batch.references
    # Everything is random: the network is new, with new norms, and gets the control image.
    fresh = build_classifier(model.config, seed=3).eval()
    with torch.no_grad():
        expected = fresh.image_features(fresh.pool(fresh.feature_maps(site_batch.controls)))
    torch.testing.assert_close(fitting.references, expected.expand(len(sites), -1), atol=1e-4, rtol=1e-4)
    without_controls = step.adapt(piece_of(model, sites, controls=None))
    assert (without_controls.references == 0).all()


def test_maps_of_the_network_change_with_its_weights_and_a_map_that_ignores_them_does_not(model, sites):
    two_sites = sites.take(range(2))
    channel_values = shapley_values(model, two_sites, settings=ShapleySettings())
    results = {}
    for method in (map_method(), brightness):
        own_maps = maps_of(method, model, sites, batch_size=4)
        results[method] = model_randomization(
            model,
            sites,
            own_maps,
            method=method,
            rng=rng(),
            shapley=SiteShapley(sites=two_sites, values=channel_values, settings=ShapleySettings()),
            n_networks=3,
        )
    true, false = results.values()
    assert (false.similarity == 1).all()
    assert true.similarity.shape == (8, 3, 6)
    # Templates and neck first: from there on all of Grad-CAM's weights are random.
    assert abs(true.similarity[-1].mean()) < 0.4
    assert true.similarity.mean() < 0.4
    assert true.stages[true.before_training] == "features.conv1"
    assert list(true.untrained_maps) == list(true.shapley_similarity) == list(true.same_top) == ["features.conv1"]
    assert true.untrained_maps["features.conv1"].shape == (6, 4, 4)
    assert true.shapley_similarity["features.conv1"].shape == (2,)


def test_the_kept_maps_and_channels_are_those_of_an_untrained_network(model, sites):
    one_site = sites.take([1])
    channel_values = shapley_values(model, one_site, settings=ShapleySettings())
    own_maps = maps_of(map_method(), model, sites, batch_size=6)
    result = model_randomization(
        model,
        sites,
        own_maps,
        method=map_method(),
        rng=rng(),
        shapley=SiteShapley(sites=one_site, values=channel_values, settings=ShapleySettings()),
        n_networks=1,
    )
    seed = int(rng().integers(2**31, size=1)[0])
    fresh = build_classifier(model.config, seed=seed)
    maps = maps_of(map_method(), fresh, sites, batch_size=6)
    np.testing.assert_allclose(result.untrained_maps["features.conv1"], maps, atol=1e-6)
    np.testing.assert_allclose(result.similarity[-1, 0], similarity(own_maps, maps), atol=1e-9)
    values = shapley_values(fresh, one_site, settings=ShapleySettings())
    np.testing.assert_allclose(
        result.shapley_similarity["features.conv1"], similarity(channel_values, values), atol=1e-9
    )
    assert result.same_top["features.conv1"].tolist() == [float(channel_values.argmax() == values.argmax())]


def test_a_frozen_network_keeps_maps_of_new_trained_parts_and_of_all_new_parts(sites):
    model = build_classifier(
        ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=3, embedding_size=4, freeze_backbone=True),
        seed=1,
    ).eval()
    own_maps = maps_of(map_method(), model, sites, batch_size=6)
    result = model_randomization(model, sites, own_maps, method=map_method(), rng=rng(), n_networks=1)
    assert result.shapley_similarity == result.same_top == {}
    assert result.stages[result.before_training] == "neck"
    assert list(result.untrained_maps) == ["neck", "features.conv1"]


def test_the_map_of_another_target_is_another_map_unless_the_method_ignores_the_target(model, sites):
    own_maps = maps_of(map_method(), model, sites, batch_size=6)
    result = similarity_to_other_targets(model, sites, own_maps, method=map_method(), rng=rng(), n_targets=4)
    assert result.shape == (4, 6)
    # Places of the other channel are drawn by themselves; perturbation 0 has a constant logit, so no map.
    assert abs(result.mean()) < 0.3
    assert (result < 0.9).all()
    ignoring = maps_of(brightness, model, sites, batch_size=6)
    assert (similarity_to_other_targets(model, sites, ignoring, method=brightness, rng=rng()) == 1).all()


def test_the_other_target_is_never_the_own_one(model, sites):
    targets_of_calls = []

    def method(model, site_batch):
        targets_of_calls.append(site_batch.targets.clone())
        return site_batch.images[:, 0]

    similarity_to_other_targets(
        model, sites, np.zeros((6, 16, 16)), method=method, rng=rng(), n_targets=20, batch_size=6
    )
    other = torch.stack(targets_of_calls)
    assert (other != sites.targets).all()
    assert set(other[:, 0].tolist()) == {0, 2}
    assert set(other[:, 1].tolist()) == {0, 1}


def test_a_network_of_one_perturbation_has_no_other_target(sites):
    model = build_classifier(ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=1), seed=1)
    assert similarity_to_other_targets(model, sites, np.zeros((6, 4, 4)), method=map_method(), rng=rng()) is None


def test_the_largest_channel_is_the_same_or_not():
    assert same_top(np.array([[1.0, 2, 0], [5, 1, 1]]), np.array([[0.0, 9, 8], [1, 1, 3]])).tolist() == [1, 0]


def test_maps_come_in_the_order_of_the_sites_whatever_the_pieces(model, sites):
    whole_maps = maps_of(map_method(), model, sites, batch_size=6)
    split = sites.take(range(6))
    object.__setattr__(split, "norms", [BatchStatistics([4, 1], None), BatchStatistics([0, 2, 5, 3], None)])
    np.testing.assert_allclose(maps_of(map_method(), model, split, batch_size=3), whole_maps, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda model, site_batch: site_batch.images[:1, 0], "shape (1, 64, 64) for 6 sites. Expected one map"),
        (lambda model, site_batch: site_batch.images, "shape (6, 3, 64, 64) for 6 sites"),
        (lambda model, site_batch: site_batch.images[:, 0] / 0, "of finite numbers per site"),
    ],
)
def test_a_method_that_gives_no_maps_is_refused(model, sites, method, message):
    with pytest.raises(ExplanationError) as error:
        maps_of(method, model, sites, batch_size=6)
    assert message in str(error.value)
