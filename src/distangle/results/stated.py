"""How the nouns of this room lie on disk: a JSON that says what there is, and arrays beside it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle.commit import committed
from distangle.errors import RunError
from distangle.reading import Unlike, expect, read_json, whole

Kinds = Mapping[str, type | tuple[type, ...]]  # of what a JSON object says, by name


class NotMade(RunError):
    """What is asked for has not been made yet."""


def stated(path: Path, *, what: str, flags: str = "", kinds: Kinds | None = None) -> dict[str, Any]:
    """Read the JSON of something that was explained.

    Args:
        path: Where it should lie.
        what: Its name in the message.
        flags: Of `distangle explain RUN`, which makes it.
        kinds: What it must say, and as what; None for anything.

    Raises:
        NotMade: It has not been made yet.
        RunError: It is damaged.
    """
    if not path.exists():
        raise NotMade(f"No {what} at {path}. Run `distangle explain RUN{flags}` first.")
    fix = again(path.parent, flags=flags)
    said = read_json(path, fix=fix)
    with whole(path, fix=fix):
        for name, kind in (kinds or {}).items():
            expect(said[name], kind, name=name)
        for name in said.keys() - (kinds or said).keys():
            raise Unlike(f"it has {name!r} too")
    return said


def again(folder: Path, *, verb: str = "explain", flags: str = "") -> str:
    """Return the sentence with the command that makes the files of a folder again.

    Args:
        folder: `explanations/` or `predictions/` of a run.
        verb: Which makes them.
        flags: Beside it.
    """
    run = folder.parent if (folder.parent / "run.json").exists() else "RUN"
    return f"Make it again: `distangle {verb} {run}{flags}`."


def read_table(path: Path, *, fix: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: The file.
        fix: A sentence with the next step, for the error.
        columns: What it must have.

    Raises:
        RunError: It is absent or damaged.
    """
    with whole(path, fix=fix):
        table = pd.read_parquet(path)
        for column in columns:
            table[column]
    return table


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, compressed."""
    with committed(path) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type] # the stubs take the names for options


def read_arrays(path: Path, *, fix: str, numbers: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; nothing in it is executed.

    Args:
        path: The file.
        fix: A sentence with the next step, for the error.
        numbers: How many rows those must have that are there.

    Raises:
        RunError: It is absent or damaged.
    """
    with whole(path, fix=fix), path.open("rb") as file, np.load(file, allow_pickle=False) as opened:
        arrays = {name: np.asarray(opened[name]) for name in opened.files}
        for name, rows in (numbers or {}).items():
            if name in arrays and arrays[name].shape[:1] != (rows,):
                raise Unlike(f"{name!r} has the shape {arrays[name].shape}, expected {rows} rows")
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub":
                raise Unlike(f"{name!r} holds no numbers")
    return arrays
