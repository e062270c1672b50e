"""Sum, count and move pixels in compiled loops, with the same integers as NumPy."""

import numpy as np

from distangle.images.numba_compiler import jit

_CHUNK = 1 << 16  # number of 16-bit pixels, or squares of 8-bit pixels, whose sum fits in 32 bits, which is fast
_STRIP = 32  # rows whose cache lines fit in the first cache together, also if the image has 1,024 bytes a row


@jit
def power_sums(planes: np.ndarray, sums: np.ndarray) -> None:
    """Write the exact sums of the pixels of every channel and of their squares.

    Args:
        planes: uint8 or uint16 [channel, height, width].
        sums: uint64 [channel, 2].
    """
    n_pixels = planes.shape[1] * planes.shape[2]
    for channel in range(len(planes)):
        flat = planes[channel].reshape(n_pixels)
        total, total_squared = np.uint64(0), np.uint64(0)
        for start in range(0, n_pixels, _CHUNK):
            part = flat[start : start + _CHUNK]
            partial, partial_squared, wide_squared = np.uint32(0), np.uint32(0), np.uint64(0)
            if planes.itemsize == 1:
                for k in range(part.size):
                    value = np.uint32(part[k])
                    partial = np.uint32(partial + value)
                    partial_squared = np.uint32(partial_squared + np.uint32(value * value))
            else:
                for k in range(part.size):
                    wide = np.uint64(part[k])
                    partial = np.uint32(partial + np.uint32(part[k]))
                    wide_squared += wide * wide
            total += partial
            total_squared += partial_squared + wide_squared
        sums[channel, 0], sums[channel, 1] = total, total_squared


@jit
def count_values(planes: np.ndarray, counts: np.ndarray) -> None:
    """Count how often each value occurs in every channel.

    Args:
        planes: uint8 or uint16 [channel, height, width].
        counts: int64 [channel, value], zeros.
    """
    for channel in range(len(planes)):
        row_counts = counts[channel]
        for row in range(planes.shape[1]):
            for value in planes[channel, row]:
                row_counts[value] += 1


@jit
def gather(planes: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
    """Write the pixels at some positions of every channel.

    Args:
        planes: [channel, pixel].
        positions: uint32 [n]; unsigned, so that no negative index is looked for.
        out: [channel, n], of the data type of the planes.
    """
    for channel in range(len(planes)):
        source, target = planes[channel], out[channel]
        for k in range(len(positions)):
            target[k] = source[positions[k]]


@jit
def gather_grid(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write the pixels at the crossings of some rows and columns of every channel.

    Args:
        planes: [channel, height, width].
        rows: uint32 [row]; unsigned, so that no negative index is looked for.
        columns: uint32 [column].
        out: [channel, row, column], of the data type of the planes.
    """
    for channel in range(len(planes)):
        for i in range(len(rows)):
            source, target = planes[channel, rows[i]], out[channel, i]
            for j in range(len(columns)):
                target[j] = source[columns[j]]


@jit
def gather_grid_transposed(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write the transposed pixels of `gather_grid`.

    The rows of a strip stay in the cache.

    Args:
        planes: [channel, height, width].
        rows: uint32 [row].
        columns: uint32 [column].
        out: [channel, column, row], of the data type of the planes.
    """
    for channel in range(len(planes)):
        source, target = planes[channel], out[channel]
        for start in range(0, len(rows), _STRIP):
            stop = min(start + _STRIP, len(rows))
            for j in range(len(columns)):
                column, target_row = columns[j], target[j]
                for i in range(start, stop):
                    target_row[i] = source[rows[i], column]


@jit
def rotate_positions(
    rows: np.ndarray,
    columns: np.ndarray,
    positions: np.ndarray,
    place: tuple[float, float, float, float, int, int],
) -> None:
    """Write where the pixels of a rotated grid lie in a flat image.

    Pixels beyond an edge are mirrored.

    Args:
        rows: float64 [row], from the center of rotation, in pixels.
        columns: float64 [column], from the center of rotation, in pixels.
        positions: uint32 [row, column].
        place: Row and column of the center, sine and cosine of the angle, height and width of the image.
    """
    top, left, sine, cosine, height, width = place
    for i in range(len(rows)):
        row_start, column_start = top + cosine * rows[i], left + sine * rows[i]
        for j in range(len(columns)):
            row = np.int64(np.rint(row_start - sine * columns[j]))
            column = np.int64(np.rint(column_start + cosine * columns[j]))
            if row < 0 or row >= height:  # a division takes as long as all else
                row %= 2 * height
                row = min(row, 2 * height - 1 - row)
            if column < 0 or column >= width:
                column %= 2 * width
                column = min(column, 2 * width - 1 - column)
            positions[i, j] = np.uint32(row * width + column)
