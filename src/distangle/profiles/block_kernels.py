"""Count draws of a block permutation in compiled loops."""

import numpy as np

from distangle.images.numba_compiler import jit


@jit
def count_reaching(
    draws: np.ndarray, queries: np.ndarray, nearer: np.ndarray, best: np.ndarray, target: tuple[float, int]
) -> tuple[int, int]:
    """Count draws that reach a value, as `block_permutation.count_reaching` does.

    Positives are counted between two rows of the block of the query, so that no draw is sorted.
    """
    least, enough = target
    n_others = draws.shape[1] - 1
    n_gaps = (np.int64(nearer.max()) >> 1) + 2
    # Two counters of every gap: an addition to one need not wait for that before it.
    even, odd = np.zeros(2 * n_gaps, dtype=np.int64), np.zeros(2 * n_gaps, dtype=np.int64)
    sums = np.zeros((n_gaps, n_others + 1))  # of k / (k + negatives) over the first positives k
    for negatives in range(n_gaps):
        for count in range(1, n_others + 1):
            sums[negatives, count] = sums[negatives, count - 1] + count / (count + negatives)
    reached = 0
    for number in range(draws.shape[0]):
        draw = draws[number]
        total, left = 0.0, 0.0
        for place in queries:
            left += best[draw[place]]
        for place in queries:
            query = draw[place]
            codes = nearer[query]
            for other in range(0, n_others, 2):
                even[codes[draw[other]]] += 1
                odd[codes[draw[other + 1]]] += 1
            if n_others % 2 == 0:
                even[codes[draw[n_others]]] += 1
            even[codes[query]] -= 1
            n_ranked, before, gap, precision = 0, 0, 0, 0.0
            while n_ranked < n_others:
                own = even[gap + 1] + odd[gap + 1]
                more = n_ranked + even[gap] + odd[gap] + own
                even[gap], even[gap + 1], odd[gap], odd[gap + 1] = 0, 0, 0, 0
                precision += sums[before, more] - sums[before, n_ranked]
                n_ranked = more
                before += 1 - own
                gap += 2
            code = codes[query]
            even[code], odd[code] = 0, 0
            total += precision / n_others
            left -= best[query]
            if total + left < least:
                break
        if total + left >= least:
            reached += 1
            if reached == enough:
                return reached, number + 1
    return reached, draws.shape[0]
