"""Undo the filters of PNG, which predict bytes from their neighbors."""

import numpy as np

from distangle.images.numba_compiler import jit


@jit
def _paeth(left: np.int32, above: np.int32, corner: np.int32) -> np.int32:
    """Return the neighbor nearest to left + above - corner; ties: left, above."""
    to_left, to_above = abs(above - corner), abs(left - corner)
    to_corner = abs(left + above - corner - corner)
    nearest, distance = (above, to_above) if to_above < to_left else (left, to_left)
    return corner if to_corner < distance else nearest


@jit
def _undo_paeth(line: np.ndarray, above: np.ndarray, filtered: np.ndarray, step: int) -> None:
    for k in range(min(step, line.size)):
        line[k] = np.uint8(filtered[k] + above[k])
    for k in range(step, line.size):
        left, up, corner = np.int32(line[k - step]), np.int32(above[k]), np.int32(above[k - step])
        line[k] = np.uint8(np.int32(filtered[k]) + _paeth(left, up, corner))


@jit
def _undo_two_paeth(
    first: np.ndarray, second: np.ndarray, above: np.ndarray, filtered: np.ndarray, filtered_second: np.ndarray
) -> None:
    # Each byte depends on the previous one. Decoding a second row, a column behind, fills the wait.
    last = first.size - 1
    low = np.int32(255)
    corner = np.int32(above[0])
    left = (np.int32(filtered[0]) + corner) & low
    first[0] = np.uint8(left)
    left_second = corner_second = np.int32(0)
    for k in range(1, first.size):
        up = np.int32(above[k])
        value = (np.int32(filtered[k]) + _paeth(left, up, corner)) & low
        value_second = (np.int32(filtered_second[k - 1]) + _paeth(left_second, left, corner_second)) & low
        first[k], second[k - 1] = np.uint8(value), np.uint8(value_second)
        corner, corner_second, left, left_second = up, left, value, value_second
    second[last] = np.uint8(np.int32(filtered_second[last]) + _paeth(left_second, left, corner_second))


@jit
def _undo_others(line: np.ndarray, above: np.ndarray, filtered: np.ndarray, step: int, kind: int) -> None:
    if kind == 0:
        for k in range(line.size):
            line[k] = filtered[k]
    elif kind == 2:
        for k in range(line.size):
            line[k] = np.uint8(filtered[k] + above[k])
    else:
        for k in range(line.size):
            left = np.int32(line[k - step]) if k >= step else np.int32(0)
            prediction = left if kind == 1 else (left + np.int32(above[k])) >> 1
            line[k] = np.uint8(np.int32(filtered[k]) + prediction)


@jit
def undo_filters(filtered: np.ndarray, lines: np.ndarray, step: int) -> bool:
    """Write the bytes of every row; return whether all rows name a valid filter.

    Args:
        filtered: uint8 [row, 1 + byte]: the number of the filter, then the filtered bytes.
        lines: uint8 [row, byte]; output.
        step: Bytes of a pixel.

    Source: PNG specification (third edition), 9 "Filtering"
    """
    n_rows, n_bytes = lines.shape
    zeros = np.zeros(n_bytes, dtype=np.uint8)
    row = 0
    while row < n_rows:
        kind = filtered[row, 0]
        above = lines[row - 1] if row > 0 else zeros
        if kind > 4:
            return False
        if kind != 4:
            _undo_others(lines[row], above, filtered[row, 1:], step, kind)
        elif step == 1 and row + 1 < n_rows and filtered[row + 1, 0] == 4:
            _undo_two_paeth(lines[row], lines[row + 1], above, filtered[row, 1:], filtered[row + 1, 1:])
            row += 1
        else:
            _undo_paeth(lines[row], above, filtered[row, 1:], step)
        row += 1
    return True
