"""Read the predictions of a run row by row, without loading its arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.core.result_files import read_table, rebuild_hint
from distangle.core.untrusted_files import UnexpectedContent, read_regular_file
from distangle.web.vectors import ArrayFile

_COLUMNS = ("predicted", "confidence", "reason")
N_BEST = 5


@dataclass(frozen=True, kw_only=True)
class PredictionFiles:
    """Predictions of sites and wells.

    Attributes:
        sites: Table of the sites, see `results.Predictions`.
        wells: Table of the wells.
        site_embeddings: Embeddings of `sites`.
        well_embeddings: Embeddings of `wells`.
        well_logits: Logits of `wells`.
        perturbations: Names of the logits.
    """

    sites: pd.DataFrame
    wells: pd.DataFrame
    site_embeddings: ArrayFile
    well_embeddings: ArrayFile
    well_logits: ArrayFile
    perturbations: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> "PredictionFiles":
        """Open the predictions of a run; of wells, those of most views.

        Raises:
            RunError: A file is absent or damaged.
        """
        fix = rebuild_hint(folder, command="predict")
        stem = "wells_views8" if (folder / "wells_views8.parquet").exists() else "wells"
        arrays = folder / f"{stem}.safetensors"
        files = cls(
            sites=read_table(folder / "sites.parquet", fix=fix, columns=_COLUMNS),
            wells=read_table(folder / f"{stem}.parquet", fix=fix, columns=_COLUMNS),
            site_embeddings=ArrayFile(folder / "sites.safetensors", "embedding", fix=fix),
            well_embeddings=ArrayFile(arrays, "embedding", fix=fix),
            well_logits=ArrayFile(arrays, "logits", fix=fix),
            perturbations=_names(arrays, fix),
        )
        rows = (len(files.sites), len(files.wells), len(files.wells), len(files.perturbations))
        arrays_rows = (
            files.site_embeddings.n_rows,
            files.well_embeddings.n_rows,
            files.well_logits.n_rows,
            files.well_logits.n_features,
        )
        with read_regular_file(arrays, fix=fix):
            if rows != arrays_rows:
                raise UnexpectedContent(f"its rows and perturbations are {arrays_rows}, those of the tables {rows}")
        return files

    def best(self, row: int) -> list[tuple[str, float]]:
        """Return the most probable perturbations of a well with their probabilities.

        Args:
            row: Row of `wells`.
        """
        logits = self.well_logits.read(row, row + 1)[0].astype(np.float64)
        if not np.isfinite(logits).all() or not len(logits):
            return []
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")[:N_BEST]
        return [(self.perturbations[k], float(shares[k])) for k in order]


def _names(path: Path, fix: str) -> tuple[str, ...]:
    from safetensors import safe_open

    with read_regular_file(path, fix=fix), safe_open(path, framework="numpy") as opened:
        names = (opened.metadata() or {})["perturbations"]
    return tuple(names.split("\x1f")) if names else ()
