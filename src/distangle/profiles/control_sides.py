"""Part the negative controls: some fit the alignment, the others are compared."""

from dataclasses import replace

import numpy as np

from distangle.core.random import rng_for
from distangle.profiles.sphering import CONTROL_SIDE, control_mask
from distangle.results.profiles import PLATE, Profiles


def part_controls(profiles: Profiles, *, seed: int) -> Profiles:
    """Give half of the negative controls of every plate to the alignment.

    A control that an alignment was fitted on lies nearer to the other controls than a new well does. Perturbations
    without any effect then differ from the controls: of noise, up to half of the p-values were below .05. So no control
    serves both.

    Args:
        profiles: Wells.
        seed: Seed of the choice.

    Returns:
        The profiles with the column `CONTROL_SIDE`: `alignment` (the larger half), `test`, or "" for other wells.
    """
    controls, plates = control_mask(profiles), profiles.codes(PLATE)
    side = np.full(len(profiles), "", dtype=object)
    for plate in np.unique(plates):
        rows = rng_for(seed, "control sides", int(plate)).permutation(np.flatnonzero(controls & (plates == plate)))
        n_alignment = -(-len(rows) // 2)
        side[rows[:n_alignment]], side[rows[n_alignment:]] = "alignment", "test"
    return replace(profiles, table=profiles.table.assign(**{CONTROL_SIDE: side}))


def without_references(profiles: Profiles) -> Profiles:
    """Return the wells that the alignment was not fitted on as controls."""
    if CONTROL_SIDE not in profiles.table:
        return profiles
    return profiles.select((profiles.table[CONTROL_SIDE] != "alignment").to_numpy(dtype=bool))


def sides_sentence(profiles: Profiles) -> str:
    """Return how many controls are on each side, and why."""
    counts = profiles.table[CONTROL_SIDE].value_counts()
    return (
        f"{counts.get('alignment', 0)} negative controls fit the alignment, and the other {counts.get('test', 0)} are "
        "compared with the perturbations: with the same controls for both, noise would look active."
    )
