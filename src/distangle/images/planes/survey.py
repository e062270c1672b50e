"""Every plane of some sites, read once and measured."""

import concurrent.futures
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.commit import committed
from distangle.errors import ImageError, ScreenError
from distangle.images.planes.measure import PlaneMeasures, measure_plane
from distangle.images.read import read_image
from distangle.screen import Screen

GRID = 16  # parts of a side of the illumination profile, or as many as the image has pixels
_AT_ONCE = 64  # sites handed to the threads together: bounds memory
_PLACE = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role", "split"]
_MEASURES = [one.name for one in fields(PlaneMeasures)]


@dataclass(frozen=True)
class Survey:
    """Measures of planes with the places they belong to.

    Attributes:
        planes: One row per site and channel: `position` (of the site in the screen), the place, `channel`, `path`
            (relative to the source), `page`, then the measures of `PlaneMeasures`, and `reason` ("" or why it cannot
            be read; the measures are missing then).
        illumination: Mean image of every channel over all sites, each plane divided by its own mean first, float64
            [channel, grid row, grid column]; around 1.
    """

    planes: pd.DataFrame
    illumination: np.ndarray

    @property
    def readable(self) -> pd.DataFrame:
        """The rows that were measured."""
        return self.planes[self.planes["reason"] == ""]

    def write(self, path: Path) -> Path:
        """Write the measures as Parquet; return the path."""
        with committed(path) as temporary:
            self.planes.to_parquet(temporary, index=False)
        return path


def survey(
    screen: Screen, rows: Sequence[int], *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Read and measure every plane of some sites; what cannot be read keeps its row and says why.

    Args:
        screen: With images.
        rows: Positions of sites.
        workers: Threads that decode.
        progress: Called with the number of sites done and in all.

    Raises:
        ScreenError: The screen was indexed without looking for images.
    """
    if screen.card.tables_only:
        message = "This screen was indexed with --tables-only, so it has no images to look at. Index it again without."
        raise ScreenError(message)
    channels = [channel.name for channel in screen.card.channels]
    lit = np.zeros((len(channels), *_grid(screen)))
    n_lit = np.zeros(len(channels))
    found: list[dict[str, object]] = []
    with concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="survey") as threads:
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            for row, site in zip(part, threads.map(lambda row: _site(screen, row), part), strict=True):
                for k, (measures, profile, reason) in enumerate(site):
                    found.append({"position": row, "number": k, "reason": reason, **measures})
                    if profile is not None and profile.shape == lit[k].shape:
                        lit[k] += profile
                        n_lit[k] += 1
                if progress is not None:
                    progress(len(found) // len(channels), len(rows))
    lit /= np.maximum(n_lit, 1)[:, None, None]
    return Survey(planes=_table(screen, found, channels), illumination=lit)


def _site(screen: Screen, row: int) -> list[tuple[dict[str, object], np.ndarray | None, str]]:
    paths, pages = screen.image_paths(row), screen.pages(row)
    try:
        planes: list[np.ndarray | ImageError] = list(read_image(paths, pages))
    except ImageError:
        planes = [_plane(path, page) for path, page in zip(paths, pages, strict=True)]
    measured: list[tuple[dict[str, object], np.ndarray | None, str]] = []
    for plane in planes:
        if isinstance(plane, ImageError):
            measured.append(({}, None, str(plane)))
        else:
            measured.append((asdict(measure_plane(plane)), _profile(plane, _grid(screen)), ""))
    return measured


def _plane(path: Path, page: int | None) -> np.ndarray | ImageError:
    try:
        return np.asarray(read_image([path], [page])[0])
    except ImageError as error:
        return error


def _grid(screen: Screen) -> tuple[int, int]:
    height, width = screen.card.shape or (GRID, GRID)
    return min(GRID, height), min(GRID, width)


def _profile(plane: np.ndarray, grid: tuple[int, int]) -> np.ndarray | None:
    """Return the mean of each part of the plane over its whole mean; None for a plane without light."""
    height, width = (plane.shape[k] // grid[k] * grid[k] for k in (0, 1))
    if not height or not width:
        return None
    blocks = plane[:height, :width].reshape(grid[0], height // grid[0], grid[1], width // grid[1])
    means = blocks.mean(axis=(1, 3))
    return np.asarray(means / means.mean()) if means.any() else None


def _table(screen: Screen, found: Sequence[dict[str, object]], channels: Sequence[str]) -> pd.DataFrame:
    positions = [int(str(one["position"])) for one in found]
    numbers = np.array([int(str(one["number"])) for one in found], dtype=int)
    sites = screen.sites
    table = sites[_PLACE].iloc[positions].reset_index(drop=True)
    table.insert(0, "position", positions)
    table["channel"] = pd.Series([channels[k] for k in numbers], dtype="str")
    for name, kind in (("path", "str"), ("page", "int64")):
        columns = [sites[f"{name}_{k + 1}"].tolist() for k in range(len(channels))]
        table[name] = pd.Series([columns[k][p] for k, p in zip(numbers, positions, strict=True)], dtype=kind)
    for name in _MEASURES:
        kind = "str" if name == "digest" else "float64"
        empty = "" if name == "digest" else np.nan
        table[name] = pd.Series([one.get(name, empty) for one in found], dtype=kind)
    table["reason"] = pd.Series([one["reason"] for one in found], dtype="str")
    return table
