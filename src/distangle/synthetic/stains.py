"""Draw six stains over the geometry of cells, as light before the microscope.

Every function draws a fixed amount of random numbers, whatever the traits. A cell with unchanged traits therefore
looks the same to the last bit whatever happens to its neighbors.
"""

import numpy as np
from scipy import ndimage

from distangle.synthetic.cells import Cells, Plane, fine_noise, slow_noise, soft_step
from distangle.synthetic.effects import Traits


def stamp(
    size: int, row: np.ndarray, column: np.ndarray, radius: np.ndarray, gain: np.ndarray, *, softness: float = 0.35
) -> Plane:
    """Return the sum of soft discs.

    All arguments after `size` are in pixels, flat and of one length.

    Args:
        size: Height and width of the plane.
        row: Rows of the centers.
        column: Columns of the centers.
        radius: Radii.
        gain: Height of each disc.
        softness: Width of the edge.
    """
    is_visible: np.ndarray = (gain > 0) & (row > -9) & (row < size + 9) & (column > -9) & (column < size + 9)
    row, column, radius, gain = (values[is_visible].astype(np.float32) for values in (row, column, radius, gain))
    if not len(row):
        return np.zeros((size, size), np.float32)
    half = int(np.ceil(radius.max() + 3 * softness))
    offset = np.arange(-half, half + 1)
    y = np.rint(row)[:, None, None] + offset[None, :, None]
    x = np.rint(column)[:, None, None] + offset[None, None, :]
    distance = np.hypot(y - row[:, None, None], x - column[:, None, None])
    value = gain[:, None, None] * soft_step(radius[:, None, None] - distance, softness)
    y, x = np.broadcast_arrays(y, x)
    inside = (y >= 0) & (y < size) & (x >= 0) & (x < size) & (value > 1e-3)
    flat = (y[inside] * size + x[inside]).astype(np.int64)
    plane: Plane = np.bincount(flat, value[inside], size * size).reshape(size, size).astype(np.float32)
    return plane


def draw_nuclei(cells: Cells, traits: Traits, rng: np.random.Generator) -> Plane:
    """Draw chromatin: soft grainy ellipses, whole or in fragments."""
    unit = cells.pixels_per_um
    grain = fine_noise(cells.size, 0.7 * unit, rng)
    clumps = fine_noise(cells.size, 0.95 * unit, rng)
    shape = (len(cells.row), 6)
    distance, angle = rng.uniform(0.25, 0.95, shape), rng.uniform(0, 2 * np.pi, shape) / 6
    angle = angle + np.arange(6) * np.pi / 3
    share, size = rng.uniform(0.16, 0.34, shape), cells.to_pixels(traits.nucleus_size)
    is_fragmented = rng.uniform(size=shape[0]) < traits.nucleus_fragments

    radius = np.sqrt(cells.nucleus_long * cells.nucleus_short)
    inside = (size - cells.radial) * cells.to_pixels(radius)
    mask = soft_step(inside, 0.4) * (cells.owner >= 0)
    spots = cells.to_pixels(traits.chromatin_spots)
    texture = 1 + 0.15 * grain + 0.25 * np.maximum(clumps - 1.1, 0)
    textured = texture * (1 - 0.45 * spots) + 1.9 * spots * np.maximum(clumps - 0.55, 0)
    intact = mask * np.maximum(textured, 0.1) * cells.to_pixels(np.where(is_fragmented, 0, traits.nucleus_gain))
    row, column = _polar_to_image(cells, distance, angle)
    gain = np.where(is_fragmented[:, None] & _in_own_cell(cells, row, column), 2.0 * traits.nucleus_gain[:, None], 0)
    fragments = np.minimum(stamp(cells.size, *_flat(row, column, share * radius[:, None], gain)), 3.0)
    light: Plane = (intact + fragments + 0.03 * cells.body).astype(np.float32)
    return light


def draw_er(cells: Cells, traits: Traits, rng: np.random.Generator) -> Plane:
    """Draw the endoplasmic reticulum: a fine mesh, densest around the nucleus."""
    unit = cells.pixels_per_um
    mesh = np.exp(-((fine_noise(cells.size, 0.75 * unit, rng) / 0.55) ** 2))
    sheets = slow_noise(cells.size, 5 * unit, rng)
    bubbles = fine_noise(cells.size, 1.5 * unit, rng)
    aggregates = _aggregates(cells, traits.er_aggregates, rng)
    outside = np.maximum(cells.rim, 0)
    reach = cells.cell_type.reach_um * unit * cells.to_pixels(traits.er_reach)
    envelope = 0.16 * (1 + 0.3 * sheets) * np.minimum(cells.to_pixels(traits.er_reach), 1) + 1.0 * np.exp(
        -outside / reach
    ) * (1 + 0.22 * sheets)
    envelope = envelope + 0.3 * np.exp(-((cells.rim / (0.7 * unit)) ** 2))
    inner = 1 - 0.68 * soft_step(-cells.rim - 0.5 * unit, 0.35 * unit)
    holes = 1 - 0.9 * np.minimum(cells.to_pixels(traits.er_holes), 1) * soft_step(bubbles - 0.6, 0.1) * soft_step(
        cells.rim - unit, 0.4
    )
    light: Plane = (
        cells.body * cells.to_pixels(traits.er_gain) * np.maximum(envelope, 0.05) * (0.55 + 0.8 * mesh) * inner * holes
        + 0.9 * aggregates
    ).astype(np.float32)
    return light


def draw_actin(cells: Cells, traits: Traits, rng: np.random.Generator) -> Plane:
    """Draw actin: fibers along each cell, a cortex at its outline, a diffuse pool."""
    unit, size = cells.pixels_per_um, cells.size
    n = len(cells.row)
    white = rng.standard_normal((160, 160), dtype=np.float32)
    tile = ndimage.gaussian_filter(white, (0.38 * unit, 8 * unit), mode="wrap", truncate=2.5)
    tile = tile / tile.std()
    turn = (cells.angle + rng.normal(0, 0.2, n)).astype(np.float32)
    offset = rng.uniform(0, 160, (2, n)).astype(np.float32)
    bend = (rng.normal(0, 0.006, n) / unit).astype(np.float32)
    patches = slow_noise(size, 4 * unit, rng)
    grain = fine_noise(size, 0.8 * unit, rng)
    shape = (n, 14)
    dots = _polar_to_image(cells, rng.uniform(0.9, 2.0, shape), rng.uniform(0, 2 * np.pi, shape))
    dot_gain = traits.actin_puncta[:, None] * rng.uniform(0.4, 1.2, shape)
    aggregates = _aggregates(cells, traits.actin_aggregates, rng)

    grid = np.arange(size, dtype=np.float32)
    sine, cosine = cells.to_pixels(np.sin(turn)), cells.to_pixels(np.cos(turn))
    dy, dx = grid[:, None] - cells.to_pixels(cells.row), grid[None, :] - cells.to_pixels(cells.column)
    along = dx * cosine + dy * sine
    across = dy * cosine - dx * sine + cells.to_pixels(bend) * along**2
    streaks = ndimage.map_coordinates(
        tile,
        [across + cells.to_pixels(offset[0]), along + cells.to_pixels(offset[1])],
        order=1,
        mode="grid-wrap",
    )
    fibers = np.maximum(streaks - 0.1, 0) ** 1.25 * (1 + 0.4 * patches) * cells.to_pixels(traits.fibers)
    cortex = np.exp(-(((cells.depth - 0.6 * unit) / (0.8 * unit)) ** 2)) * (1 + 0.35 * patches)
    diffuse = 0.42 * (1 + 0.12 * grain) * (1 - 0.25 * soft_step(-cells.rim, 0.5))
    dots_light = stamp(size, *_flat(*dots, np.float32(0.55 * unit), np.where(_in_own_cell(cells, *dots), dot_gain, 0)))
    light: Plane = (
        cells.body * np.maximum(diffuse + 0.62 * fibers + 0.85 * cortex * cells.to_pixels(traits.cortex), 0)
        + dots_light
        + 0.9 * aggregates
    ).astype(np.float32)
    return light


def draw_rna(cells: Cells, traits: Traits, rng: np.random.Generator) -> Plane:
    """Draw one to five nucleoli in a dim nucleus, and the RNA of the cytoplasm."""
    unit, n = cells.pixels_per_um, len(cells.row)
    grain = fine_noise(cells.size, 0.6 * unit, rng)
    clouds = slow_noise(cells.size, 6 * unit, rng)
    shape = (n, 9)
    base_count = rng.choice([1, 2, 3, 4, 5], n, p=[0.2, 0.35, 0.25, 0.15, 0.05])
    angle = np.arange(9) * 2.4 + rng.uniform(0, 2 * np.pi, (n, 1)) + rng.normal(0, 0.25, shape)
    distance = np.sqrt((np.arange(9) + 0.35) / 9) * 0.72 + rng.normal(0, 0.05, shape)
    width = rng.uniform(0.8, 1.25, shape)
    aggregates = _aggregates(cells, traits.rna_aggregates, rng)
    # A few nucleoli may lie anywhere in the nucleus, not only at its center: start at a random spot of the spiral.
    start = rng.integers(0, 9, n)
    spot = (np.arange(9)[None, :] * 4 + start[:, None]) % 9
    distance, angle = np.take_along_axis(distance, spot, 1), np.take_along_axis(angle, spot, 1)

    count = np.clip(np.rint(base_count * traits.nucleoli_count), 1, 9)
    dispersal = np.clip(traits.nucleoli_dispersal, 0, 1)
    row, column = _polar_to_image(cells, distance, angle)
    is_drawn = (np.arange(9) < count[:, None]) & _in_own_cell(cells, row, column)
    gain = np.where(is_drawn, 1.15 * (1 - dispersal)[:, None], 0)
    radius = 0.075 * np.sqrt(cells.nucleus_long * cells.nucleus_short)[:, None] * 2 * width
    spots = stamp(cells.size, *_flat(row, column, radius * traits.nucleoli_size[:, None], gain), softness=0.35 * unit)
    nucleus = _nuclear_mask(cells)
    outside = np.exp(-np.maximum(cells.rim, 0) / (1.3 * cells.cell_type.reach_um * unit))
    cytoplasm = (0.25 + 0.55 * outside) * (1 + 0.1 * grain + 0.12 * clouds) * (1 - 0.42 * nucleus)
    light: Plane = (
        cells.body * cells.to_pixels(traits.rna_gain) * np.maximum(cytoplasm, 0)
        + nucleus * (np.minimum(spots, 1.6) + 0.55 * cells.to_pixels(dispersal))
        + 0.9 * aggregates
    ).astype(np.float32)
    return light


def draw_mitochondria(cells: Cells, traits: Traits, rng: np.random.Generator) -> Plane:
    """Draw mitochondria: filaments around the nucleus, or their fragments."""
    unit, size, n = cells.pixels_per_um, cells.size, len(cells.row)
    area = np.pi * cells.cell_type.cell_um[0] * cells.cell_type.cell_um[1] / 4
    n_worms, n_steps = int(np.clip(area / 19, 12, 56)), 24
    shape = (n, n_worms)
    start = rng.uniform(0, 2 * np.pi, shape)
    radial_position = rng.uniform(size=shape) ** 1.7
    turns = np.cumsum(rng.normal(0, 0.3, (*shape, n_steps)), axis=2)
    fusion = np.maximum(traits.mito_length, 1)[:, None, None]
    heading = rng.uniform(0, 2 * np.pi, (*shape, 1)) + turns / fusion
    weight = rng.uniform(0.6, 1.3, shape)
    length = np.rint(rng.uniform(6, 15, shape) * traits.mito_length[:, None]).clip(2, n_steps)
    haze = slow_noise(size, 4 * unit, rng)
    aggregates = _aggregates(cells, traits.mito_aggregates, rng)

    # From 1.12 nuclear radii outwards, to about the outline of the cell.
    cell_radius = np.sqrt(cells.half_long * cells.half_short / (cells.nucleus_long * cells.nucleus_short))[:, None]
    reach = np.maximum(0.95 * cell_radius - 1.12, 0.1) * np.minimum(traits.mito_reach, 1.1)[:, None]
    row, column = _polar_to_image(cells, 1.12 + radial_position ** (1 / fusion[..., 0]) * reach, start)
    pace = 0.75 * unit * fusion**0.35 * np.minimum(traits.mito_reach, 1)[:, None, None] ** 0.5
    rows = row[..., None] + np.cumsum(np.sin(heading), axis=2) * pace
    columns = column[..., None] + np.cumsum(np.cos(heading), axis=2) * pace
    step = np.arange(n_steps)
    is_drawn = step < length[..., None]
    # A fragment has the light of five steps in one dot; the total light of a cell stays the same.
    is_fragmented = np.clip(traits.mito_fragments, 0, 1)[:, None] > rng.uniform(size=shape)
    step_index = np.where(is_fragmented[..., None], step // 5 * 5, step)
    rows, columns = (np.take_along_axis(values, step_index, 2) for values in (rows, columns))
    mass = (weight * traits.mito_gain[:, None])[..., None] * is_drawn * np.minimum(8.5 / length, 1.6)[..., None] ** 0.3
    mass = np.where(_in_own_cell(cells, rows, columns), mass, 0)
    worms = _splat(size, rows, columns, mass)
    worms = ndimage.gaussian_filter(worms, 0.45 * unit, truncate=3) * unit**1.2
    outside = soft_step(cells.rim - 0.3 * unit, 0.35)
    pool = np.exp(
        -np.maximum(cells.rim, 0)
        / (cells.cell_type.reach_um * unit * np.minimum(cells.to_pixels(traits.mito_reach), 1))
    )
    diffuse = (0.07 + 0.3 * pool * (1 + 0.3 * haze)) * cells.to_pixels(traits.mito_gain)
    light: Plane = (cells.body * (0.62 * worms * outside + diffuse * (0.4 + 0.6 * outside)) + 0.9 * aggregates).astype(
        np.float32
    )
    return light


def draw_golgi(cells: Cells, traits: Traits, rng: np.random.Generator) -> Plane:
    """Draw the Golgi: small bodies on one side of the nucleus, over a dim cell."""
    unit, n = cells.pixels_per_um, len(cells.row)
    grain = fine_noise(cells.size, 0.9 * unit, rng)
    shape = (n, 16)
    side = rng.uniform(0, 2 * np.pi, (n, 1))
    around = rng.normal(0, 0.42, shape)
    ring = rng.uniform(-np.pi, np.pi, shape)
    outward = np.abs(rng.normal(0, 0.16, shape))
    radius = rng.uniform(0.45, 0.95, shape) * unit
    weight = rng.uniform(0.5, 1.2, shape)
    aggregates = _aggregates(cells, traits.golgi_aggregates, rng)

    spread = traits.golgi_spread[:, None]
    dispersion = np.clip((spread - 1) / 2.5, 0, 1)  # dispersed bodies are all around the nucleus
    ring_share = np.maximum(np.clip(traits.golgi_ring, 0, 1)[:, None], dispersion)
    angle = side + around * np.minimum(spread, 2) * (1 - ring_share) + ring * ring_share
    distance = 1.2 + np.minimum(outward * spread, 1.6)
    row, column = _polar_to_image(cells, distance, angle)
    gain = np.where(_in_own_cell(cells, row, column), weight * traits.golgi_gain[:, None], 0)
    gain = gain / (1 + 0.8 * np.clip(1 - spread, 0, 1))  # packed bodies overlap
    bodies = 2.1 * np.tanh(stamp(cells.size, *_flat(row, column, radius, gain)) / 2.0)
    unspecific = 0.2 + 0.22 * _nuclear_mask(cells) + 0.14 * np.exp(-np.maximum(cells.rim, 0) / (4 * unit))
    light: Plane = (cells.body * (unspecific * (1 + 0.08 * grain) + bodies) + 0.9 * aggregates).astype(np.float32)
    return light


DRAW_CHANNEL = (draw_nuclei, draw_er, draw_actin, draw_rna, draw_mitochondria, draw_golgi)


def _polar_to_image(cells: Cells, distance: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert polar coordinates in nuclear radii, [cell, spot], to rows and columns."""
    along = distance * np.cos(angle) * cells.nucleus_long[:, None]
    across = distance * np.sin(angle) * cells.nucleus_short[:, None]
    sine, cosine = np.sin(cells.nucleus_angle)[:, None], np.cos(cells.nucleus_angle)[:, None]
    row = cells.nucleus_row[:, None] + along * sine + across * cosine
    column = cells.nucleus_column[:, None] + along * cosine - across * sine
    return row, column


def _in_own_cell(cells: Cells, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return which points, [cell, ...], lie in their own cell."""
    size = cells.size
    y, x = (np.clip(np.rint(position), -1, size).astype(np.int64) for position in (row, column))
    visible = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    cell = np.arange(len(row)).reshape(-1, *[1] * (row.ndim - 1))
    in_own_cell: np.ndarray = visible & (cells.owner[np.clip(y, 0, size - 1), np.clip(x, 0, size - 1)] == cell)
    return in_own_cell


def _flat(*values: np.ndarray | np.floating) -> list[np.ndarray]:
    return [np.asarray(value).ravel() for value in np.broadcast_arrays(*values)]


def _nuclear_mask(cells: Cells) -> Plane:
    mask: Plane = soft_step(-cells.rim, 0.4).astype(np.float32)
    return mask


def _aggregates(cells: Cells, amount: np.ndarray, rng: np.random.Generator) -> Plane:
    """Draw a few bright clumps in the cytoplasm of cells with aggregates."""
    n = len(cells.row)
    shape = (n, 8)
    row, column = _polar_to_image(cells, rng.uniform(0.9, 1.8, shape), rng.uniform(0, 2 * np.pi, shape))
    radius = rng.uniform(0.9, 1.9, shape) * cells.pixels_per_um
    gain = np.where(_in_own_cell(cells, row, column), amount[:, None] * rng.uniform(2.2, 3.8, shape), 0)
    return stamp(cells.size, *_flat(row, column, radius, gain))


def _splat(size: int, row: np.ndarray, column: np.ndarray, mass: np.ndarray) -> Plane:
    """Distribute the mass of points over the four pixels around each."""
    inside = (mass > 0) & (row > 0) & (row < size - 1.001) & (column > 0) & (column < size - 1.001)
    row, column, mass = row[inside], column[inside], mass[inside]
    y, x = row.astype(np.int64), column.astype(np.int64)
    fy, fx = row - y, column - x
    flat = y * size + x
    pixels = np.concatenate([flat, flat + 1, flat + size, flat + size + 1])
    shares = np.concatenate([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
    total = np.bincount(pixels, shares * np.tile(mass, 4), size * size)
    plane: Plane = total.reshape(size, size).astype(np.float32)
    return plane
