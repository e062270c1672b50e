"""Restore pixels from residuals in compiled loops, plane by plane."""

import numpy as np

from distangle.images.numba_compiler import jit
from distangle.images.packing.codec import DEPTH, ZERO_RESIDUAL


@jit
def _join_nibbles(parts: np.ndarray, joined: np.ndarray) -> None:
    n = len(joined) // 2
    for k in range(n):
        joined[k] = (parts[k] & 15) | ((parts[n + k] & 15) << 4)
    for k in range(n):
        joined[n + k] = (parts[k] >> 4) | (parts[n + k] & 240)


@jit
def _cumulative_sums(coarsest: np.ndarray, planes: np.ndarray) -> None:
    height, width = planes.shape
    for row in range(height):
        row_sum = 0
        for column in range(width):
            row_sum += coarsest[row, column] - ZERO_RESIDUAL
            planes[row, column] = row_sum + (planes[row - 1, column] if row > 0 else 0)


# The last (or first) pixel of a row is its own neighbor: it is handled apart, so that the others are one fast loop.


@jit
def _restore_centers(coarse: np.ndarray, residuals: np.ndarray, centers: np.ndarray) -> None:
    height, width = coarse.shape
    for row in range(height):
        above, below = coarse[row], coarse[min(row + 1, height - 1)]
        residual_row, line = residuals[row], centers[row]
        for k in range(width - 1):
            line[k] = residual_row[k] + ((above[k] + above[k + 1] + below[k] + below[k + 1] + 2) >> 2) - ZERO_RESIDUAL
        k = width - 1
        line[k] = residual_row[k] + ((2 * above[k] + 2 * below[k] + 2) >> 2) - ZERO_RESIDUAL


@jit
def _restore_even_rows(coarse: np.ndarray, centers: np.ndarray, residuals: np.ndarray, planes: np.ndarray) -> None:
    height, width = coarse.shape
    for row in range(height):
        own, below, above = coarse[row], centers[row], centers[max(row - 1, 0)]
        residual_row, line = residuals[row], planes[2 * row]
        for k in range(width - 1):
            line[2 * k] = own[k]
            line[2 * k + 1] = residual_row[k] + ((own[k] + own[k + 1] + below[k] + above[k] + 2) >> 2) - ZERO_RESIDUAL
        k = width - 1
        line[2 * k] = own[k]
        line[2 * k + 1] = residual_row[k] + ((2 * own[k] + below[k] + above[k] + 2) >> 2) - ZERO_RESIDUAL


@jit
def _restore_odd_rows(coarse: np.ndarray, centers: np.ndarray, residuals: np.ndarray, planes: np.ndarray) -> None:
    height, width = coarse.shape
    for row in range(height):
        above, below, own = coarse[row], coarse[min(row + 1, height - 1)], centers[row]
        residual_row, line = residuals[row], planes[2 * row + 1]
        line[0] = residual_row[0] + ((above[0] + below[0] + 2 * own[0] + 2) >> 2) - ZERO_RESIDUAL
        line[1] = own[0]
        for k in range(1, width):
            line[2 * k] = residual_row[k] + ((above[k] + below[k] + own[k] + own[k - 1] + 2) >> 2) - ZERO_RESIDUAL
            line[2 * k + 1] = own[k]


@jit
def restore_with_numba(parts: np.ndarray, is_split: np.ndarray, planes: np.ndarray) -> None:
    """Write the pixels of residuals from `split_nibbles`.

    Args:
        parts: uint8 [byte, channel, number].
        is_split: bool [byte, channel].
        planes: uint8 or uint16 [channel, height, width]; sides are multiples of `BLOCK`.
    """
    n_channels, height, width = planes.shape
    flat = np.empty(height * width, dtype=planes.dtype)
    whole_bytes = np.empty(height * width, dtype=np.uint8)
    smaller = np.empty(height * width // 4, dtype=planes.dtype)
    larger = np.empty(height * width // 4, dtype=planes.dtype)
    centers = np.empty(height * width // 4, dtype=planes.dtype)
    for channel in range(n_channels):
        for k in range(len(parts)):
            source = parts[k, channel]
            if is_split[k, channel]:
                _join_nibbles(source, whole_bytes)
                source = whole_bytes
            for pixel in range(len(flat)):  # array operations would take ten times as long
                flat[pixel] = source[pixel] if k == 0 else flat[pixel] | (source[pixel] << 8)
        coarse_height, coarse_width = height >> DEPTH, width >> DEPTH
        coarse = smaller[: coarse_height * coarse_width].reshape(coarse_height, coarse_width)
        _cumulative_sums(flat[: coarse_height * coarse_width].reshape(coarse_height, coarse_width), coarse)
        for step in range(DEPTH):
            n = coarse_height * coarse_width
            residuals = flat[n : 4 * n].reshape(3, coarse_height, coarse_width)
            center = centers[:n].reshape(coarse_height, coarse_width)
            if step == DEPTH - 1:
                target = planes[channel]
            else:
                target = (larger if step % 2 == 0 else smaller)[: 4 * n].reshape(2 * coarse_height, 2 * coarse_width)
            _restore_centers(coarse, residuals[0], center)
            _restore_even_rows(coarse, center, residuals[1], target)
            _restore_odd_rows(coarse, center, residuals[2], target)
            coarse, coarse_height, coarse_width = target, 2 * coarse_height, 2 * coarse_width
