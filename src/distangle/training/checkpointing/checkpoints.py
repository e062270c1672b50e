"""Write and read checkpoints of a training, whole or not at all."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from distangle import __version__
from distangle.core.distributed import n_ranks
from distangle.core.io import remove_stale_temporaries, sha256_of, write_bytes, write_json
from distangle.errors import RunError
from distangle.model.device import training_device
from distangle.training.state import TrainingState, constant_tensors, restore_state, scalars_of, tensors_of

Environment = Mapping[str, str | int]


def environment() -> dict[str, str | int]:
    """Return versions, device, and the numbers of threads and ranks.

    Equal bits need equal environments.
    """
    device = training_device()
    names = {"cpu": f"cpu ({torch.backends.cpu.get_cpu_capability()})"}
    if device.type == "cuda":
        names["cuda"] = torch.cuda.get_device_name(device)
    return {
        "distangle": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": names.get(device.type, device.type),
        "threads": torch.get_num_threads(),
        "ranks": n_ranks(),
    }


def differences(before: Environment, now: Environment) -> list[str]:
    """Return the changes between two environments, such as `threads 2, now 1`."""
    return [f"{name} {before.get(name, 'unknown')}, now {now[name]}" for name in now if before.get(name) != now[name]]


N_EPOCHS_KEPT = 2  # checkpoints of finished epochs: the last one and the one before it
FORMAT = 2
FILE_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.json")


@dataclass(frozen=True)
class ResumeReport:
    """Report of a resume.

    Attributes:
        skipped: One sentence for each damaged checkpoint.
        environment_changes: Changes of the environment; with any, the training is not bit-exact from here on.
    """

    skipped: list[str]
    environment_changes: list[str]


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a checkpoint to resume from."""
    return bool(_checkpoints(folder))


def save_state(state: TrainingState, folder: Path, *, fingerprint: str) -> list[Path]:
    """Write one checkpoint, then remove older ones.

    The last two finished epochs are kept, and within an epoch its last step. This depends on the position only, so an
    interrupted run ends with the same files.

    Args:
        state: The state to write.
        folder: `checkpoints/` of the run.
        fingerprint: Hash of configuration, folds and classes; `load_state` refuses another.

    Returns:
        The files written.

    Raises:
        RunError: A tensor is not finite; the last good checkpoint is kept.
        StorageError: The checkpoint cannot be written; the last one is kept.
    """
    tensors = tensors_of(state)
    if names := _non_finite_names(tensors):
        raise RunError(
            f"{', '.join(names)} is not finite after {state.position}. This checkpoint was not written; the "
            f"one before it is good."
        )
    stem = f"epoch-{state.epochs_done:04d}" + (f"-step-{state.steps_done:06d}" if state.steps_done else "")
    weights, path = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    digest = write_bytes(weights, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
    fields = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "sha256": digest,
        "environment": environment(),
        **scalars_of(state),
    }
    # The JSON comes last: weights without it are no checkpoint.
    write_json(path, {**fields, "sha256_of_this": _digest(fields)})
    _prune(folder)
    return [weights, path]


def load_state(state: TrainingState, folder: Path, *, fingerprint: str) -> ResumeReport:
    """Fill a state from the newest undamaged checkpoint.

    Args:
        state: New state; changed in place.
        folder: `checkpoints/` of the run.
        fingerprint: Fingerprint that the checkpoint must have.

    Raises:
        RunError: The folder has no undamaged checkpoint, or the checkpoint belongs to another configuration, format
            or network.
    """
    skipped: list[str] = []
    for path in reversed(_checkpoints(folder)):
        weights = path.with_suffix(".safetensors")
        try:
            fields = _read(path)
            _refuse_another(path, fields, fingerprint)
            if not weights.exists():
                raise ValueError(f"its weights {weights.name} are missing")
            if sha256_of(weights) != fields["sha256"]:
                raise ValueError(f"the SHA-256 of {weights.name} is not {fields['sha256'][:12]}..., the one written")
            tensors = load_file(weights)
            _refuse_other_tensors(weights, tensors, state)
            if names := _non_finite_names(tensors):
                raise ValueError(f"{', '.join(names)} is not finite")
        except (ValueError, KeyError, TypeError, SafetensorError, OSError) as error:
            problem = f"{path.name} lacks {error}" if isinstance(error, KeyError) else str(error)
            skipped.append(f"checkpoint {path.stem} is damaged: {problem}. Using the one before it.")
            continue
        restore_state(state, tensors, fields)
        return ResumeReport(skipped=skipped, environment_changes=differences(fields["environment"], environment()))
    retry = f"Train again into a new folder: `distangle train --from {folder.parent} --out runs/NEW`."
    message = f"No undamaged checkpoint in {folder}. {' '.join(skipped)} {retry}"
    raise RunError(message.replace("  ", " "))


def rename_newer(state: TrainingState, folder: Path) -> None:
    """Rename damaged checkpoints that lie after the resumed state.

    They are kept, and do not collide with the checkpoints to come.
    """
    for checkpoint in _checkpoints(folder):
        if _position_of(checkpoint) > (state.epochs_done, state.steps_done):
            for path in (checkpoint, checkpoint.with_suffix(".safetensors")):
                if path.exists():
                    path.replace(path.with_name(f"damaged-{path.name}"))


def sweep_checkpoints(folder: Path) -> None:
    """Remove temporary files, weights without JSON, and superfluous checkpoints.

    A killed process may leave them.
    """
    remove_stale_temporaries(folder)
    _prune(folder)
    for weights in folder.glob("epoch-*.safetensors"):
        if not weights.with_suffix(".json").exists():
            weights.unlink()


def _read(path: Path) -> dict[str, Any]:
    """Read the JSON of a checkpoint.

    Raises:
        ValueError: The content is not what was written.
    """
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path.name} holds {type(fields).__name__}, not the fields of a checkpoint")
    if fields.pop("sha256_of_this", None) != _digest(fields) and fields.get("format") == FORMAT:
        raise ValueError(f"{path.name} was changed after it was written")
    return fields


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _refuse_another(path: Path, fields: Mapping[str, Any], fingerprint: str) -> None:
    """Refuse an undamaged checkpoint of another format or configuration.

    Raises:
        RunError: The format or the configuration differs.
    """
    if fields["format"] != FORMAT:
        raise RunError(
            f"{path} has format {fields['format']}; this version of distangle reads format {FORMAT}. Resume with "
            f"the version that wrote it, or train into a new folder."
        )
    if fields["fingerprint"] != fingerprint:
        raise RunError(
            f"{path} belongs to another configuration, fold or class list than config.yaml, folds.parquet and "
            f"run.json of the run name now. Restore these files (`distangle verify RUN` names the changed ones), or "
            f"train into a new folder."
        )


def _refuse_other_tensors(path: Path, tensors: Mapping[str, Tensor], state: TrainingState) -> None:
    """Refuse tensors whose names or shapes do not fit the network.

    Raises:
        RunError: The tensors belong to another network.
    """
    expected = {f"model.{name}": tensor.shape for name, tensor in state.model.state_dict().items()}
    if any(name.startswith("average.") for name in tensors):
        constant = constant_tensors(state.model)
        names = {name.removeprefix("model."): shape for name, shape in expected.items()}
        expected |= {f"average.{name}": shape for name, shape in names.items() if name not in constant}
    if state.domain_classifier is not None:
        expected |= {f"reader.{name}": tensor.shape for name, tensor in state.domain_classifier.state_dict().items()}
    problems = [f"lacks {name}" for name in expected if name not in tensors]
    problems += [
        f"has {name} as {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        prefix, _, key = name.partition(".")
        if prefix == "optim":
            number = int(key.partition(".")[0])
            fits = number < len(parameters) and tensor.shape in (parameters[number].shape, torch.Size([]))
            problems += [] if fits else [f"has {name}, which fits no parameter"]
        elif prefix != "hook" and name not in expected:
            problems.append(f"has {name}, which the network lacks")
    if problems:
        more = f", ... ({len(problems)} in all)" if len(problems) > 4 else ""
        raise RunError(
            f"{path} belongs to another network: it {', '.join(problems[:4])}{more}. Train into a new folder."
        )


def _non_finite_names(tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ][:4]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the JSON path of every checkpoint, ordered by position."""
    return sorted((path for path in folder.glob("epoch-*.json") if FILE_NAME.fullmatch(path.name)), key=_position_of)


def _position_of(path: Path) -> tuple[int, int]:
    match = FILE_NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not the name of a checkpoint")
    return int(match[1]), int(match[2] or 0)


def _prune(folder: Path) -> None:
    """Remove all checkpoints but the last finished epochs and a newer last step."""
    checkpoints = _checkpoints(folder)
    epochs = [path for path in checkpoints if _position_of(path)[1] == 0]
    retained = {*epochs[-N_EPOCHS_KEPT:], *checkpoints[-1:]}
    for path in checkpoints:
        if path not in retained:
            path.unlink()
            path.with_suffix(".safetensors").unlink(missing_ok=True)
