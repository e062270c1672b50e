"""Read and write the files of results: JSON with known fields, tables and arrays."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from distangle.core.io import atomic_write
from distangle.core.untrusted_files import UnexpectedContent, check_type, read_json, read_regular_file
from distangle.errors import RunError

Kinds = Mapping[str, type | tuple[type, ...]]  # expected type of each field of a JSON object


class MissingResultError(RunError):
    """A result has not been computed yet."""


def read_result_json(path: Path, *, title: str, flags: str = "", kinds: Kinds | None = None) -> dict[str, Any]:
    """Read the JSON file of a result of `distangle explain`.

    Args:
        path: The file.
        title: Name of the result, for error messages.
        flags: Flags of `distangle explain RUN` that compute the result.
        kinds: Expected type of every field; None accepts any fields.

    Raises:
        MissingResultError: The file does not exist.
        RunError: The file is damaged.
    """
    if not path.exists():
        raise MissingResultError(f"No {title} at {path}. Run `distangle explain RUN{flags}` first.")
    fix = rebuild_hint(path.parent, flags=flags)
    content = read_json(path, fix=fix)
    with read_regular_file(path, fix=fix):
        for name, kind in (kinds or {}).items():
            check_type(content[name], kind, name=name)
        for name in content.keys() - (kinds or content).keys():
            raise UnexpectedContent(f"it has {name!r}, which is not expected")
    return content


def rebuild_hint(folder: Path, *, command: str = "explain", flags: str = "") -> str:
    """Return the sentence with the command that makes the files of a folder again.

    Args:
        folder: `explanations/` or `predictions/` of a run.
        command: Subcommand that writes the folder.
        flags: Its flags.
    """
    run = folder.parent if (folder.parent / "run.json").exists() else "RUN"
    return f"Make it again: `distangle {command} {run}{flags}`."


def read_parquet(source: Path | bytes) -> pd.DataFrame:
    """Read a Parquet file with all its columns.

    The result is that of `pandas.read_parquet`, which also imports `pyarrow.dataset`: a tenth of the start of a viewer.

    Args:
        source: The file, or its bytes.
    """
    file = pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else source)
    table: pd.DataFrame = file.read().to_pandas()
    return table


def read_table(path: Path, *, fix: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: The file.
        fix: A sentence with the next step, for error messages.
        columns: Required columns.

    Raises:
        RunError: The file is absent or damaged.
    """
    with read_regular_file(path, fix=fix):
        table = read_parquet(path)
        for column in columns:
            table[column]
    return table


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, compressed."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # the stubs take the names for options


def read_arrays(path: Path, *, fix: str, n_rows: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Read a file of `write_arrays`; nothing in it is executed.

    Args:
        path: The file.
        fix: A sentence with the next step, for error messages.
        n_rows: Expected number of rows of each array that the file may hold.

    Raises:
        RunError: The file is absent or damaged.
    """
    with read_regular_file(path, fix=fix), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: np.asarray(archive[name]) for name in archive.files}
        for name, rows in (n_rows or {}).items():
            if name in arrays and arrays[name].shape[:1] != (rows,):
                raise UnexpectedContent(f"{name!r} has the shape {arrays[name].shape}, expected {rows} rows")
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub":
                raise UnexpectedContent(f"{name!r} has the type {array.dtype}, expected numbers")
    return arrays
