"""Augment images by flips, rotations and crops, before standardization."""

from dataclasses import dataclass

import numpy as np

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
    if augmentation.angle:
        image = _rotate(image, augmentation)
    elif augmentation.size:
        top, left, size = augmentation.top, augmentation.left, augmentation.size
        image = image[:, top : top + size, left : left + size]
    if augmentation.number & 4:
        image = image.transpose(0, 2, 1)
    if augmentation.number & 1:
        image = image[:, ::-1, :]
    if augmentation.number & 2:
        image = image[:, :, ::-1]
    if image.shape == out.shape:
        _copy(image, out, columns=max(1, _CACHE_LINE // out.itemsize) if augmentation.number & 4 else out.shape[2])
        return out
    # Nearest pixel: centers of the new grid in the old one.
    rows = ((np.arange(out.shape[1]) + 0.5) * image.shape[1] / out.shape[1]).astype(np.intp)
    columns = ((np.arange(out.shape[2]) + 0.5) * image.shape[2] / out.shape[2]).astype(np.intp)
    out[...] = image[:, rows[:, None], columns[None, :]]
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


def _rotate(image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    channels, height, width = image.shape
    out_height, out_width = (augmentation.size, augmentation.size) if augmentation.size else (height, width)
    rows, columns = np.arange(out_height) - (out_height - 1) / 2, np.arange(out_width) - (out_width - 1) / 2
    sine, cosine = np.sin(augmentation.angle), np.cos(augmentation.angle)
    row = augmentation.top + (out_height - 1) / 2 + cosine * rows[:, None] - sine * columns[None, :]
    column = augmentation.left + (out_width - 1) / 2 + sine * rows[:, None] + cosine * columns[None, :]
    flat = _mirror(row, height) * width + _mirror(column, width)
    return image.reshape(channels, -1)[:, flat]


def _mirror(positions: np.ndarray, length: int) -> np.ndarray:
    """Return the nearest pixels, mirrored at the edges (the edge pixel twice)."""
    period = np.rint(positions).astype(np.intp) % (2 * length)
    return np.asarray(np.minimum(period, 2 * length - 1 - period))
