"""Sum and count pixels in compiled loops: the same integers as `intensity`."""

import numpy as np

from distangle.images.numba_compiler import jit

_FIT = 1 << 16  # so many pixels of 16 bit, or squares of 8 bit, add up in 32 bits, which is fast


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
        plain, squared = np.uint64(0), np.uint64(0)
        for start in range(0, n_pixels, _FIT):
            part = flat[start : start + _FIT]
            few, few_squared, many_squared = np.uint32(0), np.uint32(0), np.uint64(0)
            if planes.itemsize == 1:
                for k in range(part.size):
                    value = np.uint32(part[k])
                    few = np.uint32(few + value)
                    few_squared = np.uint32(few_squared + np.uint32(value * value))
            else:
                for k in range(part.size):
                    wide = np.uint64(part[k])
                    few = np.uint32(few + np.uint32(part[k]))
                    many_squared += wide * wide
            plain += few
            squared += few_squared + many_squared
        sums[channel, 0], sums[channel, 1] = plain, squared


@jit
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
