"""Mix batches by Harmony: soft clusters of all batches, one shift for each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from distangle.core.random import rng_for
from distangle.errors import ProfileError

Values = Float[np.ndarray, "row feature"]
Shares = Float[np.ndarray, "row cluster"]
Counts = Float[np.ndarray, "batch cluster"]
_ROWS_PER_CLUSTER = 30
_MAX_CLUSTERS = 100
_N_BLOCKS = 20  # parts of the rows that are assigned one after the other
_MAX_START_ROWS = 20_000  # rows that the first centroids use


@dataclass(frozen=True, kw_only=True)
class HarmonySettings:
    """Settings of Harmony, with the names of the paper in brackets.

    Attributes:
        n_clusters: Number of clusters (K); None takes one per 30 rows, 100 at most.
        theta: Weight of the penalty on clusters of few batches; 0 for none.
        sigma: Width of the soft clusters; small makes them hard.
        ridge: Penalty of the shifts (lambda), in rows; a batch with few rows in a cluster moves less there.
        max_iterations: Maximum number of corrections.
        max_rounds: Maximum number of assignments of all rows before each correction.
        tolerance: Relative fall of the objective below which corrections end; a tenth of it ends the rounds.
        seed: Seed of the first centroids and of the order of the rows.
    """

    n_clusters: int | None = None
    theta: float = 2.0
    sigma: float = 0.1
    ridge: float = 1.0
    max_iterations: int = 10
    max_rounds: int = 20
    tolerance: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("n_clusters", 1),
            ("max_iterations", 1),
            ("max_rounds", 1),
            ("theta", 0),
            ("tolerance", 0),
        ):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= least):
                raise ProfileError(f"The {name} of Harmony is {value}. Expected a number of at least {least}.")
        for name in ("sigma", "ridge"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ProfileError(f"The {name} of Harmony is {value}. Expected a number above 0.")


@dataclass(frozen=True, kw_only=True)
class Harmony:
    """Clusters and shifts of a fit.

    Attributes:
        settings: Settings of the fit, with the number of clusters that it used.
        centroids: Directions of the clusters after the correction, [cluster, feature].
        origins: Place of every cluster without batch, [cluster, feature].
        shifts: What is subtracted from a row of a batch that is all in a cluster, [batch, cluster, feature].
        sizes: Rows of every batch in every cluster, [batch, cluster].
        shares: Shares of the rows of the fit in the clusters, [row, cluster].
        objectives: Objective at the end of every iteration.
        converged: Whether the objective fell by less than the tolerance in the last iteration.
    """

    settings: HarmonySettings
    centroids: Float[np.ndarray, "cluster feature"]
    origins: Float[np.ndarray, "cluster feature"]
    shifts: Float[np.ndarray, "batch cluster feature"]
    sizes: Counts
    shares: Shares
    objectives: tuple[float, ...]
    converged: bool

    def correct(self, values: Values, batches: Int[np.ndarray, " row"], shares: Shares | None = None) -> Values:
        """Subtract the shifts of batches of the fit.

        Args:
            values: Rows of these batches.
            batches: Number of every row's batch in the fit.
            shares: Shares of the rows in the clusters; `Harmony.shares` gives the result of the fit. None assigns the
                rows to the centroids of the fit.
        """
        result = np.array(values, dtype=np.float64)
        for batch in np.unique(batches):
            rows = batches == batch
            own = values[rows]
            parts = self._shares_of(own, int(batch)) if shares is None else shares[rows]
            result[rows] -= parts @ self.shifts[batch]
        return result

    def _shares_of(self, values: Values, batch: int) -> Shares:
        """Return shares by the sizes of the fit, after the shifts they give."""
        # The centroids are directions after the correction, so the rows come there step by step.
        weights = _diversity(_expected(self.sizes), self.sizes, self.settings.theta)[batch]
        moved = np.asarray(values, dtype=np.float64)
        shares = np.zeros((len(values), len(self.centroids)))
        for _ in range(self.settings.max_iterations):
            shares = _normal(_kernel(_unit(moved), self.centroids, self.settings.sigma)[0] * weights)
            moved = values - shares @ self.shifts[batch]
        return shares

    def extend(self, values: Values) -> Values:
        """Correct the rows of one new batch with the clusters of the fit.

        The rows are assigned to the centroids of the fit, and the batch gets its own shifts; nothing of the fit moves.

        Departs: the paper has no new batches. This is its iteration with the centroids, the origins and the share of
        every cluster held as they are.

        Args:
            values: All rows of the batch.
        """
        settings, n_rows = self.settings, len(values)
        wide = np.asarray(values, dtype=np.float64)
        expected = n_rows * self.sizes.sum(axis=0, keepdims=True) / self.sizes.sum()
        codes = np.zeros(n_rows, dtype=np.int64)
        result, last = wide, np.inf
        shares = _normal(_kernel(_unit(wide), self.centroids, settings.sigma)[0])
        for iteration in range(settings.max_iterations):
            kernel, least = _kernel(_unit(result), self.centroids, settings.sigma)
            for turn in range(settings.max_rounds):
                rng = rng_for(settings.seed, "harmony, new batch", iteration, turn)
                sizes = _assign(shares, kernel, codes, theta=settings.theta, rng=rng, expected=expected)
            shift, _ = ridge_shifts(_sums(wide, shares, [slice(0, n_rows)]), sizes, settings.ridge, self.origins)
            result = wide - shares @ shift[0]
            objective = least + _objective(shares, kernel, sizes, expected, settings)
            if abs(last - objective) <= settings.tolerance * abs(objective):
                break
            last = objective
        return result


def fit_harmony(
    values: Values, batches: Int[np.ndarray, " row"], settings: HarmonySettings = HarmonySettings()
) -> Harmony:
    """Fit soft clusters in which batches mix, and the shifts of the batches.

    Rows are assigned to clusters by the cosine, with a penalty on clusters where a batch has more rows than its share.
    In every cluster, a ridge regression on the batch gives the shift of each batch; the rows lose the mean of these by
    their shares in the clusters. Both repeat on the result until the objective stays.

    Departs: sizes of clusters are counted plus 1 in the penalty, so that an empty one divides by no 0. The first
    centroids are those of k-means on 20,000 random rows, where there are more.

    Args:
        values: Profiles, [row, feature].
        batches: Number of every row's batch, from 0.
        settings: Settings of the fit.

    Raises:
        ProfileError: There is one batch, a batch has one row, or values are not finite.

    Source:
        Korsunsky et al. 2019, "Fast, sensitive and accurate integration of single-cell data with Harmony", Nature
        Methods 16, 1289: the objective, its update of the assignments and the correction by a mixture of experts.
    """
    values = _checked(values, batches)
    n_rows = len(values)
    n_clusters = settings.n_clusters or min(max(1, round(n_rows / _ROWS_PER_CLUSTER)), _MAX_CLUSTERS)
    settings = replace(settings, n_clusters=min(n_clusters, n_rows))
    # Rows of a batch side by side: sums over a batch are then products of matrices.
    order = np.argsort(batches, kind="stable")
    codes, plain = batches[order], values[order]
    ends = np.cumsum(np.bincount(codes))
    slices = [slice(start, end) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]
    directions = _unit(plain)
    centroids = _start(directions, settings)
    shares = _normal(_kernel(directions, centroids, settings.sigma)[0])
    objectives: list[float] = []
    converged = False
    for iteration in range(settings.max_iterations):
        last = np.inf
        for turn in range(settings.max_rounds):
            if iteration or turn:
                centroids = _unit(shares.T @ directions)
            kernel, least = _kernel(directions, centroids, settings.sigma)
            rng = rng_for(settings.seed, "harmony", iteration, turn)
            sizes = _assign(shares, kernel, codes, theta=settings.theta, rng=rng)
            objective = least + _objective(shares, kernel, sizes, _expected(sizes), settings)
            if abs(last - objective) <= 0.1 * settings.tolerance * abs(objective):
                break
            last = objective
        shifts, origins = ridge_shifts(_sums(plain, shares, slices), sizes, settings.ridge)
        for rows, shift in zip(slices, shifts, strict=True):
            directions[rows] = plain[rows] - shares[rows] @ shift.astype(plain.dtype)
        directions = _unit(directions)
        objectives.append(objective)
        if iteration and abs(objectives[-2] - objective) <= settings.tolerance * abs(objective):
            converged = True
            break
    unsorted = np.empty_like(shares)
    unsorted[order] = shares
    return Harmony(
        settings=settings,
        centroids=_unit(shares.T @ directions),
        origins=origins,
        shifts=shifts,
        sizes=sizes,
        shares=unsorted,
        objectives=tuple(objectives),
        converged=converged,
    )


def ridge_shifts(
    sums: Float[np.ndarray, "batch cluster feature"],
    sizes: Counts,
    ridge: float,
    origins: Float[np.ndarray, "cluster feature"] | None = None,
) -> tuple[Float[np.ndarray, "batch cluster feature"], Float[np.ndarray, "cluster feature"]]:
    """Return the ridge regression on batches in every cluster, and its intercepts.

    The regression of the values on an intercept w_0 without penalty and one indicator per batch with the penalty
    lambda, weighted by the shares of a cluster, is here in closed form: with the size n_b and the mean m_b of batch b
    in the cluster, w_0 is the mean of m_b weighted by n_b / (n_b + lambda), and w_b = (m_b - w_0) n_b / (n_b + lambda).

    Source:
        Korsunsky et al. 2019, the mixture of experts in the online methods: W = (Phi R Phi^T + lambda)^-1 Phi R Z^T.

    Args:
        sums: Sums of values times shares.
        sizes: Sums of shares.
        ridge: Penalty, in rows.
        origins: Intercepts that are known; None fits them.

    Returns:
        The shifts w_b, [batch, cluster, feature], and the intercepts w_0, [cluster, feature].
    """
    damped = sums / (sizes + ridge)[:, :, None]
    weights = sizes / (sizes + ridge)
    if origins is None:
        total = weights.sum(axis=0)
        origins = damped.sum(axis=0) / np.where(total > 0, total, 1)[:, None]
    return damped - weights[:, :, None] * origins, origins


def _checked(values: Values, batches: Int[np.ndarray, " row"]) -> Values:
    """Return the values as float32 around 0, or refuse."""
    counts = np.bincount(batches) if len(batches) else np.zeros(0, dtype=np.int64)
    if len(counts) < 2:
        raise ProfileError(
            f"Harmony has {len(counts)} batch(es), so there is nothing to mix. Expected 2 or more; leave this step out."
        )
    if counts.min() < 2:
        few = int(counts.argmin())
        raise ProfileError(f"Batch {few} has {counts[few]} row(s). Expected at least 2 in each; leave this batch out.")
    if not np.isfinite(values).all():
        raise ProfileError("The values have numbers that are not finite. Expected numbers; leave these features out.")
    return np.asarray(values, dtype=np.float32)


def _start(directions: Values, settings: HarmonySettings) -> Float[np.ndarray, "cluster feature"]:
    """Return the first centroids: those of k-means, on the sphere."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rng = rng_for(settings.seed, "harmony, start")
    if len(directions) > _MAX_START_ROWS:
        directions = directions[np.sort(rng.choice(len(directions), _MAX_START_ROWS, replace=False))]
    means = KMeans(settings.n_clusters, n_init=1, max_iter=25, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters: some are equal
        return _unit(means.fit(directions).cluster_centers_)


def _unit(values: np.ndarray) -> np.ndarray:
    """Return rows of length 1 in their precision; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    lengths[lengths == 0] = 1
    return np.asarray(values / lengths[:, None])


def _kernel(directions: Values, centroids: np.ndarray, sigma: float) -> tuple[Shares, float]:
    """Return exp(-distance / sigma) over its maximum in the row; sum of least ones.

    The distance is 2 (1 - cosine). The second result is the sum over rows of the distance to the nearest centroid.
    """
    kernel = directions @ centroids.T.astype(directions.dtype)
    largest = kernel.max(axis=1, keepdims=True)
    kernel -= largest
    kernel *= 2 / sigma
    np.maximum(kernel, -80, out=kernel)  # exp(-80) is a normal number of float32
    return np.exp(kernel, out=kernel), float(2 * np.sum(1 - largest, dtype=np.float64))


def _normal(shares: Shares) -> Shares:
    """Divide every row by its sum."""
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _expected(sizes: Counts) -> Counts:
    """Return the sizes if every cluster had all batches by their numbers of rows."""
    return np.asarray(np.outer(sizes.sum(axis=1), sizes.sum(axis=0)) / sizes.sum())


def _diversity(expected: np.ndarray, sizes: np.ndarray, theta: float) -> np.ndarray:
    return np.asarray(((expected + 1) / (sizes + 1)) ** theta)


def _blocks(n_rows: int, rng: np.random.Generator) -> Iterator[Int[np.ndarray, " row"]]:
    yield from np.array_split(rng.permutation(n_rows), min(_N_BLOCKS, n_rows))


def _assign(
    shares: Shares,
    kernel: Shares,
    codes: Int[np.ndarray, " row"],
    *,
    theta: float,
    rng: np.random.Generator,
    expected: Counts | None = None,
) -> Counts:
    """Assign all rows block by block, in place; return the sizes of the clusters.

    Args:
        shares: Shares before, and after.
        kernel: Closeness of rows and centroids.
        codes: Batch of every row, in ascending order.
        theta: Weight of the penalty.
        rng: Order of the rows.
        expected: Expected sizes; None makes them of the shares of all rows.
    """
    n_batches = int(codes.max()) + 1
    ones = np.eye(n_batches, dtype=shares.dtype)
    sizes = np.add.reduceat(shares, np.searchsorted(codes, np.arange(n_batches)), axis=0, dtype=np.float64)
    n_rows = np.bincount(codes)[:, None] / len(codes)
    for rows in _blocks(len(codes), rng):
        own = codes[rows]
        members = ones[own]
        # A block sees the clusters without its own rows.
        sizes -= members.T @ shares[rows]
        np.maximum(sizes, 0, out=sizes)  # rounding
        target = n_rows * sizes.sum(axis=0) if expected is None else expected
        weights = _diversity(target, sizes, theta).astype(shares.dtype)
        shares[rows] = part = _normal(kernel[rows] * weights[own])
        sizes += members.T @ part
    return np.asarray(sizes)


def _objective(shares: Shares, kernel: Shares, sizes: Counts, expected: Counts, settings: HarmonySettings) -> float:
    """Return distance, entropy and diversity, without the least distances."""
    tiny = np.finfo(shares.dtype).tiny
    fit = np.sum(shares * (np.log(np.maximum(shares, tiny)) - np.log(kernel)), dtype=np.float64)
    return float(settings.sigma * (fit - np.sum(sizes * np.log(_diversity(expected, sizes, settings.theta)))))


def _sums(values: Values, shares: Shares, slices: list[slice]) -> Float[np.ndarray, "batch cluster feature"]:
    """Return the sums of values times shares, by batch and cluster."""
    return np.stack([(shares[rows].T @ values[rows]).astype(np.float64) for rows in slices])
