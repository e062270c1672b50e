"""Let Harmony mix the plates or experiments of profiles, as a step of alignment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.alignment_checks import (
    GROUP_COLUMNS,
    Group,
    check_counts,
    check_perturbations,
    check_profiles,
    group_names,
)
from distangle.profiles.harmony import Harmony, HarmonySettings, fit_harmony
from distangle.results.profiles import Profiles

_DEFAULT = HarmonySettings()
_SAME = 1e-5  # share of the length of a row below which a difference is rounding


@dataclass(frozen=True, kw_only=True)
class HarmonyStep:
    """Subtract the shifts of plates or experiments.

    The rows of the fit get the result of the fit. Other rows of its batches are assigned to its clusters and get the
    shifts of their batch.

    Departs: a batch that the fit did not have gets its own shifts (`Harmony.extend`), from all of its rows in the
    profiles that come in one call. They move no row of the fit.

    Attributes:
        name: Name in the chain.
        group: Rows that are a batch.
        harmony: Clusters and shifts.
        names: Name of every batch of the fit.
        codes: Batch of every row of the fit.
        marks: Two numbers per row by which the rows of the fit are known, [row, 2].
    """

    name: str
    group: Group
    harmony: Harmony
    names: tuple[str, ...]
    codes: Int[np.ndarray, " row"]
    marks: Float[np.ndarray, "row 2"]

    def apply(self, profiles: Profiles) -> tuple[Profiles, dict[str, Any]]:
        """Return the profiles after this step, and its entry of the provenance.

        Raises:
            ProfileError: A new batch has one row, or one perturbation that its shifts would erase.
        """
        codes = profiles.codes(GROUP_COLUMNS[self.group])
        names = group_names(profiles, self.group, codes)
        values = np.asarray(profiles.features)
        known = np.isin(names, self.names)
        if self._is_fit(profiles, codes, names):
            result = self.harmony.correct(values, codes, self.harmony.shares)
        else:
            new = profiles.select(~known[codes])
            if len(new):
                _check_batches(self.name, self.group, new)
            result = np.empty(values.shape)
            position = {name: number for number, name in enumerate(self.names)}
            for code, name in enumerate(names):
                rows = codes == code
                own = values[rows]
                if name in position:
                    result[rows] = self.harmony.correct(own, np.full(len(own), position[name]))
                else:
                    result[rows] = self.harmony.extend(own)
        harmony = self.harmony
        entry: dict[str, Any] = {
            "group": self.group,
            "n_clusters": len(harmony.centroids),
            "n_iterations": len(harmony.objectives),
            "converged": harmony.converged,
            "objectives": list(harmony.objectives),
            "n_rows": dict(zip(names, np.bincount(codes).tolist(), strict=True)),
            "new_batches": [name for name, is_known in zip(names, known, strict=True) if not is_known],
            **{name: getattr(harmony.settings, name) for name in ("theta", "sigma", "ridge", "seed")},
        }
        return profiles.reindexed(result), entry

    def _is_fit(self, profiles: Profiles, codes: np.ndarray, names: list[str]) -> bool:
        """Return whether these are the rows of the fit, in their order."""
        if tuple(names) != self.names or not np.array_equal(codes, self.codes):
            return False
        lengths = np.linalg.norm(profiles.features, axis=1)[:, None]
        return bool((np.abs(_marks(profiles.features) - self.marks) <= _SAME * lengths).all())


def fit_harmony_step(name: str, profiles: Profiles, group: Group, settings: HarmonySettings = _DEFAULT) -> HarmonyStep:
    """Fit Harmony on profiles.

    Args:
        name: Name in the chain.
        profiles: Sites or wells.
        group: Rows that are a batch.
        settings: Settings of Harmony.

    Raises:
        ProfileError: There is one batch, or a batch has one row or one perturbation.
    """
    check_profiles(profiles)
    codes = profiles.codes(GROUP_COLUMNS[group])
    names = group_names(profiles, group, codes)
    if len(names) < 2:
        raise ProfileError(
            f"Step {name!r} has 1 {group}, {names[0]}, so there is no batch to mix it with. "
            f"Expected 2 {group}s or more; leave this step out."
        )
    _check_batches(name, group, profiles)
    return HarmonyStep(
        name=name,
        group=group,
        harmony=fit_harmony(np.asarray(profiles.features), codes, settings),
        names=tuple(names),
        codes=codes,
        marks=_marks(profiles.features),
    )


def _check_batches(step: str, group: Group, profiles: Profiles) -> None:
    """Refuse batches of one row, and those that decide the perturbation."""
    codes = profiles.codes(GROUP_COLUMNS[group])
    names = group_names(profiles, group, codes)
    check_counts(step, names, np.bincount(codes), least=2, wells="rows")
    check_perturbations(step, profiles, codes, names)


def _marks(features: np.ndarray) -> Float[np.ndarray, "row 2"]:
    """Return the rows along two random directions of length 1."""
    directions = rng_for(0, "marks of rows", features.shape[1]).normal(size=(features.shape[1], 2))
    directions /= np.linalg.norm(directions, axis=0)
    return np.asarray(features.astype(np.float64) @ directions)
