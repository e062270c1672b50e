"""Align the profiles of plates and experiments by a chain of steps with names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from distangle.errors import ProfileError
from distangle.profiles.alignment_checks import (
    GROUP_COLUMNS,
    Group,
    check_counts,
    check_names,
    check_perturbations,
    check_positions,
    check_profiles,
    group_names,
    listing,
)
from distangle.profiles.harmony_step import fit_harmony_step
from distangle.profiles.sphering import Kind, Sphering, choose_epsilon, fit_sphering, reference_mask, spread_of
from distangle.profiles.tvn import TypicalVariation, fit_typical_variation
from distangle.results.profiles import Profiles

Wells = Literal["all", "controls"]
Operation = Literal["center", "scale", "mad"]
Values = Float[np.ndarray, "row feature"]
_MAD = 1.4826  # median absolute deviation to standard deviation of a normal distribution
_ROUNDING = 1e-12  # a difference below this share of the value is rounding


@runtime_checkable
class Step(Protocol):
    """A fitted step.

    Attributes:
        name: Name in the chain.
    """

    @property
    def name(self) -> str:
        """Name in the chain."""

    def apply(self, profiles: Profiles) -> tuple[Profiles, dict[str, Any]]:
        """Return the profiles after this step, and its entry of the provenance."""


@dataclass(frozen=True, kw_only=True)
class GroupStep:
    """Center or scale every plate or experiment by its own wells.

    Attributes:
        name: Name in the chain.
        operation: `center` subtracts the mean, `scale` divides by the standard deviation (n - 1), `mad` subtracts the
            median and divides by 1.4826 times the median absolute deviation.
        group: Rows that are aligned together.
        wells: Rows that the estimate uses.
    """

    name: str
    operation: Operation
    group: Group
    wells: Wells

    def apply(self, profiles: Profiles) -> tuple[Profiles, dict[str, Any]]:
        """Return the profiles after this step, and its entry of the provenance.

        Raises:
            ProfileError: A group has too few wells, or a single perturbation that centering would erase.
        """
        codes = profiles.codes(GROUP_COLUMNS[self.group])
        controls = reference_mask(profiles) if self.wells == "controls" else np.ones(len(profiles), dtype=bool)
        names = group_names(profiles, self.group, codes)
        least = 1 if self.operation == "center" else 2
        check_counts(
            self.name, names, np.bincount(codes[controls], minlength=len(names)), least=least, wells=self.wells
        )
        if self.wells == "all" and self.operation != "scale":
            check_perturbations(self.name, profiles, codes, names)
        values = np.asarray(profiles.features, dtype=np.float64)
        result, counts = np.empty_like(values), {}
        constant = np.zeros(values.shape[1], dtype=np.int64)
        for code, name in enumerate(names):
            rows = codes == code
            result[rows], zero = _standardize(values[rows], values[rows & controls], self.operation)
            constant += zero
            counts[name] = int((rows & controls).sum())
        entry: dict[str, Any] = {"group": self.group, "wells": self.wells, "n_wells": counts}
        if constant.any():
            entry["constant_features"] = {
                profiles.feature_names[number]: int(constant[number]) for number in np.flatnonzero(constant)
            }
        return profiles.reindexed(result), entry


@dataclass(frozen=True, kw_only=True)
class PositionStep:
    """Subtract the mean of all wells at a position over the plates of the fit.

    Attributes:
        name: Name in the chain.
        means: Mean per position, [feature].
    """

    name: str
    means: Mapping[str, np.ndarray]

    def apply(self, profiles: Profiles) -> tuple[Profiles, dict[str, Any]]:
        """Return the profiles after this step, and its entry of the provenance.

        Raises:
            ProfileError: A well lies at a position that no plate of the fit had.
        """
        positions = profiles.table["Metadata_Well"].tolist()
        unknown = sorted({str(position) for position in positions} - set(self.means))
        if unknown:
            raise ProfileError(
                f"Step {self.name!r} has no mean for the wells {listing(unknown)}. "
                "Expected positions that the plates of the fit have; leave these wells out or this step."
            )
        means = np.stack([self.means[position] for position in positions])
        return profiles.reindexed(_difference(np.asarray(profiles.features, dtype=np.float64), means)), {
            "n_positions": len(self.means)
        }


@dataclass(frozen=True, kw_only=True)
class SpheringStep:
    """Whiten by the negative controls of the fit.

    Attributes:
        name: Name in the chain.
        sphering: The map.
        choice: How epsilon was chosen, for the provenance.
    """

    name: str
    sphering: Sphering
    choice: str

    def apply(self, profiles: Profiles) -> tuple[Profiles, dict[str, Any]]:
        """Return the profiles after this step, and its entry of the provenance."""
        sphering = self.sphering
        entry: dict[str, Any] = {
            "epsilon": sphering.epsilon,
            "epsilon_choice": self.choice,
            "n_controls": sphering.n_rows,
            "rank": sphering.rank,
        }
        constant = [name for name, scale in zip(profiles.feature_names, sphering.scale, strict=True) if scale == 0]
        if constant:
            entry["constant_features"] = constant
        values = sphering.apply(np.asarray(profiles.features, dtype=np.float64))
        names = _axis_names("PC", values) if sphering.kind == "pca" else profiles.feature_names
        return replace(profiles, features=values, feature_names=names), entry


@dataclass(frozen=True, kw_only=True)
class TypicalVariationStep:
    """Whiten every plate or experiment by its controls, along the axes of the fit.

    Attributes:
        name: Name in the chain.
        group: Rows that are aligned together.
        variation: The axes.
    """

    name: str
    group: Group
    variation: TypicalVariation

    def apply(self, profiles: Profiles) -> tuple[Profiles, dict[str, Any]]:
        """Return the profiles after this step, and its entry of the provenance.

        Raises:
            ProfileError: A group has fewer than 2 controls.
        """
        codes, controls = profiles.codes(GROUP_COLUMNS[self.group]), reference_mask(profiles)
        names = group_names(profiles, self.group, codes)
        counts = np.bincount(codes[controls], minlength=len(names))
        check_counts(self.name, names, counts, least=2, wells="controls")
        values = self.variation.apply(np.asarray(profiles.features, dtype=np.float64), codes, controls)
        axes = self.variation.axes
        entry: dict[str, Any] = {
            "group": self.group,
            "n_controls": axes.n_rows,
            "rank": axes.rank,
            "n_wells": dict(zip(names, counts.tolist(), strict=True)),
        }
        return replace(profiles, features=values, feature_names=_axis_names("TVN", values)), entry


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A fitted chain of steps.

    Attributes:
        steps: The steps in their order.
        feature_names: Features of the profiles of the fit.
    """

    steps: tuple[Step, ...]
    feature_names: tuple[str, ...]

    def apply(self, profiles: Profiles) -> Profiles:
        """Align profiles, such as those of new plates.

        Steps of plates and experiments use the wells of these profiles; sphering, the axes of TVN and the means of
        positions stay those of the fit.

        Args:
            profiles: Sites or wells with the features of the fit.

        Raises:
            ProfileError: The features differ, or a step cannot be done on these plates.
        """
        check_profiles(profiles)
        if profiles.feature_names != self.feature_names:
            raise ProfileError(
                f"The profiles have {len(profiles.feature_names)} features, and they are not the "
                f"{len(self.feature_names)} of the fit. Expected the same names in the same order; "
                "make the profiles with the same network and settings."
            )
        current = profiles
        entries: list[dict[str, Any]] = []
        for step in self.steps:
            current, entry = step.apply(current)
            entries.append({"step": step.name, **entry})
        return _with_entries(current, profiles, entries)


def align(profiles: Profiles, steps: Sequence[str], *, epsilon: float | None = None) -> Profiles:
    """Align profiles by a chain of steps that is fitted on them.

    Args:
        profiles: Sites or wells.
        steps: Names of `STEPS` in their order.
        epsilon: Addend of the singular values of sphering; None chooses it on held-out controls.

    Raises:
        ProfileError: A step is unknown, or it cannot be done on these profiles.
    """
    entries: list[dict[str, Any]] = []
    result = profiles
    for step, current, entry in _fit_steps(profiles, steps, epsilon):
        entries.append({"step": step.name, **entry})
        result = current
    return _with_entries(result, profiles, entries)


def fit_alignment(profiles: Profiles, steps: Sequence[str], *, epsilon: float | None = None) -> Alignment:
    """Fit a chain of steps, every step on the result of the steps before it.

    The arguments are those of `align`.

    Raises:
        ProfileError: A step is unknown, or it cannot be done on these profiles.
    """
    fitted = tuple(step for step, _, _ in _fit_steps(profiles, steps, epsilon))
    return Alignment(steps=fitted, feature_names=profiles.feature_names)


def align_by_step(
    profiles: Profiles, steps: Sequence[str], *, epsilon: float | None = None
) -> Iterator[tuple[str, Profiles]]:
    """Yield the profiles before the first step of a chain, and after every step.

    Args:
        profiles: Sites or wells.
        steps: Names of `STEPS` in their order.
        epsilon: As in `fit_alignment`.

    Yields:
        The steps so far, such as `none` or `center-plate + tvn`, and the profiles after them.

    Raises:
        ProfileError: A step is unknown, or it cannot be done on these profiles.
    """
    yield "none", profiles
    entries: list[dict[str, Any]] = []
    for number, (step, current, entry) in enumerate(_fit_steps(profiles, steps, epsilon)):
        entries.append({"step": step.name, **entry})
        yield " + ".join(steps[: number + 1]), _with_entries(current, profiles, entries)


def _fit_steps(
    profiles: Profiles, steps: Sequence[str], epsilon: float | None
) -> Iterator[tuple[Step, Profiles, dict[str, Any]]]:
    """Yield every step, fitted after those before it, with its result and entry."""
    check_names(steps, known=STEPS)
    check_profiles(profiles)
    current = profiles
    for name in steps:
        step = STEPS[name](name, current, epsilon)
        current, entry = step.apply(current)
        yield step, current, entry


def _with_entries(profiles: Profiles, source: Profiles, entries: list[dict[str, Any]]) -> Profiles:
    """Return profiles as float32, with the entries after those of their source."""
    earlier = list(source.provenance.get("alignment", []))
    return replace(
        profiles,
        features=np.asarray(profiles.features, dtype=np.float32),
        provenance={**source.provenance, "alignment": earlier + entries},
    )


def _fit_group(operation: Operation, group: Group, wells: Wells) -> "Fit":
    return lambda name, profiles, epsilon: GroupStep(name=name, operation=operation, group=group, wells=wells)


def _fit_sphering(kind: Kind) -> "Fit":
    def fit(name: str, profiles: Profiles, epsilon: float | None) -> Step:
        controls = reference_mask(profiles)
        choice = "given"
        if epsilon is None:
            chosen = choose_epsilon(profiles, kind)
            epsilon = chosen.epsilon
            choice = f"likelihood of controls, {chosen.n_folds} folds of one or more held-out {chosen.held_out}s"
        values = np.asarray(profiles.features[controls], dtype=np.float64)
        return SpheringStep(name=name, sphering=fit_sphering(values, kind, epsilon=epsilon), choice=choice)

    return fit


def _fit_tvn(group: Group) -> "Fit":
    def fit(name: str, profiles: Profiles, epsilon: float | None) -> Step:
        values = np.asarray(profiles.features[reference_mask(profiles)], dtype=np.float64)
        return TypicalVariationStep(name=name, group=group, variation=fit_typical_variation(values))

    return fit


def _fit_harmony(group: Group) -> "Fit":
    return lambda name, profiles, epsilon: fit_harmony_step(name, profiles, group)


def _fit_position(name: str, profiles: Profiles, epsilon: float | None) -> Step:
    positions = profiles.codes("Metadata_Well")
    check_positions(name, profiles)
    values = np.asarray(profiles.features, dtype=np.float64)
    labels = profiles.table["Metadata_Well"].to_numpy()
    codes, first = np.unique(positions, return_index=True)
    means = {str(labels[row]): values[positions == code].mean(axis=0) for code, row in zip(codes, first, strict=True)}
    return PositionStep(name=name, means=means)


Fit = Callable[[str, Profiles, float | None], Step]
STEPS: Mapping[str, Fit] = {
    "center-plate": _fit_group("center", "plate", "all"),
    "scale-plate": _fit_group("scale", "plate", "all"),
    "mad-plate": _fit_group("mad", "plate", "all"),
    "center-experiment": _fit_group("center", "experiment", "all"),
    "scale-experiment": _fit_group("scale", "experiment", "all"),
    "center-controls": _fit_group("center", "plate", "controls"),
    "scale-controls": _fit_group("scale", "plate", "controls"),
    "mad-controls": _fit_group("mad", "plate", "controls"),
    "position": _fit_position,
    "tvn": _fit_tvn("experiment"),
    "tvn-plate": _fit_tvn("plate"),
    "harmony": _fit_harmony("experiment"),
    "harmony-plate": _fit_harmony("plate"),
    **{f"sphere-{kind}": _fit_sphering(kind) for kind in get_args(Kind)},
}
"""Name and fit of every step."""
CONTROL_STEPS = frozenset(name for name in STEPS if name.endswith("controls") or name.startswith(("tvn", "sphere")))
"""Steps that are fitted on negative controls."""


def _difference(values: Values, centre: np.ndarray) -> Values:
    """Subtract a center; a rest at the level of rounding becomes 0."""
    rest: np.ndarray = values - centre
    rest[np.abs(rest) <= _ROUNDING * np.abs(centre)] = 0
    return rest


def _standardize(
    values: Values, reference: Float[np.ndarray, "reference feature"], operation: Operation
) -> tuple[Values, Bool[np.ndarray, " feature"]]:
    """Return the values of a group after an operation, and the features of scale 0."""
    if operation == "center":
        return _difference(values, reference.mean(axis=0)), np.zeros(values.shape[1], dtype=bool)
    if operation == "mad":
        median = np.median(reference, axis=0)
        values, reference = _difference(values, median), _difference(reference, median)
        scale = _MAD * np.median(np.abs(reference), axis=0)
    else:
        scale = spread_of(reference)
    result = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
    return result, scale == 0


def _axis_names(head: str, values: Values) -> tuple[str, ...]:
    return tuple(f"{head}_{number + 1}" for number in range(values.shape[1]))
