import pytest
import torch

from distangle.errors import ExplanationError
from distangle.explain import baseline_images, channel_ablation, channel_shapley
from distangle.model import ModelConfig, build_classifier
from site_batches import batch


def images(n=3, channels=2, seed=1):
    return torch.randn(n, channels, 8, 6, generator=torch.Generator().manual_seed(seed)) + 0.4


def site_batch(site_images, **options):
    return batch(site_images, None, torch.zeros(len(site_images), dtype=torch.int64), **options)


def test_the_mean_is_that_of_each_channel_of_each_image():
    site_images = images()
    result = baseline_images(site_batch(site_images), "mean")
    assert result.shape == site_images.shape
    for site in range(3):
        for channel in range(2):
            torch.testing.assert_close(
                result[site, channel],
                torch.full((8, 6), site_images[site, channel].mean().item()),
                rtol=1e-6,
                atol=1e-6,
            )


def test_images_standardized_one_by_one_share_one_empty_image():
    site_images = images()
    site_images = (site_images - site_images.mean((2, 3), keepdim=True)) / site_images.std((2, 3), keepdim=True)
    assert site_images.mean((2, 3)).abs().max() > 0  # of rounding
    assert torch.equal(baseline_images(site_batch(site_images), "mean"), torch.zeros(1, 2, 8, 6))


def test_one_image_keeps_its_own_mean():
    site_images = images(1)
    torch.testing.assert_close(
        baseline_images(site_batch(site_images), "mean").mean((2, 3)), site_images.mean((2, 3)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(("removal", "name"), [("control", "controls"), ("other_well", "other_wells")])
def test_images_of_other_wells_stand_in_as_they_are(removal, name):
    site_images, baseline = images(), images(seed=2)
    assert torch.equal(baseline_images(site_batch(site_images, **{name: baseline}), removal), baseline)
    assert torch.equal(baseline_images(site_batch(site_images, **{name: baseline[:1]}), removal), baseline[:1])
    assert baseline_images(site_batch(site_images.half(), **{name: baseline}), removal).dtype == torch.float16


def test_a_removal_that_is_unknown_or_lacks_its_images_is_refused():
    site_images = images()
    with pytest.raises(ExplanationError, match="'control' needs the images of control wells. Give `controls`, one per"):
        baseline_images(site_batch(site_images), "control")
    with pytest.raises(ExplanationError, match="'other_well' needs the images of other wells of the plate. Give `oth"):
        baseline_images(site_batch(site_images), "other_well")
    with pytest.raises(ExplanationError, match=r"`controls` of shape \(2, 2, 8, 6\) do not fit images of shape \(3, "):
        baseline_images(site_batch(site_images, controls=site_images[:2]), "control")
    with pytest.raises(
        ExplanationError, match=r"`other_wells` of shape \(3, 1, 8, 6\) do not fit .* same channels, height"
    ):
        baseline_images(site_batch(site_images, other_wells=site_images[:, :1]), "other_well")


def test_without_a_removal_controls_stand_in_where_there_are_any():
    site_images, baseline = images(), images(seed=2)
    assert torch.equal(baseline_images(site_batch(site_images, controls=baseline, other_wells=site_images)), baseline)
    assert torch.equal(
        baseline_images(site_batch(site_images, other_wells=baseline)), baseline_images(site_batch(site_images), "mean")
    )


@pytest.mark.parametrize("explain", [channel_shapley, channel_ablation])
def test_a_constant_image_owes_nothing_to_any_channel(explain):
    model = build_classifier(
        ModelConfig(
            backbone="resnet_small", n_channels=3, n_perturbations=2, embedding_size=8, handcrafted_features=True
        ),
        seed=1,
    )
    site_images = torch.zeros(2, 3, 32, 32)
    site_images[1] = torch.tensor([0.3, -2.0, 0.0])[:, None, None]
    values = explain(model, batch(site_images, None, torch.tensor([0, 1]))).values
    torch.testing.assert_close(values, torch.zeros(2, 3), atol=1e-6, rtol=0)
