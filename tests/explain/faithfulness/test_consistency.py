import dataclasses

import numpy as np
import pytest
import torch

from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain import NetworkSites, ShapleySettings, examine_seeds
from distangle.explain.faithfulness import map_method, maps_of
from distangle.explain.faithfulness.consistency import (
    augment_batch,
    shapley_of_augmentations,
    similarity_of_augmentations,
)
from distangle.explain.faithfulness.map_similarity import SiteShapley, shapley_values
from distangle.images import Augmentation, augment
from distangle.model import ModelConfig, build_classifier
from hand_made import chosen_sites, network


def rng():
    return rng_for(1, "stability")


def corner(model, site_batch):
    """A "map" that always points at one corner of the camera: the largest value first, then row by row."""
    height, width = site_batch.images.shape[2:]
    return -torch.arange(float(height * width)).reshape(1, height, width).expand(len(site_batch.images), -1, -1)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def sites():
    return chosen_sites()[0]


@pytest.mark.parametrize("number", range(8))
def test_a_augmented_batch_is_the_view_of_its_images_controls_and_other_wells(sites, number):
    site_batch = next(sites.batches(batch_size=2, device=torch.device("cpu")))
    images = torch.randn(2, 3, 6, 4)
    wide = dataclasses.replace(site_batch, images=images, controls=images[:1] + 1, other_wells=images - 2)
    augmented = augment_batch(wide, number=number)
    shape = (3, 4, 6) if number & 4 else (3, 6, 4)
    for name in ("images", "controls", "other_wells"):
        before, after = getattr(wide, name), getattr(augmented, name)
        expected = [augment(one.numpy(), Augmentation(number), out=np.empty(shape, np.float32)) for one in before]
        np.testing.assert_array_equal(after.numpy(), np.stack(expected))
    assert augment_batch(dataclasses.replace(wide, controls=None), number=number).controls is None


def test_maps_of_augmented_images_turn_with_them_and_those_of_a_corner_do_not(model, sites):
    own_maps = maps_of(map_method(), model, sites, batch_size=6)
    result = similarity_of_augmentations(model, sites, own_maps, method=map_method())
    assert result.shape == (7, 6)
    # Places are constant, so that it does not matter which of its pixels the network reads.
    np.testing.assert_allclose(result, 1, atol=1e-9)
    fixed_maps = maps_of(corner, model, sites, batch_size=6)
    result = similarity_of_augmentations(model, sites, fixed_maps, method=corner)
    assert (result[2] < -0.99).all()  # half a turn
    assert result.mean() < 0


def test_each_view_is_augmented_back_by_itself(model):
    """A map that is wrong in one view lowers the similarity of that view only."""
    sites, _ = chosen_sites(2)
    own_maps = maps_of(map_method(), model, sites, batch_size=2)
    calls = []

    def method(model, site_batch):
        calls.append(None)
        maps = map_method()(model, site_batch)
        return -maps if len(calls) == 5 else maps

    result = similarity_of_augmentations(model, sites, own_maps, method=method)
    np.testing.assert_allclose(result[4], -1, atol=1e-9)
    np.testing.assert_allclose(np.delete(result, 4, axis=0), 1, atol=1e-9)


def test_channels_of_augmented_images_are_the_same_where_the_network_sees_no_direction(model, sites):
    two_sites = sites.take([0, 1])
    channel_values = shapley_values(model, two_sites, settings=ShapleySettings())
    result = shapley_of_augmentations(
        model, SiteShapley(sites=two_sites, values=channel_values, settings=ShapleySettings()), numbers=(4, 3)
    )
    assert result.shape == (3, 2, 3)
    np.testing.assert_allclose(result, np.broadcast_to(channel_values, result.shape), atol=1e-5)
    assert channel_values.argmax(1).tolist() == [0, 1]
    # The third channel is not looked at; the control image is black, so the first one's share is positive.
    np.testing.assert_allclose(channel_values[:, 2], 0, atol=1e-6)


def test_shapley_values_take_the_control_image_for_an_absent_channel(model, sites):
    as_control = dataclasses.replace(sites, controls=sites.images.clone())
    np.testing.assert_allclose(shapley_values(model, as_control, settings=ShapleySettings()), 0, atol=1e-6)
    # Without controls, a channel is replaced by its own mean, to which a network of regional means is blind.
    without_controls = dataclasses.replace(sites, controls=None)
    np.testing.assert_allclose(shapley_values(model, without_controls, settings=ShapleySettings()), 0, atol=1e-5)


def other_network():
    config = ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=3, embedding_size=2)
    return build_classifier(config, seed=4).eval()


def test_networks_that_agree_are_alike_and_others_are_not(model, sites):
    output = examine_seeds(
        [NetworkSites(model, sites), NetworkSites(model, sites), NetworkSites(model, sites)],
        rng=rng(),
        n_shapley_sites=2,
    )
    assert output["networks"] == 3
    assert output["sites"] == 6
    np.testing.assert_allclose(output["similarity"]["pairs"], [1, 1, 1])
    assert output["similarity"]["mean"] == pytest.approx(1)
    low, high = output["similarity"]["null"]
    assert -0.6 < low < 0 < high < 0.6
    assert output["top_channel"] == {"sites": 2, "same": 1.0, "chance": pytest.approx(1 / 3)}
    result = examine_seeds(
        [NetworkSites(model, sites), NetworkSites(other_network(), sites)], rng=rng(), n_shapley_sites=0
    )
    assert result["similarity"]["mean"] < 0.6
    assert result["top_channel"] is None


def test_targets_are_those_of_the_first_network_by_name(model, sites):
    turned_names = dataclasses.replace(
        sites,
        perturbations=("second stain", "nothing", "first stain"),
        targets=torch.zeros(6, dtype=torch.long),
    )
    other = network()
    with torch.no_grad():
        for part in (other.linear_templates.weight, other.linear_templates.bias):
            part.copy_(part[[2, 0, 1]].clone())
    output = examine_seeds(
        [NetworkSites(model, sites), NetworkSites(other, turned_names)], rng=rng(), n_shapley_sites=2
    )
    np.testing.assert_allclose(output["similarity"]["pairs"], [1])
    assert output["top_channel"]["same"] == 1


def test_what_cannot_be_compared_is_refused(model, sites):
    with pytest.raises(ExplanationError, match=r"1 network\(s\) to compare; expected at least two"):
        examine_seeds([NetworkSites(model, sites)], rng=rng())
    with pytest.raises(ExplanationError, match=r"Network 2 has other sites than the first \(3 and 6\)"):
        examine_seeds([NetworkSites(model, sites), NetworkSites(model, sites.take(range(3)))], rng=rng())
    with pytest.raises(ExplanationError, match="Network 2 has other sites"):
        examine_seeds([NetworkSites(model, sites), NetworkSites(model, sites.take([1, 0, 2, 3, 4, 5]))], rng=rng())
    other_names = dataclasses.replace(sites, perturbations=("nothing", "first stain", "third stain"))
    with pytest.raises(ExplanationError, match=r"Network 2 has no output for \['second stain'\], which the first"):
        examine_seeds([NetworkSites(model, sites), NetworkSites(model, other_names)], rng=rng())

    def method(model, site_batch):
        return site_batch.images[:, 0, :: 1 + len(sizes), :]

    sizes = []
    wide = dataclasses.replace(sites, images=torch.zeros(6, 3, 8, 64))
    with pytest.raises(
        ExplanationError, match=r"different shapes \(\[\(16, 16\), \(8, 16\)\]\), so they cannot be compared"
    ):
        examine_seeds([NetworkSites(model, sites), NetworkSites(model, wide)], rng=rng(), method=method)
