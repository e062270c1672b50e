"""The state of a training between two epochs: saved whole, read whole, or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distangle.commit import commit_json, committed, sha256_of
from distangle.errors import RunError

KEEP = 2  # checkpoints: the last one and the one before it
FORMAT = 1


@dataclass
class TrainingState:
    """Everything that the next epoch needs.

    Attributes:
        epochs_done: Number of finished epochs.
        model: The network, on its device.
        optimiser: Its optimiser.
        average: Moving average of the weights by name; empty when none is kept.
        metrics: One row per finished epoch.
        kept: Tensors that a hook of the loop decided and must find again after a resume, by name.
        notes: The same for what is no tensor: JSON values by name.
    """

    epochs_done: int
    model: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    metrics: list[dict[str, int | float]] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def save_state(state: TrainingState, folder: Path, *, fingerprint: str) -> list[Path]:
    """Write one checkpoint, then the pointer to it, then let go of the oldest.

    Args:
        state: What to write.
        folder: `checkpoints/` of the run.
        fingerprint: Hash of configuration, folds and classes; `load_state` refuses another.

    Raises:
        RunError: A tensor is not finite: the last healthy checkpoint stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    tensors |= {f"kept.{name}": tensor for name, tensor in state.kept.items()}
    slots = state.optimiser.state_dict()["state"]
    scalars: dict[str, Any] = {}
    for index, slot in slots.items():
        for name, value in slot.items():
            if isinstance(value, Tensor):
                tensors[f"optim.{index}.{name}"] = value
            else:
                scalars[f"optim.{index}.{name}"] = value
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            message = f"{name} is not finite after epoch {state.epochs_done}; this checkpoint was not written."
            raise RunError(message)
    stem = f"epoch-{state.epochs_done:04d}"
    weights, about = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    with committed(weights) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    commit_json(
        about,
        {
            "format": FORMAT,
            "epochs_done": state.epochs_done,
            "fingerprint": fingerprint,
            "sha256": sha256_of(weights),
            "scalars": scalars,
            "metrics": state.metrics,
            "notes": state.notes,
        },
    )
    for old in sorted(folder.glob("epoch-*.json"))[:-KEEP]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return [weights, about]


def load_state(state: TrainingState, folder: Path, *, fingerprint: str) -> list[str]:
    """Fill a state from the newest checkpoint that is whole.

    Args:
        state: Freshly built; changed in place.
        folder: `checkpoints/` of the run.
        fingerprint: What the checkpoint must have been made with.

    Returns:
        Sentences on checkpoints that had to be passed over.

    Raises:
        RunError: There is none, all are damaged, or it was made with another configuration.
    """
    said: list[str] = []
    for about in sorted(folder.glob("epoch-*.json"), reverse=True):
        weights = about.with_suffix(".safetensors")
        try:
            told = json.loads(about.read_text(encoding="utf-8"))
            if not weights.exists() or sha256_of(weights) != told["sha256"]:
                said.append(f"{weights.name} is damaged (its SHA-256 is not the one written); using the one before it.")
                continue
            tensors = load_file(weights)
        except (json.JSONDecodeError, KeyError, SafetensorError, OSError) as error:
            said.append(f"{about.name} is damaged ({error}); using the one before it.")
            continue
        if told["fingerprint"] != fingerprint:
            message = (
                f"{about} was made with another configuration, fold or class list than the run folder names now. "
                f"Train into a new folder instead of resuming this one."
            )
            raise RunError(message)
        _fill(state, tensors, told)
        return said
    message = f"No whole checkpoint in {folder}. {' '.join(said)} Train again into a new folder.".replace("  ", " ")
    raise RunError(message)


def _fill(state: TrainingState, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(part("model."), strict=True)
    state.average = part("average.")
    state.kept = part("kept.")
    state.notes = dict(told["notes"])
    slots: dict[int, dict[str, Any]] = {}
    for name, value in {**part("optim."), **{k.removeprefix("optim."): v for k, v in told["scalars"].items()}}.items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": slots, "param_groups": groups})
    state.epochs_done = int(told["epochs_done"])
    state.metrics = list(told["metrics"])
