"""Compiled loops for `nibbles.join` and `lattice.put_together`, by plane."""

import numpy as np

from distangle.images.numba_compiler import jit
from distangle.images.packing.codec import DEPTH, MIDDLE


@jit
def _join(parts: np.ndarray, whole: np.ndarray) -> None:
    n = len(whole) // 2
    for k in range(n):
        whole[k] = (parts[k] & 15) | ((parts[n + k] & 15) << 4)
    for k in range(n):
        whole[n + k] = (parts[k] >> 4) | (parts[n + k] & 240)


@jit
def _sum_up(coarsest: np.ndarray, planes: np.ndarray) -> None:
    tall, wide = planes.shape
    for row in range(tall):
        along = 0
        for column in range(wide):
            along += coarsest[row, column] - MIDDLE
            planes[row, column] = along + (planes[row - 1, column] if row > 0 else 0)


# The last pixel of a row, or the first, has itself for a neighbour: it stands apart, so that all others are one loop.


@jit
def _middles(known: np.ndarray, remainders: np.ndarray, middles: np.ndarray) -> None:
    tall, wide = known.shape
    for row in range(tall):
        above, beneath = known[row], known[min(row + 1, tall - 1)]
        rest, line = remainders[row], middles[row]
        for k in range(wide - 1):
            line[k] = rest[k] + ((above[k] + above[k + 1] + beneath[k] + beneath[k + 1] + 2) >> 2) - MIDDLE
        k = wide - 1
        line[k] = rest[k] + ((2 * above[k] + 2 * beneath[k] + 2) >> 2) - MIDDLE


@jit
def _even_rows(known: np.ndarray, middles: np.ndarray, remainders: np.ndarray, planes: np.ndarray) -> None:
    tall, wide = known.shape
    for row in range(tall):
        own, beneath, above = known[row], middles[row], middles[max(row - 1, 0)]
        rest, line = remainders[row], planes[2 * row]
        for k in range(wide - 1):
            line[2 * k] = own[k]
            line[2 * k + 1] = rest[k] + ((own[k] + own[k + 1] + beneath[k] + above[k] + 2) >> 2) - MIDDLE
        k = wide - 1
        line[2 * k] = own[k]
        line[2 * k + 1] = rest[k] + ((2 * own[k] + beneath[k] + above[k] + 2) >> 2) - MIDDLE


@jit
def _odd_rows(known: np.ndarray, middles: np.ndarray, remainders: np.ndarray, planes: np.ndarray) -> None:
    tall, wide = known.shape
    for row in range(tall):
        above, beneath, own = known[row], known[min(row + 1, tall - 1)], middles[row]
        rest, line = remainders[row], planes[2 * row + 1]
        line[0] = rest[0] + ((above[0] + beneath[0] + 2 * own[0] + 2) >> 2) - MIDDLE
        line[1] = own[0]
        for k in range(1, wide):
            line[2 * k] = rest[k] + ((above[k] + beneath[k] + own[k] + own[k - 1] + 2) >> 2) - MIDDLE
            line[2 * k + 1] = own[k]


@jit
def restore_by_loops(parts: np.ndarray, halved: np.ndarray, planes: np.ndarray) -> None:
    """Write the pixels of remainders that were split.

    Args:
        parts: uint8 [byte, channel, number].
        halved: bool [byte, channel].
        planes: uint8 or uint16 [channel, height, width]; sides of whole grains.
    """
    n_channels, height, width = planes.shape
    flat = np.empty(height * width, dtype=planes.dtype)
    joined = np.empty(height * width, dtype=np.uint8)
    smaller = np.empty(height * width // 4, dtype=planes.dtype)
    larger = np.empty(height * width // 4, dtype=planes.dtype)
    middles = np.empty(height * width // 4, dtype=planes.dtype)
    for channel in range(n_channels):
        for k in range(len(parts)):
            whole = parts[k, channel]
            if halved[k, channel]:
                _join(whole, joined)
                whole = joined
            for place in range(len(flat)):  # an array at once would take ten times as long
                flat[place] = whole[place] if k == 0 else flat[place] | (whole[place] << 8)
        tall, wide = height >> DEPTH, width >> DEPTH
        known = smaller[: tall * wide].reshape(tall, wide)
        _sum_up(flat[: tall * wide].reshape(tall, wide), known)
        for step in range(DEPTH):
            n = tall * wide
            between = flat[n : 4 * n].reshape(3, tall, wide)
            middle = middles[:n].reshape(tall, wide)
            if step == DEPTH - 1:
                target = planes[channel]
            else:
                target = (larger if step % 2 == 0 else smaller)[: 4 * n].reshape(2 * tall, 2 * wide)
            _middles(known, between[0], middle)
            _even_rows(known, middle, between[1], target)
            _odd_rows(known, middle, between[2], target)
            known, tall, wide = target, 2 * tall, 2 * wide
