"""The one format of a trained model: safetensors that carry their own card, and the card as JSON beside them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from distangle.commit import commit_json, committed, sha256_of, sort_header
from distangle.errors import WeightsError
from distangle.model.classifier import ModelConfig, PerturbationClassifier

FORMAT_VERSION = 1
# Names of the safetensors metadata.
CARD, DIGEST = "distangle", "distangle_sha256"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return, for each tensor with NaN or infinity, its name and how many of its values are so."""
    counts = {
        name: tensor.numel() - int(tensor.isfinite().sum())
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    return [f"{name} ({count} of {tensors[name].numel()} values)" for name, count in counts.items() if count]


def some(names: Sequence[str], *, at_most: int = 8) -> str:
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


def save_model(model: PerturbationClassifier, path: Path, *, about: dict[str, Any]) -> list[Path]:
    """Write a model to `path` and its card as JSON beside it; a reader never sees a part of a file.

    The weights carry the card and a SHA-256 of their content inside, so that they are whole or refused by
    themselves, also when the process dies between the two files. The JSON is the copy for people and other
    programs, with the SHA-256 of the weights' file.

    Args:
        model: On any device, in any memory format.
        path: Ends in `.safetensors`.
        about: What else to keep: how it was trained, scores, the perturbations' names. JSON values only.

    Returns:
        The files written, weights first.

    Raises:
        WeightsError: When a tensor is not finite, or `about` is not JSON; nothing is written then.
    """
    if path.suffix != ".safetensors":
        message = f"A model is written to a file that ends in .safetensors, not to {path.name!r}."
        raise WeightsError(message)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if broken := non_finite(tensors):
        message = (
            f"The model is not saved to {path}: not finite in {some(broken)}. "
            "Go back to the last checkpoint and lower the learning rate."
        )
        raise WeightsError(message)
    card = {
        "format": "distangle model",
        "format_version": FORMAT_VERSION,
        "config": model.config.model_dump(mode="json"),
        "about": about,
    }
    try:
        text = json.dumps(card, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        message = f"`about` of {path} cannot be written as JSON: {error}. Give text, finite numbers, lists and dicts."
        raise WeightsError(message) from error
    metadata = {"format": "pt", CARD: text, DIGEST: _digest(text, tensors)}
    with committed(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        sort_header(temporary)
        file_sha256 = sha256_of(temporary)
    beside = path.with_suffix(".json")
    commit_json(beside, {**card, "weights": path.name, "weights_sha256": file_sha256})
    return [path, beside]


def _read_card(path: Path, metadata: Mapping[str, str]) -> tuple[ModelConfig, dict[str, Any]]:
    """Return config and `about` of a file's own card."""
    if CARD not in metadata or DIGEST not in metadata:
        message = (
            f"{path} is not a model that distangle saved: it has no card inside. "
            "For weights published elsewhere use load_published_weights."
        )
        raise WeightsError(message)
    try:
        card = json.loads(metadata[CARD])
        version, config, about = card["format_version"], card["config"], card["about"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        message = f"The card inside {path} is damaged ({error!r}). Restore the file from another copy."
        raise WeightsError(message) from error
    if version != FORMAT_VERSION:
        message = (
            f"{path} has format version {version!r}; this distangle reads version {FORMAT_VERSION}. "
            "Load it with the distangle that wrote it, or a newer one."
        )
        raise WeightsError(message)
    try:
        return ModelConfig.model_validate(config), dict(about)
    except (ValidationError, TypeError, ValueError) as error:
        message = f"The card inside {path} describes no model that this distangle can build: {error}"
        raise WeightsError(message) from error


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
        message = f"{path} does not fit the network of its own card: it {some(problems)}."
        raise WeightsError(message)


def load_model(path: Path) -> tuple[PerturbationClassifier, dict[str, Any]]:
    """Return a saved model, in evaluation mode on the CPU, and what was kept about it.

    Names, shapes and types are compared with the network before any tensor is read, the content with its SHA-256
    before any of it is used.

    Args:
        path: The `.safetensors` file; the JSON beside it is not needed.

    Raises:
        WeightsError: When the file is absent, damaged, of another format version, of another network, or not
            finite; names file and reason.
    """
    if not path.is_file():
        message = (
            f"There is no model at {path}. Expected the .safetensors file that save_model wrote. Restore the file, "
            f"or train again into a new folder: `distangle train --out runs/NEW`."
        )
        raise WeightsError(message)
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            config, about = _read_card(path, metadata)
            with torch.device("meta"):
                model = PerturbationClassifier(config)
            _refuse_other_tensors(path, opened, model.state_dict())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        message = f"{path} cannot be read as safetensors: {error}. Restore the file from another copy."
        raise WeightsError(message) from error
    if _digest(metadata[CARD], tensors) != metadata[DIGEST]:
        message = (
            f"{path} is damaged: its content has not the SHA-256 that it was saved with. "
            "Restore the file from another copy."
        )
        raise WeightsError(message)
    if broken := non_finite(tensors):
        message = f"{path} is not used: not finite in {some(broken)}."
        raise WeightsError(message)
    model.to_empty(device="cpu")
    model.load_state_dict(tensors, strict=True)
    return model.eval(), about
