import numpy as np
import torch

from distangle.explain import grad_cam_maps
from distangle.model import ModelConfig, build_classifier
from distangle.model.handcrafted_features import LEVELS, N_SCALES, SOFTNESS, HandcraftedFeatures
from site_batches import batch


def images(n: int = 3, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, channels, size, size)).astype(np.float32))


def measure(pixels: torch.Tensor) -> torch.Tensor:
    layer = HandcraftedFeatures(pixels.shape[1])
    return layer.features(layer.maps(pixels, size=(4, 4)).mean((2, 3)))


def test_mean_spread_levels_and_correlation_are_those_of_numpy() -> None:
    pixels = images()
    features = measure(pixels).numpy()
    flat = pixels.numpy().reshape(3, 3, -1)
    np.testing.assert_allclose(features[:, :3], flat.mean(2), atol=1e-6)
    np.testing.assert_allclose(features[:, 3:6], flat.std(2), rtol=1e-5)
    for k, level in enumerate(LEVELS):
        expected = (1 / (1 + np.exp(-(flat - level) / SOFTNESS))).mean(2)
        np.testing.assert_allclose(features[:, 6 + 3 * k : 9 + 3 * k], expected, rtol=1e-4, atol=1e-6)
    first = 6 + 3 * len(LEVELS)
    expected = [[np.corrcoef(site)[a, b] for a, b in ((0, 1), (0, 2), (1, 2))] for site in flat]
    np.testing.assert_allclose(features[:, first : first + 3], expected, atol=1e-5)


def test_the_order_of_the_axes_in_memory_changes_nothing() -> None:
    pixels = images()
    assert torch.equal(measure(pixels.to(memory_format=torch.channels_last)), measure(pixels))


def test_granularity_names_the_scale_of_a_pattern() -> None:
    rows = np.arange(64)[:, None] + np.zeros(64)
    energies = []
    for period in (2, 4, 8, 16):
        pattern = np.sign(np.sin(2 * np.pi * (rows + 0.5) / period)).astype(np.float32)
        features = measure(torch.from_numpy(pattern)[None, None])[0]
        start = 2 + len(LEVELS)
        energies.append([float(features[start + 3 * scale]) for scale in range(N_SCALES)])
    assert [int(np.argmax(row)) for row in energies] == [0, 1, 2, 3]


def test_a_turned_image_measures_the_same() -> None:
    pixels = images()
    for rotation in (pixels.flip(2), pixels.transpose(2, 3), torch.rot90(pixels, 1, (2, 3))):
        torch.testing.assert_close(measure(rotation), measure(pixels), rtol=1e-4, atol=1e-4)


def test_a_constant_image_measures_finite_numbers_and_has_finite_gradients() -> None:
    flat = torch.zeros(1, 2, 16, 16, requires_grad=True)
    features = measure(flat)
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_the_number_of_measurements_is_known_beforehand() -> None:
    for channels in (1, 3, 6):
        layer = HandcraftedFeatures(channels)
        assert layer.maps(images(channels=channels), size=(2, 2)).shape == (3, layer.n_maps, 2, 2)
        assert measure(images(channels=channels)).shape == (3, layer.n_features)


def test_a_model_with_measurements_joins_them_and_its_activation_map_sees_them() -> None:
    config = ModelConfig(
        backbone="resnet_small", n_channels=3, n_perturbations=4, embedding_size=8, handcrafted_features=True
    )
    model = build_classifier(config, seed=0).eval()
    pixels = images(size=64)
    n_maps = model.backbone.n_features + HandcraftedFeatures(3).n_maps
    assert model.feature_maps(pixels).shape == (3, n_maps, 4, 4)
    targets = torch.tensor([0, 1, 2])
    closed_form = grad_cam_maps(model, batch(pixels, None, targets), layer="features.layer4")
    general = grad_cam_maps(model, batch(pixels, None, targets), layer="features.layer4.0")
    torch.testing.assert_close(closed_form.maps, general.maps, rtol=1e-4, atol=1e-5)
    # By hand: the gradient of the logit with respect to the pooled maps, weighted and summed over all of them.
    maps = model.feature_maps(pixels).detach().requires_grad_()
    logits = model.classify(model.pool(maps), None).logits
    (gradient,) = torch.autograd.grad(logits[torch.arange(3), targets].sum(), maps)
    textbook = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    all_channels = grad_cam_maps(model, batch(pixels, None, targets))
    torch.testing.assert_close(all_channels.raw.relu(), textbook.detach(), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(all_channels.maps, closed_form.maps)


def test_each_map_depends_on_the_stains_it_names_and_no_other():
    measurements = HandcraftedFeatures(3)
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = measurements.maps(images, size=(4, 4))[0]
    assert len(measurements.channels) == measurements.n_maps == len(before)
    for channel in range(3):
        altered = images.clone()
        altered[:, channel] = altered[:, channel].flip(1) ** 2
        differs = (measurements.maps(altered, size=(4, 4))[0] - before).abs().amax((1, 2)) > 0
        assert differs.tolist() == [channel in pair for pair in measurements.channels]
