"""Align the profiles of plates and experiments by a chain of steps with names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from distangle.errors import ProfileError
from distangle.profiles.alignment_checks import Group, check_names, check_positions, check_profiles
from distangle.profiles.alignment_steps import (
    GroupStep,
    Operation,
    PositionStep,
    SpheringStep,
    Step,
    TypicalVariationStep,
    Wells,
)
from distangle.profiles.harmony_step import fit_harmony_step
from distangle.profiles.sphering import Kind, choose_epsilon, fit_sphering, reference_mask
from distangle.profiles.tvn import fit_typical_variation
from distangle.results.profiles import Profiles


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A fitted chain of steps.

    Attributes:
        steps: The steps in their order.
        feature_names: Features of the profiles of the fit.
        fit_on: Conditions of the wells that the steps of the controls use, as of `control_sides.find_wells`; none for
            the negative controls.
    """

    steps: tuple[Step, ...]
    feature_names: tuple[str, ...]
    fit_on: tuple[str, ...] = ()

    def apply(self, profiles: Profiles) -> Profiles:
        """Align profiles, such as those of new plates.

        Steps of plates and experiments use the wells of these profiles; sphering, the axes of TVN and the means of
        positions stay those of the fit.

        Args:
            profiles: Sites or wells with the features of the fit.

        Raises:
            ProfileError: The features differ, or a step cannot be done on these plates.
        """
        for _, aligned in self.by_step(profiles):
            result = aligned
        return result

    @property
    def name(self) -> str:
        """The steps, such as `center-plate + tvn`; `none` without any."""
        return " + ".join(step.name for step in self.steps) or "none"

    def by_step(self, profiles: Profiles) -> Iterator[tuple["Alignment", Profiles]]:
        """Yield the chain up to every step with its result; the first is empty.

        Args:
            profiles: As of `apply`.

        Raises:
            ProfileError: As `apply`.
        """
        check_profiles(profiles)
        if profiles.feature_names != self.feature_names:
            raise ProfileError(
                f"The profiles have {len(profiles.feature_names)} features, and they are not the "
                f"{len(self.feature_names)} of the fit. Expected the same names in the same order; "
                "make the profiles with the same network and settings."
            )
        yield replace(self, steps=()), profiles
        current = profiles
        entries: list[dict[str, Any]] = []
        for number, step in enumerate(self.steps):
            current, entry = step.apply(current)
            entries.append({"step": step.name, **entry})
            yield replace(self, steps=self.steps[: number + 1]), _with_entries(current, profiles, entries)


def align(profiles: Profiles, steps: Sequence[str], *, epsilon: float | None = None) -> Profiles:
    """Align profiles by a chain of steps that is fitted on them.

    Args:
        profiles: Sites or wells.
        steps: Names of `STEPS` in their order.
        epsilon: Addend of the singular values of sphering; None chooses it on held-out controls.

    Raises:
        ProfileError: A step is unknown, or it cannot be done on these profiles.
    """
    for _, aligned in fit_by_step(profiles, steps, epsilon=epsilon):
        result = aligned
    return result


def fit_alignment(profiles: Profiles, steps: Sequence[str], *, epsilon: float | None = None) -> Alignment:
    """Fit a chain of steps, every step on the result of the steps before it.

    The arguments are those of `align`.

    Raises:
        ProfileError: A step is unknown, or it cannot be done on these profiles.
    """
    for chain, _ in fit_by_step(profiles, steps, epsilon=epsilon):
        alignment = chain
    return alignment


def fit_by_step(
    profiles: Profiles, steps: Sequence[str], *, epsilon: float | None = None
) -> Iterator[tuple[Alignment, Profiles]]:
    """Fit a chain of steps, and yield the chain so far with its result.

    The arguments are those of `align`. The first chain is empty.

    Raises:
        ProfileError: A step is unknown, or it cannot be done on these profiles.
    """
    chain = Alignment(steps=(), feature_names=profiles.feature_names)
    yield chain, profiles
    entries: list[dict[str, Any]] = []
    for step, current, entry in _fit_steps(profiles, steps, epsilon):
        entries.append({"step": step.name, **entry})
        chain = replace(chain, steps=(*chain.steps, step))
        yield chain, _with_entries(current, profiles, entries)


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
"""Steps that are fitted on negative controls, or on other wells that are named."""
