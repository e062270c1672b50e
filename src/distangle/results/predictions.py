"""Predictions of a network for sites or wells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from distangle.core.io import atomic_write, sort_header
from distangle.core.result_files import MissingResultError, read_table, rebuild_hint
from distangle.core.untrusted_files import UnexpectedContent, read_regular_file
from distangle.errors import ConfigError, RunError
from distangle.results.top_logits import default_top, highest_logits, spread_logits

KEYS = ("experiment", "plate", "well", "site")
_COLUMNS = ("predicted", "reason")  # of every table


@dataclass(frozen=True, kw_only=True)
class LogitStorage:
    """Which logits are stored, and in which precision.

    Attributes:
        top: Number of the highest logits of each row; 0 for all; None for all of up to 256 classes, else 32.
        half: Store logits and embeddings as float16, with three digits, instead of float32.

    Raises:
        ConfigError: `top` is negative.
    """

    top: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 0:
            raise ConfigError(f"top is {self.top}: expected 0 (all logits) or the number of logits to store.")

    def top_of(self, n_classes: int) -> int | None:
        """Return how many logits of a row are stored; None for all."""
        top = default_top(n_classes) if self.top is None else self.top
        return top if top and top < n_classes else None


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
        n_top: Number of the highest logits of each row that were stored; the others share the remaining probability
            evenly (`spread_logits`). None: all logits are exact.
    """

    level: Literal["site", "well"]
    table: pd.DataFrame
    logits: np.ndarray
    embedding: np.ndarray
    perturbations: tuple[str, ...]
    views: int
    n_top: int | None = None

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

    def write(self, folder: Path, *, storage: "LogitStorage | None" = None) -> list[Path]:
        """Write `<level>s[_views8].parquet` and its arrays; return both paths.

        Args:
            folder: Folder of the files.
            storage: Which logits to store, and in which precision; None for the default.
        """
        storage = storage or LogitStorage()
        table, arrays = _paths(folder, self.level, self.views)
        dtype = np.float16 if storage.half else np.float32
        top = self.n_top or storage.top_of(len(self.perturbations))
        metadata = {"perturbations": "\x1f".join(self.perturbations), "views": str(self.views)}
        if top is None:
            tensors = {"logits": np.ascontiguousarray(self.logits, dtype=dtype)}
        else:
            values, classes, log_sums = highest_logits(self.logits, top)
            tensors = {"top_logits": values.astype(dtype), "top_classes": classes, "log_sums": log_sums}
            metadata["n_top"] = str(top)
        tensors["embedding"] = np.ascontiguousarray(self.embedding, dtype=dtype)
        with atomic_write(arrays, size=sum(tensor.nbytes for tensor in tensors.values())) as temporary:
            save_file(tensors, temporary, metadata=metadata)
            sort_header(temporary)
        with atomic_write(table) as temporary:
            self.table.to_parquet(temporary, index=False)
        return [table, arrays]

    @classmethod
    def read(
        cls, folder: Path, *, level: Literal["site", "well"], views: int = 1, with_logits: bool = True
    ) -> "Predictions":
        """Read what `write` wrote.

        Args:
            folder: Folder of the files.
            level: Sites or wells.
            views: Number of averaged views.
            with_logits: Read the logits; without them, all are NaN and take no memory.

        Raises:
            MissingResultError: The run has no predictions of this kind yet.
            RunError: A file is damaged.
        """
        table, arrays = _paths(folder, level, views)
        if not table.exists() or not arrays.exists():
            raise MissingResultError(
                f"No predictions at {arrays if table.exists() else table}. Run `distangle predict RUN SCREEN` first."
            )
        fix = rebuild_hint(folder, command="predict")
        rows = read_table(table, fix=fix, columns=_COLUMNS)
        with read_regular_file(arrays, fix=fix), safe_open(arrays, framework="numpy") as opened:
            names = (opened.metadata() or {})["perturbations"]
            perturbations = tuple(names.split("\x1f")) if names else ()
            n_top, logits = _read_logits(opened, len(perturbations), with_logits=with_logits)
            embedding = opened.get_tensor("embedding").astype(np.float32, copy=False)
        if logits.shape != (len(rows), len(perturbations)) or embedding.shape[:1] != (len(rows),):
            raise RunError(f"{arrays} does not match {table.name}: it holds other rows or perturbations. {fix}")
        return cls(
            level=level,
            table=rows,
            logits=logits,
            embedding=embedding,
            perturbations=perturbations,
            views=views,
            n_top=n_top,
        )


def _read_logits(opened: Any, n_classes: int, *, with_logits: bool) -> tuple[int | None, np.ndarray]:
    """Return how many logits of a row were stored (None: all), and the logits."""
    is_top = "top_logits" in opened.keys()  # noqa: SIM118 - not a mapping
    shape = opened.get_slice("top_logits" if is_top else "logits").get_shape()
    n_top = shape[1] if is_top else None
    if not with_logits:
        n_columns = n_classes if is_top else shape[1]
        return n_top, np.broadcast_to(np.float32(np.nan), (shape[0], n_columns))
    if not is_top:
        return None, opened.get_tensor("logits").astype(np.float32, copy=False)
    classes = opened.get_tensor("top_classes")
    if classes.max(initial=0) >= n_classes:
        raise UnexpectedContent(f"it names class {classes.max()} of {n_classes}")
    values = opened.get_tensor("top_logits").astype(np.float32)
    return n_top, spread_logits(values, classes, opened.get_tensor("log_sums"), n_classes)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, float32 [row, class]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def _paths(folder: Path, level: str, views: int) -> tuple[Path, Path]:
    stem = f"{level}s" + ("" if views == 1 else f"_views{views}")
    return folder / f"{stem}.parquet", folder / f"{stem}.safetensors"
