"""Save and load models: safetensors with their card, and the card as JSON."""

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
from distangle.screen.plate_groups import AtTest

FORMAT_VERSION = 1
# Names of the safetensors metadata.
CARD, DIGEST = "distangle", "distangle_sha256"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True, kw_only=True)
class NormStatisticsChoice:
    """Whose batch-norm statistics a network is used with.

    Attributes:
        statistics: Those of the training (`running`), of all sites of the plate or experiment, or of its controls.
        min_sites: Sites that the statistics of a plate or experiment need.
        n_controls: Negative controls that stood beside every training batch.
    """

    statistics: AtTest = "running"
    min_sites: int = 8
    n_controls: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values that a checkpoint holds."""
        return {"statistics": self.statistics, "min_sites": self.min_sites, "n_controls": self.n_controls}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "NormStatisticsChoice":
        """Read what `to_json` gave; a missing key keeps its default.

        Raises:
            WeightsError: A key is unknown.
            ValidationError: A value is of another type.
        """
        names = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in values if name not in names]:
            raise WeightsError(
                f"The card of a model has the unknown key 'batch_norm.{unknown[0]}'. {did_you_mean(unknown[0], names)}"
            )
        return _NORMS.validate_python(dict(values))


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What inference needs to know of a training; saved with the weights.

    Attributes:
        target: Column of the screen that was learnt.
        classes: Names of the outputs, in their order.
        class_sites: Training sites of each class; 0 for a class that was never trained.
        channels: Names of the channels of an image, in their order.
        cell_types: Names of the cell types that the network takes; empty for none.
        preprocessing: How images were prepared.
        shape: Height and width of the images of the screen, in pixels; None where they differ or are not known.
        correction: What is taken off the features of a group of wells.
        epochs: Epochs of the training.
        precision: `fp32`, `bf16` or `fp16`.
        batch_norm: Whose batch-norm statistics the network is used with.
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
                f"The card of a model names {len(self.classes)} classes and the training sites of "
                f"{len(self.class_sites)}. Expected one number of sites for each class."
            )

    @property
    def trained_classes(self) -> frozenset[str]:
        """The classes with at least one training site."""
        return frozenset(name for name, n in zip(self.classes, self.class_sites, strict=True) if n > 0)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values that a checkpoint holds as `card`."""
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
        """Read what `to_json` gave; keys that are missing in older files have defaults.

        Raises:
            WeightsError: A key is missing or unknown, or a value is of another type.
        """
        if not isinstance(values, Mapping):
            raise WeightsError(
                f"The card of a model is {values!r:.40}. Expected a mapping with target, classes and channels."
            )
        known = [field.name for field in fields(cls)]
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        if missing := [name for name in needed if name not in values]:
            raise WeightsError(f"The card of a model lacks {', '.join(missing)}. Expected {', '.join(needed)}.")
        if unknown := [str(name) for name in values if name not in known]:
            raise WeightsError(
                f"The card of a model has the unknown key {unknown[0]!r}. {did_you_mean(unknown[0], known)}"
            )
        norms = values.get("batch_norm", {})
        try:
            norms = NormStatisticsChoice.from_json(norms) if isinstance(norms, Mapping) else norms
            return _CARDS.validate_python({**values, "batch_norm": norms})
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r:.60}: {e['msg'].lower()}" for e in error.errors()]
            raise WeightsError(f"The card of a model does not fit: {'; '.join(wrong)}.") from error

    def check_fits(self, config: ModelConfig) -> None:
        """Check that the card describes a network of this shape.

        Raises:
            WeightsError: It names another number of classes, channels or cell types.
        """
        named = {
            "classes": (len(self.classes), config.n_perturbations),
            "channels": (len(self.channels), config.n_channels),
            "cell types": (len(self.cell_types), config.n_cell_types),
        }
        for what, (on_card, of_network) in named.items():
            if on_card != of_network:
                raise WeightsError(f"The card of a model names {on_card} {what}, and its network has {of_network}.")


_NORMS = TypeAdapter(NormStatisticsChoice)
_CARDS = TypeAdapter(ModelCard)


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name each tensor with NaN or infinity, and count such values."""
    counts = {
        name: tensor.numel() - int(tensor.isfinite().sum())
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    return [f"{name} ({count} of {tensors[name].numel()} values)" for name, count in counts.items() if count]


def first_names(names: Sequence[str], *, at_most: int = 8) -> str:
    """Return names for a message, cut after a few with the number of all."""
    more = f", ... ({len(names)} in all)" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def _digest(card: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a card and of every name, type, shape and byte of the tensors."""
    digest = hashlib.sha256(card.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_model(model: PerturbationClassifier, path: Path, *, card: ModelCard) -> list[Path]:
    """Write a model to `path`, whole or not at all, and its card as JSON beside it.

    The weights carry the card and a SHA-256 of their content inside, so that they are whole or refused by
    themselves, also when the process dies between the two files. The JSON is the copy for people and other
    programs, with the SHA-256 of the weights' file.

    Args:
        model: On any device, in any memory format.
        path: Ends in `.safetensors`.
        card: What inference needs to know of the training.

    Returns:
        The files written, weights first.

    Raises:
        WeightsError: A tensor is not finite, or the card is of another network; nothing is written then.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"A model is written to a file that ends in .safetensors, not to {path.name!r}.")
    card.check_fits(model.config)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if broken := non_finite(tensors):
        raise WeightsError(
            f"The model is not saved to {path}: not finite in {first_names(broken)}. "
            "Go back to the last checkpoint and lower the learning rate."
        )
    values = {
        "format": "distangle model",
        "format_version": FORMAT_VERSION,
        "config": model.config.model_dump(mode="json"),
        "card": card.to_json(),
    }
    text = json.dumps(values, allow_nan=False, ensure_ascii=False)
    metadata = {"format": "pt", CARD: text, DIGEST: _digest(text, tensors)}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        sort_header(temporary)
        file_sha256 = sha256_of(temporary)
    beside = path.with_suffix(".json")
    write_json(beside, {**values, "weights": path.name, "weights_sha256": file_sha256})
    return [path, beside]


def _read_card(path: Path, metadata: Mapping[str, str]) -> tuple[ModelConfig, ModelCard]:
    """Return what a file says of its own network and of its training."""
    if CARD not in metadata or DIGEST not in metadata:
        raise WeightsError(
            f"{path} is not a model that distangle saved: it has no card inside. "
            "For weights published elsewhere use load_published_weights."
        )
    try:
        values = json.loads(metadata[CARD])
        version, config, about = values["format_version"], values["config"], values["card"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise WeightsError(
            f"The card inside {path} is damaged ({error!r}). Restore the file from another copy."
        ) from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format version {version!r}; this distangle reads version {FORMAT_VERSION}. "
            "Load it with the distangle that wrote it, or a newer one."
        )
    try:
        network, card = ModelConfig.model_validate(config), ModelCard.from_json(about)
        card.check_fits(network)
    except (ValidationError, WeightsError) as error:
        raise WeightsError(
            f"The card inside {path} describes no model that this distangle can build: {error}"
        ) from error
    return network, card


def _refuse_other_tensors(path: Path, opened: Any, expected: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and types of a file with the network, before any of it is read."""
    found = set(opened.keys())
    problems = [f"lacks {name}" for name in expected if name not in found]
    problems += [f"has {name}, which the network lacks" for name in sorted(found - set(expected))]
    for name in (name for name in expected if name in found):
        piece = opened.get_slice(name)
        shape, dtype = tuple(piece.get_shape()), DTYPES.get(piece.get_dtype())
        if shape != tuple(expected[name].shape) or dtype != expected[name].dtype:
            wanted = f"{tuple(expected[name].shape)} {expected[name].dtype}"
            problems.append(f"has {name} as {shape} {piece.get_dtype()} instead of {wanted}")
    if problems:
        raise WeightsError(f"{path} does not fit the network of its own card: it {first_names(problems)}.")


def load_model(path: Path) -> tuple[PerturbationClassifier, ModelCard]:
    """Load a model, in evaluation mode on the CPU, and its card.

    Names, shapes and types are compared with the network before any tensor is read, the content with its SHA-256
    before any of it is used.

    Args:
        path: The `.safetensors` file; the JSON beside it is not needed.

    Raises:
        WeightsError: When the file is absent, damaged, of another format version, of another network, or not
            finite; names file and reason.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no model at {path}. Expected the .safetensors file that save_model wrote. Restore the file, "
            f"or train again into a new folder: `distangle train --out runs/NEW`."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            config, card = _read_card(path, metadata)
            with torch.device("meta"):
                model = PerturbationClassifier(config)
            _refuse_other_tensors(path, opened, model.state_dict())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors: {error}. Restore the file from another copy."
        ) from error
    if _digest(metadata[CARD], tensors) != metadata[DIGEST]:
        raise WeightsError(
            f"{path} is damaged: its content has not the SHA-256 that it was saved with. "
            "Restore the file from another copy."
        )
    if broken := non_finite(tensors):
        raise WeightsError(f"{path} is not used: not finite in {first_names(broken)}.")
    model.to_empty(device="cpu")
    model.load_state_dict(tensors, strict=True)
    return model.eval(), card
