import os
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from distangle.errors import WeightsError
from distangle.model import ModelConfig, PerturbationClassifier, build_classifier, load_published_weights
from distangle.model.pretrained import WeightsReport

FIRST = "backbone.features.conv0.weight"


def network(*, n_channels: int = 6, backbone: str = "densenet_small", seed: int = 1) -> PerturbationClassifier:
    config = ModelConfig(backbone=backbone, n_channels=n_channels, n_perturbations=4, embedding_size=8)
    return build_classifier(config, seed=seed)


def published_weights(backbone: str = "densenet_small") -> dict[str, Tensor]:
    """Return weights with torchvision's names: three channels, 1000 classes."""
    source = network(n_channels=3, backbone=backbone, seed=9)
    source(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    if backbone.startswith("resnet"):
        head = {"fc.weight": torch.zeros(1000, source.backbone.n_features), "fc.bias": torch.zeros(1000)}
        return {**source.backbone.features.state_dict(), **head}
    head = {"classifier.weight": torch.zeros(1000, source.backbone.n_features), "classifier.bias": torch.zeros(1000)}
    return {**source.backbone.state_dict(), **head}


def legacy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights as in torchvision's files of 2017: `norm.1` in dense layers, no step counts."""
    weights = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.", name): t for name, t in tensors.items()
    }
    return {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}


def write_weights(tensors: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def assert_accounts_for_all(report: WeightsReport, model: PerturbationClassifier, file_keys: int) -> None:
    of_model = [*report.loaded_names, *report.inflated_names, *report.new_names]
    assert len(of_model) == len(set(of_model))
    assert set(of_model) == set(model.state_dict())
    assert len(report.loaded_names) + len(report.inflated_names) + len(report.unused_keys) == file_keys


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["features.", "", "module.features."])
def test_torchvisions_densenet_fills_the_backbone(tmp_path: Path, suffix: str, prefix: str) -> None:
    tensors = {name.replace("features.", prefix): tensor for name, tensor in published_weights().items()}
    model, before = network(), network().state_dict()
    report = load_published_weights(model, write_weights(tensors, tmp_path / f"weights{suffix}"))
    source = published_weights()
    for name, tensor in model.state_dict().items():
        if name.startswith("backbone.") and name != FIRST:
            assert torch.equal(tensor, source[name.removeprefix("backbone.")]), name
        elif name != FIRST:
            assert torch.equal(tensor, before[name]), name
    assert report.inflated_names == (FIRST,)
    assert sorted(report.unused_keys) == ["classifier.bias", "classifier.weight"]
    assert all(name.startswith(("neck.", "linear_templates.", "cosine_templates.")) for name in report.new_names)
    assert_accounts_for_all(report, model, len(tensors))


def test_densenet_names_of_2017_are_understood_and_step_counts_are_new(tmp_path: Path) -> None:
    tensors = legacy(published_weights())
    assert "features.denseblock1.denselayer1.norm.1.weight" in tensors
    assert "features.denseblock2.denselayer3.conv.2.weight" in tensors
    model = network()
    report = load_published_weights(model, write_weights(tensors, tmp_path / "old.pth"))
    weights, source = model.backbone.features.state_dict(), published_weights()
    for name in ("denseblock1.denselayer1.norm1.running_var", "denseblock2.denselayer3.conv2.weight"):
        assert torch.equal(weights[name], source[f"features.{name}"])
    assert "backbone.features.denseblock1.denselayer1.norm1.num_batches_tracked" in report.new_names
    assert weights["norm5.num_batches_tracked"] == 0
    assert_accounts_for_all(report, model, len(tensors))


def test_torchvisions_resnet_fills_the_backbone(tmp_path: Path) -> None:
    tensors = published_weights("resnet18")
    assert {"conv1.weight", "layer4.1.bn2.weight", "fc.bias"} <= set(tensors)
    model = network(backbone="resnet18")
    report = load_published_weights(model, write_weights(tensors, tmp_path / "resnet18.pth"))
    assert torch.equal(model.backbone.features.layer3[0].downsample[0].weight, tensors["layer3.0.downsample.0.weight"])
    assert report.inflated_names == ("backbone.features.conv1.weight",)
    assert report.unused_keys == ("fc.weight", "fc.bias")
    assert_accounts_for_all(report, model, len(tensors))


def test_the_first_convolution_is_repeated_in_turn_and_scaled(tmp_path: Path) -> None:
    path, original = (
        write_weights(published_weights(), tmp_path / "weights.pth"),
        published_weights()["features.conv0.weight"],
    )
    for n_channels, channels in ((6, [0, 1, 2, 0, 1, 2]), (5, [0, 1, 2, 0, 1]), (2, [0, 1])):
        model = network(n_channels=n_channels)
        load_published_weights(model, path)
        expected = torch.stack([original[:, channel] * 3 / n_channels for channel in channels], dim=1)
        torch.testing.assert_close(model.backbone.features.conv0.weight.detach(), expected)


def test_a_grey_image_gives_the_same_maps_in_six_channels_in_one_and_in_three(tmp_path: Path) -> None:
    path, grey = write_weights(published_weights(), tmp_path / "weights.pth"), torch.randn(1, 1, 64, 64)
    maps = []
    for n_channels in (3, 6, 1):
        model = network(n_channels=n_channels).eval()
        report = load_published_weights(model, path)
        assert report.inflated_names == (() if n_channels == 3 else (FIRST,))
        with torch.no_grad():
            maps.append(model.feature_maps(grey.expand(1, n_channels, 64, 64)))
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps[2], maps[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_channels", [3, 6])
def test_the_first_convolution_can_stay_new(tmp_path: Path, n_channels: int) -> None:
    model = network(n_channels=n_channels)
    before = model.backbone.features.conv0.weight.detach().clone()
    path = write_weights(published_weights(), tmp_path / "weights.pth")
    report = load_published_weights(model, path, first_convolution="new")
    assert torch.equal(model.backbone.features.conv0.weight, before)
    assert FIRST in report.new_names
    assert "features.conv0.weight" in report.unused_keys
    assert_accounts_for_all(report, model, len(published_weights()))


@pytest.mark.parametrize("wrapping", ["state_dict", "model"])
def test_a_trainers_wrapping_is_taken_off(tmp_path: Path, wrapping: str) -> None:
    path = write_weights({wrapping: published_weights(), "epoch": 90, "optimizer": {"lr": 0.1}}, tmp_path / "last.pth")
    assert load_published_weights(network(), path).inflated_names == (FIRST,)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in published_weights().items()}
    model = network()
    load_published_weights(model, write_weights(tensors, tmp_path / "half.safetensors"))
    weight = model.backbone.features.denseblock1.denselayer1.conv2.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, tensors["features.denseblock1.denselayer1.conv2.weight"].float())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features.denseblock9.weight": torch.zeros(1)}, "features.denseblock9.weight is unknown"),
        ({"features.norm5.bias": None}, "norm5.bias is missing"),
        ({"features.norm5.bias": torch.zeros(3)}, r"features.norm5.bias is \(3,\) instead of \(92,\)"),
        ({"features.norm5.bias": torch.full((92,), torch.nan)}, r"norm5.bias \(92 of 92 values\) is not finite"),
        ({"norm5.bias": torch.zeros(92)}, "norm5.bias and features.norm5.bias both name the same tensor"),
        ({"features.conv0.weight": torch.zeros(32, 3, 7, 7)}, r"conv0.weight is \(32, 6, 7, 7\) instead of"),
    ],
)
def test_a_file_of_another_network_is_refused_by_name_and_nothing_is_changed(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    tensors = {name: tensor for name, tensor in {**published_weights(), **changes}.items() if tensor is not None}
    model, before = network(), network().state_dict()
    with pytest.raises(WeightsError, match=message) as error:
        load_published_weights(model, write_weights(tensors, tmp_path / "weights.pth"))
    assert str(tmp_path / "weights.pth") in str(error.value)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_another_architecture_is_refused_with_the_number_of_problems(tmp_path: Path) -> None:
    path = write_weights(published_weights("resnet18"), tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"does not fit densenet_small: conv1.weight is unknown.*in all\)"):
        load_published_weights(network(), path)


class Harmful:
    """An object that calls a function when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.folder / "ran"),))


def test_a_pickle_that_runs_code_is_refused_without_running_it(tmp_path: Path) -> None:
    path = write_weights({**published_weights(), "more": Harmful(tmp_path)}, tmp_path / "stranger.pth")
    with pytest.raises(WeightsError, match="cannot be read as tensors"):
        load_published_weights(network(), path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 2000, -50])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    path = write_weights(published_weights(), tmp_path / f"weights{suffix}")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        load_published_weights(network(), path)


def test_files_that_hold_no_state_dict_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There are no weights at"):
        load_published_weights(network(), tmp_path / "absent.pth")
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"ends in '\.bin'. Expected a \.pth, \.pt or \.safetensors file"):
        load_published_weights(network(), tmp_path / "weights.bin")
    with pytest.raises(WeightsError, match="contains a list. Expected a state dict"):
        load_published_weights(network(), write_weights([1, 2], tmp_path / "list.pth"))
    with pytest.raises(WeightsError, match="contains also epoch. Expected a state dict"):
        load_published_weights(network(), write_weights({**published_weights(), "epoch": 3}, tmp_path / "mixed.pth"))


def test_the_report_is_one_sentence(tmp_path: Path) -> None:
    report = load_published_weights(network(), write_weights(published_weights(), tmp_path / "densenet-1234.pth"))
    n_loaded, n_new = len(report.loaded_names) + 1, len(report.new_names)
    assert str(report) == (
        f"weights: {n_loaded} of the network's {n_loaded + n_new} arrays start "
        f"from densenet-1234.pth ({FIRST} from its image channels), {n_new} from random values; "
        "2 of the file are not used"
    )
