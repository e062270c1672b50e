"""Save models as safetensors with a model card inside, and load them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from distangle.core.io import atomic_write, sha256_of, sort_header, write_json
from distangle.core.shrinkage import Correction
from distangle.errors import WeightsError, did_you_mean
from distangle.images import Preprocessing
from distangle.model.classifier import ModelConfig, PerturbationClassifier
from distangle.screen.plate_groups import StatisticsSource

FORMAT_VERSION = 1
# Keys of the safetensors metadata.
CARD, DIGEST = "distangle", "distangle_sha256"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True, kw_only=True)
class NormStatisticsChoice:
    """Which batch-norm statistics a network uses for prediction.

    Attributes:
        statistics: Those of the training (`running`), of all sites of the plate or experiment, or of its controls.
        min_sites: Sites that the statistics of a plate or experiment need.
        n_controls: Negative controls added to every training batch.
    """

    statistics: StatisticsSource = "running"
    min_sites: int = 8
    n_controls: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values stored in a checkpoint."""
        return {"statistics": self.statistics, "min_sites": self.min_sites, "n_controls": self.n_controls}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "NormStatisticsChoice":
        """Build the choice from the values of `to_json`; a missing key keeps its default.

        Raises:
            WeightsError: A key is unknown.
            ValidationError: A value has another type.
        """
        names = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in values if name not in names]:
            raise WeightsError(
                f"The model card has the unknown key 'batch_norm.{unknown[0]}'. {did_you_mean(unknown[0], names)}"
            )
        return _STATISTICS_ADAPTER.validate_python(dict(values))


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Metadata of a trained network that inference needs; saved with the weights.

    Attributes:
        target: Screen column that the network learned to predict.
        classes: Names of the outputs, in their order.
        class_sites: Training sites of each class; 0 for a class without any.
        channels: Names of the image channels, in their order.
        cell_types: Names of the cell types that the network takes as input; empty for none.
        preprocessing: How images are preprocessed.
        shape: Height and width of the images of the screen, in pixels; None if they differ or are unknown.
        correction: Batch correction of the features of a group of wells.
        epochs: Epochs of the training.
        precision: `fp32`, `bf16` or `fp16`.
        batch_norm: Which batch-norm statistics the network uses for prediction.
    """

    target: str
    classes: tuple[str, ...]
    class_sites: tuple[int, ...]
    channels: tuple[str, ...]
    cell_types: tuple[str, ...]
    preprocessing: Preprocessing
    shape: tuple[int, ...] | None = None
    correction: Correction = Correction()
    epochs: int
    precision: str
    batch_norm: NormStatisticsChoice = NormStatisticsChoice()

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.class_sites):
            raise WeightsError(
                f"The model card lists {len(self.classes)} classes but training-site counts for "
                f"{len(self.class_sites)}. Expected one count for each class."
            )

    @property
    def trained_classes(self) -> frozenset[str]:
        """Return the classes with at least one training site."""
        return frozenset(name for name, n in zip(self.classes, self.class_sites, strict=True) if n > 0)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values stored in a checkpoint as `card`."""
        return {
            "target": self.target,
            "classes": list(self.classes),
            "class_sites": list(self.class_sites),
            "channels": list(self.channels),
            "cell_types": list(self.cell_types),
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "shape": None if self.shape is None else list(self.shape),
            "correction": self.correction.model_dump(),
            "epochs": self.epochs,
            "precision": self.precision,
            "batch_norm": self.batch_norm.to_json(),
        }

    @classmethod
    def from_json(cls, values: object) -> "ModelCard":
        """Build the card from `to_json`; keys that older files lack have defaults.

        Raises:
            WeightsError: A key is missing or unknown, or a value has another type.
        """
        if not isinstance(values, Mapping):
            raise WeightsError(
                f"The model card is {values!r:.40}. Expected a mapping with target, classes and channels."
            )
        names = [field.name for field in fields(cls)]
        required = [field.name for field in fields(cls) if field.default is MISSING]
        if missing := [name for name in required if name not in values]:
            raise WeightsError(f"The model card lacks {', '.join(missing)}. Expected {', '.join(required)}.")
        if unknown := [str(name) for name in values if name not in names]:
            raise WeightsError(f"The model card has the unknown key {unknown[0]!r}. {did_you_mean(unknown[0], names)}")
        norms = values.get("batch_norm", {})
        try:
            norms = NormStatisticsChoice.from_json(norms) if isinstance(norms, Mapping) else norms
            return _CARD_ADAPTER.validate_python({**values, "batch_norm": norms})
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, e['loc']))} = {e['input']!r:.60}: {e['msg'].lower()}" for e in error.errors()
            ]
            raise WeightsError(f"The model card has invalid values: {'; '.join(problems)}.") from error

    def check_fits(self, config: ModelConfig) -> None:
        """Check that the card describes a network of this shape.

        Raises:
            WeightsError: The numbers of classes, channels or cell types differ.
        """
        counts = {
            "classes": (len(self.classes), config.n_perturbations),
            "channels": (len(self.channels), config.n_channels),
            "cell types": (len(self.cell_types), config.n_cell_types),
        }
        for entity, (on_card, of_network) in counts.items():
            if on_card != of_network:
                raise WeightsError(f"The model card lists {on_card} {entity}, but its network has {of_network}.")


_STATISTICS_ADAPTER = TypeAdapter(NormStatisticsChoice)
_CARD_ADAPTER = TypeAdapter(ModelCard)


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name each tensor with NaN or infinite values, with their count."""
    counts = {
        name: tensor.numel() - int(tensor.isfinite().sum())
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    return [f"{name} ({count} of {tensors[name].numel()} values)" for name, count in counts.items() if count]


def first_names(names: Sequence[str], *, limit: int = 8) -> str:
    """Join names for a message; after the first few, give the total number."""
    rest = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def save_model(model: PerturbationClassifier, path: Path, *, card: ModelCard) -> list[Path]:
    """Write a model with its card atomically, and the card as JSON next to it.

    The weights file contains the card and a SHA-256 of its content, so it can be verified by itself, even if the
    process dies between the two files. The JSON is a copy for people and other programs, with the SHA-256 of the
    weights file.

    Args:
        model: On any device, in any memory format.
        path: Ends in `.safetensors`.
        card: Metadata that inference needs.

    Returns:
        The files written, weights first.

    Raises:
        WeightsError: A tensor is not finite, or the card belongs to another network; nothing is written then.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"A model file must end in .safetensors, got {path.name!r}. Rename it.")
    card.check_fits(model.config)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if problems := non_finite(tensors):
        raise WeightsError(
            f"The model is not saved to {path}: NaN or infinite values in {first_names(problems)}. "
            "Return to the last checkpoint and lower the learning rate."
        )
    values = {
        "format": "distangle model",
        "format_version": FORMAT_VERSION,
        "config": model.config.model_dump(mode="json"),
        "card": card.to_json(),
    }
    card_json = json.dumps(values, allow_nan=False, ensure_ascii=False)
    metadata = {"format": "pt", CARD: card_json, DIGEST: _content_sha256(card_json, tensors)}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        sort_header(temporary)
        file_sha256 = sha256_of(temporary)
    json_path = path.with_suffix(".json")
    write_json(json_path, {**values, "weights": path.name, "weights_sha256": file_sha256})
    return [path, json_path]


def load_model(path: Path) -> tuple[PerturbationClassifier, ModelCard]:
    """Load a model, in evaluation mode on the CPU, and its card.

    Names, shapes and types are compared with the network before any tensor is read. The SHA-256 of the content is
    verified before any tensor is used.

    Args:
        path: The `.safetensors` file; the JSON next to it is not needed.

    Raises:
        WeightsError: The file is absent, damaged, of another format version, of another network, or has NaN or
            infinite values; names file and reason.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no model at {path}. Expected a .safetensors file written by save_model. Restore the file, "
            f"or train again into a new folder: `distangle train --out runs/NEW`."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            config, card = _read_card(path, metadata)
            with torch.device("meta"):
                model = PerturbationClassifier(config)
            _check_tensors(path, file, model.state_dict())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors: {error}. Restore the file from another copy."
        ) from error
    if _content_sha256(metadata[CARD], tensors) != metadata[DIGEST]:
        raise WeightsError(
            f"{path} is damaged: its content does not match its SHA-256. Restore the file from another copy."
        )
    if problems := non_finite(tensors):
        raise WeightsError(f"{path} is not loaded: NaN or infinite values in {first_names(problems)}. Train again.")
    model.to_empty(device="cpu")
    model.load_state_dict(tensors, strict=True)
    return model.eval(), card


def _content_sha256(card: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a card and of names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(card.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_card(path: Path, metadata: Mapping[str, str]) -> tuple[ModelConfig, ModelCard]:
    """Return network configuration and card from the metadata of a file."""
    if CARD not in metadata or DIGEST not in metadata:
        raise WeightsError(
            f"{path} is not a model saved by distangle: it contains no model card. "
            "Load weights published elsewhere with load_published_weights."
        )
    try:
        values = json.loads(metadata[CARD])
        version, config, about = values["format_version"], values["config"], values["card"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise WeightsError(
            f"The model card in {path} is damaged ({error!r}). Restore the file from another copy."
        ) from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format version {version!r}; this distangle reads version {FORMAT_VERSION}. "
            "Load it with the distangle version that wrote it, or a newer one."
        )
    try:
        network, card = ModelConfig.model_validate(config), ModelCard.from_json(about)
        card.check_fits(network)
    except (ValidationError, WeightsError) as error:
        raise WeightsError(f"This distangle cannot build the model described by the card in {path}: {error}") from error
    return network, card


def _check_tensors(path: Path, file: Any, expected: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and types of the tensors in a file with the network."""
    names = set(file.keys())
    problems = [f"lacks {name}" for name in expected if name not in names]
    problems += [f"has {name}, which the network lacks" for name in sorted(names - set(expected))]
    for name in (name for name in expected if name in names):
        tensor = file.get_slice(name)
        shape, dtype = tuple(tensor.get_shape()), DTYPES.get(tensor.get_dtype())
        if shape != tuple(expected[name].shape) or dtype != expected[name].dtype:
            wanted_type = f"{tuple(expected[name].shape)} {expected[name].dtype}"
            problems.append(f"has {name} as {shape} {tensor.get_dtype()} instead of {wanted_type}")
    if problems:
        raise WeightsError(
            f"{path} does not fit the network of its own card: it {first_names(problems)}. "
            "Restore the file from another copy."
        )
