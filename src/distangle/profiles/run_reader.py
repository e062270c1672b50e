"""Read the embeddings or the backbone features of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.core.untrusted_files import UnexpectedContent, check_type, read_json, read_regular_file
from distangle.errors import ProfileError
from distangle.results.backbone_features import CARD, SITES_PER_FILE, Features, chunk_paths
from distangle.results.predictions import Predictions
from distangle.results.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """Vectors and wells of a run.

    Attributes:
        features: `embedding`, of the trained network; `backbone`, of the frozen backbone, which saw no label; or
            `auto`: `backbone` for a cross-validation with a frozen backbone, else `embedding`.
        wells: `all`, or `held_out`: those that the network was not trained on; `auto`: `held_out` for embeddings of a
            run that holds wells out, else `all`.
    """

    features: Literal["embedding", "backbone", "auto"] = "embedding"
    wells: Literal["all", "held_out", "auto"] = "all"


@dataclass(kw_only=True)
class Source:
    """Rows of a source before any check; `labels` names the rows in messages."""

    table: pd.DataFrame
    features: pd.DataFrame
    labels: list[str]
    refused: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    n_trained: int = 0
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


def is_run(path: Path) -> bool:
    """Return whether a path is a run or a folder of predictions."""
    return (path / "run.json").exists() or ((path / "sites.parquet").exists() and (path / "sites.safetensors").exists())


def read_run(path: Path, choice: RunRows) -> Source:
    """Read the sites of a run.

    Args:
        path: A run folder, or a folder of predictions.
        choice: Vectors and wells.

    Raises:
        ProfileError: The run has no backbone features, or no well that the network was not trained on.
        RunError: The run is incomplete.
    """
    run = RunFolder.open(path) if (path / "run.json").exists() else None
    predictions = Predictions.read(path if run is None else run.predictions, level="site", with_logits=False)
    n_folds = int(run.describe().get("cross_validation", {}).get("n_folds", 0)) if run else 0
    if "Metadata_Fold" not in predictions.table:
        raise ProfileError(
            f"{path}: the sites have no column Metadata_Fold, so it is unknown which wells the network was trained on. "
            "Expected predictions of `distangle predict`. Predict again."
        )
    kind = choice.features
    has_backbone = run is not None and (run.features / CARD).is_file()
    if kind == "auto":
        kind = "backbone" if n_folds and has_backbone else "embedding"
    if kind == "backbone" and (run is None or not has_backbone):
        raise ProfileError(
            f"{path} has no features of a frozen backbone. Expected a run of a preset with one, such as `small`. "
            "Use the embeddings: `--features embedding`."
        )
    is_trained = predictions.table["Metadata_Fold"].to_numpy(dtype=object) == "train"
    # The final network of a cross-validation is trained on all wells, those of the folds too.
    is_trained |= bool(n_folds)
    wells = choice.wells
    if wells == "auto":
        wells = "held_out" if kind == "embedding" and not is_trained.all() else "all"
    reasons = predictions.table["reason"].astype(str).tolist()
    is_used = np.array([not reason for reason in reasons], dtype=bool)
    trained = is_trained & is_used if wells == "held_out" else np.zeros(len(is_used), dtype=bool)
    is_used &= ~trained
    if not is_used.any() and trained.any():
        raise ProfileError(
            f"The network of {path} was trained on all {int(trained.sum())} sites. Expected some that it was not "
            "trained on. Use `--features backbone` where there is a frozen backbone, or `--wells all`."
        )
    notes = []
    n_trained_used = int((is_trained & is_used).sum())
    if kind == "embedding" and n_trained_used:
        notes.append(
            f"The network was trained on {n_trained_used} of {int(is_used.sum())} sites: replicates look more alike "
            "than those of new plates, and activity and p-values are too good."
        )
    rows = np.flatnonzero(is_used)
    values = _backbone(run, rows, len(is_used)) if kind == "backbone" and run else predictions.embedding[rows]
    table = predictions.table.iloc[rows].reset_index(drop=True)
    if _PERTURBATION not in table:
        table = table.rename(columns={"perturbation": _PERTURBATION})
    labels = [f"{path.name} row {n + 1}" for n in range(len(reasons))]
    return Source(
        table=table[[name for name in table if str(name).startswith("Metadata_")]],
        features=_frame(values, kind),
        labels=[labels[row] for row in rows],
        refused=[(label, reason) for label, reason in zip(labels, reasons, strict=True) if reason],
        n_trained=int(trained.sum()),
        notes=notes,
        provenance={"features": kind, "wells": wells},
    )


_PERTURBATION = "Metadata_Perturbation"


def _frame(values: np.ndarray, kind: str) -> pd.DataFrame:
    return pd.DataFrame(values.astype(np.float64)).rename(columns=lambda number: f"{kind}_{number}")


def _backbone(run: RunFolder, rows: Sequence[int] | np.ndarray, n_rows: int) -> np.ndarray:
    folder, fix = run.features, "Restore it from a copy, or use the embeddings: `--features embedding`."
    card = read_json(folder / CARD, fix=fix)
    with read_regular_file(folder / CARD, fix=fix):
        check_type(card["unreadable"], dict, name="unreadable")
        n_sites, n_views, n_features = (check_type(n, int, name="shape") for n in card["shape"])
    if n_sites != n_rows:
        raise ProfileError(
            f"{folder} has the features of {n_sites} sites, but the predictions have {n_rows} rows. "
            "Expected equal numbers. Predict the run's own screen again: `distangle predict RUN`."
        )
    for number, path in enumerate(chunk_paths(folder, n_sites)):
        expected = (min(SITES_PER_FILE, n_sites - number * SITES_PER_FILE), n_views, n_features)
        with read_regular_file(path, fix=fix):
            chunk = np.load(path, mmap_mode="r", allow_pickle=False)
            if chunk.shape != expected or chunk.dtype.kind != "f":
                raise UnexpectedContent(f"it has {chunk.dtype} {chunk.shape}, expected float32 {expected}")
    with read_regular_file(folder / "statistics.npy", fix=fix):
        return Features(folder).take(rows)
