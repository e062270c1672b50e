"""Hold the state of a training between two optimizer steps."""

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
    """Sums over the finished steps of the current epoch.

    Attributes:
        steps: Number of optimizer steps.
        loss: Sum of the losses.
        n_correct: Sum of the label mass of the predicted classes.
        n_scored: Number of labelled images.
        learning_rate: Learning rate of the last step.
        components: Sums of the terms of the loss, by name.
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
        """Add one step."""
        self.steps += 1
        self.loss, self.n_correct, self.n_scored = (
            self.loss + loss,
            self.n_correct + n_correct,
            self.n_scored + n_scored,
        )
        self.learning_rate = learning_rate
        for name, value in components.items():
            self.components[name] = self.components.get(name, 0.0) + value

    def row(self) -> dict[str, int | float]:
        """Return the metrics: mean loss over steps, accuracy over images."""
        row: dict[str, int | float] = {
            "train_loss": self.loss / max(1, self.steps),
            "train_accuracy": self.n_correct / max(1, self.n_scored),
            "learning_rate": self.learning_rate,
        }
        return row | {name: value / self.steps for name, value in self.components.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the sums by the names that checkpoints use."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EpochMetrics":
        """Return the sums that `to_json` gave."""
        return cls(**values)


@dataclass
class TrainingState:
    """Everything that the next step needs.

    All else is a pure function of configuration and position.

    Attributes:
        epochs_done: Number of finished epochs.
        model: The network, on its device.
        optimizer: The optimizer of the network.
        ema: Moving average of the weights by name; empty without an average.
        metrics: One row per finished epoch.
        partial_epoch: Sums over the current epoch.
        scaler: Scaler of the loss in fp16; disabled in other precisions.
        hook_tensors: Tensors that a hook of the loop keeps for a resume, by name.
        hook_values: JSON values that a hook of the loop keeps for a resume, by name.
        domain_classifier: Network that predicts the experiment, in training only; None without an adversary.
    """

    epochs_done: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor] = field(default_factory=dict)
    metrics: list[dict[str, int | float]] = field(default_factory=list)
    hook_tensors: dict[str, Tensor] = field(default_factory=dict)
    hook_values: dict[str, Any] = field(default_factory=dict)
    partial_epoch: EpochMetrics = field(default_factory=EpochMetrics)
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))
    domain_classifier: DomainClassifier | None = None

    @property
    def steps_done(self) -> int:
        """Number of optimizer steps done in the current epoch."""
        return self.partial_epoch.steps

    @property
    def position(self) -> str:
        """Position of the training as text: `epoch 3` or `step 12 of epoch 4`."""
        if self.steps_done:
            return f"step {self.steps_done} of epoch {self.epochs_done + 1}"
        return f"epoch {self.epochs_done}"

    @property
    def classifier(self) -> PerturbationClassifier:
        """The network as a classifier of perturbations.

        Raises:
            TypeError: The network is of another type.
        """
        if not isinstance(self.model, PerturbationClassifier):
            raise TypeError(f"Expected a PerturbationClassifier, got {type(self.model).__name__}.")
        return self.model

    def end_epoch(self, row: dict[str, int | float]) -> None:
        """Finish the current epoch with its row of metrics."""
        self.metrics.append(row)
        self.epochs_done += 1
        self.partial_epoch = EpochMetrics()


def constant_tensors(model: nn.Module) -> set[str]:
    """Return the names of the tensors that no step changes: a frozen backbone."""
    frozen = isinstance(model, PerturbationClassifier) and model.config.freeze_backbone
    return {name for name in model.state_dict() if name.startswith("backbone.")} if frozen else set()


def averaged_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that steps change, by their names in the state dict."""
    modules = (
        dict(model.named_children())
        if isinstance(model, PerturbationClassifier) and model.config.freeze_backbone
        else {}
    )
    trained = [(f"{name}.", module) for name, module in modules.items() if name != "backbone"] or [("", model)]
    tensors = {name: buffer for name, buffer in model.named_buffers(recurse=False)} if modules else {}
    for prefix, module in trained:
        tensors |= {f"{prefix}{name}": tensor for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    return tensors


def tensors_of(state: TrainingState) -> dict[str, Tensor]:
    """Return every tensor of a state by its name in a checkpoint."""
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.domain_classifier is not None:
        tensors |= {f"reader.{name}": tensor for name, tensor in state.domain_classifier.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.ema.items()}
    tensors |= {f"hook.{name}": tensor for name, tensor in state.hook_tensors.items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optim.{index}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
    return tensors


def scalars_of(state: TrainingState) -> dict[str, Any]:
    """Return the JSON values of a state that a checkpoint keeps beside tensors."""
    parameter_states = state.optimizer.state_dict()["state"].items()
    return {
        "epochs_done": state.epochs_done,
        "steps_done": state.steps_done,
        "partial_epoch": state.partial_epoch.to_json(),
        "metrics": state.metrics,
        "hook_values": state.hook_values,
        "scaler": state.scaler.state_dict(),
        "optim": {
            f"{index}.{name}": value
            for index, values_by_slot in parameter_states
            for name, value in values_by_slot.items()
            if not isinstance(value, Tensor)
        },
    }


def restore_state(state: TrainingState, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Fill a state from the values of `tensors_of` and `scalars_of`.

    Args:
        state: New state; changed in place.
        tensors: Tensors of the same network.
        scalars: JSON values of the same checkpoint.
    """

    def tensors_below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(tensors_below("model."), strict=True)
    if state.domain_classifier is not None:
        state.domain_classifier.load_state_dict(tensors_below("reader."), strict=True)
    weights = state.model.state_dict()
    state.ema = {name: _copy_with_layout(weights[name], tensor) for name, tensor in tensors_below("average.").items()}
    state.hook_tensors = tensors_below("hook.")
    state.hook_values = dict(scalars["hook_values"])
    values_of_parameter: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors_below("optim."), **scalars["optim"]}.items():
        index, slot = name.split(".", 1)
        values_of_parameter.setdefault(int(index), {})[slot] = value
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    for index, by_slot in values_of_parameter.items():
        for slot, value in by_slot.items():
            if isinstance(value, Tensor) and value.shape == parameters[index].shape:
                by_slot[slot] = _copy_with_layout(parameters[index], value)
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": values_of_parameter, "param_groups": groups})
    state.epochs_done = int(scalars["epochs_done"])
    state.metrics = list(scalars["metrics"])
    state.partial_epoch = EpochMetrics.from_json(scalars["partial_epoch"])
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(dict(scalars["scaler"]))


def _copy_with_layout(template: Tensor, values: Tensor) -> Tensor:
    # Keep strides and device: another loop order could round differently.
    return torch.empty_like(template, dtype=values.dtype).copy_(values)
