"""Describe hardware and libraries: equal bits need equal environments.

Checkpoints: a state on disk, written whole, read whole, or not at all.
"""

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
    """Return versions, processor, and numbers of threads and ranks."""
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


def differences(then: Environment, now: Environment) -> list[str]:
    """Return what is no longer as it was, such as `threads 2, now 1`."""
    return [f"{name} {then.get(name, 'unknown')}, now {now[name]}" for name in now if then.get(name) != now[name]]


KEEP = 2  # checkpoints of finished epochs: the last one and the one before it
FORMAT = 2
NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.json")


@dataclass(frozen=True)
class ResumeReport:
    """What is to be said of a resume.

    Attributes:
        passed_over: A sentence on each checkpoint that is damaged.
        changed: What the training computes with now and did not before: from here on it is not bit-exact.
    """

    passed_over: list[str]
    changed: list[str]


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
        StorageError: It cannot be written: the last checkpoint stays.
    """
    tensors = tensors_of(state)
    if broken := _not_finite(tensors):
        raise RunError(
            f"{', '.join(broken)} is not finite after {state.position}; this checkpoint was not written, and the one "
            f"before it is healthy."
        )
    stem = f"epoch-{state.epochs_done:04d}" + (f"-step-{state.steps_done:06d}" if state.steps_done else "")
    weights, about = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    digest = write_bytes(weights, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
    told = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "sha256": digest,
        "environment": environment(),
        **scalars_of(state),
    }
    # The JSON comes last: weights without it are no checkpoint.
    write_json(about, {**told, "sha256_of_this": _digest(told)})
    _let_go(folder)
    return [weights, about]


def load_state(state: TrainingState, folder: Path, *, fingerprint: str) -> ResumeReport:
    """Fill a state from the newest checkpoint that is whole.

    Args:
        state: Freshly built; changed in place.
        folder: `checkpoints/` of the run.
        fingerprint: What the checkpoint must have been made with.

    Raises:
        RunError: There is none, all are damaged, or it was made with another configuration, format or network.
    """
    passed_over: list[str] = []
    for about in reversed(_checkpoints(folder)):
        weights = about.with_suffix(".safetensors")
        try:
            told = _read(about)
            _refuse_another(about, told, fingerprint)
            if not weights.exists():
                raise ValueError(f"its weights {weights.name} are missing")
            if sha256_of(weights) != told["sha256"]:
                raise ValueError(f"the SHA-256 of {weights.name} is not {told['sha256'][:12]}..., the one written")
            tensors = load_file(weights)
            _refuse_other_tensors(weights, tensors, state)
            if broken := _not_finite(tensors):
                raise ValueError(f"{', '.join(broken)} is not finite")
        except (ValueError, KeyError, TypeError, SafetensorError, OSError) as error:
            why = f"{about.name} lacks {error}" if isinstance(error, KeyError) else str(error)
            passed_over.append(f"checkpoint {about.stem} is damaged: {why}. Using the one before it.")
            continue
        restore_state(state, tensors, told)
        return ResumeReport(passed_over=passed_over, changed=differences(told["environment"], environment()))
    again = f"Train again into a new folder: `distangle train --from {folder.parent} --out runs/NEW`."
    message = f"No whole checkpoint in {folder}. {' '.join(passed_over)} {again}"
    raise RunError(message.replace("  ", " "))


def rename_newer(state: TrainingState, folder: Path) -> None:
    """Rename damaged checkpoints that lie after the state that is resumed.

    So they are kept and do not stand in the way of those that will be written.
    """
    for about in _checkpoints(folder):
        if _position_of(about) > (state.epochs_done, state.steps_done):
            for path in (about, about.with_suffix(".safetensors")):
                if path.exists():
                    path.replace(path.with_name(f"damaged-{path.name}"))


def sweep_checkpoints(folder: Path) -> None:
    """Remove what a killed process left: temporary files, weights without JSON.

    The oldest checkpoints beyond those that are kept are removed too.
    """
    remove_stale_temporaries(folder)
    _let_go(folder)
    for weights in folder.glob("epoch-*.safetensors"):
        if not weights.with_suffix(".json").exists():
            weights.unlink()


def _read(about: Path) -> dict[str, Any]:
    """Read the JSON of a checkpoint.

    Raises:
        ValueError: It is not what was written.
    """
    try:
        told: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{about.name} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{about.name} holds {type(told).__name__}, not the fields of a checkpoint")
    if told.pop("sha256_of_this", None) != _digest(told) and told.get("format") == FORMAT:
        raise ValueError(f"{about.name} is not as it was written")
    return told


def _digest(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _refuse_another(about: Path, told: Mapping[str, Any], fingerprint: str) -> None:
    """Refuse what is whole but does not belong here.

    Raises:
        RunError: It is of another format, or of another configuration.
    """
    if told["format"] != FORMAT:
        raise RunError(
            f"{about} has format {told['format']}; this distangle reads format {FORMAT}. Go on with the distangle "
            f"that wrote it, or train into a new folder."
        )
    if told["fingerprint"] != fingerprint:
        raise RunError(
            f"{about} was made with another configuration, fold or class list than config.yaml, folds.parquet and "
            f"run.json of the run say now. Restore those (`distangle verify RUN` names what was changed), or train "
            f"into a new folder instead of resuming this one."
        )


def _refuse_other_tensors(path: Path, found: Mapping[str, Tensor], state: TrainingState) -> None:
    """Compare names and shapes with the network.

    Raises:
        RunError: They are of another network.
    """
    expected = {f"model.{name}": tensor.shape for name, tensor in state.model.state_dict().items()}
    if any(name.startswith("average.") for name in found):
        still = constant_tensors(state.model)
        names = {name.removeprefix("model."): shape for name, shape in expected.items()}
        expected |= {f"average.{name}": shape for name, shape in names.items() if name not in still}
    if state.reader is not None:
        expected |= {f"reader.{name}": tensor.shape for name, tensor in state.reader.state_dict().items()}
    problems = [f"lacks {name}" for name in expected if name not in found]
    problems += [
        f"has {name} as {tuple(found[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    for name, tensor in found.items():
        part, _, rest = name.partition(".")
        if part == "optim":
            number = int(rest.partition(".")[0])
            fits = number < len(parameters) and tensor.shape in (parameters[number].shape, torch.Size([]))
            problems += [] if fits else [f"has {name}, which no parameter fits"]
        elif part != "hook" and name not in expected:
            problems.append(f"has {name}, which the network lacks")
    if problems:
        more = f", ... ({len(problems)} in all)" if len(problems) > 4 else ""
        raise RunError(f"{path} is of another network: it {', '.join(problems[:4])}{more}. Train into a new folder.")


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ][:4]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the JSON of every checkpoint, in the order of their positions."""
    return sorted((path for path in folder.glob("epoch-*.json") if NAME.fullmatch(path.name)), key=_position_of)


def _position_of(about: Path) -> tuple[int, int]:
    found = NAME.fullmatch(about.name)
    if found is None:
        raise ValueError(f"{about} is not the name of a checkpoint")
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
