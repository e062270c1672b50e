"""Where and in which stain the network looked, with the null beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from distangle.commit import commit_json, committed
from distangle.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One row per explained site.

    Attributes:
        table: The `Metadata_*` columns of `Predictions`, `perturbation`, `predicted`, `explained` (whose
            logit was explained), `probability`, and per channel k (1-based)
            `shapley_k`, `eq15_k`, `correlation_k`, `correlation_p_k`.
        maps: float32 [row, height, width] in [0, 1], at the size of the images.
        settings: `layer`, `head`, `removal`, `n_null_maps`, `channels` (names) and the like.
        summary: What the table says over all rows: ready-made numbers for a page.
        planted: The comparison with a planted truth; None on a real screen.
    """

    table: pd.DataFrame
    maps: np.ndarray
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    planted: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> list[Path]:
        """Write `sites.parquet`, `maps.safetensors` and `explanation.json`; return the paths."""
        table, maps, settings = (folder / name for name in _FILES)
        with committed(maps) as temporary:
            save_file({"maps": np.ascontiguousarray(self.maps, dtype=np.float32)}, temporary)
        with committed(table) as temporary:
            self.table.to_parquet(temporary, index=False)
        commit_json(
            settings,
            {"settings": dict(self.settings), "summary": dict(self.summary), "planted": self.planted},
        )
        return [table, maps, settings]

    @classmethod
    def read(cls, folder: Path) -> "Explanation":
        """Read what `write` wrote.

        Raises:
            RunError: The run has not been explained yet.
        """
        import json

        table, maps, settings = (folder / name for name in _FILES)
        if not settings.exists():
            message = f"No explanation at {settings}. Run `distangle explain RUN` first."
            raise RunError(message)
        said = json.loads(settings.read_text(encoding="utf-8"))
        return cls(table=pd.read_parquet(table), maps=load_file(maps)["maps"], **said)


_FILES = ("sites.parquet", "maps.safetensors", "explanation.json")
