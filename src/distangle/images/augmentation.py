"""Augment images by the eight flips and turns and by crops, before standardising."""

from dataclasses import dataclass

import numpy as np

N_VIEWS = 8
_LINE = 64  # bytes that a cache fetches at once


@dataclass(frozen=True)
class Augmentation:
    """One of the eight dihedral views of a square crop, resized to the nearest pixel.

    Attributes:
        number: 0-7; bit 0 turns rows over, bit 1 columns, bit 2 transposes.
        top: First row of the crop, in pixels.
        left: First column of the crop, in pixels.
        size: Side of the crop in pixels; 0 takes the whole image.
        angle: Of a turn about the middle of the crop before all else, in radians; what comes in from beyond the
            edge of the image is mirrored.
    """

    number: int
    top: int = 0
    left: int = 0
    size: int = 0
    angle: float = 0.0


def random_augmentation(
    rng: np.random.Generator, *, height: int, width: int, smallest: float = 1.0, turn: bool = False
) -> Augmentation:
    """Draw one of the eight views and a crop of at least `smallest` of the side.

    The crop is square; the shorter side counts.

    Args:
        rng: Source of randomness.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        smallest: Least side of the crop, as a share of the shorter side; 1 crops nothing from a square image.
        turn: By any angle, not only by quarters.
    """
    number = int(rng.integers(N_VIEWS))
    side = min(height, width)
    size = int(rng.integers(max(1, round(side * smallest)), side + 1))
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    return Augmentation(number, top, left, size, float(rng.uniform(0, 2 * np.pi)) if turn else 0.0)


def augment(image: np.ndarray, view: Augmentation, *, out: np.ndarray) -> np.ndarray:
    """Write a view of an image of any data type into a buffer.

    Args:
        image: [channel, height, width].
        view: Which one.
        out: [channel, size, size] or, for a whole image, [channel, height, width] (turned over the
            diagonal: [channel, width, height]); returned.

    Returns:
        `out`.
    """
    if view.angle:
        image = _turned(image, view)
    elif view.size:
        image = image[:, view.top : view.top + view.size, view.left : view.left + view.size]
    if view.number & 4:
        image = image.transpose(0, 2, 1)
    if view.number & 1:
        image = image[:, ::-1, :]
    if view.number & 2:
        image = image[:, :, ::-1]
    if image.shape == out.shape:
        _copy(image, out, columns=_LINE // out.itemsize if view.number & 4 else out.shape[2])
        return out
    # Nearest pixel: centres of the new grid in the old one.
    rows = ((np.arange(out.shape[1]) + 0.5) * image.shape[1] / out.shape[1]).astype(np.intp)
    columns = ((np.arange(out.shape[2]) + 0.5) * image.shape[2] / out.shape[2]).astype(np.intp)
    out[...] = image[:, rows[:, None], columns[None, :]]
    return out


def _copy(image: np.ndarray, out: np.ndarray, *, columns: int) -> None:
    """Copy in strips, so that a transposed image is read by whole cache lines."""
    for left in range(0, out.shape[2], columns):
        out[:, :, left : left + columns] = image[:, :, left : left + columns]


def _turned(image: np.ndarray, view: Augmentation) -> np.ndarray:
    channels, height, width = image.shape
    tall, wide = (view.size, view.size) if view.size else (height, width)
    rows, columns = np.arange(tall) - (tall - 1) / 2, np.arange(wide) - (wide - 1) / 2
    sine, cosine = np.sin(view.angle), np.cos(view.angle)
    row = view.top + (tall - 1) / 2 + cosine * rows[:, None] - sine * columns[None, :]
    column = view.left + (wide - 1) / 2 + sine * rows[:, None] + cosine * columns[None, :]
    flat = _mirrored(row, height) * width + _mirrored(column, width)
    return image.reshape(channels, -1)[:, flat]


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    """Return the nearest pixels, mirrored at the edges (the edge pixel twice)."""
    period = np.rint(places).astype(np.intp) % (2 * length)
    return np.asarray(np.minimum(period, 2 * length - 1 - period))


def invert_augmentation(maps: np.ndarray, number: int) -> np.ndarray:
    """Turn maps [..., height, width] of a view back to the image's own orientation."""
    if number & 2:
        maps = maps[..., ::-1]
    if number & 1:
        maps = maps[..., ::-1, :]
    return np.swapaxes(maps, -1, -2) if number & 4 else maps
