"""Simulate one site as a pure function: cells, perturbation, channels, image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from distangle.core.random import rng_for
from distangle.synthetic.acquisition import BatchEffect, Image, acquire, reach_px
from distangle.synthetic.cells import CELL_TYPES, Cells, PerCell, Plane, grow_cells
from distangle.synthetic.effects import Effect, no_effect
from distangle.synthetic.stains import DRAW_CHANNEL, stamp


@dataclass(frozen=True)
class Circle:
    """Center and radius of a local effect, in (fractional) pixels of the image."""

    row: float
    column: float
    radius: float


@dataclass(frozen=True)
class SiteSpec:
    """Specification of one site, which determines its image.

    `key` starts with the seed and is unique to the site.
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
    """A simulated site: its image, number of nuclei, and region of a local effect."""

    image: Image
    n_cells: int
    place: Circle | None


def draw_site(spec: SiteSpec) -> Site:
    """Simulate one site.

    Each part (geometry, traits, every channel, camera) has its own random generator, independent of the effect: the
    same specification with and without it gives the same cells, unless the effect changes number or size of cells.

    Args:
        spec: The specification of the site.
    """
    kind = CELL_TYPES[spec.cell_type]
    effect = spec.effect
    cells = grow_cells(
        kind,
        size=spec.size,
        pixels_per_um=spec.pixels_per_um,
        rng=rng_for(*spec.key, "cells"),
        density=spec.density * spec.batch.density * effect.factor("density"),
        cell_size=effect.factor("cell_size"),
    )
    n = len(cells.row)
    rng = rng_for(*spec.key, "traits")
    control_traits = no_effect(kind, n, rng)
    susceptibility = rng.uniform(size=n).astype(np.float32)
    region: Circle | None = None
    mask: Plane = np.ones((spec.size, spec.size), np.float32)
    is_affected: PerCell = np.ones(n, np.float32)
    if effect.local:
        region = _choose_region(cells, rng_for(*spec.key, "place"))
        mask, is_affected = _region_mask(region, cells, reach_px(spec.batch, spec.pixels_per_um))
    traits = effect.change(control_traits, is_affected, susceptibility)

    light = _debris(cells, rng_for(*spec.key, "debris"))
    for channel, draw in enumerate(DRAW_CHANNEL):
        channel_light = draw(cells, traits, rng_for(*spec.key, "stain", channel))
        if effect.local and channel + 1 in effect.channels:
            control_light = draw(cells, control_traits, rng_for(*spec.key, "stain", channel))
            channel_light = control_light + mask * (channel_light - control_light)
        light[channel] += channel_light
    image = acquire(
        light,
        cells.body,
        spec.batch,
        levels=kind.levels,
        intensity=spec.intensity,
        pixels_per_um=spec.pixels_per_um,
        rng=rng_for(*spec.key, "camera"),
    )
    return Site(image, cells.n_visible, region)


def _choose_region(cells: Cells, rng: np.random.Generator) -> Circle:
    """Choose a circle around a cell, completely within the image."""
    size = cells.size
    radius = size * rng.uniform(0.26, 0.34)
    jitter, choice = rng.normal(0, 0.03 * size, 2), rng.uniform()
    row, column = (coordinate[:-1] for coordinate in (cells.nucleus_row, cells.nucleus_column))
    candidates = np.flatnonzero((row > 0) & (row < size - 1) & (column > 0) & (column < size - 1))
    center = np.full(2, size / 2)
    if len(candidates):
        cell = candidates[int(choice * len(candidates))]
        center = np.array([row[cell], column[cell]])
    center = np.clip(center + jitter, radius, size - 1 - radius)
    return Circle(round(float(center[0]), 2), round(float(center[1]), 2), round(float(radius), 2))


def _region_mask(region: Circle, cells: Cells, margin: float) -> tuple[Plane, PerCell]:
    """Return a soft mask of a circle, and which cells lie in it.

    The mask is zero from `margin` inside the circle outwards.
    """
    grid = np.arange(cells.size, dtype=np.float32)
    distance = np.hypot(grid[:, None] - region.row, grid[None, :] - region.column)
    reach = region.radius - margin
    mask = np.clip((reach - distance) / (0.12 * region.radius), 0, 1).astype(np.float32)
    cell_distance = np.hypot(cells.nucleus_row - region.row, cells.nucleus_column - region.column)
    return mask, (cell_distance < reach).astype(np.float32)


def _debris(cells: Cells, rng: np.random.Generator) -> Float32[np.ndarray, "channel height width"]:
    """Draw a few specks and rounded dead cells that are bright in all channels."""
    size = cells.size
    n = int(rng.poisson(1.0 * (size / cells.pixels_per_um / 128) ** 2))
    position = rng.uniform(0, size, (2, n))
    radius = rng.choice([1.0, 1.6, 4.0], n) * cells.pixels_per_um
    plane = stamp(size, position[0], position[1], radius, rng.uniform(0.8, 2.4, n), softness=0.6 * cells.pixels_per_um)
    channel_share = np.asarray([0.5, 0.8, 0.6, 0.8, 0.9, 0.7], np.float32)
    debris: Float32[np.ndarray, "channel height width"] = channel_share[:, None, None] * plane
    return debris
