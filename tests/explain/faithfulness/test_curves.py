import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import hand_made
from distangle.core.random import rng_for
from distangle.core.shrinkage import Correction
from distangle.errors import ExplanationError
from distangle.explain import BatchStatistics, random_smooth_maps
from distangle.explain.faithfulness import deletion_insertion, on_grid
from distangle.explain.faithfulness.curves import _check, area, n_replaced, null_p, order_of, remove_detail, site_p
from distangle.model import ModelConfig, build_classifier, use_statistics
from hand_made import chosen_sites, log_probability, network


def rng(word="curves"):
    return rng_for(1, word)


@pytest.fixture(scope="module")
def model():
    return network()


def planted_maps(sites, places):
    """Return as map the channel whose mean is the logit of the target."""
    return np.stack([site[target - 1] for site, target in zip(places, sites.targets.tolist(), strict=True)])


def on_paper(places, other, order, counts, target):
    """Compute the curves in plain loops, one region at a time."""
    output = []
    for count in counts:
        rest = places.copy()
        for region in order[:count]:
            row, column = divmod(int(region), places.shape[2])
            rest[:, row, column] = other[:, row, column]
        output.append(log_probability(rest, target))
    return output


@pytest.mark.parametrize("batch_size", [3, 64])
@pytest.mark.parametrize("untreated", [0.0, 0.3])
def test_deletion_and_insertion_are_those_of_a_network_known_on_paper(model, untreated, batch_size):
    sites, places = chosen_sites(untreated=untreated)
    maps = planted_maps(sites, places)
    result = deletion_insertion(
        model, sites, maps, replacement="control", rng=rng(), n_null_maps=1, batch_size=batch_size
    )
    other = np.full_like(places[0], untreated)
    assert result.counts == result.insertion_counts == [0, 1, 3, 4, 6, 8, 10, 12, 13, 15, 16]
    for site, target in enumerate(sites.targets.tolist()):
        order = np.argsort(-maps[site].ravel())
        expected = on_paper(places[site], other, order, result.counts, target)
        np.testing.assert_allclose(result.deletion(scale="log_probability")[site], expected, atol=2e-4)
        # Insertion starts with the control image and puts regions of the original back.
        back = on_paper(other, places[site], order, result.counts, target)
        np.testing.assert_allclose(result.insertion(scale="log_probability")[site], back, atol=2e-4)
        np.testing.assert_allclose(result.insertion()[site], np.exp(back), atol=2e-4)
    height = np.trapezoid(np.exp(expected), np.array(result.counts) / 16)
    assert result.deletion_area()[-1] == pytest.approx(height, abs=2e-4)
    assert result.insertion_area()[-1] == pytest.approx(
        np.trapezoid(np.exp(back), np.array(result.counts) / 16), abs=2e-4
    )
    np.testing.assert_allclose(
        result.deletion_area(scale="log_probability")[-1],
        np.trapezoid(expected, np.array(result.counts) / 16),
        atol=2e-4,
    )


def test_the_null_is_what_random_smooth_maps_would_have_given_as_maps(model):
    sites, places = chosen_sites(2)
    result = deletion_insertion(
        model, sites, planted_maps(sites, places), replacement="control", rng=rng(), n_null_maps=3
    )
    maps_drawn = random_smooth_maps(6, grid=(4, 4), size=(4, 4), rng=rng()).grid.reshape(2, 3, 4, 4)
    for k in range(3):
        single = deletion_insertion(model, sites, maps_drawn[:, k], replacement="control", rng=rng(), n_null_maps=1)
        np.testing.assert_allclose(result.null_area()[:, k], single.deletion_area(), atol=1e-6)
        np.testing.assert_allclose(
            result.log_probability[:, 2 + k], single.deletion(scale="log_probability"), atol=1e-6
        )
    np.testing.assert_allclose(result.random(), np.exp(result.log_probability[:, 2:]).mean(1), atol=1e-12)


@pytest.mark.parametrize("replacement", ["control", "blur"])
def test_a_map_of_the_planted_regions_beats_random_maps_and_its_reverse_does_not(model, replacement):
    sites, places = chosen_sites(6, side=3)
    maps = planted_maps(sites, places)
    if replacement == "blur":  # the network reads one pixel per region, which a blur removes
        step = torch.zeros(hand_made.CELL, hand_made.CELL)
        step[0, 0] = 1
        sites = dataclasses.replace(sites, images=sites.images * step.repeat(3, 3))
    result = deletion_insertion(model, sites, maps, replacement=replacement, rng=rng(), n_null_maps=3, n_steps=5)
    deletion, insertion, null = result.deletion_area(), result.insertion_area(), result.null_area()
    assert null_p(deletion, null, rng=rng()) < 0.01
    assert null_p(-insertion, -null, rng=rng()) < 0.01
    rotated = deletion_insertion(model, sites, -maps, replacement=replacement, rng=rng(), n_null_maps=1, n_steps=5)
    assert null_p(rotated.deletion_area(), null, rng=rng()) > 0.5
    assert null_p(-rotated.insertion_area(), -null, rng=rng()) > 0.5


def test_random_maps_and_constant_maps_do_not_beat_random_maps(model):
    sites, _ = chosen_sites(6, side=3)
    for maps in (random_smooth_maps(6, grid=(3, 3), size=(3, 3), rng=rng("another")).grid, np.zeros((6, 3, 3))):
        result = deletion_insertion(model, sites, maps, replacement="control", rng=rng(), n_null_maps=3, n_steps=5)
        assert null_p(result.deletion_area(), result.null_area(), rng=rng()) > 0.05
        assert null_p(-result.insertion_area(), -result.null_area(), rng=rng()) > 0.05


def test_every_step_of_a_network_with_cell_types_references_and_lent_norms_is_its_answer_to_the_mixed_image():
    config = ModelConfig(
        backbone="resnet_small",
        n_channels=3,
        n_perturbations=3,
        n_cell_types=2,
        embedding_size=8,
        freeze_backbone=True,
        correction=Correction(method="center"),
    )
    model = build_classifier(config, seed=3).eval()
    sites, _ = chosen_sites(3)
    torch.manual_seed(0)
    statistics = {}
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            statistics |= {
                f"{name}.mean": torch.randn(part.num_features) / 5,
                f"{name}.variance": torch.rand(part.num_features) + 0.5,
            }
    sites = dataclasses.replace(
        sites,
        images=torch.randn_like(sites.images),
        cell_types=torch.nn.functional.one_hot(torch.tensor([0, 1, 1]), 2).float(),
        references=torch.randn(3, model.n_features),
        controls=torch.randn_like(sites.images),
        norms=[BatchStatistics([2], statistics), BatchStatistics([0, 1], None)],
    )
    maps = np.random.default_rng(0).normal(size=(3, 4, 4))
    result = deletion_insertion(model, sites, maps, replacement="control", rng=rng(), n_null_maps=1, n_steps=4)
    for site in range(3):
        order = np.argsort(-maps[site].ravel())
        for step, count in enumerate(result.counts):
            removed_pixels = np.zeros(16, dtype=bool)
            removed_pixels[order[:count]] = True
            mask = torch.from_numpy(np.kron(removed_pixels.reshape(4, 4), np.ones((16, 16))) > 0)
            image = torch.where(mask, sites.controls[site], sites.images[site])[None]
            with torch.no_grad(), use_statistics(model, statistics if site == 2 else None):
                logits = model(image, sites.cell_types[[site]], sites.references[[site]]).logits
            expected = logits.log_softmax(1)[0, sites.targets[site]]
            assert result.log_probability[site, 0, step] == pytest.approx(float(expected), abs=1e-4)


def test_regions_of_one_value_come_in_one_fixed_shuffled_order():
    first = order_of(np.zeros((2, 3, 4, 5)))
    assert (np.sort(first, axis=-1) == np.arange(20)).all()
    assert (first == first[0, 0]).all()
    assert (first == order_of(np.ones((2, 3, 4, 5)))).all()
    assert first[0, 0].tolist() != list(range(20))
    half = np.zeros((4, 5))
    half[3] = 1
    assert sorted(order_of(half)[:5]) == [15, 16, 17, 18, 19]


def test_an_order_goes_from_the_largest_to_the_smallest_value():
    assert order_of(np.array([[0.1, 3.0], [-2.0, 0.5]])).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(("places", "steps"), [(64, 10), (5, 5), (7, 3), (256, 10), (1, 1), (9, 4)])
def test_steps_go_from_none_to_all_and_are_the_same_backwards(places, steps):
    counts = n_replaced(places, steps)
    assert counts[0] == 0
    assert counts[-1] == places
    assert len(counts) == steps + 1
    mirrored = [places - count for count in reversed(counts)]
    mirrored[steps // 2] = counts[steps // 2]  # an odd number of regions has no half
    assert mirrored == counts
    assert all(a <= b for a, b in zip(counts, counts[1:], strict=False))
    assert max(np.diff(counts)) - min(np.diff(counts)) <= 2


def test_a_curve_takes_no_more_steps_than_there_are_regions(model):
    sites, places = chosen_sites(1)
    assert (
        len(
            deletion_insertion(
                model, sites, planted_maps(sites, places), replacement="blur", rng=rng(), n_steps=99
            ).counts
        )
        == 17
    )


def test_the_area_is_the_mean_height():
    assert area(np.array([1.0, 1.0, 1.0]), [0, 1, 4]) == pytest.approx(1)
    assert area(np.array([1.0, 0.0, 0.0]), [0, 1, 4]) == pytest.approx(1 / 8)


def test_a_blurred_image_keeps_the_means_of_regions_and_loses_what_is_inside():
    rows = torch.arange(32)
    checks = ((rows[:, None] + rows[None]) % 2).float() * 2 - 1
    images = torch.stack([checks, torch.full((32, 32), 3.0)])[None]
    blurred = remove_detail(images, (4, 4))
    assert blurred.shape == images.shape
    torch.testing.assert_close(blurred[0, 0], torch.zeros(32, 32))
    torch.testing.assert_close(blurred[0, 1], torch.full((32, 32), 3.0))


def test_p_values_count_draws_as_low_as_the_map():
    assert site_p(np.array([1.0, 5.0]), np.array([[2.0, 3.0, 1.0], [2.0, 3.0, 1.0]])).tolist() == [0.5, 1.0]
    # Two sites, one random map each: of the four combinations, only the observed one is as low.
    p = null_p(np.zeros(2), np.ones((2, 1)), rng=rng(), n_draws=4000)
    assert p == pytest.approx(0.25, abs=0.03)
    assert null_p(np.full(3, 0.1), np.full((3, 4), 0.1), rng=rng()) == 1


def test_maps_on_a_grid_are_means_of_regions():
    maps = np.kron(np.arange(6.0).reshape(1, 2, 3), np.ones((8, 8)))
    np.testing.assert_allclose(on_grid(maps, (2, 3)), np.arange(6.0).reshape(1, 2, 3))
    assert on_grid(np.zeros((1, 40, 8))).shape == (1, 16, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": np.zeros((2, 4, 4))}, "2 maps for 6 sites. Give one map per site."),
        ({"n_steps": 0}, "5 random maps and 0 steps; expected at least one of each."),
        ({"n_null_maps": 0}, "0 random maps and 10 steps"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, changes, message):
    sites, places = chosen_sites()
    options = {"maps": planted_maps(sites, places), "replacement": "control", "rng": rng()} | changes
    with pytest.raises(ExplanationError) as error:
        deletion_insertion(model, sites, options.pop("maps"), **options)
    assert message in str(error.value)


def test_a_control_that_is_not_there_is_named(model):
    sites, places = chosen_sites()
    sites = dataclasses.replace(sites, controls=None)
    with pytest.raises(ExplanationError, match="needs control images, .* Use the replacement `blur`"):
        deletion_insertion(model, sites, planted_maps(sites, places), replacement="control", rng=rng())


def test_an_unknown_replacement_is_refused_with_the_nearest_one(model):
    sites, places = chosen_sites(1)
    with pytest.raises(ExplanationError, match="Unknown replacement 'blurr'. Did you mean 'blur'"):
        _check(sites, planted_maps(sites, places), "blurr", n_null_maps=1, n_steps=1)
