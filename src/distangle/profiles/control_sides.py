"""Part the wells that fit the alignment from those that are compared."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool

from distangle.core.random import rng_for
from distangle.errors import ProfileError, brief, did_you_mean
from distangle.profiles.sphering import CONTROL_SIDE, control_mask
from distangle.results.profiles import PLATE, Profiles

_NAME = "Metadata_Perturbation"
_SHOWN = 8


def find_wells(profiles: Profiles, conditions: Sequence[str]) -> Bool[np.ndarray, " row"]:
    """Return which wells meet any of some conditions.

    Args:
        profiles: Wells.
        conditions: `COLUMN=VALUE` each; numbers are compared as numbers.

    Raises:
        ProfileError: A condition has no `=`, its column does not exist, or no well has the value.
    """
    mask = np.zeros(len(profiles), dtype=bool)
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals or not value:
            raise ProfileError(
                f"{brief(condition)!r} names no wells to fit on. Expected COLUMN=VALUE, such as "
                "Metadata_Role=positive_control."
            )
        if column not in profiles.table:
            names = [str(name) for name in profiles.table if not str(name).startswith("Metadata_N_")]
            raise ProfileError(
                f"The profiles have no column {brief(column)!r} to fit on. {did_you_mean(column, names)} Or add it by "
                "a table: `--metadata TABLE`."
            )
        values = profiles.table[column]
        meets = values.astype(str).to_numpy(dtype=object) == value
        if pd.api.types.is_numeric_dtype(values):
            meets |= values.to_numpy(dtype=np.float64) == pd.to_numeric(pd.Series([value]), errors="coerce")[0]
        if not meets.any():
            known = sorted({str(cell) for cell in values})
            raise ProfileError(
                f"None of {len(profiles)} wells has {brief(condition)}. Expected one of the values "
                f"{', '.join(map(brief, known[:_SHOWN]))}{' and others' if len(known) > _SHOWN else ''}. Name one of "
                "them."
            )
        mask |= meets
    return mask


def part_controls(profiles: Profiles, *, seed: int, fit_on: Bool[np.ndarray, " row"] | None = None) -> Profiles:
    """Give half of the wells to fit on to the alignment, on every plate.

    A well that an alignment was fitted on lies nearer to the others of the fit than a new well does. If these wells are
    controls, perturbations without any effect then differ from the controls: of noise, up to half of the p-values were
    below .05. So no well serves both. Wells that are not compared, without a perturbation, are given whole.

    Args:
        profiles: Wells.
        seed: Seed of the choice.
        fit_on: Wells to fit on; None for the negative controls.

    Returns:
        The profiles with the column `CONTROL_SIDE`: `alignment` (the larger half), `test`, or "" for other wells.
    """
    controls, plates = control_mask(profiles), profiles.codes(PLATE)
    fitted = controls if fit_on is None else fit_on
    is_named = (profiles.table[_NAME] != "").to_numpy(dtype=bool) if _NAME in profiles.table else controls
    side = np.full(len(profiles), "", dtype=object)
    side[fitted & ~controls & ~is_named] = "alignment"
    for kind, members in (("control sides", fitted & controls), ("treatment sides", fitted & ~controls & is_named)):
        for plate in np.unique(plates[members]):
            rows = rng_for(seed, kind, int(plate)).permutation(np.flatnonzero(members & (plates == plate)))
            n_alignment = -(-len(rows) // 2)
            side[rows[:n_alignment]], side[rows[n_alignment:]] = "alignment", "test"
    return replace(profiles, table=profiles.table.assign(**{CONTROL_SIDE: side}))


def without_references(profiles: Profiles) -> Profiles:
    """Return the wells that the steps of the controls were not fitted on."""
    if CONTROL_SIDE not in profiles.table:
        return profiles
    return profiles.select((profiles.table[CONTROL_SIDE] != "alignment").to_numpy(dtype=bool))


def sides_sentence(profiles: Profiles, conditions: Sequence[str] = ()) -> str:
    """Return how many wells are on each side, and why.

    Args:
        profiles: As of `part_controls`.
        conditions: As of `find_wells`; none if negative controls are the wells to fit on.
    """
    counts = profiles.table[CONTROL_SIDE].value_counts()
    n_alignment, n_test = counts.get("alignment", 0), counts.get("test", 0)
    if not conditions:
        return (
            f"{n_alignment} negative controls fit the alignment, and the other {n_test} are "
            "compared with the perturbations: with the same controls for both, noise would look active."
        )
    wells = f"{n_alignment} wells with {' or '.join(map(brief, conditions))} fit the alignment"
    if not n_test:
        return f"{wells} in place of negative controls, and none of them is compared."
    return (
        f"{wells} in place of negative controls, and the other {n_test} are compared: with the same wells for both, "
        "noise could look active."
    )


def wholly_fitted(profiles: Profiles) -> list[str]:
    """Return the perturbations whose wells all fit the alignment.

    They are not compared.

    Args:
        profiles: As of `part_controls`.
    """
    treated = profiles.table[~control_mask(profiles)]
    is_test = treated[CONTROL_SIDE] != "alignment"
    return sorted({str(name) for name in treated[_NAME]} - {str(name) for name in treated.loc[is_test, _NAME]} - {""})
