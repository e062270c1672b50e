"""A network trained on an effect planted in one channel and one region: the explanation must name both."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from distangle.core.random import rng_for
from distangle.explain import channel_shapley, grad_cam_maps, map_channel_correlation, shapley_null
from distangle.model import ModelConfig, build_classifier
from site_batches import batch

SIZE, STAIN = 32, 1


def noisy_sites(n, *, has_effect, seed):
    """Noise in three channels; the second perturbation has a blob in one channel at a random position."""
    rng = rng_for(seed, "planted")
    images = rng.normal(0, 1, (n, 3, SIZE, SIZE)).astype(np.float32)
    targets = np.arange(n) % 2
    places = rng.integers(6, SIZE - 6, (n, 2))
    grid = np.arange(SIZE)
    for site in np.flatnonzero(targets == 1):
        row, column = places[site]
        if has_effect:
            distance = (grid[:, None] - row) ** 2 + (grid[None, :] - column) ** 2
            images[site, STAIN] += 4 * np.exp(-distance / (2 * 2.5**2))
    images -= images.mean((2, 3), keepdims=True)
    return torch.from_numpy(images), torch.from_numpy(targets), places


def train_classifier(*, has_effect):
    model = build_classifier(
        ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=2, embedding_size=8), seed=1
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(40):
        images, targets, _ = noisy_sites(32, has_effect=has_effect, seed=step)
        optimiser.zero_grad()
        functional.cross_entropy(model(images).logits, targets).backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module")
def model_and_sites():
    model = train_classifier(has_effect=True)
    images, targets, places = noisy_sites(40, has_effect=True, seed=1000)
    return model, images[targets == 1], targets[targets == 1], places[targets.numpy() == 1]


def test_the_planted_channel_has_the_largest_shapley_value_and_no_other_channel_is_named(model_and_sites):
    model, images, targets, _ = model_and_sites
    values = channel_shapley(model, batch(images, None, targets)).values.numpy()
    assert (values.argmax(1) == STAIN).mean() >= 0.95
    result = shapley_null(values.astype(np.float64), rng=rng_for(1, "null"))
    assert result.p_family[STAIN] < 0.01
    assert (np.delete(result.p_family, STAIN) > 0.5).all()


def test_the_map_points_at_the_planted_region(model_and_sites):
    model, images, targets, places = model_and_sites
    maps = grad_cam_maps(model, batch(images, None, targets), layer="features.layer2").maps
    peaks = np.stack(np.unravel_index(maps.flatten(1).argmax(1).numpy(), (SIZE, SIZE)), axis=1)
    near = np.hypot(*(peaks - places).T) <= 6
    assert near.mean() >= 0.8  # a circle of 6 pixels covers 11 % of the image
    correlation = map_channel_correlation(maps.numpy(), images.numpy())
    assert (correlation.argmax(1) == STAIN).mean() >= 0.8


def test_where_nothing_was_planted_no_channel_is_named():
    model = train_classifier(has_effect=False)
    images, targets, _ = noisy_sites(40, has_effect=False, seed=1000)
    values = channel_shapley(model, batch(images, None, targets)).values.numpy()
    assert shapley_null(values.astype(np.float64), rng=rng_for(1, "null")).p_family.min() > 0.05
