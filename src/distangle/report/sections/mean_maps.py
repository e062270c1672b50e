"""Compute the section on mean attribution maps: do they favor a place?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import brief
from distangle.images import composites
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count
from distangle.results import STANDS_OUT
from distangle.screen import NEGATIVE, natural_sort_key

Paint = Callable[[np.ndarray, str], str]  # picture and file name to path inside the report
MIN_SITES = 3
MAX_GROUPS = 40  # perturbations that are tested, those with most sites
MAX_TESTED = 200  # sites of one test
N_DRAWS = 1999
GRID = 16  # side of the grid of the test
ALL = "all treated sites"
_PLATE = ["Metadata_Experiment", "Metadata_Plate"]
_BACKGROUND = 25  # gray level under a mean map, which has no image


@dataclass(frozen=True, kw_only=True)
class MapGroup:
    """Correctly predicted sites with a map, and the control sites of their plates.

    Attributes:
        name: The perturbation, or `ALL`.
        rows: Positions in the maps of the explanation.
        controls: Positions of the control sites of the same plates.
    """

    name: str
    rows: np.ndarray
    controls: np.ndarray


def mean_maps(data: ReportData, paint: Paint) -> Content | None:
    """Show the mean maps that maps at random places do not explain.

    Args:
        data: Results of the run.
        paint: Writes a picture.

    Returns:
        None if no perturbation has enough correctly predicted sites with a map.
    """
    explanation = data.explanation
    if explanation is None:
        return None
    groups = map_groups(explanation.table, explanation.maps)
    if not groups:
        return None
    rng = np.random.default_rng(0)
    own = [group for group in groups if group.name != ALL]
    p = {group.name: place_p_value(explanation.maps[group.rows], rng=rng) for group in groups}
    p |= {group.name: min(1.0, len(own) * p[group.name]) for group in own}
    clear = [group for group in groups if p[group.name] <= STANDS_OUT]
    pairs = [
        _pair(explanation.maps, group, paint, number=number, p=p[group.name], rng=rng)
        for number, group in enumerate(clear, start=1)
    ]
    values = {
        "pairs": pairs,
        "verdict": _verdict(groups, clear, p),
        "tables": [_table(groups, p)],
        "min_sites": MIN_SITES,
    }
    return Content("sections/mean_maps.html.j2", values)


def map_groups(table: pd.DataFrame, maps: np.ndarray) -> list[MapGroup]:
    """Return the sites of all treatments, and of the perturbations with most sites.

    Args:
        table: Table of an `Explanation`.
        maps: [site, height, width].

    Returns:
        Groups of at least `MIN_SITES` sites with a map, in natural order behind `ALL`.
    """
    has_map = maps.max(axis=(1, 2)) > 0
    is_control = table["Metadata_Role"].astype(str).isin(NEGATIVE).to_numpy() & has_map
    names = table["perturbation"].astype(str).to_numpy()
    is_right = has_map & ~is_control & (names != "") & (names == table["predicted"].astype(str).to_numpy())
    plates = pd.Series(list(table[_PLATE].astype(str).itertuples(index=False, name=None)))
    own = {
        name: np.flatnonzero(is_right & (names == name)) for name in sorted(set(names[is_right]), key=natural_sort_key)
    }
    largest = sorted((name for name in own if len(own[name]) >= MIN_SITES), key=lambda name: -len(own[name]))
    chosen = {ALL: np.flatnonzero(is_right)} | {name: own[name] for name in own if name in largest[:MAX_GROUPS]}
    groups = []
    for name, rows in chosen.items():
        if len(rows) >= MIN_SITES:
            on_plates = plates.isin(set(plates.iloc[rows])).to_numpy()
            groups.append(MapGroup(name=name, rows=rows, controls=np.flatnonzero(is_control & on_plates)))
    return groups


def place_p_value(maps: np.ndarray, *, rng: np.random.Generator, n_draws: int = N_DRAWS) -> float:
    """Test whether maps favor the same places of the field.

    The statistic is the variance of the mean map over the field. The null moves each map by an own random step; what
    leaves the field at one edge comes back at the other.

    Args:
        maps: Non-negative maps [site, height, width].
        rng: Random generator.
        n_draws: Number of random sets of steps.

    Returns:
        The p-value, at least 1 / (`n_draws` + 1).
    """
    grids = _coarse(maps)
    if len(grids) > MAX_TESTED:
        grids = grids[np.sort(rng.choice(len(grids), MAX_TESTED, replace=False))]
    n, height, width = grids.shape
    cells = np.arange(height * width).reshape(height, width)
    shifted = np.stack([
        np.roll(cells, (down, right), (0, 1)).ravel() for down in range(height) for right in range(width)
    ])  # fmt: skip
    flat = grids.reshape(n, -1)
    sums = np.zeros((n_draws, height * width))
    for values in flat:
        sums += values[shifted[rng.integers(len(shifted), size=n_draws)]]
    observed, null = float((flat.mean(axis=0)).var()), (sums / n).var(axis=1)
    return float((1 + np.sum(null >= observed * (1 - 1e-9))) / (n_draws + 1))


def _coarse(maps: np.ndarray) -> np.ndarray:
    """Average blocks of pixels, so that the shorter side has about `GRID` cells."""
    factor = max(1, min(maps.shape[1:]) // GRID)
    height, width = (side // factor for side in maps.shape[1:])
    cut = maps[:, : height * factor, : width * factor].astype(np.float64)
    return np.asarray(cut.reshape(len(maps), height, factor, width, factor).mean(axis=(2, 4)))


def _pair(
    maps: np.ndarray, group: MapGroup, paint: Paint, *, number: int, p: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Paint the mean map of a group and that of its controls, each up to its own maximum."""
    parts = [("own", count(len(group.rows), "site"), group.rows, p)]
    if len(group.controls) >= MIN_SITES:
        caption = f"{count(len(group.controls), 'control site')} of the same plates"
        parts.append(("control", caption, group.controls, place_p_value(maps[group.controls], rng=rng)))
    pictures = []
    for kind, caption, rows, own_p in parts:
        mean = maps[rows].mean(axis=0)
        top = float(mean.max())
        background = np.full((*mean.shape, 3), _BACKGROUND, dtype=np.uint8)
        picture = composites.overlay(background, np.clip(mean / top, 0, 1), strength=1.0)
        picture = composites.enlarge(composites.reduce(picture, max_side=400))
        pictures.append({
            "source": paint(picture, f"mean-map-{number:02d}-{kind}.png"),
            "caption": f"Mean of {caption}, p = {own_p:.2g}; brightest color: {top:.2f}",
        })  # fmt: skip
    note = "" if len(parts) > 1 else f"These plates have fewer than {MIN_SITES} explained control sites with a map."
    return {"title": _title(group), "pictures": pictures, "note": note}


def _title(group: MapGroup) -> str:
    return brief(group.name, max_length=40)


def _verdict(groups: list[MapGroup], clear: list[MapGroup], p: dict[str, float]) -> str:
    """Say which groups favor a place, and that no other mean map is drawn."""
    own = [group for group in groups if group.name != ALL]
    sentence = f"All {len(groups[0].rows):,} treated sites together: p = {p[ALL]:.2g}. "
    if not own:
        return f"{sentence}No perturbation has {MIN_SITES} correctly predicted sites with a map."
    names = [_title(group) for group in clear if group.name != ALL]
    tested = count(len(own), "perturbation")
    if not names:
        return (
            f"{sentence}None of {tested} favors a place more than the same maps at random places do (p at most "
            f"{STANDS_OUT}), so no mean map of a single perturbation is drawn: it would show noise."
        )
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"{sentence}{len(names)} of {tested} favor a place (p at most {STANDS_OUT}) and are drawn: {listed}."


def _table(groups: list[MapGroup], p: dict[str, float]) -> Table:
    rows = [
        (_title(group), f"{len(group.rows):,}", f"{len(group.controls):,}", f"{p[group.name]:.2g}") for group in groups
    ]
    columns = ("perturbation", "sites", "control sites", "p")
    return Table(columns=columns, rows=rows, numeric=(1, 2, 3), file="mean-maps")
