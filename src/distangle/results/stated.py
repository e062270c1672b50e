"""How the nouns of this room lie on disk: a JSON that says what there is, and arrays beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distangle.commit import committed
from distangle.errors import RunError


def stated(path: Path, *, what: str, flags: str = "") -> dict[str, Any]:
    """Read the JSON of something that was explained.

    Args:
        path: Where it should lie.
        what: Its name in the message.
        flags: Of `distangle explain RUN`, which makes it.

    Raises:
        RunError: It has not been made yet.
    """
    if not path.exists():
        message = f"No {what} at {path}. Run `distangle explain RUN{flags}` first."
        raise RunError(message)
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return said


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, compressed."""
    with committed(path) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type] # the stubs take the names for options


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; nothing in it is executed."""
    with np.load(path, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}
