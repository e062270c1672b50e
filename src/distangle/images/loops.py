"""Sums and counts of pixels in loops that are compiled: the same whole numbers as `intensity` has by arrays."""

import numpy as np

from distangle.images.compiled import compiled


@compiled
def power_sums(planes: np.ndarray, sums: np.ndarray) -> None:
    """Write the sum of the pixels of every channel and that of their squares, exactly.

    Args:
        planes: uint8 or uint16 [channel, height, width].
        sums: uint64 [channel, 2].
    """
    n_channels, n_rows, _ = planes.shape
    for channel in range(n_channels):
        plain, squared = np.uint64(0), np.uint64(0)
        for row in range(n_rows):
            line = planes[channel, row]
            for k in range(line.size):
                wide = np.uint64(line[k])
                plain += wide
                squared += wide * wide
        sums[channel, 0], sums[channel, 1] = plain, squared


@compiled
def count_values(planes: np.ndarray, counts: np.ndarray) -> None:
    """Count how often each value is in every channel.

    Args:
        planes: uint8 or uint16 [channel, height, width].
        counts: int64 [channel, value], of zeros.
    """
    for channel in range(len(planes)):
        found = counts[channel]
        for row in range(planes.shape[1]):
            for value in planes[channel, row]:
                found[value] += 1
