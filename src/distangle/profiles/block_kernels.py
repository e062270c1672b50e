"""Count draws of a block permutation in compiled loops."""

import numpy as np

from distangle.images.numba_compiler import jit


@jit
def count_reaching(
    draws: np.ndarray, queries: np.ndarray, nearer: np.ndarray, least: float, enough: int
) -> tuple[int, int]:
    """Count draws that reach a value, as `block_permutation.count_reaching` does.

    Positives are counted between two rows of the block of the query, so that no draw is sorted.
    """
    n_others = draws.shape[1] - 1
    n_gaps = (np.int64(nearer.max()) >> 1) + 2
    counts = np.zeros(2 * n_gaps, dtype=np.int64)
    sums = np.zeros((n_gaps, n_others + 1))  # of k / (k + negatives) over the first positives k
    for negatives in range(n_gaps):
        for count in range(1, n_others + 1):
            sums[negatives, count] = sums[negatives, count - 1] + count / (count + negatives)
    reached = 0
    for number in range(draws.shape[0]):
        draw = draws[number]
        total, n_left = 0.0, len(queries)
        for place in queries:
            codes = nearer[draw[place]]
            for other in range(place):
                counts[codes[draw[other]]] += 1
            for other in range(place + 1, n_others + 1):
                counts[codes[draw[other]]] += 1
            found, before, gap, precision = 0, 0, 0, 0.0
            while found < n_others:
                own = counts[gap + 1]
                more = found + counts[gap] + own
                counts[gap] = 0
                counts[gap + 1] = 0
                precision += sums[before, more] - sums[before, found]
                found = more
                before += 1 - own
                gap += 2
            total += precision / n_others
            n_left -= 1
            if total + n_left < least:
                break
        if total + n_left >= least:
            reached += 1
            if reached == enough:
                return reached, number + 1
    return reached, draws.shape[0]
