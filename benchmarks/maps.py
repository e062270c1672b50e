"""t-SNE of 10,000 profiles against scikit-learn's: CPU time, and nearest neighbors that stay neighbors in the plane.

A number as argument takes other rows than 10,000: `python benchmarks/maps.py 2500`.
"""

import measure  # before numpy: it holds the threads at one

# isort: split
import sys
from collections.abc import Callable

import numpy as np

from distangle.profiles.geometry import unit
from distangle.profiles.map import map_profiles

ROWS, FEATURES, PERPLEXITY, NEIGHBORS = 10_000, 1_024, 30, 15


def profiles(rows: int) -> np.ndarray:
    """Groups of ten replicates, with variation along 64 axes."""
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(rows // 10 + 1, FEATURES))[np.arange(rows) % (rows // 10 + 1)]
    return (3 * groups + 0.1 * rng.normal(size=(rows, 64)) @ rng.normal(size=(64, FEATURES))).astype(np.float32)


def prepare(kind: str, vectors: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a map of the profiles by ours or the peer."""
    if kind == "ours":

        def ours() -> np.ndarray:
            result = map_profiles(vectors, neighbors=PERPLEXITY)
            return np.stack([result.x, result.y], axis=1)

        return ours
    from sklearn.manifold import TSNE

    directions = unit(vectors).astype(np.float32)
    return lambda: TSNE(perplexity=PERPLEXITY, init="random", random_state=0, n_jobs=1).fit_transform(directions)


def nearest(values: np.ndarray) -> np.ndarray:
    """Return the rows of the nearest others of every row."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=NEIGHBORS).fit(values).kneighbors(return_distance=False)


def main(rows: int) -> int:
    """Print the times and the shares of neighbors that stay."""
    vectors = profiles(rows)
    map_profiles(vectors[:100])  # imports and compilation
    calls, points = {kind: prepare(kind, vectors) for kind in ("scikit-learn", "ours")}, {}

    def keep(kind: str) -> Callable[[], None]:
        return lambda: points.update({kind: calls[kind]()})

    times = measure.time_variants({kind: keep(kind) for kind in calls}, rounds=1, warmups=0)
    measure.show_times(times)
    full, full_shares = nearest(unit(vectors)), {}
    for kind, places in points.items():
        n_common = [len(np.intersect1d(a, b)) for a, b in zip(full, nearest(places), strict=True)]
        full_shares[kind] = float(np.mean(n_common)) / NEIGHBORS
        print(f"{kind}: {full_shares[kind]:.3f} of {NEIGHBORS} neighbors stay")
    verdicts = [
        measure.verdict(
            "t-SNE, scikit-learn / ours", times["scikit-learn"].median / times["ours"].median, at_least=1.3
        ),
        measure.verdict(
            "neighbors kept, ours / scikit-learn", full_shares["ours"] / full_shares["scikit-learn"], at_least=0.98
        ),
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
