"""Write a fitted alignment to a file, and read it for new plates."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from distangle.core.io import atomic_write, sort_header
from distangle.core.untrusted_files import UnexpectedContent, read_regular_file
from distangle.errors import ProfileError
from distangle.profiles.alignment import Alignment
from distangle.profiles.alignment_steps import GroupStep, PositionStep, SpheringStep, TypicalVariationStep
from distangle.profiles.harmony import Harmony, HarmonySettings
from distangle.profiles.harmony_step import HarmonyStep
from distangle.profiles.sphering import Sphering
from distangle.profiles.tvn import TypicalVariation

FILE = "alignment.safetensors"
_CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Alignment, GroupStep, PositionStep, SpheringStep, TypicalVariationStep, HarmonyStep),
        *(Sphering, TypicalVariation, Harmony, HarmonySettings),
    )
}


def write_alignment(alignment: Alignment, path: Path) -> Path:
    """Write an alignment: arrays as safetensors, all else as JSON in its header."""
    arrays: dict[str, np.ndarray] = {}
    content = _encode(alignment, "", arrays)
    with atomic_write(path) as temporary:
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            temporary,
            metadata={"alignment": json.dumps(content, sort_keys=True)},
        )
        sort_header(temporary)
    return path


def read_alignment(path: Path) -> Alignment:
    """Read what `write_alignment` wrote; nothing in the file is executed.

    Args:
        path: The file, or a folder of `distangle profile` with it.

    Raises:
        ProfileError: The file is absent or damaged.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise ProfileError(
            f"{file} does not exist. Expected the folder of an earlier `distangle profile`, such as RUN/profiles."
        )
    with read_regular_file(file, fix="Run `distangle profile` on the plates of the fit again.", error=ProfileError):
        with safe_open(file, framework="numpy") as opened:
            content = json.loads((opened.metadata() or {})["alignment"])
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        alignment = _decode(content, arrays)
        if not isinstance(alignment, Alignment) or not all(hasattr(step, "apply") for step in alignment.steps):
            raise UnexpectedContent("it holds no chain of steps")
    return alignment


def _encode(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value for JSON; move arrays out of it."""
    if is_dataclass(value):
        parts = {
            field.name: _encode(getattr(value, field.name), f"{place}/{field.name}", arrays) for field in fields(value)
        }
        return {"class": type(value).__name__, "fields": parts}
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"array": place}
    if isinstance(value, dict):
        return {
            "entries": [[key, _encode(item, f"{place}/{k}", arrays)] for k, (key, item) in enumerate(value.items())]
        }
    if isinstance(value, tuple):
        return [_encode(item, f"{place}/{k}", arrays) for k, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return what `_encode` was given."""
    if isinstance(value, list):
        return tuple(_decode(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "entries" in value:
        return {str(key): _decode(item, arrays) for key, item in value["entries"]}
    return _CLASSES[value["class"]](**{name: _decode(item, arrays) for name, item in value["fields"].items()})
