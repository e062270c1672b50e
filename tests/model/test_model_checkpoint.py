import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from distangle.core.io import sha256_of
from distangle.core.shrinkage import Correction
from distangle.errors import WeightsError
from distangle.model import (
    ModelCard,
    ModelConfig,
    NormStatisticsChoice,
    PerturbationClassifier,
    build_classifier,
    checkpoint,
    load_model,
    save_model,
)
from tests_support import model_card

CONFIG = ModelConfig(
    backbone="densenet_small", n_channels=3, n_perturbations=5, n_cell_types=2, embedding_size=16, norm_momentum=0.05
)
CARD_OF_MODEL = model_card("abcde", channels=("DNA", "actin", "ER"), cell_types=("HUVEC", "RPE"), epochs=3)
ABOUT = CARD_OF_MODEL.to_json()


@pytest.fixture
def model() -> PerturbationClassifier:
    classifier = build_classifier(CONFIG, seed=1)
    classifier(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.eye(2)[[0, 1, 0, 1]])
    return classifier


@pytest.fixture
def model_file(model: PerturbationClassifier, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(model, path, card=CARD_OF_MODEL)
    return path


def rewritten(path: Path, *, card: dict[str, Any] | None = None, **changes: torch.Tensor | None) -> None:
    """Rewrite a file with other tensors (None removes one) or another card, and a matching digest."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    tensors = {name: value for name, value in {**tensors, **changes}.items() if value is not None}
    text = metadata[checkpoint.CARD] if card is None else json.dumps({**json.loads(metadata[checkpoint.CARD]), **card})
    metadata = {"format": "pt", checkpoint.CARD: text, checkpoint.DIGEST: checkpoint._content_sha256(text, tensors)}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def test_the_same_model_gives_the_same_bytes(model: PerturbationClassifier, tmp_path: Path) -> None:
    card = replace(CARD_OF_MODEL, target='ü "quoted" \\ \n\t\x01')
    hashes = {sha256_of(save_model(model, tmp_path / f"{k}.safetensors", card=card)[0]) for k in range(8)}
    assert len(hashes) == 1
    assert load_model(tmp_path / "0.safetensors")[1] == card


def test_what_is_loaded_is_what_was_saved(model: PerturbationClassifier, tmp_path: Path) -> None:
    card = replace(CARD_OF_MODEL, target="ü", correction=Correction(method="center"), shape=(24, 32))
    path = tmp_path / "deep" / "model.safetensors"
    paths = save_model(model.to(memory_format=torch.channels_last), path, card=card)
    restored, loaded_card = load_model(path)
    assert paths == [path, path.with_suffix(".json")]
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.safetensors"]
    assert loaded_card == card
    assert restored.config == CONFIG
    assert not restored.training
    assert restored.backbone.features.norm5.momentum == 0.05
    assert restored.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name
    images = torch.randn(2, 3, 32, 32)
    model.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        assert torch.equal(restored(images, torch.eye(2)).logits, model.eval()(images, torch.eye(2)).logits)


def test_the_json_beside_says_what_the_weights_are(model_file: Path) -> None:
    model_json = json.loads(model_file.with_suffix(".json").read_text())
    assert model_json["weights"] == "model.safetensors"
    assert model_json["weights_sha256"] == sha256_of(model_file)
    assert model_json["format_version"] == 1
    assert ModelConfig.model_validate(model_json["config"]) == CONFIG
    assert model_json["card"] == CARD_OF_MODEL.to_json()


def test_a_process_that_died_between_the_two_files_leaves_the_newer_model(
    model: PerturbationClassifier, model_file: Path
) -> None:
    old = model_file.with_suffix(".json").read_text()
    save_model(model, model_file, card=replace(CARD_OF_MODEL, epochs=4))
    model_file.with_suffix(".json").write_text(old)
    assert load_model(model_file)[1].epochs == 4
    model_file.with_suffix(".json").unlink()
    assert load_model(model_file)[1].epochs == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_is_not_finite_is_not_saved_and_the_old_file_stays(
    model: PerturbationClassifier, model_file: Path, value: float
) -> None:
    before = model_file.read_bytes()
    model.neck.norm1.running_var[2] = value
    with pytest.raises(WeightsError, match=r"neck\.norm1\.running_var \(1 of 16 values\)"):
        save_model(model, model_file, card=CARD_OF_MODEL)
    assert model_file.read_bytes() == before


def test_the_card_must_be_of_the_network_and_the_file_must_be_named_safetensors(
    model: PerturbationClassifier, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="lists 2 channels, but its network has 3"):
        save_model(model, tmp_path / "model.safetensors", card=replace(CARD_OF_MODEL, channels=("DNA", "actin")))
    with pytest.raises(WeightsError, match="must end in .safetensors, got 'model.pth'"):
        save_model(model, tmp_path / "model.pth", card=CARD_OF_MODEL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["header", "card", "digest", "first byte", "middle", "last byte"])
def test_one_flipped_bit_anywhere_is_refused_by_the_name_of_the_file(model_file: Path, part: str) -> None:
    content = bytearray(model_file.read_bytes())
    start_of_tensors = 8 + int.from_bytes(content[:8], "little")
    position = {
        "header": 3,
        "card": content.index(b'norm_momentum\\": 0.05') + len('norm_momentum\\": 0.0'),  # 0.04
        "digest": content.index(checkpoint.DIGEST.encode()) + len(checkpoint.DIGEST) + 10,
        "first byte": start_of_tensors,
        "middle": (start_of_tensors + len(content)) // 2,
        "last byte": len(content) - 1,
    }[part]
    content[position] ^= 1
    model_file.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(model_file))):
        load_model(model_file)


@pytest.mark.parametrize("damage", ["cut", "zero tail", "empty"])
def test_a_file_copied_in_part_is_refused(model_file: Path, damage: str) -> None:
    content = model_file.read_bytes()
    damaged = {"cut": content[:-100], "zero tail": content[:-100] + bytes(100), "empty": b""}[damage]
    model_file.write_bytes(damaged)
    with pytest.raises(WeightsError, match="Restore the file from another copy"):
        load_model(model_file)


def test_values_that_are_not_finite_are_refused_on_loading(model_file: Path) -> None:
    rewritten(model_file, **{"neck.linear1.weight": torch.full((16, 94), float("nan"))})
    with pytest.raises(WeightsError, match=r"NaN or infinite values in neck\.linear1\.weight \(1504 of 1504 values\)"):
        load_model(model_file)


def test_a_newer_format_is_refused(model_file: Path) -> None:
    rewritten(model_file, card={"format_version": 2})
    with pytest.raises(WeightsError, match="has format version 2; this distangle reads version 1"):
        load_model(model_file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neck.linear1.weight": None}, "lacks neck.linear1.weight"),
        ({"neck.extra": torch.zeros(2)}, "has neck.extra, which the network lacks"),
        ({"neck.norm2.bias": torch.zeros(3)}, r"has neck.norm2.bias as \(3,\) F32 instead of \(16,\) torch.float32"),
        ({"neck.norm2.bias": torch.zeros(16).half()}, r"has neck.norm2.bias as \(16,\) F16 instead of"),
    ],
)
def test_tensors_of_another_network_are_refused_by_name(
    model_file: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    rewritten(model_file, **changes)
    with pytest.raises(WeightsError, match=message):
        load_model(model_file)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"config": {"backbone": "vgg"}}, "cannot build the model described by the card"),
        ({"config": {**CONFIG.model_dump(), "later": 1}}, "Extra inputs are not permitted"),
        ({"card": 3}, "cannot build the model described by the card"),
        (
            {"card": {"target": "perturbation"}},
            "lacks classes, class_sites, channels, cell_types",
        ),
        ({"card": {**ABOUT, "chanels": []}}, "unknown key 'chanels'. Did you mean 'channels'"),
        ({"card": {**ABOUT, "class_sites": [1]}}, "lists 5 classes but training-site counts for 1"),
        ({"card": {**ABOUT, "cell_types": []}}, "lists 0 cell types, but its network has 2"),
        ({"card": {**ABOUT, "epochs": "many"}}, "invalid values: epochs = 'many': input should be a valid integer"),
        ({"card": {**ABOUT, "batch_norm": 3}}, "invalid values: batch_norm = 3: "),
        (
            {"card": {**ABOUT, "batch_norm": {"statistics": "well"}}},
            "invalid values: statistics = 'well': input should be 'running'",
        ),
        (
            {"card": {**ABOUT, "batch_norm": {"statistisc": "plate"}}},
            "unknown key 'batch_norm.statistisc'. Did you mean 'statistics'",
        ),
    ],
)
def test_a_card_that_describes_no_model_is_refused(model_file: Path, card: dict[str, Any], message: str) -> None:
    rewritten(model_file, card=card)
    with pytest.raises(WeightsError, match=message):
        load_model(model_file)


def test_files_that_are_no_model_of_ours_are_told_where_to_go(tmp_path: Path) -> None:
    path = tmp_path / "published.safetensors"
    with pytest.raises(WeightsError, match="There is no model at"):
        load_model(path)
    safetensors.torch.save_file({"conv0.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="with load_published_weights"):
        load_model(path)
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata={checkpoint.CARD: "[", checkpoint.DIGEST: ""})
    with pytest.raises(WeightsError, match="The model card in .* is damaged"):
        load_model(path)


def test_a_card_reads_what_it_wrote_and_what_older_versions_wrote() -> None:
    card = replace(
        CARD_OF_MODEL,
        batch_norm=NormStatisticsChoice(statistics="plate", min_sites=4, n_controls=2),
        correction=Correction(method="center"),
    )
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card
    assert list(card.to_json()) == [
        "target", "classes", "class_sites", "channels", "cell_types", "preprocessing", "shape", "correction", "epochs",
        "precision", "batch_norm",
    ]  # fmt: skip
    assert card.to_json()["batch_norm"] == {"statistics": "plate", "min_sites": 4, "n_controls": 2}
    old = {name: value for name, value in card.to_json().items() if name not in ("correction", "batch_norm")}
    assert ModelCard.from_json(old) == replace(card, batch_norm=NormStatisticsChoice(), correction=Correction())
