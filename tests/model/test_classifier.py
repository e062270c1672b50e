import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.errors import ConfigError
from distangle.model import BACKBONES, ModelConfig, PerturbationClassifier, build_classifier


def small(**changes: Any) -> PerturbationClassifier:
    settings = {"backbone": "densenet_small", "n_channels": 3, "n_perturbations": 5, "n_cell_types": 4}
    return build_classifier(ModelConfig(**{**settings, "embedding_size": 16, **changes}), seed=3)


def some_images(n_sites: int = 4, n_channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(n_sites, n_channels, size, size, generator=torch.Generator().manual_seed(0))


def n_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_printed_network_has_32_142_107_parameters() -> None:
    with torch.device("meta"):
        model = PerturbationClassifier(ModelConfig(n_channels=6, n_perturbations=1139, n_cell_types=4))
    assert n_parameters(model.backbone.features) == 26_486_112
    # norm 2 x 2212, 2212 x 1024, norm 2 x 1024, 1024 x 1024, norm 2 x 1024
    assert n_parameters(model.neck) == 3_322_184
    assert n_parameters(model.linear_templates) == 1139 * 1024 + 1139 == 1_167_475
    assert n_parameters(model.cosine_templates) == 1139 * 1024 == 1_166_336
    assert n_parameters(model) == 32_142_107
    assert model.neck[0].num_features == 2208 + 4


def test_the_whole_is_its_printed_parts() -> None:
    model, images, cell_types = small().eval(), some_images(), torch.eye(4)
    # Random statistics, so that a missing or misplaced norm changes the result.
    randomness = torch.Generator().manual_seed(1)
    for part in model.neck.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.normal_(0, 0.2, generator=randomness)
            part.running_var.uniform_(0.5, 2, generator=randomness)
    with torch.no_grad():
        outputs = model(images, cell_types)
        pooled = functional.relu(model.backbone.features(images)).flatten(2).mean(2)
        vector = torch.cat([pooled, cell_types], dim=1)
        state = model.neck.state_dict()

        def norm(vector: torch.Tensor, name: str) -> torch.Tensor:
            centred = vector - state[f"{name}.running_mean"]
            scaled = centred / (state[f"{name}.running_var"] + 1e-5).sqrt()
            return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

        vector = norm(vector, "norm0") @ state["linear1.weight"].T
        vector = norm(vector.clamp(min=0), "norm1") @ state["linear2.weight"].T
        embedding = norm(vector, "norm2")
        logits = embedding @ model.linear_templates.weight.T + model.linear_templates.bias
        cosines = functional.cosine_similarity(embedding[:, None], model.cosine_templates.weight[None], dim=2)
    torch.testing.assert_close(outputs.embedding, embedding, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.logits, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.cosines, cosines, rtol=1e-5, atol=1e-5)


def test_forward_is_feature_maps_then_pool_then_classify() -> None:
    model, images, cell_types = small().eval(), some_images(), torch.eye(4)
    with torch.no_grad():
        whole = model(images, cell_types)
        parts = model.classify(model.pool(model.feature_maps(images)), cell_types)
    assert torch.equal(whole.logits, parts.logits)
    assert torch.equal(whole.cosines, parts.cosines)
    assert torch.equal(whole.embedding, parts.embedding)


def test_pooling_is_the_mean_over_each_map() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    assert small().pool(maps).tolist() == [[3.0, 1.0]]


def test_pooling_sums_in_float32_what_autocast_made_bfloat16() -> None:
    maps = torch.ones(1, 1, 32, 32, dtype=torch.bfloat16)
    maps[0, 0, 0, 0] = 2.0
    pooled = small().pool(maps)
    assert pooled.dtype == torch.float32
    assert pooled.item() == 1025 / 1024


def test_the_cell_type_reaches_the_embedding_and_its_mixture_lies_between() -> None:
    model, images = small().eval(), some_images(1)
    with torch.no_grad():
        one, other = (model(images, torch.eye(4)[[kind]]).embedding for kind in (0, 2))
    assert (one - other).abs().max() > 1e-4


def test_without_cell_types_the_neck_takes_the_pooled_features_alone() -> None:
    model = small(n_cell_types=0).eval()
    assert model.neck[0].num_features == model.backbone.n_features
    with torch.no_grad():
        assert model(some_images()).logits.shape == (4, 5)


@pytest.mark.parametrize(("final_relu", "has_negatives"), [(True, False), (False, True)])
def test_the_final_relu_can_be_left_out(final_relu: bool, has_negatives: bool) -> None:
    model = small(final_relu=final_relu).eval()
    with torch.no_grad():
        maps = model.feature_maps(some_images())
    assert bool((maps < 0).any()) is has_negatives


def test_the_final_relu_leaves_the_map_of_norm5_to_a_hook() -> None:
    model, hook_maps = small().eval(), []
    model.backbone.features.norm5.register_forward_hook(lambda _module, _inputs, maps: hook_maps.append(maps))
    with torch.no_grad():
        maps = model.feature_maps(some_images())
    assert hook_maps[0].min() < 0
    assert torch.equal(maps, hook_maps[0].clamp(min=0))


def test_every_norm_has_the_momentum_of_the_config() -> None:
    momenta = [part.momentum for part in small(norm_momentum=0.05).modules() if isinstance(part, _BatchNorm)]
    # stem, two for each of nine layers, two transitions, norm5, three in the neck
    assert momenta == [0.05] * (1 + 2 * 9 + 2 + 1 + 3)


def test_dropout_acts_in_training_only() -> None:
    model = small(neck_dropout=0.5)
    pooled, cell_types = torch.randn(4, model.backbone.n_features), torch.eye(4)
    assert not torch.equal(model.classify(pooled, cell_types).logits, model.classify(pooled, cell_types).logits)
    model.eval()
    assert torch.equal(model.classify(pooled, cell_types).logits, model.classify(pooled, cell_types).logits)
    assert small(neck_dropout=0.5).state_dict().keys() == small().state_dict().keys()


@pytest.mark.parametrize("backbone", ["densenet_small", "resnet_small"])
def test_evaluation_repeats_and_a_site_does_not_depend_on_its_minibatch(backbone: str) -> None:
    model, images, cell_types = small(backbone=backbone).eval(), some_images(), torch.eye(4)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        first, second = model(images, cell_types), model(images, cell_types)
        alone = model(images[2:3], cell_types[2:3])
    assert torch.equal(first.logits, second.logits)
    torch.testing.assert_close(first.logits[2:3], alone.logits, rtol=1e-5, atol=1e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("backbone", ["densenet161", "densenet_small"])
def test_bfloat16_and_channels_last_stay_within_2_percent(backbone: str) -> None:
    model, images, cell_types = small(backbone=backbone).eval(), some_images(2, size=64), torch.eye(4)[:2]
    with torch.no_grad():
        plain = model(images, cell_types)
        model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            fast = model(images.contiguous(memory_format=torch.channels_last), cell_types)
    assert fast.logits.dtype == fast.cosines.dtype == fast.embedding.dtype == torch.float32
    assert (fast.logits - plain.logits).abs().max() / plain.logits.abs().max() < 2e-2
    assert (fast.cosines - plain.cosines).abs().max() < 2e-2


def test_equal_seeds_give_equal_networks_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, second = small().state_dict(), small().state_dict()
    other = build_classifier(small().config, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.items():
        assert torch.equal(value, second[name]), name
        if "conv" in name or "linear" in name or "templates" in name:
            assert not torch.equal(value, other[name]), name


def test_no_two_parameters_share_their_first_values() -> None:
    model = small(n_perturbations=16, embedding_size=16)
    values = [value.flatten()[:12].tolist() for value in model.parameters() if value.unique().numel() > 1]
    assert len(values) == 1 + 2 * 9 + 2 + 2 + 2 + 1
    assert len({tuple(first) for first in values}) == len(values)


def test_first_values_of_the_backbone_do_not_depend_on_the_heads() -> None:
    one, other = small(n_perturbations=5), small(n_perturbations=9, embedding_size=8)
    for name, value in one.backbone.state_dict().items():
        assert torch.equal(value, other.backbone.state_dict()[name]), name


@pytest.mark.parametrize("backbone", ["densenet121", "resnet18"])
def test_first_values_are_spread_as_announced(backbone: str) -> None:
    model = small(backbone=backbone, n_perturbations=300, embedding_size=64)
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Conv2d) and part.weight.numel() > 5000:
            expected = (2 / part.weight[0].numel()) ** 0.5
            assert part.weight.std().item() == pytest.approx(expected, rel=0.06), name
        if isinstance(part, _BatchNorm):
            assert part.weight.eq(1).all(), name
            assert part.bias.eq(0).all(), name
            assert part.running_mean.eq(0).all(), name
            assert part.running_var.eq(1).all(), name
            assert part.num_batches_tracked == 0, name
    for weight in (model.linear_templates.weight, model.cosine_templates.weight, model.neck.linear2.weight):
        assert weight.abs().max() <= 1 / 8
        assert weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_takes_any_number_of_channels(backbone: str) -> None:
    config = ModelConfig(backbone=backbone, n_channels=5, n_perturbations=7)
    with torch.device("meta"):
        outputs = PerturbationClassifier(config).eval()(torch.zeros(2, 5, 64, 64))
    assert outputs.logits.shape == outputs.cosines.shape == (2, 7)
    assert outputs.embedding.shape == (2, 1024)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="The images have 2 channels, expected 3"):
        small()(some_images(n_channels=2), torch.eye(4))


@pytest.mark.parametrize(("n_cell_types", "cell_types"), [(4, None), (4, torch.eye(4)[:, :3]), (0, torch.eye(4))])
def test_cell_types_of_another_number_are_refused(n_cell_types: int, cell_types: torch.Tensor | None) -> None:
    n_columns = 0 if cell_types is None else cell_types.shape[1]
    with pytest.raises(ConfigError, match=f"have {n_columns} columns, expected {n_cell_types}"):
        small(n_cell_types=n_cell_types)(some_images(), cell_types)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "densnet161"}, "No backbone is called 'densnet161'. Did you mean 'densenet161'"),
        ({"n_channels": 0}, "greater than or equal to 1"),
        ({"norm_momentum": 0.0}, "greater than 0"),
        ({"neck_dropout": 1.0}, "less than 1"),
        ({"dropout": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_nothing_understands_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**{"n_channels": 3, "n_perturbations": 5, **change})
