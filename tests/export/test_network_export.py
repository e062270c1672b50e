"""A network in a file of torch.export or ONNX gives the outputs of the original, alone and in any batch."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distangle.core.shrinkage import Correction
from distangle.errors import ConfigError, RunError, WeightsError
from distangle.export import NetworkExport, export_network
from distangle.export import network as network_module
from distangle.images import Preprocessing
from distangle.images.preprocessing import standardize
from distangle.model import ModelCard, ModelConfig, PerturbationClassifier, build_classifier, save_model
from distangle.results import RunFolder

CLASSES = ("DMSO", "nocodazole", "taxol")
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "openvino"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs the extra onnx")


def run_with(root: Path, *, shape: tuple[int, int] | None = (48, 64), **changes: Any) -> RunFolder:
    """Write a run with final weights only; batch norms and prior differ from their initial values."""
    options: dict[str, Any] = {"backbone": "resnet_small", "embedding_size": 8, "n_cell_types": 2, **changes}
    config = ModelConfig(n_channels=2, n_perturbations=len(CLASSES), **options)
    model = build_classifier(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith(("running_var", "prior")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    card = ModelCard(
        target="perturbation",
        classes=CLASSES,
        class_sites=(1, 1, 1),
        channels=("DNA", "actin"),
        cell_types=("HUVEC", "RPE")[: config.n_cell_types],
        preprocessing=Preprocessing(binning=2, standardize="image"),
        shape=shape,
        correction=config.correction,
        epochs=1,
        precision="fp32",
    )
    save_model(model, root / "checkpoints" / "model.safetensors", card=card)
    return RunFolder(root)


def eager(run: RunFolder, inputs: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    model, _ = network_module.open_model(run)
    assert isinstance(model, PerturbationClassifier)
    with torch.no_grad():
        outputs = model(inputs["images"], inputs.get("cell_types"), inputs.get("references"))
    return outputs.logits.numpy(), outputs.embedding.numpy()


def inputs_of(run: RunFolder, n: int) -> dict[str, Tensor]:
    card = json.loads((run.root / "network.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(3)
    shapes = {name: (n, *values["shape"][1:]) for name, values in card["inputs"].items()}
    return {name: torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def torch_export(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, NetworkExport]:
    root = tmp_path_factory.mktemp("torch")
    run = run_with(root)
    return run, export_network(run, root / "network.pt2", format="torch")


def test_torch_export_gives_the_outputs_of_the_original(torch_export: tuple[RunFolder, NetworkExport]) -> None:
    run, export = torch_export
    assert max(export.logit_difference, export.embedding_difference) < 1e-5
    network = torch.export.load(export.path).module()
    for n in (1, 3, 7):
        inputs = inputs_of(run, n)
        assert inputs["images"].shape == (n, 2, 24, 32)
        assert n == 1 or eager(run, inputs)[1].std(axis=0).min() > 1e-3  # the sites differ
        for expected, outputs in zip(eager(run, inputs), network(**inputs), strict=True):
            np.testing.assert_allclose(outputs.detach().numpy(), expected, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize("correction", ["none", pytest.param("standardize", marks=pytest.mark.slow)])
def test_onnx_in_openvino_gives_the_outputs_of_the_original(tmp_path: Path, correction: str) -> None:
    import openvino

    changes = {"correction": Correction(method=correction), "freeze_backbone": True, "n_cell_types": 0}  # type: ignore[arg-type]
    run = run_with(tmp_path, **({} if correction == "none" else changes))
    export = export_network(run, tmp_path / "network.onnx", format="onnx", size=24)
    assert max(export.logit_difference, export.embedding_difference) < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "network.json", "network.onnx"]
    network = openvino.Core().compile_model(export.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for n in (1, 4):
        inputs = inputs_of(run, n)
        assert set(inputs) == {"images", "cell_types" if correction == "none" else "references"}
        outputs = network({name: tensor.numpy() for name, tensor in inputs.items()})
        for expected, name in zip(eager(run, inputs), ("logits", "embedding"), strict=True):
            np.testing.assert_allclose(outputs[name], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("backbone", ["densenet_small", "efficientnet_lite0", "resnet18"])
def test_every_backbone_is_exported(tmp_path: Path, backbone: str, format: Any) -> None:
    run = run_with(tmp_path, backbone=backbone, handcrafted_features=True)
    export = export_network(run, tmp_path / f"network{network_module.SUFFIXES[format]}", format=format, size=96)
    assert max(export.logit_difference, export.embedding_difference) < 1e-3


def test_the_card_is_enough_to_run_the_network(torch_export: tuple[RunFolder, NetworkExport]) -> None:
    """Follow the steps of the card with plain NumPy."""
    card = json.loads(torch_export[1].card.read_text(encoding="utf-8"))
    assert card["classes"] == list(CLASSES)
    assert card["channels"] == ["DNA", "actin"]
    assert card["inputs"]["cell_types"] == {"dtype": "float32", "shape": ["batch", 2]}
    assert card["outputs"]["embedding"] == {"dtype": "float32", "shape": ["batch", 8]}
    assert "Replace every 2 x 2 pixels by their mean" in card["steps"][1]
    assert "both over the pixels of the image" in card["steps"][2]
    pixels = np.random.default_rng(0).integers(0, 255, (1, 2, 48, 64)).astype(np.uint8)
    binned = np.rint(pixels.reshape(1, 2, 24, 2, 32, 2).mean(axis=(3, 5)))
    images = (binned - binned.mean((2, 3), keepdims=True)) / binned.std((2, 3), keepdims=True)
    statistics = np.stack([binned.mean((2, 3)), binned.std((2, 3))], axis=1).astype(np.float32)
    own_images = standardize(binned.astype(np.uint8), statistics, out=np.empty(binned.shape, np.float32))
    np.testing.assert_allclose(images, own_images, atol=1e-5)


def test_a_correction_has_its_value_without_wells_in_the_card(tmp_path: Path) -> None:
    correction = Correction(method="standardize")
    run = run_with(tmp_path, correction=correction, freeze_backbone=True, n_cell_types=0)
    export_network(run, tmp_path / "network.pt2", format="torch")
    card = json.loads((tmp_path / "network.json").read_text(encoding="utf-8"))
    model, _ = network_module.open_model(run)
    assert model.prior is not None
    expected = [*model.prior[0].tolist(), *[0.0] * model.n_features]
    np.testing.assert_allclose(card["references_without_wells"], expected)
    assert len(expected) == card["inputs"]["references"]["shape"][1]
    assert "standardize by the negative controls of the experiment" in card["notes"][0]


def test_a_network_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(tmp_path)
    original = network_module._run_torch

    def other(*arguments: Any) -> list[tuple[np.ndarray, ...]]:
        return [(logits, embedding + 0.01) for logits, embedding in original(*arguments)]

    monkeypatch.setattr(network_module, "_run_torch", other)
    with pytest.raises(WeightsError, match=r"embedding by 0\.01, expected at most 0\.001\. Nothing was written"):
        export_network(run, tmp_path / "network.pt2", format="torch")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_values_that_are_not_finite_differ() -> None:
    tensor = torch.zeros(1, 2)
    nan = np.full((1, 2), np.nan, np.float32)
    assert network_module._differences([(tensor, tensor)], [(nan, nan[:, :1])]) == (np.inf, np.inf)


def test_bad_input_is_refused_with_a_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"has no final weights yet"):
        export_network(RunFolder(tmp_path), tmp_path / "network.pt2", format="torch")
    run = run_with(tmp_path, shape=None)
    with pytest.raises(ConfigError, match=r"differ in size.*--size 256"):
        export_network(run, tmp_path / "network.pt2", format="torch")
    with pytest.raises(ConfigError, match=r"network\.onnx does not end in \.pt2"):
        export_network(run, tmp_path / "network.onnx", format="torch")
    with pytest.raises(ConfigError, match=r"size of the input is 0 pixels"):
        export_network(run, tmp_path / "network.pt2", format="torch", size=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnxscript, openvino is not installed.*pip install '\.\[onnx\]'"):
        export_network(run, tmp_path / "network.onnx", format="onnx")
