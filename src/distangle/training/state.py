"""The state of a training between two optimiser steps: saved whole, read whole, or not at all."""

import dataclasses
import json
import re
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
from distangle.training.adversary import ExperimentReader

KEEP = 2  # checkpoints of finished epochs: the last one and the one before it
FORMAT = 2
NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.json")


@dataclass
class EpochSoFar:
    """Sums over the steps that the running epoch has done.

    Attributes:
        steps: Optimiser steps.
        loss: Sum of their losses.
        right: Mass of the labels that was answered rightly.
        counted: Images that carry a label.
        learning_rate: Of the last step.
        parts: Sums of the terms of the loss by name.
    """

    steps: int = 0
    loss: float = 0.0
    right: float = 0.0
    counted: int = 0
    learning_rate: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, *, loss: float, right: float, counted: int, learning_rate: float, parts: Mapping[str, float]) -> None:
        """Count one more step."""
        self.steps += 1
        self.loss, self.right, self.counted = self.loss + loss, self.right + right, self.counted + counted
        self.learning_rate = learning_rate
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def row(self) -> dict[str, int | float]:
        """Return the metrics of the epoch so far: means over its steps, accuracy over its images."""
        row: dict[str, int | float] = {
            "train_loss": self.loss / max(1, self.steps),
            "train_accuracy": self.right / max(1, self.counted),
            "learning_rate": self.learning_rate,
        }
        return row | {name: value / self.steps for name, value in self.parts.items()}


@dataclass
class TrainingState:
    """Everything that the next step needs; what is missing here is a pure function of configuration and position.

    Attributes:
        epochs_done: Number of finished epochs.
        model: The network, on its device.
        optimiser: Its optimiser.
        average: Moving average of the weights by name; empty when none is kept.
        metrics: One row per finished epoch.
        so_far: What the epoch after the finished ones has done.
        scaler: Of the loss in fp16; elsewhere it is not enabled and changes nothing.
        kept: Tensors that a hook of the loop decided and must find again after a resume, by name.
        notes: The same for what is no tensor: JSON values by name.
        reader: The network that reads the experiment, for training only; None where there is none.
    """

    epochs_done: int
    model: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    metrics: list[dict[str, int | float]] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    so_far: EpochSoFar = field(default_factory=EpochSoFar)
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))
    reader: ExperimentReader | None = None

    @property
    def steps_done(self) -> int:
        """Optimiser steps done in the running epoch."""
        return self.so_far.steps

    @property
    def position(self) -> str:
        """Where the training stands, in words: `epoch 3` or `step 12 of epoch 4`."""
        if self.steps_done:
            return f"step {self.steps_done} of epoch {self.epochs_done + 1}"
        return f"epoch {self.epochs_done}"

    def end_epoch(self, row: dict[str, int | float]) -> None:
        """Count the running epoch as finished, with its row of metrics."""
        self.metrics.append(row)
        self.epochs_done += 1
        self.so_far = EpochSoFar()


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something to resume from."""
    return bool(_checkpoints(folder))


def save_state(state: TrainingState, folder: Path, *, fingerprint: str) -> list[Path]:
    """Write one checkpoint, then let go of the older ones.

    What stays is a function of the position alone, so that a run that was interrupted ends with the same files: the
    last two finished epochs, and within an epoch its last step.

    Args:
        state: What to write.
        folder: `checkpoints/` of the run.
        fingerprint: Hash of configuration, folds and classes; `load_state` refuses another.

    Returns:
        The files written.

    Raises:
        RunError: A tensor is not finite: the last healthy checkpoint stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.reader is not None:
        tensors |= {f"reader.{name}": tensor for name, tensor in state.reader.state_dict().items()}
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
            message = f"{name} is not finite after {state.position}; this checkpoint was not written."
            raise RunError(message)
    stem = f"epoch-{state.epochs_done:04d}" + (f"-step-{state.steps_done:06d}" if state.steps_done else "")
    weights, about = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    with committed(weights) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    # The JSON comes last: weights without it are no checkpoint.
    commit_json(
        about,
        {
            "format": FORMAT,
            "epochs_done": state.epochs_done,
            "steps_done": state.steps_done,
            "fingerprint": fingerprint,
            "sha256": sha256_of(weights),
            "scalars": scalars,
            "so_far": dataclasses.asdict(state.so_far),
            "metrics": state.metrics,
            "notes": state.notes,
            "scaler": state.scaler.state_dict(),
        },
    )
    _let_go(folder)
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
    for about in reversed(_checkpoints(folder)):
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
        if told["format"] != FORMAT:
            message = (
                f"{about} has format {told['format']}; this distangle reads format {FORMAT}. Go on with the distangle "
                f"that wrote it, or train into a new folder."
            )
            raise RunError(message)
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


def _checkpoints(folder: Path) -> list[Path]:
    """Return the JSON of every checkpoint, in the order of their positions."""
    return sorted((path for path in folder.glob("epoch-*.json") if NAME.fullmatch(path.name)), key=_position_of)


def _position_of(about: Path) -> tuple[int, int]:
    found = NAME.fullmatch(about.name)
    if found is None:
        message = f"{about} is not the name of a checkpoint"
        raise ValueError(message)
    return int(found[1]), int(found[2] or 0)


def _let_go(folder: Path) -> None:
    """Remove all but the last finished epochs and, when it is newer, the last step."""
    found = _checkpoints(folder)
    epochs = [about for about in found if _position_of(about)[1] == 0]
    kept = {*epochs[-KEEP:], *found[-1:]}
    for old in found:
        if old not in kept:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)


def _fill(state: TrainingState, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(part("model."), strict=True)
    if state.reader is not None:
        state.reader.load_state_dict(part("reader."), strict=True)
    weights = state.model.state_dict()
    state.average = {name: _laid_out_as(weights[name], tensor) for name, tensor in part("average.").items()}
    state.kept = part("kept.")
    state.notes = dict(told["notes"])
    slots: dict[int, dict[str, Any]] = {}
    for name, value in {**part("optim."), **{k.removeprefix("optim."): v for k, v in told["scalars"].items()}}.items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    for number, slot_of in slots.items():
        for slot, value in slot_of.items():
            if isinstance(value, Tensor) and value.shape == parameters[number].shape:
                slot_of[slot] = _laid_out_as(parameters[number], value)
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": slots, "param_groups": groups})
    state.epochs_done = int(told["epochs_done"])
    state.metrics = list(told["metrics"])
    state.so_far = EpochSoFar(**told["so_far"])
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(dict(told["scaler"]))


def _laid_out_as(template: Tensor, values: Tensor) -> Tensor:
    # The same strides on the same device as before the stop: another loop over them could round otherwise.
    return torch.empty_like(template, dtype=values.dtype).copy_(values)
