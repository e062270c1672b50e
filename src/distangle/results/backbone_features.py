"""Read the features of a frozen backbone; no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CARD = "features.json"
SITES_PER_FILE = 256


def chunk_paths(folder: Path, n_sites: int) -> list[Path]:
    """Return the files of the features, `SITES_PER_FILE` sites in each."""
    return [folder / f"{number:05d}.npy" for number in range(-(-n_sites // SITES_PER_FILE))]


class Features:
    """The features of every site and view, in memory-mapped files.

    Args:
        folder: Written by `distangle.model.features.measure_features`.

    Attributes:
        reasons: By row of each unreadable site, why it could not be read.
        statistics: float32 [site, 2, channel], mean and standard deviation of each image; NaN for unreadable sites.
        n_sites: Sites of the screen.
        n_views: Views of each site.
        n_features: Features of each view.
        card: How the features were computed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        self.card: Mapping[str, Any] = card
        self.statistics: np.ndarray = np.load(folder / "statistics.npy", allow_pickle=False)
        self.reasons: dict[int, str] = {int(row): reason for row, reason in card["unreadable"].items()}
        self.n_sites, self.n_views, self.n_features = card["shape"]
        self._chunks = [np.load(path, mmap_mode="r", allow_pickle=False) for path in chunk_paths(folder, self.n_sites)]

    def readable(self, rows: Sequence[int] | np.ndarray) -> list[int]:
        """Return the readable rows, in their order."""
        return [int(row) for row in rows if int(row) not in self.reasons]

    def take(self, rows: Sequence[int] | np.ndarray, views: np.ndarray | int = 0) -> np.ndarray:
        """Return the features of rows, each in its view, float32 [row, feature]."""
        rows = np.asarray(rows, dtype=int)
        view_numbers = np.broadcast_to(np.asarray(views, dtype=int), rows.shape)
        values = np.empty((len(rows), self.n_features), dtype=np.float32)
        chunk = rows // SITES_PER_FILE
        for number in np.unique(chunk):
            members = np.flatnonzero(chunk == number)
            values[members] = self._chunks[number][rows[members] % SITES_PER_FILE, view_numbers[members]]
        return values

    def of_whole_images(self, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        """Return the readable rows and the features of their whole images."""
        readable = self.readable(rows)
        return readable, self.take(readable)
