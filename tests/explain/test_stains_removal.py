import pytest
import torch

from distangle.errors import ExplanationError
from distangle.explain import channel_ablation, channel_shapley, stand_ins
from distangle.model import ModelConfig, build_classifier


def images(n=3, channels=2, seed=1):
    return torch.randn(n, channels, 8, 6, generator=torch.Generator().manual_seed(seed)) + 0.4


def test_the_mean_is_that_of_each_channel_of_each_image():
    shown = images()
    found = stand_ins(shown, "mean")
    assert found.shape == shown.shape
    for site in range(3):
        for channel in range(2):
            torch.testing.assert_close(
                found[site, channel], torch.full((8, 6), shown[site, channel].mean().item()), rtol=1e-6, atol=1e-6
            )


def test_images_standardised_one_by_one_share_one_empty_image():
    shown = images()
    shown = (shown - shown.mean((2, 3), keepdim=True)) / shown.std((2, 3), keepdim=True)
    assert shown.mean((2, 3)).abs().max() > 0  # of rounding
    assert torch.equal(stand_ins(shown, "mean"), torch.zeros(1, 2, 8, 6))


def test_one_image_keeps_its_own_mean():
    shown = images(1)
    torch.testing.assert_close(stand_ins(shown, "mean").mean((2, 3)), shown.mean((2, 3)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("removal", "name"), [("control", "controls"), ("other_well", "others")])
def test_images_of_other_wells_stand_in_as_they_are(removal, name):
    shown, beside = images(), images(seed=2)
    assert torch.equal(stand_ins(shown, removal, **{name: beside}), beside)
    assert torch.equal(stand_ins(shown, removal, **{name: beside[:1]}), beside[:1])
    assert stand_ins(shown.half(), removal, **{name: beside}).dtype == torch.float16


def test_a_removal_that_is_unknown_or_lacks_its_images_is_refused():
    shown = images()
    with pytest.raises(ExplanationError, match="'control' needs the images of control wells. Give `controls`, one per"):
        stand_ins(shown, "control")
    with pytest.raises(ExplanationError, match="'other_well' needs the images of other wells of the plate. Give `oth"):
        stand_ins(shown, "other_well")
    with pytest.raises(ExplanationError, match=r"`controls` of shape \(2, 2, 8, 6\) do not fit images of shape \(3, "):
        stand_ins(shown, "control", controls=shown[:2])
    with pytest.raises(ExplanationError, match=r"`others` of shape \(3, 1, 8, 6\) do not fit .* same channels, height"):
        stand_ins(shown, "other_well", others=shown[:, :1])


@pytest.mark.parametrize(
    ("removal", "unused", "words"),
    [
        ("mean", "controls", "`controls` were given, but removal is 'mean'. Say removal='control' to use them"),
        ("mean", "others", "`others` were given, but removal is 'mean'. Say removal='other_well' to use them"),
        ("control", "others", "`others` were given, but removal is 'control'. Say removal='other_well'"),
    ],
)
def test_images_that_would_not_be_used_are_refused(removal, unused, words):
    with pytest.raises(ExplanationError, match=words):
        stand_ins(images(), removal, **{unused: images()})


@pytest.mark.parametrize("explain", [channel_shapley, channel_ablation])
def test_a_constant_image_owes_nothing_to_any_stain(explain):
    model = build_classifier(
        ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=2, embedding_size=8, measurements=True),
        seed=1,
    )
    shown = torch.zeros(2, 3, 32, 32)
    shown[1] = torch.tensor([0.3, -2.0, 0.0])[:, None, None]
    values = explain(model, shown, None, torch.tensor([0, 1])).values
    torch.testing.assert_close(values, torch.zeros(2, 3), atol=1e-6, rtol=0)
