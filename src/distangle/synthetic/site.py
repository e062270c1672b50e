"""Simulate one site as a pure function: cells, perturbation, channels, image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from distangle.core.random import rng_for
from distangle.synthetic.acquisition import BatchEffect, Image, acquire, reach_px
from distangle.synthetic.cells import CELL_TYPES, Cells, PerCell, Plane, grow_cells
from distangle.synthetic.effects import Effect, no_effect
from distangle.synthetic.stains import DRAW, stamp


@dataclass(frozen=True)
class Circle:
    """Centre and radius of a local effect, in pixels of the image.

    Fractions are allowed.
    """

    row: float
    column: float
    radius: float


@dataclass(frozen=True)
class SiteSpec:
    """All that decides one site.

    `key` begins with the seed and is unlike any other site's.
    """

    key: tuple[int | str, ...]
    cell_type: str
    size: int
    pixels_per_um: float
    batch: BatchEffect
    density: float
    intensity: float
    effect: Effect


@dataclass(frozen=True)
class Site:
    """A finished site: its image, its number of nuclei, and where an effect lies."""

    image: Image
    n_cells: int
    place: Circle | None


def _choose_place(cells: Cells, rng: np.random.Generator) -> Circle:
    """Put a circle around a cell, wholly within the image."""
    size = cells.size
    radius = size * rng.uniform(0.26, 0.34)
    jitter, pick = rng.normal(0, 0.03 * size, 2), rng.uniform()
    row, column = (place[:-1] for place in (cells.nucleus_row, cells.nucleus_column))
    inner = np.flatnonzero((row > 0) & (row < size - 1) & (column > 0) & (column < size - 1))
    centre = np.full(2, size / 2)
    if len(inner):
        cell = inner[int(pick * len(inner))]
        centre = np.array([row[cell], column[cell]])
    centre = np.clip(centre + jitter, radius, size - 1 - radius)
    return Circle(round(float(centre[0]), 2), round(float(centre[1]), 2), round(float(radius), 2))


def _within(place: Circle, cells: Cells, margin: float) -> tuple[Plane, PerCell]:
    """Return a soft mask that is zero from `margin` inside the circle outwards, and the cells well inside."""
    grid = np.arange(cells.size, dtype=np.float32)
    distance = np.hypot(grid[:, None] - place.row, grid[None, :] - place.column)
    reach = place.radius - margin
    mask = np.clip((reach - distance) / (0.12 * place.radius), 0, 1).astype(np.float32)
    away = np.hypot(cells.nucleus_row - place.row, cells.nucleus_column - place.column)
    return mask, (away < reach).astype(np.float32)


def _debris(cells: Cells, rng: np.random.Generator) -> Float32[np.ndarray, "channel height width"]:
    """Draw a few specks and rounded dead cells that shine in all stains."""
    size = cells.size
    n = int(rng.poisson(1.0 * (size / cells.pixels_per_um / 128) ** 2))
    place = rng.uniform(0, size, (2, n))
    radius = rng.choice([1.0, 1.6, 4.0], n) * cells.pixels_per_um
    plane = stamp(size, place[0], place[1], radius, rng.uniform(0.8, 2.4, n), softness=0.6 * cells.pixels_per_um)
    share = np.asarray([0.5, 0.8, 0.6, 0.8, 0.9, 0.7], np.float32)
    debris: Float32[np.ndarray, "channel height width"] = share[:, None, None] * plane
    return debris


def draw_site(order: SiteSpec) -> Site:
    """Make one site.

    Each part (geometry, traits, every stain, camera) has a generator of its own that does not know the effect: the
    same order with and without it shows the same cells, unless the effect is on number or size of cells.

    Args:
        order: What to make.
    """
    kind = CELL_TYPES[order.cell_type]
    effect = order.effect
    cells = grow_cells(
        kind,
        size=order.size,
        pixels_per_um=order.pixels_per_um,
        rng=rng_for(*order.key, "cells"),
        density=order.density * order.batch.density * effect.factor("density"),
        cell_size=effect.factor("cell_size"),
    )
    n = len(cells.row)
    rng = rng_for(*order.key, "traits")
    plain = no_effect(kind, n, rng)
    susceptibility = rng.uniform(size=n).astype(np.float32)
    place: Circle | None = None
    mask: Plane = np.ones((order.size, order.size), np.float32)
    reached: PerCell = np.ones(n, np.float32)
    if effect.local:
        place = _choose_place(cells, rng_for(*order.key, "place"))
        mask, reached = _within(place, cells, reach_px(order.batch, order.pixels_per_um))
    changed = effect.change(plain, reached, susceptibility)

    light = _debris(cells, rng_for(*order.key, "debris"))
    for channel, draw in enumerate(DRAW):
        drawn = draw(cells, changed, rng_for(*order.key, "stain", channel))
        if effect.local and channel + 1 in effect.channels:
            before = draw(cells, plain, rng_for(*order.key, "stain", channel))
            drawn = before + mask * (drawn - before)
        light[channel] += drawn
    image = acquire(
        light,
        cells.body,
        order.batch,
        levels=kind.levels,
        intensity=order.intensity,
        pixels_per_um=order.pixels_per_um,
        rng=rng_for(*order.key, "camera"),
    )
    return Site(image, cells.n_visible, place)
