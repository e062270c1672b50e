"""Where cells lie, how far each reaches and where its nucleus is: geometry, no stain."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32
from scipy import ndimage

Plane = Float32[np.ndarray, "height width"]
PerCell = Float32[np.ndarray, " cell"]
Owners = Int32[np.ndarray, "height width"]


@dataclass(frozen=True)
class CellType:
    """What the cells of one type have in common.

    Lengths are full axes in micrometres. `cover` is the share of the field with cells, `clustering` how much they
    keep together, `roughness` how far the outline wanders in shares of the radius, `alignment` how parallel
    the cells lie (1: all), `levels` the typical strength of each of the six stains in grey values.
    """

    name: str
    cell_um: tuple[float, float]
    nucleus_um: tuple[float, float]
    cover: float
    clustering: float
    roughness: float
    alignment: float
    fibres: float
    cortex: float
    reach_um: float
    levels: tuple[float, float, float, float, float, float]


CELL_TYPES: dict[str, CellType] = {
    kind.name: kind
    for kind in (
        CellType("HUVEC", (46, 24), (16, 11), 0.93, 0.15, 0.20, 0.85, 1.0, 0.7, 5.0, (42, 36, 24, 22, 30, 24)),
        CellType("RPE", (31, 27), (15, 11.5), 0.97, 0.30, 0.10, 0.3, 0.55, 1.25, 5.5, (36, 26, 30, 18, 27, 26)),
        CellType("HEPG2", (19, 17), (11, 10), 0.72, 1.00, 0.10, 0.0, 0.15, 1.0, 3.0, (50, 32, 30, 30, 34, 26)),
        CellType("U2OS", (54, 42), (21, 17), 0.75, 0.35, 0.28, 0.1, 0.9, 0.5, 7.0, (44, 27, 22, 18, 25, 26)),
    )
}


@dataclass(frozen=True)
class Cells:
    """The cells of one site, those just outside the image included.

    Positions and radii are in pixels, angles in radians. `owner` is the cell that a pixel belongs to, -1 outside.
    `depth` is the distance to the cell's outline, `rim` the signed distance to the outline of its nucleus
    (negative inside), both in pixels; `radial` is the distance to the centre of the nucleus in nuclear radii and `body` the soft
    mask of all cells in [0, 1].
    """

    cell_type: CellType
    pixels_per_um: float
    row: PerCell
    column: PerCell
    angle: PerCell
    half_long: PerCell
    half_short: PerCell
    nucleus_row: PerCell
    nucleus_column: PerCell
    nucleus_angle: PerCell
    nucleus_long: PerCell
    nucleus_short: PerCell
    owner: Owners
    depth: Plane
    rim: Plane
    radial: Plane
    body: Plane

    @property
    def size(self) -> int:
        """Height and width of the image in pixels."""
        return int(self.owner.shape[0])

    @property
    def n_visible(self) -> int:
        """How many nuclei have their centre in the image."""
        inside = (self.nucleus_row >= 0) & (self.nucleus_row < self.size)
        inside &= (self.nucleus_column >= 0) & (self.nucleus_column < self.size)
        return int(inside.sum())

    def spread(self, values: PerCell) -> Plane:
        """Give every pixel the value of its cell; pixels outside take that of the last cell."""
        taken: Plane = values[self.owner]
        return taken


@lru_cache(maxsize=32)
def _weights(size: int, knots: int) -> np.ndarray:
    position = np.linspace(1, knots - 2, size)[:, None]
    weight = np.exp(-((position - np.arange(knots)) ** 2) / 0.72)
    return np.asarray(weight / np.sqrt((weight**2).sum(1, keepdims=True)), dtype=np.float32)


def slow_noise(size: int, length: float, rng: np.random.Generator) -> Plane:
    """Return unit-variance noise that changes over `length` pixels (longer than a few pixels)."""
    knots = int(np.ceil(size / length)) + 4
    weight = _weights(size, knots)
    grid = rng.standard_normal((knots, knots), dtype=np.float32)
    # einsum without BLAS: the same bits whatever the number of threads.
    field: Plane = np.einsum("jc,ic->ij", weight, np.einsum("ir,rc->ic", weight, grid))
    return field


def fine_noise(size: int, length: float, rng: np.random.Generator) -> Plane:
    """Return unit-variance noise blurred by a Gaussian of `length` pixels (about 0.3 to 3)."""
    field = ndimage.gaussian_filter(
        rng.standard_normal((size, size), dtype=np.float32), length, mode="wrap", truncate=3
    )
    scaled: Plane = (field / (field.std() + np.float32(1e-6))).astype(np.float32)
    return scaled


def soft_step(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a step from 0 to 1 where `distance` passes zero, `width` pixels wide."""
    step: np.ndarray = 0.5 * (1 + np.tanh(distance * np.float32(0.5 / width)))
    return step


def _seats(
    kind: CellType, size: int, long: float, short: float, density: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return rows and columns of cell centres, and the direction they are laid along."""
    spacing = 1.78 / np.sqrt(density)  # of unit discs in a hexagonal lattice, pressed together
    margin = long
    half = (size / 2 + margin) * np.sqrt(2)
    direction = float(rng.uniform(0, np.pi))
    n_along, n_across = int(half / (spacing * long)) + 1, int(half / (spacing * 0.866 * short)) + 1
    along, across = np.meshgrid(np.arange(-n_along, n_along + 1), np.arange(-n_across, n_across + 1))
    jitter = np.clip(rng.normal(0, 0.17, (2, *along.shape)), -0.36, 0.36)
    along = (along + 0.5 * (across % 2) + jitter[0]) * spacing * long
    across = (across + jitter[1]) * spacing * 0.866 * short
    row = size / 2 + along * np.sin(direction) + across * np.cos(direction)
    column = size / 2 + along * np.cos(direction) - across * np.sin(direction)
    crowding = slow_noise(size, 3.2 * long, rng)
    lonely = rng.standard_normal(row.shape)
    clipped = [np.clip(np.rint(place), 0, size - 1).astype(int) for place in (row, column)]
    wish = kind.clustering * crowding[clipped[0], clipped[1]] + (1 - kind.clustering) * lonely
    inside = (row > -margin) & (row < size + margin) & (column > -margin) & (column < size + margin)
    wanted = kind.cover + 0.25 * min(density - 1, 0)
    kept = inside & (wish >= np.quantile(wish[inside], 1 - np.clip(wanted, 0.05, 1)))
    return row[kept], column[kept], direction


def grow_cells(
    kind: CellType,
    *,
    size: int,
    pixels_per_um: float,
    rng: np.random.Generator,
    density: float = 1.0,
    cell_size: float = 1.0,
) -> Cells:
    """Lay cells over a site and give every pixel to one of them or to none.

    A pixel belongs to the cell whose ellipse, warped by smooth noise, it lies deepest in: neighbours press against
    each other along irregular borders, and free edges are irregular too. Nuclei never overlap.

    Args:
        kind: The cell type.
        size: Height and width of the image in pixels.
        pixels_per_um: Magnification.
        rng: Source of all randomness of the geometry.
        density: Factor on the number of cells.
        cell_size: Factor on the diameter of cells and, half as much, of nuclei.
    """
    long, short = (0.5 * axis * pixels_per_um * cell_size for axis in kind.cell_um)
    row, column, direction = _seats(kind, size, long, short, density / cell_size**1.5, rng)
    n = len(row)
    turn = rng.normal(0, 0.22, n) + (1 - kind.alignment) * rng.uniform(-np.pi / 2, np.pi / 2, n)
    angle = direction + turn
    # Elongated cells that lie across the flow would leave gaps: they are rounder.
    across = np.abs(np.sin(turn))
    growth = np.exp(rng.normal(0, 0.12, n))
    half_long = long * growth * (1 - 0.25 * across)
    half_short = short * growth * (1 + 0.25 * across)

    warp = [
        kind.roughness * short * slow_noise(size, 0.55 * short, rng)
        + 0.6 * kind.roughness * short * slow_noise(size, 0.22 * short + 2, rng)
        for _ in range(2)
    ]
    grid = np.arange(size, dtype=np.float32)
    y, x = grid[:, None] + warp[0], grid[None, :] + warp[1]
    nearest = np.full((size, size), 9.0, dtype=np.float32)
    second = nearest.copy()
    owner = np.full((size, size), -1, dtype=np.int32)
    reach = 1.15 * half_long + 2.2 * kind.roughness * short
    for cell in range(n):
        top, left = (max(0, int(place[cell] - reach[cell])) for place in (row, column))
        bottom, right = (min(size, int(place[cell] + reach[cell]) + 2) for place in (row, column))
        if top >= bottom or left >= right:
            continue
        window = np.s_[top:bottom, left:right]
        dy, dx = y[window] - np.float32(row[cell]), x[window] - np.float32(column[cell])
        sine, cosine = np.float32(np.sin(angle[cell])), np.float32(np.cos(angle[cell]))
        distance = np.hypot(
            (dx * cosine + dy * sine) / np.float32(half_long[cell]),
            (dy * cosine - dx * sine) / np.float32(half_short[cell]),
        )
        closer = distance < nearest[window]
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        owner[window][closer] = cell
        nearest[window][closer] = distance[closer]
    owner[nearest >= 1] = -1
    return _with_nuclei(
        kind, pixels_per_um, (row, column, angle, half_long, half_short), (nearest, second, owner), cell_size, rng
    )


def _with_nuclei(
    kind: CellType,
    pixels_per_um: float,
    seats: tuple[np.ndarray, ...],
    planes: tuple[Plane, Plane, Owners],
    cell_size: float,
    rng: np.random.Generator,
) -> Cells:
    row, column, angle, half_long, half_short = (
        np.append(values, 1e6 if place < 2 else 1.0).astype(np.float32) for place, values in enumerate(seats)
    )  # one far cell at the end, so that owner -1 and an empty field have something to point at
    nearest, second, owner = planes
    n, size = len(row), owner.shape[0]
    radius = np.sqrt(half_long * half_short)
    depth = np.minimum(1 - nearest, 0.5 * (second - nearest)) * radius[owner]
    depth = np.where(owner >= 0, depth, 0).astype(np.float32)

    shift = rng.normal(0, 0.08, (2, n)).clip(-0.2, 0.2) * radius
    nucleus_row = (row + shift[0]).astype(np.float32)
    nucleus_column = (column + shift[1]).astype(np.float32)
    nucleus_angle = (angle + rng.normal(0, 0.25, n)).astype(np.float32)
    axes = [0.5 * axis * pixels_per_um * np.sqrt(cell_size) for axis in kind.nucleus_um]
    growth = np.exp(rng.normal(0, 0.09, (2, n)))
    nucleus_long, nucleus_short = ((axes[i] * growth[i]).astype(np.float32) for i in range(2))

    grid = np.arange(size, dtype=np.float32)
    ripple = [0.09 * axes[1] * slow_noise(size, max(2.0, 0.6 * axes[1]), rng) for _ in range(2)]
    dy = grid[:, None] + ripple[0] - nucleus_row[owner]
    dx = grid[None, :] + ripple[1] - nucleus_column[owner]
    sine, cosine = np.sin(nucleus_angle)[owner], np.cos(nucleus_angle)[owner]
    radial = np.hypot(
        (dx * cosine + dy * sine) / nucleus_long[owner], (dy * cosine - dx * sine) / nucleus_short[owner]
    )
    radial = np.where(owner >= 0, np.minimum(radial, 99), 99).astype(np.float32)
    rim = ((radial - 1) * np.sqrt(nucleus_long * nucleus_short)[owner]).astype(np.float32)
    body = np.where(owner >= 0, soft_step(depth - 0.5, 0.35), 0).astype(np.float32)
    return Cells(
        cell_type=kind,
        pixels_per_um=pixels_per_um,
        row=row,
        column=column,
        angle=angle,
        half_long=half_long,
        half_short=half_short,
        nucleus_row=nucleus_row,
        nucleus_column=nucleus_column,
        nucleus_angle=nucleus_angle,
        nucleus_long=nucleus_long,
        nucleus_short=nucleus_short,
        owner=owner,
        depth=depth,
        rim=rim,
        radial=radial,
        body=body,
    )
