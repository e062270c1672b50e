"""What a training is between two optimiser steps: all that the next step needs."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from distangle.model import PerturbationClassifier
from distangle.training.adversary import DomainClassifier


@dataclass
class EpochMetrics:
    """Sums over the steps that the running epoch has done.

    Attributes:
        steps: Optimiser steps.
        loss: Sum of their losses.
        n_correct: Mass of the labels that was answered rightly.
        n_scored: Images that carry a label.
        learning_rate: Of the last step.
        components: Sums of the terms of the loss by name.
    """

    steps: int = 0
    loss: float = 0.0
    n_correct: float = 0.0
    n_scored: int = 0
    learning_rate: float = 0.0
    components: dict[str, float] = field(default_factory=dict)

    def add(
        self, *, loss: float, n_correct: float, n_scored: int, learning_rate: float, components: Mapping[str, float]
    ) -> None:
        """Count one more step."""
        self.steps += 1
        self.loss += loss
        self.n_correct += n_correct
        self.n_scored += n_scored
        self.learning_rate = learning_rate
        for name, value in components.items():
            self.components[name] = self.components.get(name, 0.0) + value

    def row(self) -> dict[str, int | float]:
        """Return the metrics so far: means over steps, accuracy over images."""
        row: dict[str, int | float] = {
            "train_loss": self.loss / max(1, self.steps),
            "train_accuracy": self.n_correct / max(1, self.n_scored),
            "learning_rate": self.learning_rate,
        }
        return row | {name: value / self.steps for name, value in self.components.items()}


@dataclass
class TrainingState:
    """Everything that the next step needs.

    What is missing here is a pure function of configuration and position.

    Attributes:
        epochs_done: Number of finished epochs.
        model: The network, on its device.
        optimiser: Its optimiser.
        average: Moving average of the weights by name; empty when none is kept.
        metrics: One row per finished epoch.
        partial_epoch: What the epoch after the finished ones has done.
        scaler: Of the loss in fp16; elsewhere it is not enabled and changes nothing.
        hook_tensors: Tensors that a hook of the loop decided and must find again after a resume, by name.
        hook_values: The same for what is no tensor: JSON values by name.
        reader: The network that reads the experiment, for training only; None where there is none.
    """

    epochs_done: int
    model: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    metrics: list[dict[str, int | float]] = field(default_factory=list)
    hook_tensors: dict[str, Tensor] = field(default_factory=dict)
    hook_values: dict[str, Any] = field(default_factory=dict)
    partial_epoch: EpochMetrics = field(default_factory=EpochMetrics)
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))
    reader: DomainClassifier | None = None

    @property
    def steps_done(self) -> int:
        """Optimiser steps done in the running epoch."""
        return self.partial_epoch.steps

    @property
    def position(self) -> str:
        """Where the training stands, in words: `epoch 3` or `step 12 of epoch 4`."""
        if self.steps_done:
            return f"step {self.steps_done} of epoch {self.epochs_done + 1}"
        return f"epoch {self.epochs_done}"

    @property
    def classifier(self) -> PerturbationClassifier:
        """The network, where it is a classifier of perturbations.

        Raises:
            TypeError: It is another network.
        """
        if not isinstance(self.model, PerturbationClassifier):
            raise TypeError(f"Expected a PerturbationClassifier to be trained, got {type(self.model).__name__}.")
        return self.model

    def end_epoch(self, row: dict[str, int | float]) -> None:
        """Count the running epoch as finished, with its row of metrics."""
        self.metrics.append(row)
        self.epochs_done += 1
        self.partial_epoch = EpochMetrics()


def constant_tensors(model: nn.Module) -> set[str]:
    """Return the names of what no step moves: those of a frozen backbone."""
    frozen = isinstance(model, PerturbationClassifier) and model.config.freeze_backbone
    return {name for name in model.state_dict() if name.startswith("backbone.")} if frozen else set()


def averaged_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that steps move, by their names in the state of the network."""
    parts = (
        dict(model.named_children())
        if isinstance(model, PerturbationClassifier) and model.config.freeze_backbone
        else {}
    )
    moving = [(f"{name}.", part) for name, part in parts.items() if name != "backbone"] or [("", model)]
    own = {name: buffer for name, buffer in model.named_buffers(recurse=False)} if parts else {}
    for prefix, part in moving:
        own |= {f"{prefix}{name}": tensor for name, tensor in [*part.named_parameters(), *part.named_buffers()]}
    return own


def tensors_of(state: TrainingState) -> dict[str, Tensor]:
    """Return every tensor of a state by the name it has in a checkpoint."""
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.reader is not None:
        tensors |= {f"reader.{name}": tensor for name, tensor in state.reader.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    tensors |= {f"hook.{name}": tensor for name, tensor in state.hook_tensors.items()}
    for index, slot in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optim.{index}.{name}": value for name, value in slot.items() if isinstance(value, Tensor)}
    return tensors


def scalars_of(state: TrainingState) -> dict[str, Any]:
    """Return what a checkpoint keeps of a state besides tensors; JSON values only."""
    slots = state.optimiser.state_dict()["state"].items()
    return {
        "epochs_done": state.epochs_done,
        "steps_done": state.steps_done,
        "partial_epoch": dataclasses.asdict(state.partial_epoch),
        "metrics": state.metrics,
        "hook_values": state.hook_values,
        "scaler": state.scaler.state_dict(),
        "optim": {
            f"{index}.{name}": value
            for index, slot in slots
            for name, value in slot.items()
            if not isinstance(value, Tensor)
        },
    }


def restore_state(state: TrainingState, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Put into a state what `tensors_of` and `scalars_of` gave.

    Args:
        state: Freshly built; changed in place.
        tensors: Of the same network.
        scalars: Kept beside them.
    """

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(part("model."), strict=True)
    if state.reader is not None:
        state.reader.load_state_dict(part("reader."), strict=True)
    weights = state.model.state_dict()
    state.average = {name: _laid_out_as(weights[name], tensor) for name, tensor in part("average.").items()}
    state.hook_tensors = part("hook.")
    state.hook_values = dict(scalars["hook_values"])
    slots: dict[int, dict[str, Any]] = {}
    for name, value in {**part("optim."), **scalars["optim"]}.items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    for number, slot_of in slots.items():
        for slot, value in slot_of.items():
            if isinstance(value, Tensor) and value.shape == parameters[number].shape:
                slot_of[slot] = _laid_out_as(parameters[number], value)
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": slots, "param_groups": groups})
    state.epochs_done = int(scalars["epochs_done"])
    state.metrics = list(scalars["metrics"])
    state.partial_epoch = EpochMetrics(**scalars["partial_epoch"])
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(dict(scalars["scaler"]))


def _laid_out_as(template: Tensor, values: Tensor) -> Tensor:
    # The same strides on the same device as before the stop: another loop over them could round otherwise.
    return torch.empty_like(template, dtype=values.dtype).copy_(values)
