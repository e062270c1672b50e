"""Place cells and nuclei, and give each its area; draw no channel."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32
from scipy import ndimage

Plane = Float32[np.ndarray, "height width"]
PerCell = Float32[np.ndarray, " cell"]
Owners = Int32[np.ndarray, "height width"]

_OWN = 0.4  # where in [0, 1], centre to outline of a cell, its nucleus ends


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
        CellType(
            name="HUVEC",
            cell_um=(54.0, 23.0),
            nucleus_um=(16.0, 10.5),
            cover=0.95,
            clustering=0.15,
            roughness=0.28,
            alignment=0.85,
            fibres=1.0,
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
            fibres=0.55,
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
            fibres=0.15,
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
            fibres=0.9,
            cortex=0.5,
            reach_um=7.0,
            levels=(44.0, 27.0, 22.0, 18.0, 25.0, 26.0),
        ),
    )
}


@dataclass(frozen=True)
class Cells:
    """The cells of one site, those just outside the image included.

    Positions and radii are in pixels, angles in radians. `owner` is the cell that a pixel belongs to, -1 outside.
    `depth` is the distance to the cell's outline, `rim` the signed distance to the outline of its nucleus
    (negative inside), both in pixels; `radial` is the distance to the centre of the nucleus in nuclear radii and
    `body` the soft mask of all cells in [0, 1], thinner towards free edges.
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
        """Give every pixel the value of its cell; pixels outside that of the last cell."""
        taken: Plane = values[self.owner]
        return taken


@lru_cache(maxsize=32)
def _weights(size: int, knots: int) -> np.ndarray:
    position = np.linspace(1, knots - 2, size)[:, None]
    weight = np.exp(-((position - np.arange(knots)) ** 2) / 0.72)
    return np.asarray(weight / np.sqrt((weight**2).sum(1, keepdims=True)), dtype=np.float32)


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


def _seats(
    kind: CellType, size: int, *, long: float, short: float, density: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return rows and columns of cell centres, and the direction they are laid along."""
    spacing = 1.58 / np.sqrt(density)  # of unit discs in a hexagonal lattice, pressed together
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
    bends = [0.5 * short * slow_noise(size, 2.2 * long, rng) for _ in range(2)]  # no lattice in the picture
    lonely = rng.standard_normal(row.shape)
    clipped = [np.clip(np.rint(place), 0, size - 1).astype(int) for place in (row, column)]
    row, column = (place + bend[clipped[0], clipped[1]] for place, bend in zip((row, column), bends, strict=True))
    wish = kind.clustering * crowding[clipped[0], clipped[1]] + (1 - kind.clustering) * lonely
    inside = (row > -margin) & (row < size + margin) & (column > -margin) & (column < size + margin)
    if not inside.any():  # a field far smaller than a cell
        return row[inside], column[inside], direction
    wanted = kind.cover + 0.25 * min(density - 1, 0)
    kept = inside & (wish >= np.quantile(wish[inside], 1 - np.clip(wanted, 0.05, 1)))
    row, column = row[kept], column[kept]
    apart = np.hypot(row[:, None] - row, column[:, None] - column)
    crowded = (np.tril(apart < 0.5 * (long + short) * kind.nucleus_um[1] / kind.cell_um[1] * 1.5, -1)).any(1)
    return row[~crowded], column[~crowded], direction


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
    row, column, direction = _seats(kind, size, long=long, short=short, density=density * min(cell_size, 1.0), rng=rng)
    n = len(row)
    turn = rng.normal(0, 0.22, n) + (1 - kind.alignment) * rng.uniform(-np.pi / 2, np.pi / 2, n)
    angle = direction + turn
    # Elongated cells that lie across the flow would leave gaps: they are rounder.
    across = np.abs(np.sin(turn))
    # Cells spread a little beyond their seat, to meet their neighbours.
    growth = 1.16 * np.exp(rng.normal(0, 0.16, n))
    half_long = long * growth * (1 - 0.25 * across)
    half_short = short * growth * (1 + 0.25 * across)

    shift = rng.normal(0, 0.08, (2, n)).clip(-0.2, 0.2) * np.sqrt(half_long * half_short)
    nucleus = _Ellipses(
        row + shift[0],
        column + shift[1],
        angle + rng.normal(0, 0.25, n),
        *(0.5 * axis * pixels_per_um * np.sqrt(cell_size) * np.exp(rng.normal(0, 0.09, n)) for axis in kind.nucleus_um),
    )
    bodies = _Ellipses(row, column, angle, half_long, half_short)
    planes = _share_out(kind, size, short=short, bodies=bodies, nuclei=nucleus, rng=rng)
    return _measured(kind, pixels_per_um, bodies.with_nowhere(), nucleus.with_nowhere(), planes)


@dataclass(frozen=True)
class _Ellipses:
    """Ellipses in pixels and radians, one a cell."""

    row: np.ndarray
    column: np.ndarray
    angle: np.ndarray
    half_long: np.ndarray
    half_short: np.ndarray

    def with_nowhere(self) -> "_Ellipses":
        """Add one far away at the end, so that owner -1 and an empty field have something to point at."""
        far = (1e6, 1e6, 0.0, 1.0, 1.0)
        values = (self.row, self.column, self.angle, self.half_long, self.half_short)
        return _Ellipses(*(np.append(old, new).astype(np.float32) for old, new in zip(values, far, strict=True)))

    def distance(self, cell: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance of points to one centre, in radii: 1 on the ellipse."""
        dy, dx = y - np.float32(self.row[cell]), x - np.float32(self.column[cell])
        sine, cosine = np.float32(np.sin(self.angle[cell])), np.float32(np.cos(self.angle[cell]))
        along = (dx * cosine + dy * sine) / np.float32(self.half_long[cell])
        across = (dy * cosine - dx * sine) / np.float32(self.half_short[cell])
        distance: np.ndarray = np.sqrt(along**2 + across**2)
        return distance


@dataclass(frozen=True)
class _Shares:
    """Of every pixel: nearest and second nearest cell in radii, distance to the nucleus in nuclear radii, owner."""

    nearest: Plane
    second: Plane
    radial: Plane
    owner: Owners


def _share_out(
    kind: CellType, size: int, *, short: float, bodies: _Ellipses, nuclei: _Ellipses, rng: np.random.Generator
) -> _Shares:
    warp = [
        kind.roughness * short * slow_noise(size, 0.55 * short, rng)
        + 0.6 * kind.roughness * short * slow_noise(size, 0.22 * short + 2, rng)
        for _ in range(2)
    ]
    width = float(np.mean(nuclei.half_short)) if len(nuclei.row) else 1.0
    ripple = [0.075 * width * slow_noise(size, max(2.0, 0.6 * width), rng) for _ in range(2)]
    grid = np.arange(size, dtype=np.float32)
    y, x = grid[:, None] + warp[0], grid[None, :] + warp[1]
    calm_y, calm_x = grid[:, None] + ripple[0], grid[None, :] + ripple[1]
    nearest = np.full((size, size), 9.0, dtype=np.float32)
    second, radial = nearest.copy(), np.full((size, size), 99.0, dtype=np.float32)
    owner = np.full((size, size), -1, dtype=np.int32)
    reach = 1.15 * bodies.half_long + 2.2 * kind.roughness * short
    for cell in range(len(reach)):
        top, left = (max(0, int(place[cell] - reach[cell])) for place in (bodies.row, bodies.column))
        bottom, right = (min(size, int(place[cell] + reach[cell]) + 2) for place in (bodies.row, bodies.column))
        if top >= bottom or left >= right:
            continue
        window = np.s_[top:bottom, left:right]
        from_nucleus = nuclei.distance(cell, calm_y[window], calm_x[window])
        # A cell keeps its nucleus and a seam around it, however outlines are warped: no body is nearer than _OWN.
        from_body = _OWN + (1 - _OWN) * bodies.distance(cell, y[window], x[window])
        distance = np.minimum(from_body, _OWN * from_nucleus + 0.6 * np.maximum(from_nucleus - 1.15, 0))
        closer = distance < nearest[window]
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        owner[window][closer] = cell
        radial[window][closer] = from_nucleus[closer]
        nearest[window][closer] = distance[closer]
    owner[nearest >= 1] = -1
    radial[nearest >= 1] = 99
    return _Shares(nearest, second, radial, owner)


def _measured(kind: CellType, pixels_per_um: float, bodies: _Ellipses, nuclei: _Ellipses, shares: _Shares) -> Cells:
    owner = shares.owner
    radius = np.sqrt(bodies.half_long * bodies.half_short)[owner]
    radius /= 1 - _OWN
    edge = np.where(owner >= 0, (1 - shares.nearest) * radius, 0)
    depth = np.where(owner >= 0, np.minimum(edge, 0.5 * (shares.second - shares.nearest) * radius), 0)
    rim = (shares.radial - 1) * np.sqrt(nuclei.half_long * nuclei.half_short)[owner]
    # Cells thin out towards a free edge, and dip a little where they touch.
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
        radial=shares.radial,
        body=body.astype(np.float32),
    )
