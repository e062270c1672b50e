"""Augment images by flips, rotations and crops, before standardization."""

from dataclasses import dataclass

import numpy as np

from distangle.images.jit_threshold import pixel_kernels

N_VIEWS = 8
_CACHE_LINE = 64  # bytes of a cache line


@dataclass(frozen=True)
class Augmentation:
    """One of the eight flips and quarter turns of a square crop, after a rotation.

    Crops are resized to the nearest pixel.

    Attributes:
        number: 0-7; bit 0 flips rows, bit 1 flips columns, bit 2 transposes.
        top: First row of the crop, in pixels.
        left: First column of the crop, in pixels.
        size: Side of the crop in pixels; 0 for the whole image.
        angle: Rotation about the center of the crop, applied first, in radians; pixels beyond the edge of the image are
            mirrored.
    """

    number: int
    top: int = 0
    left: int = 0
    size: int = 0
    angle: float = 0.0


def random_augmentation(
    rng: np.random.Generator, *, height: int, width: int, min_share: float = 1.0, rotate: bool = False
) -> Augmentation:
    """Draw one of the eight orientations and a square crop.

    Args:
        rng: Source of randomness.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        min_share: Smallest side of the crop, as a share of the shorter side; 1 crops nothing from a square image.
        rotate: Rotate by any angle, not only by quarters.
    """
    number = int(rng.integers(N_VIEWS))
    side = min(height, width)
    size = int(rng.integers(max(1, round(side * min_share)), side + 1))
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    return Augmentation(number, top, left, size, float(rng.uniform(0, 2 * np.pi)) if rotate else 0.0)


def augment(image: np.ndarray, augmentation: Augmentation, *, out: np.ndarray) -> np.ndarray:
    """Write an augmented image of any data type into a buffer.

    Args:
        image: [channel, height, width].
        augmentation: The augmentation to apply.
        out: [channel, size, size], or for a whole image [channel, height, width] ([channel, width, height] if
            transposed); returned.

    Returns:
        `out`.
    """
    size = augmentation.size
    height, width = (size, size) if size else image.shape[1:]
    shape = (width, height) if augmentation.number & 4 else (height, width)
    if augmentation.angle or out.shape[1:] != shape:
        _gather(image, augmentation, out)
        return out
    if size:
        top, left = augmentation.top, augmentation.left
        image = image[:, top : top + size, left : left + size]
    if augmentation.number & 4:
        image = image.transpose(0, 2, 1)
    if augmentation.number & 1:
        image = image[:, ::-1, :]
    if augmentation.number & 2:
        image = image[:, :, ::-1]
    _copy(image, out, columns=max(1, _CACHE_LINE // out.itemsize) if augmentation.number & 4 else out.shape[2])
    return out


def invert_augmentation(maps: np.ndarray, number: int) -> np.ndarray:
    """Return maps [..., height, width] in the orientation of the original image."""
    if number & 2:
        maps = maps[..., ::-1]
    if number & 1:
        maps = maps[..., ::-1, :]
    return np.swapaxes(maps, -1, -2) if number & 4 else maps


def _copy(image: np.ndarray, out: np.ndarray, *, columns: int) -> None:
    """Copy in strips, so that a transposed image is read by whole cache lines."""
    for left in range(0, out.shape[2], columns):
        out[:, :, left : left + columns] = image[:, :, left : left + columns]


def _gather(image: np.ndarray, augmentation: Augmentation, out: np.ndarray) -> None:
    """Write a rotated or resized image into a buffer, pixel by pixel."""
    is_transposed = bool(augmentation.number & 4)
    shape = out.shape[:0:-1] if is_transposed else out.shape[1:]
    rows, columns = _grid(augmentation, image.shape[1:], shape)
    kernels = pixel_kernels()
    if augmentation.size and not augmentation.angle:
        rows, columns = rows + augmentation.top, columns + augmentation.left
    if kernels is not None and not augmentation.angle:
        write = kernels.gather_grid_transposed if is_transposed else kernels.gather_grid
        write(np.ascontiguousarray(image), rows.astype(np.uint32), columns.astype(np.uint32), out)
        return
    upright = out if out.flags.c_contiguous and not is_transposed else np.empty((len(out), *shape), dtype=out.dtype)
    if augmentation.angle:
        flat = image.reshape(len(image), -1)
        positions = _rotated_positions(augmentation, rows, columns, image.shape[1:])
        if kernels is None:
            np.take(flat, positions, axis=1, out=upright, mode="clip")  # with `raise`, NumPy copies the result
        else:
            kernels.gather(flat, positions.reshape(-1), upright.reshape(len(out), -1))
    else:
        np.take(image[:, rows], columns, axis=2, out=upright, mode="clip")
    if upright is not out:
        turned = upright.transpose(0, 2, 1) if is_transposed else upright
        _copy(turned, out, columns=max(1, _CACHE_LINE // out.itemsize))


def _grid(
    augmentation: Augmentation, shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and column in the crop of each row and column of the result.

    No rotation is applied yet. The image is augmented except for the transposition, which comes last.

    Args:
        augmentation: A crop with another size than the result, or a rotation.
        shape: Height and width of the image.
        out_shape: Height and width of the augmented image before the transposition.
    """
    crop = (augmentation.size, augmentation.size) if augmentation.size else shape
    # Nearest pixel: centers of the new grid in the old one.
    row, column = (((np.arange(n) + 0.5) * old / n).astype(np.intp) for n, old in zip(out_shape, crop, strict=True))
    # A flip of the rows after a transposition is a flip of the columns before it.
    flips_rows, flips_columns = (2, 1) if augmentation.number & 4 else (1, 2)
    row = crop[0] - 1 - row if augmentation.number & flips_rows else row
    column = crop[1] - 1 - column if augmentation.number & flips_columns else column
    return row, column


def _rotated_positions(
    augmentation: Augmentation, row: np.ndarray, column: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Return where each pixel of a rotated grid lies in the flat image."""
    height, width = shape
    crop = (augmentation.size, augmentation.size) if augmentation.size else shape
    sine, cosine = np.sin(augmentation.angle), np.cos(augmentation.angle)
    rows, columns = row - (crop[0] - 1) / 2, column - (crop[1] - 1) / 2
    top, left = augmentation.top + (crop[0] - 1) / 2, augmentation.left + (crop[1] - 1) / 2
    kernels = pixel_kernels()
    if kernels is not None:
        positions = np.empty((len(row), len(column)), dtype=np.uint32)
        kernels.rotate_positions(rows, columns, positions, (top, left, sine, cosine, height, width))
        return positions
    source_row = top + cosine * rows[:, None] - sine * columns[None, :]
    source_column = left + sine * rows[:, None] + cosine * columns[None, :]
    return np.asarray(_mirror(source_row, height) * width + _mirror(source_column, width))


def _mirror(positions: np.ndarray, length: int) -> np.ndarray:
    """Return the nearest pixels, mirrored at the edges (the edge pixel twice)."""
    period = np.rint(positions).astype(np.intp) % (2 * length)
    return np.asarray(np.minimum(period, 2 * length - 1 - period))
