import numpy as np
import pytest
import torch

from distangle.errors import ConfigError
from distangle.explain import activation_maps
from distangle.model import ModelConfig, build_classifier
from distangle.model.measurements import N_SCALES, QUANTILES, Measurements


def images(n: int = 3, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, channels, size, size)).astype(np.float32))


def test_mean_spread_quantiles_and_correlation_are_those_of_numpy() -> None:
    seen = images()
    found = Measurements(3)(seen).numpy()
    flat = seen.numpy().reshape(3, 3, -1)
    np.testing.assert_allclose(found[:, :3], flat.mean(2), atol=1e-6)
    np.testing.assert_allclose(found[:, 3:6], flat.std(2, ddof=1), rtol=1e-5)
    for k, share in enumerate(QUANTILES):
        expected = np.sort(flat, axis=2)[:, :, round(share * 1023)]
        np.testing.assert_allclose(found[:, 6 + 3 * k : 9 + 3 * k], expected, rtol=1e-6)
    first = 6 + 3 * len(QUANTILES)
    expected = [[np.corrcoef(site)[a, b] for a, b in ((0, 1), (0, 2), (1, 2))] for site in flat]
    np.testing.assert_allclose(found[:, first : first + 3], expected, atol=1e-5)


def test_granularity_names_the_scale_of_a_pattern() -> None:
    rows = np.arange(64)[:, None] + np.zeros(64)
    energies = []
    for period in (2, 4, 8, 16):
        pattern = np.sign(np.sin(2 * np.pi * (rows + 0.5) / period)).astype(np.float32)
        found = Measurements(1)(torch.from_numpy(pattern)[None, None])[0]
        start = 2 + len(QUANTILES)
        energies.append([float(found[start + 3 * scale]) for scale in range(N_SCALES)])
    assert [int(np.argmax(row)) for row in energies] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "turned", [lambda x: x.flip(2), lambda x: x.transpose(2, 3), lambda x: torch.rot90(x, 1, (2, 3))]
)
def test_a_turned_image_measures_the_same(turned) -> None:  # type: ignore[no-untyped-def]
    layer = Measurements(3)
    torch.testing.assert_close(layer(turned(images())), layer(images()), rtol=1e-4, atol=1e-4)


def test_a_constant_image_measures_finite_numbers_and_has_finite_gradients() -> None:
    flat = torch.zeros(1, 2, 16, 16, requires_grad=True)
    found = Measurements(2)(flat)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_the_number_of_measurements_is_known_beforehand() -> None:
    for channels in (1, 3, 6):
        layer = Measurements(channels)
        assert layer(images(channels=channels)).shape == (3, layer.n_features)


def test_a_model_with_measurements_joins_them_and_explains_as_without_closed_form() -> None:
    config = ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=4, embedding_size=8, measurements=True)
    model = build_classifier(config, seed=0).eval()
    seen = images(size=64)
    outputs = model(seen)
    pooled = model.pool(model.feature_maps(seen))
    assert torch.equal(model.classify(pooled, None, model.measure(seen)).logits, outputs.logits)
    with pytest.raises(ConfigError, match="model.measure"):
        model.classify(pooled, None)
    targets = torch.tensor([0, 1, 2])
    closed = activation_maps(model, seen, None, targets, layer="features.layer4")
    general = activation_maps(model, seen, None, targets, layer="features.layer4.0")
    torch.testing.assert_close(closed.maps, general.maps, rtol=1e-4, atol=1e-5)
