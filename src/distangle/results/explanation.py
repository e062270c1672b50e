"""Attribution maps and channel importances of a run, with their null values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle.core.io import atomic_write, write_json
from distangle.core.result_files import Kinds, read_arrays, read_result_json, read_table, rebuild_hint, write_arrays
from distangle.core.untrusted_files import read_regular_file
from distangle.errors import RunError

ARRAYS_FILE, JSON_FILE = "maps.npz", "explanation.json"
STANDS_OUT = 0.05  # p-value of the top channel, corrected for the number of channels
_TABLES = ("sites", "wells", "perturbations")
_KINDS: Kinds = {"settings": dict, "summary": dict, "planted": (dict, type(None))}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanations of sites, and their means by well and by perturbation.

    Attributes:
        table: The `Metadata_*` columns of `Predictions`, `perturbation`, `predicted`, `explained` (whose
            logit was explained), `probability`, and per channel k (1-based) `shapley_k`, `ablation_k`, `eq15_k`,
            `eq15_inverse_k`, `correlation_k`, each with its p-value `NAME_p_k` (against random maps; of the first two
            against control wells, if there are any; then `shapley_null_mean_k`, `shapley_null_low_k` and
            `shapley_null_high_k` are mean, 2.5th and 97.5th percentile of these wells).
        maps: float32 [row, height, width] in [0, 1], at the size of the images that enter the network.
        settings: `layer`, `head`, `removal`, `n_null_maps`, `channels` (names), `scale` (pixels of the image on disk
            per pixel of a map) and the like.
        summary: Statistics over all rows of the table, for the report.
        planted: The comparison with a planted truth; None on a real screen.
        wells: One row per explained well; None where it was not computed.
        well_maps: Mean map of the sites of each of its rows.
        perturbations: One row per explained perturbation and cell type; None where it was not computed.
        perturbation_maps: Mean map of the sites of each of its rows.
        interactions: float32 [row, channel, channel], of pairs of channels; None where it was not computed.
    """

    table: pd.DataFrame
    maps: np.ndarray
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    planted: Mapping[str, Any] | None = None
    wells: pd.DataFrame | None = None
    well_maps: np.ndarray | None = None
    perturbations: pd.DataFrame | None = None
    perturbation_maps: np.ndarray | None = None
    interactions: np.ndarray | None = None

    @property
    def p_of_top(self) -> float:
        """The p-value of the channel with the largest mean Shapley value.

        It is corrected for the number of channels: by the family-wise p-values if the explanation has them, else by
        Bonferroni; 1 without p-values.
        """
        shapley, channels = self.summary.get("shapley", {}), list(self.settings.get("channels", ()))
        top = self.summary.get("top_channel")
        if top not in channels or not isinstance(shapley, Mapping):
            return 1.0
        if shapley.get("p_family"):
            return float(shapley["p_family"][channels.index(top)])
        return min(1.0, len(channels) * float(shapley["p"][channels.index(top)])) if shapley.get("p") else 1.0

    def write(self, folder: Path) -> list[Path]:
        """Write the tables, `maps.npz` and `explanation.json`; return their paths.

        A table without rows to write is removed; its path is returned too.

        `maps.npz` holds `sites`, `wells` and `perturbations`, float32 [row of the table, height, width], `scale`:
        pixels of the image on disk per pixel of a map, vertically and horizontally, and `interactions`, float32
        [row of `sites.parquet`, channel, channel].
        """
        maps = {
            "sites": self.maps,
            "wells": self.well_maps,
            "perturbations": self.perturbation_maps,
            "interactions": self.interactions,
        }
        arrays = {name: np.asarray(array, dtype=np.float32) for name, array in maps.items() if array is not None}
        arrays["scale"] = np.array(self.settings.get("scale", (1.0, 1.0)), dtype=np.float64)
        write_arrays(folder / ARRAYS_FILE, arrays)
        written = [folder / ARRAYS_FILE]
        for name, table in self._tables().items():
            path = folder / f"{name}.parquet"
            written.append(path)
            if table is None:
                path.unlink(missing_ok=True)
                continue
            with atomic_write(path) as temporary:
                table.to_parquet(temporary, index=False)
        content = {"settings": dict(self.settings), "summary": dict(self.summary), "planted": self.planted}
        write_json(folder / JSON_FILE, content)
        return [*written, folder / JSON_FILE]

    @classmethod
    def read(cls, folder: Path) -> "Explanation":
        """Read what `write` wrote.

        Raises:
            RunError: The run has not been explained yet, or a file is absent or damaged.
        """
        content = read_result_json(folder / JSON_FILE, title="explanation", kinds=_KINDS)
        fix = rebuild_hint(folder)
        if not (folder / ARRAYS_FILE).exists() or not (folder / "sites.parquet").exists():
            lost = ARRAYS_FILE if (folder / "sites.parquet").exists() else "sites.parquet"
            raise RunError(f"{folder} has an explanation without {lost}. {fix}")
        tables = {
            name: read_table(folder / f"{name}.parquet", fix=fix, columns=("Metadata_Well",) if name == "sites" else ())
            for name in _TABLES
            if (folder / f"{name}.parquet").exists()
        }
        n_rows = {name: len(table) for name, table in tables.items()}
        maps = read_arrays(folder / ARRAYS_FILE, fix=fix, n_rows={**n_rows, "interactions": n_rows["sites"]})
        with read_regular_file(folder / ARRAYS_FILE, fix=fix):
            maps["sites"]
        return cls(
            table=tables["sites"],
            maps=maps["sites"],
            wells=tables.get("wells"),
            well_maps=maps.get("wells"),
            perturbations=tables.get("perturbations"),
            perturbation_maps=maps.get("perturbations"),
            interactions=maps.get("interactions"),
            **content,
        )

    def _tables(self) -> dict[str, pd.DataFrame | None]:
        return {"sites": self.table, "wells": self.wells, "perturbations": self.perturbations}
