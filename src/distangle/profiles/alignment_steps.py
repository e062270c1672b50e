"""Steps of an alignment, each with what it was fitted on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from distangle.errors import ProfileError
from distangle.profiles.alignment_checks import (
    GROUP_COLUMNS,
    Group,
    check_counts,
    check_perturbations,
    group_names,
    listing,
)
from distangle.profiles.sphering import Sphering, reference_mask, reference_words, spread_of
from distangle.profiles.tvn import TypicalVariation
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
        wells = reference_words(profiles) if self.wells == "controls" else "rows"
        check_counts(self.name, names, np.bincount(codes[controls], minlength=len(names)), least=least, wells=wells)
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
        check_counts(self.name, names, counts, least=2, wells=reference_words(profiles))
        values = self.variation.apply(np.asarray(profiles.features, dtype=np.float64), codes, controls)
        axes = self.variation.axes
        entry: dict[str, Any] = {
            "group": self.group,
            "n_controls": axes.n_rows,
            "rank": axes.rank,
            "n_wells": dict(zip(names, counts.tolist(), strict=True)),
        }
        return replace(profiles, features=values, feature_names=_axis_names("TVN", values)), entry


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
