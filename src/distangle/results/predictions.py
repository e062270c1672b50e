"""Predictions of a network for sites or wells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from distangle.core.io import atomic_write, sort_header
from distangle.core.result_files import MissingResultError, read_table, rebuild_hint
from distangle.core.untrusted_files import read_regular_file
from distangle.errors import RunError

KEYS = ("experiment", "plate", "well", "site")
_COLUMNS = ("predicted", "reason")  # of every table


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Logits and embeddings with the table of their sites or wells.

    The rows of all three correspond.

    Attributes:
        level: `"site"` or `"well"` (the mean over the sites of a well).
        table: One row per site or well: `Metadata_Experiment`, `Metadata_Plate`, `Metadata_Well`,
            `Metadata_Site` (sites only), `Metadata_Cell_Type`, `Metadata_Role`, `Metadata_Fold`
            (`train` | `held_out` | `unlabelled`), then `perturbation` ("" if unknown), `predicted`, `confidence`
            (probability of the predicted class, in [0, 1]), `reason` ("" or why the images could not be read).
        logits: float32 [row, perturbation]; NaN where `reason` is not empty.
        embedding: float32 [row, embedding]; NaN where `reason` is not empty.
        perturbations: Names of the logits' columns.
        views: Number of dihedral test-time views averaged, 1 or 8.
    """

    level: Literal["site", "well"]
    table: pd.DataFrame
    logits: np.ndarray
    embedding: np.ndarray
    perturbations: tuple[str, ...]
    views: int

    def __post_init__(self) -> None:
        rows = len(self.table)
        if self.logits.shape != (rows, len(self.perturbations)) or len(self.embedding) != rows:
            raise ValueError(
                f"{rows} rows, logits {self.logits.shape}, embedding {self.embedding.shape}, "
                f"{len(self.perturbations)} perturbations: their sizes must match"
            )

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float32 [row, perturbation]."""
        return softmax(self.logits)

    def write(self, folder: Path) -> list[Path]:
        """Write `<level>s[_views8].parquet` and its arrays; return both paths."""
        table, arrays = _paths(folder, self.level, self.views)
        with atomic_write(arrays) as temporary:
            save_file(
                {
                    "logits": np.ascontiguousarray(self.logits, dtype=np.float32),
                    "embedding": np.ascontiguousarray(self.embedding, dtype=np.float32),
                },
                temporary,
                metadata={"perturbations": "\x1f".join(self.perturbations), "views": str(self.views)},
            )
            sort_header(temporary)
        with atomic_write(table) as temporary:
            self.table.to_parquet(temporary, index=False)
        return [table, arrays]

    @classmethod
    def read(cls, folder: Path, *, level: Literal["site", "well"], views: int = 1) -> "Predictions":
        """Read what `write` wrote.

        Raises:
            MissingResultError: The run has no predictions of this kind yet.
            RunError: A file is damaged.
        """
        from safetensors import safe_open

        table, arrays = _paths(folder, level, views)
        if not table.exists() or not arrays.exists():
            raise MissingResultError(
                f"No predictions at {arrays if table.exists() else table}. Run `distangle predict RUN SCREEN` first."
            )
        fix = rebuild_hint(folder, command="predict")
        rows = read_table(table, fix=fix, columns=_COLUMNS)
        with read_regular_file(arrays, fix=fix):
            with safe_open(arrays, framework="numpy") as opened:
                names = (opened.metadata() or {})["perturbations"]
            values = load_file(arrays)
            logits, embedding = values["logits"], values["embedding"]
        perturbations = tuple(names.split("\x1f")) if names else ()
        if logits.shape != (len(rows), len(perturbations)) or embedding.shape[:1] != (len(rows),):
            raise RunError(f"{arrays} does not match {table.name}: it holds other rows or perturbations. {fix}")
        return cls(
            level=level, table=rows, logits=logits, embedding=embedding, perturbations=perturbations, views=views
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, float32 [row, class]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def _paths(folder: Path, level: str, views: int) -> tuple[Path, Path]:
    stem = f"{level}s" + ("" if views == 1 else f"_views{views}")
    return folder / f"{stem}.parquet", folder / f"{stem}.safetensors"
