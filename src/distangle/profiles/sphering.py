"""Whiten profiles by the negative controls; choose the floor on held-out ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.errors import ProfileError
from distangle.results.profiles import PLATE, Profiles
from distangle.screen.roles import NEGATIVE

Kind = Literal["zca", "zca-cor", "pca"]
EPSILONS: tuple[float, ...] = tuple(float(value) for value in np.logspace(-5, 3, 25))
"""Candidates of `choose_epsilon`, in the unit of the singular values."""
_MAX_FOLDS = 5


CONTROL_SIDE = "Metadata_Control_Side"
"""Column that gives a well to fit on to the `alignment` or to the `test`, if it is there."""


def control_mask(profiles: Profiles) -> Bool[np.ndarray, " row"]:
    """Return which rows are negative controls.

    Raises:
        ProfileError: The table has no roles.
    """
    if "Metadata_Role" not in profiles.table:
        raise ProfileError(
            "The profiles have no column 'Metadata_Role', but this needs negative controls: "
            f"expected {' or '.join(NEGATIVE)}. Add the roles of the wells."
        )
    return profiles.table["Metadata_Role"].isin(list(NEGATIVE)).to_numpy(dtype=bool)


def reference_mask(profiles: Profiles) -> Bool[np.ndarray, " row"]:
    """Return which wells the steps of the controls may be fitted on.

    These are all negative controls, or the wells that `control_sides.part_controls` gave to the alignment.

    Raises:
        ProfileError: The table has no roles.
    """
    if CONTROL_SIDE in profiles.table:
        return (profiles.table[CONTROL_SIDE] == "alignment").to_numpy(dtype=bool)
    return control_mask(profiles)


def reference_words(profiles: Profiles) -> str:
    """Return what the wells of `reference_mask` are called."""
    return "named wells" if (reference_mask(profiles) & ~control_mask(profiles)).any() else "negative controls"


@dataclass(frozen=True, kw_only=True)
class Sphering:
    """A linear map that gives the rows it was fitted on the identity as covariance.

    Attributes:
        kind: `pca` leaves the principal axes as axes, `zca` turns back to the features, `zca-cor` divides every feature
            by its standard deviation first.
        epsilon: Addend of the singular values.
        mean: Mean of the fitted rows, [feature].
        scale: Divisor of every feature, [feature]; 0 where the fitted rows are constant: the result is 0 there.
        axes: Principal axes in columns, [feature, axis].
        sizes: Singular values of the centered rows, [axis]; those beyond the rank repeat the last one within it.
        rank: Number of axes along which the fitted rows vary.
        n_rows: Number of fitted rows.
    """

    kind: Kind
    epsilon: float
    mean: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    axes: Float[np.ndarray, "feature axis"]
    sizes: Float[np.ndarray, " axis"]
    rank: int
    n_rows: int

    def gains(self, epsilon: float) -> Float[np.ndarray, " axis"]:
        """Return the factor of every axis for an addend of the singular values."""
        return np.asarray(np.sqrt(self.n_rows - 1) / (self.sizes + epsilon), dtype=np.float64)

    def coordinates(self, values: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row axis"]:
        """Return the centered values along the principal axes, before the division."""
        weight = np.divide(1.0, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)
        return np.asarray(((values - self.mean) * weight) @ self.axes, dtype=np.float64)

    def apply(self, values: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row axis"]:
        """Return the values after the map."""
        white = self.coordinates(values) * self.gains(self.epsilon)
        return white if self.kind == "pca" else np.asarray(white @ self.axes.T, dtype=np.float64)


def fit_sphering(values: Float[np.ndarray, "row feature"], kind: Kind, *, epsilon: float) -> Sphering:
    """Fit a sphering with the factors sqrt(n - 1) / (S + epsilon).

    Where the rows vary along fewer axes than there are features, S is continued with its last value above rounding, so
    that no axis without evidence is amplified more than one with evidence.

    Args:
        values: The rows to whiten, [row, feature].
        kind: Form of the map.
        epsilon: Addend of the singular values, in their unit.

    Raises:
        ProfileError: There are fewer than 2 rows, all rows are equal, or epsilon is negative.

    Source:
        Kessy, Lewin and Strimmer 2018, "Optimal whitening and decorrelation", The American Statistician 72, 309.
    """
    n_rows = len(values)
    if n_rows < 2:
        raise ProfileError(f"Sphering has {n_rows} negative controls. Expected at least 2; leave this step out.")
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ProfileError(f"The epsilon of sphering is {epsilon}. Expected a finite number of at least 0.")
    values = np.asarray(values, dtype=np.float64)
    mean = values.mean(axis=0)
    spread = spread_of(values)
    scale = spread if kind == "zca-cor" else (spread > 0).astype(np.float64)
    weight = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    _, sizes, axes = np.linalg.svd((values - mean) * weight, full_matrices=True)
    rounding = np.finfo(np.float32).eps * np.linalg.norm(values * weight)
    rank = int((sizes > rounding).sum())
    if rank == 0:
        raise ProfileError(
            f"All {n_rows} negative controls have equal profiles. Expected controls that vary; leave sphering out."
        )
    n_features = values.shape[1]
    padded = np.full(n_features, sizes[rank - 1])
    padded[:rank] = sizes[:rank]
    return Sphering(
        kind=kind,
        epsilon=float(epsilon),
        mean=mean,
        scale=scale,
        axes=axes.T,
        sizes=padded,
        rank=rank,
        n_rows=n_rows,
    )


def spread_of(values: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, " feature"]:
    """Return the standard deviation (n - 1) of features; 0 where values are equal."""
    return np.where(np.ptp(values, axis=0) == 0, 0.0, values.std(axis=0, ddof=1))


@dataclass(frozen=True, kw_only=True)
class EpsilonChoice:
    """An epsilon of sphering with the evidence for it.

    Attributes:
        epsilon: The candidate with the highest log-likelihood.
        candidates: All candidates.
        log_likelihoods: Mean over held-out controls and features, up to a constant that all candidates share.
        whitening_errors: Mean absolute difference of the second moments of held-out controls from the identity.
        held_out: What was held out: `experiment`, or `plate` where there is one experiment.
        n_folds: Number of fits.
        n_controls: Number of controls that were held out once each.
    """

    epsilon: float
    candidates: tuple[float, ...]
    log_likelihoods: tuple[float, ...]
    whitening_errors: tuple[float, ...]
    held_out: Literal["experiment", "plate"]
    n_folds: int
    n_controls: int


def choose_epsilon(
    profiles: Profiles, kind: Kind = "zca-cor", *, candidates: Sequence[float] = EPSILONS
) -> EpsilonChoice:
    """Choose the epsilon of the greatest likelihood on held-out controls.

    Sphering is a Gaussian model of the controls. It is fitted on the controls of some experiments, and the others are
    scored by its density; no score of retrieval takes part, so such a score stays an honest measure of the result.

    Args:
        profiles: Profiles after the steps before sphering.
        kind: Form of the map.
        candidates: Values to compare, in the unit of the singular values of all controls.

    Raises:
        ProfileError: All controls are of one plate, there are too few of them, or there is no candidate.
    """
    if not candidates or min(candidates) <= 0:
        raise ProfileError(f"The candidates of epsilon are {list(candidates)}. Expected numbers above 0.")
    controls = profiles.select(reference_mask(profiles))
    held_out, batches = _batches(controls)
    n_folds = min(_MAX_FOLDS, int(batches.max()) + 1)
    values = np.asarray(controls.features, dtype=np.float64)
    likelihoods, errors = np.zeros(len(candidates)), np.zeros(len(candidates))
    for fold in range(n_folds):
        out = batches % n_folds == fold
        sphering = fit_sphering(values[~out], kind, epsilon=0.0)
        along = sphering.coordinates(values[out])
        # Singular values grow with the root of the number of rows; an equal share keeps the candidates comparable.
        share = np.sqrt((sphering.n_rows - 1) / (len(values) - 1))
        for number, candidate in enumerate(candidates):
            gains = sphering.gains(candidate * share)
            white = along * gains
            likelihoods[number] += len(white) * np.log(gains).mean() - 0.5 * np.square(white).mean(axis=1).sum()
            moments = white.T @ white / len(white)
            errors[number] += len(white) * np.abs(moments - np.eye(len(moments))).mean()
    return EpsilonChoice(
        epsilon=float(candidates[int(np.argmax(likelihoods))]),
        candidates=tuple(map(float, candidates)),
        log_likelihoods=tuple(map(float, likelihoods / len(values))),
        whitening_errors=tuple(map(float, errors / len(values))),
        held_out=held_out,
        n_folds=n_folds,
        n_controls=len(values),
    )


def _batches(controls: Profiles) -> tuple[Literal["experiment", "plate"], Int[np.ndarray, " row"]]:
    """Return the unit to hold out and the number of every control's unit."""
    experiments = controls.codes(PLATE[0])
    if len(np.unique(experiments)) > 1:
        return "experiment", experiments
    plates = controls.codes(PLATE)
    if len(np.unique(plates)) < 2:
        raise ProfileError(
            f"The {len(controls)} negative controls are of {len(np.unique(plates))} plate. "
            "Expected 2 plates or more to choose epsilon on held-out controls; give epsilon as a number."
        )
    return "plate", plates
