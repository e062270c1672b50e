"""Simulate cell geometry: positions, outlines and nuclei."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32
from scipy import ndimage

Plane = Float32[np.ndarray, "height width"]
PerCell = Float32[np.ndarray, " cell"]
Owners = Int32[np.ndarray, "height width"]

_NUCLEUS_SHARE = 0.4  # where the nucleus ends, from 0 at the center to 1 at the outline of a cell


@dataclass(frozen=True)
class CellType:
    """Properties shared by the cells of one type.

    Lengths are full axes in micrometers. `cover` is the share of the field covered by cells, `clustering` how much
    they aggregate, `roughness` the deviation of the outline in shares of the radius, `alignment` how parallel the
    cells lie (1: all), `levels` the typical intensity of each of the six channels in gray values.
    """

    name: str
    cell_um: tuple[float, float]
    nucleus_um: tuple[float, float]
    cover: float
    clustering: float
    roughness: float
    alignment: float
    fibers: float
    cortex: float
    reach_um: float
    levels: tuple[float, float, float, float, float, float]


CELL_TYPES: dict[str, CellType] = {
    kind.name: kind
    for kind in (
        CellType(
            name="HUVEC",
            cell_um=(54.0, 23.0),
            nucleus_um=(16.0, 10.5),
            cover=0.95,
            clustering=0.15,
            roughness=0.28,
            alignment=0.85,
            fibers=1.0,
            cortex=0.7,
            reach_um=5.0,
            levels=(42.0, 36.0, 24.0, 22.0, 30.0, 24.0),
        ),
        CellType(
            name="RPE",
            cell_um=(31.0, 27.0),
            nucleus_um=(15.0, 11.5),
            cover=0.99,
            clustering=0.3,
            roughness=0.13,
            alignment=0.3,
            fibers=0.55,
            cortex=1.25,
            reach_um=5.5,
            levels=(36.0, 26.0, 30.0, 18.0, 27.0, 26.0),
        ),
        CellType(
            name="HEPG2",
            cell_um=(19.0, 17.0),
            nucleus_um=(11.0, 10.0),
            cover=0.78,
            clustering=1.0,
            roughness=0.16,
            alignment=0.0,
            fibers=0.15,
            cortex=1.0,
            reach_um=3.0,
            levels=(50.0, 32.0, 30.0, 30.0, 34.0, 26.0),
        ),
        CellType(
            name="U2OS",
            cell_um=(54.0, 42.0),
            nucleus_um=(21.0, 17.0),
            cover=0.8,
            clustering=0.35,
            roughness=0.24,
            alignment=0.1,
            fibers=0.9,
            cortex=0.5,
            reach_um=7.0,
            levels=(44.0, 27.0, 22.0, 18.0, 25.0, 26.0),
        ),
    )
}


@dataclass(frozen=True)
class Cells:
    """The cells of one site, including those just outside the image.

    Positions and radii are in pixels, angles in radians. `owner` is the cell of each pixel, -1 outside. `depth` is the
    distance to the cell's outline, `rim` the signed distance to the outline of its nucleus (negative inside), both in
    pixels. `radial` is the distance to the center of the nucleus in nuclear radii, and `body` the soft mask of all
    cells in [0, 1], thinner towards free edges.
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
        """Number of nuclei with their center in the image."""
        inside = (self.nucleus_row >= 0) & (self.nucleus_row < self.size)
        inside &= (self.nucleus_column >= 0) & (self.nucleus_column < self.size)
        return int(inside.sum())

    def to_pixels(self, values: PerCell) -> Plane:
        """Return for every pixel the value of its cell; outside, that of the last cell."""
        plane: Plane = values[self.owner]
        return plane


def slow_noise(size: int, length: float, rng: np.random.Generator) -> Plane:
    """Return unit-variance noise that changes over `length` (several) pixels."""
    knots = int(np.ceil(size / length)) + 4
    weight = _weights(size, knots)
    grid = rng.standard_normal((knots, knots), dtype=np.float32)
    # einsum without BLAS: the same bits whatever the number of threads.
    field: Plane = np.einsum("jc,ic->ij", weight, np.einsum("ir,rc->ic", weight, grid))
    return field


def fine_noise(size: int, length: float, rng: np.random.Generator) -> Plane:
    """Return unit-variance noise blurred by a Gaussian of `length` (0.3 to 3) pixels."""
    field = ndimage.gaussian_filter(
        rng.standard_normal((size, size), dtype=np.float32), length, mode="wrap", truncate=3
    )
    scaled: Plane = (field / (field.std() + np.float32(1e-6))).astype(np.float32)
    return scaled


def soft_step(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a step from 0 to 1 where `distance` passes zero, `width` pixels wide."""
    step: np.ndarray = 0.5 * (1 + np.tanh(distance * np.float32(0.5 / width)))
    return step


def grow_cells(
    kind: CellType,
    *,
    size: int,
    pixels_per_um: float,
    rng: np.random.Generator,
    density: float = 1.0,
    cell_size: float = 1.0,
) -> Cells:
    """Place cells in a site and assign each pixel to one of them or to none.

    A pixel belongs to the cell whose ellipse, warped by smooth noise, it lies deepest in. Neighbors touch along
    irregular borders, and free edges are irregular too. Nuclei never overlap.

    Args:
        kind: The cell type.
        size: Height and width of the image in pixels.
        pixels_per_um: Magnification.
        rng: For all randomness of the geometry.
        density: Factor on the number of cells.
        cell_size: Factor on the diameter of cells; its square root on that of nuclei.
    """
    long, short = (0.5 * axis * pixels_per_um * cell_size for axis in kind.cell_um)
    row, column, direction = _cell_centers(
        kind, size, long=long, short=short, density=density * min(cell_size, 1.0), rng=rng
    )
    n = len(row)
    rotation = rng.normal(0, 0.22, n) + (1 - kind.alignment) * rng.uniform(-np.pi / 2, np.pi / 2, n)
    angle = direction + rotation
    # Elongated cells across the main direction would leave gaps, so they are rounder.
    across = np.abs(np.sin(rotation))
    # Cells extend a little beyond their lattice site, to touch their neighbors.
    growth = 1.16 * np.exp(rng.normal(0, 0.16, n))
    half_long = long * growth * (1 - 0.25 * across)
    half_short = short * growth * (1 + 0.25 * across)

    shift = rng.normal(0, 0.08, (2, n)).clip(-0.2, 0.2) * np.sqrt(half_long * half_short)
    nuclei = _Ellipses(
        row + shift[0],
        column + shift[1],
        angle + rng.normal(0, 0.25, n),
        *(0.5 * axis * pixels_per_um * np.sqrt(cell_size) * np.exp(rng.normal(0, 0.09, n)) for axis in kind.nucleus_um),
    )
    bodies = _Ellipses(row, column, angle, half_long, half_short)
    pixels = _assign_pixels(kind, size, short=short, bodies=bodies, nuclei=nuclei, rng=rng)
    return _build_cells(kind, pixels_per_um, bodies.with_distant_ellipse(), nuclei.with_distant_ellipse(), pixels)


@dataclass(frozen=True)
class _Ellipses:
    """Ellipses in pixels and radians, one per cell."""

    row: np.ndarray
    column: np.ndarray
    angle: np.ndarray
    half_long: np.ndarray
    half_short: np.ndarray

    def with_distant_ellipse(self) -> "_Ellipses":
        """Append one far away, the target of owner -1 and of an empty field."""
        distant = (1e6, 1e6, 0.0, 1.0, 1.0)
        values = (self.row, self.column, self.angle, self.half_long, self.half_short)
        return _Ellipses(
            *(np.append(array, value).astype(np.float32) for array, value in zip(values, distant, strict=True))
        )

    def distance(self, cell: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the distance of points to one center, in radii: 1 on the ellipse."""
        dy, dx = y - np.float32(self.row[cell]), x - np.float32(self.column[cell])
        sine, cosine = np.float32(np.sin(self.angle[cell])), np.float32(np.cos(self.angle[cell]))
        along = (dx * cosine + dy * sine) / np.float32(self.half_long[cell])
        across = (dy * cosine - dx * sine) / np.float32(self.half_short[cell])
        distance: np.ndarray = np.sqrt(along**2 + across**2)
        return distance


@dataclass(frozen=True)
class _PixelAssignment:
    """Cell of each pixel and its distances.

    `nearest` and `second` are distances to the two nearest cells in radii, `radial` to the nucleus in nuclear radii.
    """

    nearest: Plane
    second: Plane
    radial: Plane
    owner: Owners


@lru_cache(maxsize=32)
def _weights(size: int, knots: int) -> np.ndarray:
    position = np.linspace(1, knots - 2, size)[:, None]
    weight = np.exp(-((position - np.arange(knots)) ** 2) / 0.72)
    return np.asarray(weight / np.sqrt((weight**2).sum(1, keepdims=True)), dtype=np.float32)


def _cell_centers(
    kind: CellType, size: int, *, long: float, short: float, density: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return rows and columns of cell centers, and the main direction of the lattice."""
    spacing = 1.58 / np.sqrt(density)  # of unit discs in a compressed hexagonal lattice
    margin = long
    half = (size / 2 + margin) * np.sqrt(2)
    direction = float(rng.uniform(0, np.pi))
    n_along, n_across = int(half / (spacing * long)) + 1, int(half / (spacing * 0.866 * short)) + 1
    along, across = np.meshgrid(np.arange(-n_along, n_along + 1), np.arange(-n_across, n_across + 1))
    jitter = np.clip(rng.normal(0, 0.22, (2, *along.shape)), -0.45, 0.45)
    along = (along + 0.5 * (across % 2) + jitter[0]) * spacing * long
    across = (across + jitter[1]) * spacing * 0.866 * short
    row = size / 2 + along * np.sin(direction) + across * np.cos(direction)
    column = size / 2 + along * np.cos(direction) - across * np.sin(direction)
    crowding = slow_noise(size, 3.2 * long, rng)
    shifts = [0.5 * short * slow_noise(size, 2.2 * long, rng) for _ in range(2)]  # hides the lattice
    individual = rng.standard_normal(row.shape)
    pixel = [np.clip(np.rint(position), 0, size - 1).astype(int) for position in (row, column)]
    row, column = (position + shift[pixel[0], pixel[1]] for position, shift in zip((row, column), shifts, strict=True))
    preference = kind.clustering * crowding[pixel[0], pixel[1]] + (1 - kind.clustering) * individual
    inside = (row > -margin) & (row < size + margin) & (column > -margin) & (column < size + margin)
    if not inside.any():  # a field far smaller than a cell
        return row[inside], column[inside], direction
    cover = kind.cover + 0.25 * min(density - 1, 0)
    is_cell = inside & (preference >= np.quantile(preference[inside], 1 - np.clip(cover, 0.05, 1)))
    row, column = row[is_cell], column[is_cell]
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    is_crowded = (np.tril(distance < 0.5 * (long + short) * kind.nucleus_um[1] / kind.cell_um[1] * 1.5, -1)).any(1)
    return row[~is_crowded], column[~is_crowded], direction


def _assign_pixels(
    kind: CellType, size: int, *, short: float, bodies: _Ellipses, nuclei: _Ellipses, rng: np.random.Generator
) -> _PixelAssignment:
    warp = [
        kind.roughness * short * slow_noise(size, 0.55 * short, rng)
        + 0.6 * kind.roughness * short * slow_noise(size, 0.22 * short + 2, rng)
        for _ in range(2)
    ]
    width = float(np.mean(nuclei.half_short)) if len(nuclei.row) else 1.0
    nucleus_warp = [0.075 * width * slow_noise(size, max(2.0, 0.6 * width), rng) for _ in range(2)]
    grid = np.arange(size, dtype=np.float32)
    y, x = grid[:, None] + warp[0], grid[None, :] + warp[1]
    nucleus_y, nucleus_x = grid[:, None] + nucleus_warp[0], grid[None, :] + nucleus_warp[1]
    nearest = np.full((size, size), 9.0, dtype=np.float32)
    second, radial = nearest.copy(), np.full((size, size), 99.0, dtype=np.float32)
    owner = np.full((size, size), -1, dtype=np.int32)
    reach = 1.15 * bodies.half_long + 2.2 * kind.roughness * short
    for cell in range(len(reach)):
        top, left = (max(0, int(center[cell] - reach[cell])) for center in (bodies.row, bodies.column))
        bottom, right = (min(size, int(center[cell] + reach[cell]) + 2) for center in (bodies.row, bodies.column))
        if top >= bottom or left >= right:
            continue
        window = np.s_[top:bottom, left:right]
        from_nucleus = nuclei.distance(cell, nucleus_y[window], nucleus_x[window])
        # A cell keeps its nucleus and a seam around it under any warp: no body is nearer than _NUCLEUS_SHARE.
        from_body = _NUCLEUS_SHARE + (1 - _NUCLEUS_SHARE) * bodies.distance(cell, y[window], x[window])
        distance = np.minimum(from_body, _NUCLEUS_SHARE * from_nucleus + 0.6 * np.maximum(from_nucleus - 1.15, 0))
        closer = distance < nearest[window]
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        owner[window][closer] = cell
        radial[window][closer] = from_nucleus[closer]
        nearest[window][closer] = distance[closer]
    owner[nearest >= 1] = -1
    radial[nearest >= 1] = 99
    return _PixelAssignment(nearest, second, radial, owner)


def _build_cells(
    kind: CellType, pixels_per_um: float, bodies: _Ellipses, nuclei: _Ellipses, pixels: _PixelAssignment
) -> Cells:
    owner = pixels.owner
    radius = np.sqrt(bodies.half_long * bodies.half_short)[owner]
    radius /= 1 - _NUCLEUS_SHARE
    edge = np.where(owner >= 0, (1 - pixels.nearest) * radius, 0)
    depth = np.where(owner >= 0, np.minimum(edge, 0.5 * (pixels.second - pixels.nearest) * radius), 0)
    rim = (pixels.radial - 1) * np.sqrt(nuclei.half_long * nuclei.half_short)[owner]
    # Cells become thinner towards a free edge, and a little where they touch.
    body = soft_step(edge - 0.9 * pixels_per_um, 0.7 * pixels_per_um) * (
        1 - 0.55 * np.exp(-edge / (2.2 * pixels_per_um))
    )
    body = np.where(owner >= 0, body * (1 - 0.3 * np.exp(-depth / pixels_per_um)), 0)
    return Cells(
        cell_type=kind,
        pixels_per_um=pixels_per_um,
        row=bodies.row,
        column=bodies.column,
        angle=bodies.angle,
        half_long=bodies.half_long,
        half_short=bodies.half_short,
        nucleus_row=nuclei.row,
        nucleus_column=nuclei.column,
        nucleus_angle=nuclei.angle,
        nucleus_long=nuclei.half_long,
        nucleus_short=nuclei.half_short,
        owner=owner,
        depth=depth.astype(np.float32),
        rim=rim.astype(np.float32),
        radial=pixels.radial,
        body=body.astype(np.float32),
    )
