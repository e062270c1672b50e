"""Project vectors by PCA, t-SNE or UMAP, with trustworthiness."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from distangle.errors import ExplanationError
from distangle.profiles.geometry import Vectors, unit

Method = Literal["pca", "tsne", "umap"]
Points = Float[np.ndarray, "vector 2"]
PACKAGES = {"tsne": ("t-SNE", "openTSNE"), "umap": ("UMAP", "umap")}
_MANY = 2_000  # vectors from which t-SNE takes more steps, with the forces of distant points summed over larger cells
MIN_VECTORS = 8  # vectors that t-SNE and UMAP need for meaningful neighborhoods


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Method and parameters of one projection.

    Attributes:
        method: Projection method.
        seed: Seed of the initial points; unused by PCA.
        neighbors: Perplexity of t-SNE, `n_neighbors` of UMAP; 0 for PCA.
    """

    method: Method
    seed: int = 0
    neighbors: int = 0

    @property
    def name(self) -> str:
        """Name of the projection, such as `pca` or `tsne_perplexity30_seed0`."""
        if self.method == "pca":
            return "pca"
        quantity = "perplexity" if self.method == "tsne" else "neighbors"
        return f"{self.method}_{quantity}{self.neighbors}_seed{self.seed}"


def is_installed(method: Method) -> bool:
    """Return whether the package that a method needs is installed."""
    return method == "pca" or importlib.util.find_spec(PACKAGES[method][1]) is not None


def projections(
    n_vectors: int, *, methods: Sequence[Method], seeds: Sequence[int], perplexities: Sequence[int], neighbors: int
) -> Iterator[Projection]:
    """Yield the projections of n vectors.

    Perplexities that are too large for n become the largest possible one.

    Args:
        n_vectors: Number of vectors. Below `MIN_VECTORS`, only PCA is possible.
        methods: Methods in this order.
        seeds: Seeds of t-SNE and UMAP.
        perplexities: Perplexities of t-SNE; at most a third of the other vectors.
        neighbors: Neighbors of UMAP; at most all other vectors.
    """
    for method in methods:
        if method == "pca":
            yield Projection(method="pca")
        elif n_vectors >= MIN_VECTORS:
            sizes = perplexities if method == "tsne" else [neighbors]
            largest = (n_vectors - 1) // 3 if method == "tsne" else n_vectors - 1
            for size in dict.fromkeys(min(size, largest) for size in sizes):
                yield from (Projection(method=method, seed=seed, neighbors=size) for seed in seeds)


def project(vectors: Vectors, layout: Projection) -> Points:
    """Project vectors to a plane by their directions, not their lengths.

    t-SNE starts from random points, as in van der Maaten & Hinton 2008, so that several seeds show its variation. With
    one thread and a fixed seed, equal vectors give equal points.

    Args:
        vectors: At least two vectors, and `MIN_VECTORS` for all methods but PCA.
        layout: Projection from `projections`.

    Raises:
        ExplanationError: The package of the method is not installed.
    """
    if not is_installed(layout.method):
        name, package = PACKAGES[layout.method]
        raise ExplanationError(
            f"{name} needs {package}, which is not installed: pip install '.[maps]'. PCA needs nothing."
        )
    # For vectors of length 1 the Euclidean distance has the order of the angle.
    directions = unit(vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the packages about tensorflow and threads
        points = _METHODS[layout.method](directions, layout)
    return np.ascontiguousarray(points, dtype=np.float64)


def trustworthiness(vectors: Vectors, points: Points, *, k: int) -> float | None:
    """Return how well neighbors in the projection are neighbors in full space.

    It is 1 for a perfect projection and about 0.5 by chance.

    Source: Venna & Kaski 2001, as scikit-learn has it.

    Args:
        vectors: Vectors in full space; compared by angle.
        points: Projected points.
        k: Maximum number of neighbors. The result is None if not even 1 is possible.
    """
    from sklearn.manifold import trustworthiness as measure

    k = min(k, (len(vectors) - 1) // 2)
    return float(measure(unit(vectors), points, n_neighbors=k)) if k >= 1 else None


def _pca(directions: Vectors, layout: Projection) -> Any:
    from sklearn.decomposition import PCA

    points = PCA(n_components=min(2, *directions.shape), svd_solver="full").fit_transform(directions)
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _tsne(directions: Vectors, layout: Projection) -> Any:
    from openTSNE import TSNE

    # Exact neighbors: the approximate search compiles for 10 s and saves no time for some thousand vectors.
    is_large = len(directions) >= _MANY
    tsne = TSNE(
        perplexity=layout.neighbors,
        initialization="random",
        neighbors="exact",
        negative_gradient_method="bh",
        theta=0.8 if is_large else 0.5,
        n_iter=750 if is_large else 500,
        random_state=layout.seed,
        n_jobs=1,
    )
    return np.asarray(tsne.fit(directions))


def _umap(directions: Vectors, layout: Projection) -> Any:
    from umap import UMAP

    umap = UMAP(n_neighbors=layout.neighbors, init="random", random_state=layout.seed, n_jobs=1)
    return umap.fit_transform(directions)


_METHODS = {"pca": _pca, "tsne": _tsne, "umap": _umap}
