"""Read the explanations of a run; one map at a time."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.core.result_files import read_result_json, read_table, rebuild_hint
from distangle.core.untrusted_files import UnexpectedContent, read_regular_file
from distangle.results.explanation import ARRAYS_FILE, JSON_FILE


@dataclass(frozen=True, kw_only=True)
class ExplanationFiles:
    """Explanations of sites, wells and perturbations.

    Attributes:
        folder: Their folder.
        sites: One row per explained site; see `results.Explanation`.
        wells: One row per explained well; None without them.
        perturbations: One row per explained perturbation and cell type; None without them.
        channels: Names of the channels.
        n_control_wells: Control wells that give the null of a site.
    """

    folder: Path
    sites: pd.DataFrame
    wells: pd.DataFrame | None
    perturbations: pd.DataFrame | None
    channels: tuple[str, ...]
    n_control_wells: int = 0

    @classmethod
    def open(cls, folder: Path) -> "ExplanationFiles":
        """Open the results of `distangle explain`.

        Raises:
            RunError: A file is absent or damaged.
        """
        content = read_result_json(folder / JSON_FILE, title="explanation")
        fix = rebuild_hint(folder)
        tables = {
            name: read_table(folder / f"{name}.parquet", fix=fix)
            for name in ("sites", "wells", "perturbations")
            if name == "sites" or (folder / f"{name}.parquet").exists()
        }
        with read_regular_file(folder / JSON_FILE, fix=fix):
            channels = tuple(str(name) for name in content["settings"]["channels"])
            n_control_wells = int(content["settings"].get("n_control_wells") or 0)
        return cls(
            folder=folder,
            sites=tables["sites"],
            wells=tables.get("wells"),
            perturbations=tables.get("perturbations"),
            channels=channels,
            n_control_wells=n_control_wells,
        )

    def read_map(self, row: int, *, level: Literal["sites", "perturbations"] = "sites") -> np.ndarray:
        """Return the attribution map of a row, float32 [height, width].

        Args:
            row: Row of the table.
            level: Which table.

        Raises:
            RunError: The file of the maps is absent or damaged.
        """
        path = self.folder / ARRAYS_FILE
        with (
            read_regular_file(path, fix=rebuild_hint(self.folder)),
            zipfile.ZipFile(path) as archive,
        ):
            return read_row(archive, level, row)

    def attribution(self, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the Shapley value of every channel of a row of a table.

        Args:
            entry: A row of `wells`, `sites` or `perturbations`.
        """
        return [
            {
                "channel": name,
                "value": _finite(entry.get(f"shapley_{k}")),
                "low": _finite(entry.get(f"shapley_low_{k}")),
                "high": _finite(entry.get(f"shapley_high_{k}")),
                "null_low": _finite(entry.get(f"shapley_null_low_{k}")),
                "null_high": _finite(entry.get(f"shapley_null_high_{k}")),
                "null_wells": self.n_control_wells,
                "p": _finite(entry.get(f"shapley_p_{k}")),
            }
            for k, name in enumerate(self.channels, start=1)
        ]


def read_row(archive: zipfile.ZipFile, name: str, row: int) -> np.ndarray:
    """Read one row of an array [row, height, width] without the others in memory.

    Args:
        archive: A file of `results.Explanation.write`.
        name: Name of the array.
        row: Number of the row.

    Returns:
        float32 [height, width] in [0, 1]; 0 where the map is not finite.

    Raises:
        UnexpectedContent: The array has other axes or another type, or lacks the row.
    """
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        if len(shape) != 3 or is_fortran or dtype != np.dtype("<f4") or not 0 <= row < shape[0]:
            raise UnexpectedContent(f"the maps have the shape {shape} and the type {dtype}; row {row} was wanted")
        size = shape[1] * shape[2] * dtype.itemsize
        left = row * size
        while left and (skipped := len(file.read(min(left, 1 << 20)))):
            left -= skipped
        content = file.read(size)
        if left or len(content) != size:
            raise UnexpectedContent("it ends too early")
    values = np.frombuffer(content, dtype="<f4").reshape(shape[1:])
    return np.asarray(np.clip(np.nan_to_num(values), 0, 1), dtype=np.float32)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
