"""Read a folder of profiles: tables at once, features when they are needed."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from distangle.core.result_files import read_table, rebuild_hint
from distangle.core.untrusted_files import UnexpectedContent, check_type, read_json, read_regular_file
from distangle.results.profile_result import HIT_COLUMNS, JSON_FILE

COLUMNS_AT_ONCE = 128
_METADATA_KEY = b"distangle"
METHODS = {"tsne": "openTSNE", "umap": "umap", "pca": "pca"}


@dataclass(kw_only=True)
class ProfileFiles:
    """Profiles of wells and perturbations.

    Attributes:
        folder: Their folder.
        settings: The settings of `distangle profile`.
        wells: `Metadata_*` columns of the wells.
        perturbations: `Metadata_*` columns of the perturbations.
        hits: The hit list; see `results.profile_result.HIT_COLUMNS`.
        neighbors: `name`, `kind`, `rank`, `other`, `cosine`.
        coordinates: `x` and `y` of every row of `wells`; None without a map.
    """

    folder: Path
    settings: dict[str, Any]
    wells: pd.DataFrame
    perturbations: pd.DataFrame
    hits: pd.DataFrame
    neighbors: pd.DataFrame
    coordinates: pd.DataFrame | None
    _features: dict[str, np.ndarray] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, folder: Path) -> "ProfileFiles":
        """Open the results of `distangle profile`.

        Raises:
            RunError: A file is absent or damaged.
        """
        fix = _fix(folder)
        content = read_json(folder / JSON_FILE, fix=fix)
        with read_regular_file(folder / JSON_FILE, fix=fix):
            settings = check_type(content["settings"], dict, name="settings")
        wells = _metadata(folder / "wells.parquet", fix)
        coordinates = None
        if (folder / "coordinates.parquet").exists():
            coordinates = read_table(folder / "coordinates.parquet", fix=fix, columns=("x", "y"))
            with read_regular_file(folder / "coordinates.parquet", fix=fix):
                if len(coordinates) != len(wells):
                    raise UnexpectedContent(f"it has {len(coordinates)} rows, expected {len(wells)}")
        return cls(
            folder=folder,
            settings=settings,
            wells=wells,
            perturbations=_metadata(folder / "perturbations.parquet", fix),
            hits=read_table(folder / "hits.parquet", fix=fix, columns=HIT_COLUMNS),
            neighbors=read_table(
                folder / "neighbors.parquet", fix=fix, columns=("name", "kind", "rank", "other", "cosine")
            ),
            coordinates=coordinates,
        )

    @property
    def method(self) -> str:
        """Name of the method of the map."""
        return METHODS.get(str(self.settings.get("map", "pca")), "pca")

    def features(self, level: str) -> np.ndarray:
        """Return the features of `wells` or `perturbations`, float16 [row, feature].

        They are scaled by their largest value, and read once.

        Args:
            level: `wells` or `perturbations`.

        Raises:
            RunError: The file is damaged.
        """
        with self._lock:
            if level not in self._features:
                self._features[level] = _features(self.folder / f"{level}.parquet", _fix(self.folder))
            return self._features[level]


def _fix(folder: Path) -> str:
    if (folder.parent / "run.json").exists():
        return rebuild_hint(folder, command="profile")
    return "Make it again: `distangle profile SOURCE --out FOLDER`."


def _columns(path: Path) -> tuple[list[str], int]:
    """Return the names of the columns, and how many of them are metadata."""
    schema = pq.read_schema(path)
    metadata = schema.metadata or {}
    if _METADATA_KEY not in metadata:
        raise UnexpectedContent("it was not written by `distangle profile`")
    n_metadata = check_type(json.loads(metadata[_METADATA_KEY])["n_metadata"], int, name="n_metadata")
    if not 0 <= n_metadata <= len(schema.names):
        raise UnexpectedContent(f"expected {n_metadata} metadata columns, found {len(schema.names)}")
    return list(schema.names), n_metadata


def _metadata(path: Path, fix: str) -> pd.DataFrame:
    with read_regular_file(path, fix=fix):
        names, n_metadata = _columns(path)
        table: pd.DataFrame = pq.ParquetFile(path).read(columns=names[:n_metadata]).to_pandas()
        return table


def _features(path: Path, fix: str) -> np.ndarray:
    with read_regular_file(path, fix=fix):
        names, n_metadata = _columns(path)
        n_rows = pq.read_metadata(path).num_rows
        values = np.empty((n_rows, len(names) - n_metadata), dtype=np.float16)
        for start in range(0, values.shape[1], COLUMNS_AT_ONCE):
            part = names[n_metadata + start : n_metadata + min(start + COLUMNS_AT_ONCE, values.shape[1])]
            table = pq.ParquetFile(path).read(columns=part)
            for k in range(len(part)):
                values[:, start + k] = np.clip(np.asarray(table.column(k), dtype=np.float32), -6e4, 6e4)
        return values
