"""The network with folded norms is the original one; in bfloat16 its embeddings point the same way."""

import pytest
import torch
from torch import nn

from distangle.errors import ConfigError
from distangle.model import ModelConfig, NormStatistics, build_classifier, use_statistics
from distangle.model.classifier import PerturbationClassifier
from distangle.model.cpu_inference import fold_norms, prepare_bf16


def network(backbone: str, **changes: bool) -> PerturbationClassifier:
    """Return a network with random norms."""
    config = ModelConfig(backbone=backbone, n_channels=3, n_perturbations=5, embedding_size=16, **changes)
    model = build_classifier(config, seed=0).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.2, generator=generator)
                layer.momentum = 0.5
        for _ in range(4):
            model(1 + 2 * torch.randn(8, 3, 64, 64, generator=generator))
    return model.eval()


def images(seed: int = 2) -> torch.Tensor:
    return 1 + 2 * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def embeddings(model: PerturbationClassifier) -> torch.Tensor:
    with torch.inference_mode():
        return model(images()).embedding


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one, other).min())


@pytest.fixture
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in bfloat16 also where the processor emulates it."""
    monkeypatch.setattr("distangle.model.cpu_inference.multiplies_bf16", lambda device: True)


@pytest.mark.parametrize(
    ("backbone", "n_norms"),
    # densenet_small: 9 first norms, 2 of transitions, the last. EfficientNet folds at each call: all 33.
    [("densenet_small", 12), ("resnet_small", 0), ("resnet50", 0), ("efficientnet_lite0", 33)],
)
def test_a_folded_network_is_the_original(backbone: str, n_norms: int) -> None:
    model = network(backbone)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = embeddings(model)
    fast_model = fold_norms(model)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in fast_model.modules()) == n_norms
    torch.testing.assert_close(embeddings(fast_model), expected, rtol=1e-3, atol=1e-3)
    if backbone.endswith("small"):
        torch.testing.assert_close(embeddings(fast_model), expected, rtol=1e-4, atol=1e-4)
    assert expected.std(dim=0).min() > 1e-3  # the images differ
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(embeddings(model), expected)


@pytest.mark.parametrize("backbone", ["densenet_small", "resnet_small", "resnet50"])
def test_folding_is_exact_in_float64(backbone: str) -> None:
    model, pixels = network(backbone).double(), images().double()
    with torch.inference_mode():
        result, expected = fold_norms(model).backbone(pixels), model.backbone(pixels)
    assert (result - expected).abs().max() < 1e-10 * expected.abs().max()


def test_a_folded_network_leaves_the_images_alone() -> None:
    fast_model, pixels = fold_norms(network("densenet_small")), images()
    with torch.inference_mode():
        fast_model(pixels)
    assert torch.equal(pixels, images())


@pytest.mark.usefixtures("has_bf16")
@pytest.mark.parametrize("handcrafted", [False, True])
@pytest.mark.parametrize("backbone", ["densenet_small", "resnet_small"])
def test_embeddings_in_bf16_point_the_same_way(backbone: str, handcrafted: bool) -> None:
    model = network(backbone, handcrafted_features=handcrafted)
    fast = prepare_bf16(model)
    assert fast is not model
    result, expected = embeddings(fast), embeddings(model)
    assert result.dtype == torch.float32
    assert cosine(result, expected) > 0.999
    assert not torch.equal(result, expected)  # the result was computed in bfloat16
    assert cosine(expected, expected.roll(1, 0)) < 0.99  # embeddings of different images differ more


def test_the_statistics_of_a_plate_are_folded() -> None:
    model = network("resnet_small")
    plate: NormStatistics = {
        f"{name}.{key}": buffer + 0.2
        for name, norm in model.named_modules()
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        for key, buffer in (("mean", norm.running_mean), ("variance", norm.running_var))
    }
    with use_statistics(model, plate):
        fast_model, expected = fold_norms(model), embeddings(model)
    torch.testing.assert_close(embeddings(fast_model), expected, rtol=1e-4, atol=1e-4)
    assert (embeddings(model) - expected).abs().max() > 0.01


def test_a_processor_without_bf16_computes_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("densenet_small")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert prepare_bf16(model) is model
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # another version of torch
    assert prepare_bf16(model) is model


@pytest.mark.usefixtures("has_bf16")
def test_an_efficientnet_stays_in_float32() -> None:
    model = network("efficientnet_lite0")
    assert prepare_bf16(model) is model


def test_a_network_on_another_device_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"The network is on meta, and bf16 is for the CPU\. Use device=cpu, or"):
        prepare_bf16(network("resnet_small").to("meta"))
