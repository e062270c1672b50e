"""Report experiments with wells on both sides, and the controls of each side."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from distangle.screen.folds.folds import HELD_OUT, TRAIN, Folds
from distangle.screen.plate_groups import group_codes
from distangle.screen.problems import Problem
from distangle.screen.roles import NEGATIVE
from distangle.screen.screen import WELL_COLUMNS, Screen

MIN_CONTROLS = 2  # control wells per side for a correction by controls


def shared_references(screen: Screen, folds: Folds) -> Iterator[Problem]:
    """Find experiments whose wells are on both sides, and sides with few controls.

    Training and held-out sites must not be corrected by the same wells: the shared sampling error would identify the
    experiment, and with it the labels that only this experiment has.

    Args:
        screen: The screen.
        folds: Its folds.
    """
    fold = folds.of(screen)
    experiment, names = pd.factorize(screen.sites["experiment"].astype(str))
    control = screen.sites["role"].isin(NEGATIVE).to_numpy()
    well = group_codes(screen.sites, list(WELL_COLUMNS))
    first = np.unique(well, return_index=True)[1]
    experiment_of_well = experiment[first]
    n_sites, n_controls = {}, {}
    for side in (TRAIN, HELD_OUT):
        is_here = fold == side
        n_sites[side] = np.bincount(experiment[is_here], minlength=len(names))
        has_control = np.bincount(well[is_here & control], minlength=len(first)) > 0
        n_controls[side] = np.bincount(experiment_of_well[has_control], minlength=len(names)).tolist()
    split_experiments, few_controls = [], []
    for k in np.flatnonzero((n_sites[TRAIN] > 0) & (n_sites[HELD_OUT] > 0)).tolist():
        n = {side: n_controls[side][k] for side in (TRAIN, HELD_OUT)}
        split_experiments.append(f"{names[k]} ({n[TRAIN]} and {n[HELD_OUT]})")
        few_controls += [
            f"{names[k]} ({n[side]}, {side.replace('_', ' ')})" for side in (TRAIN, HELD_OUT) if n[side] < MIN_CONTROLS
        ]
    if split_experiments:
        yield Problem(
            severity="note",
            kind="references of each side its own",
            what=f"{len(split_experiments)} experiments have wells on both sides "
            f"(control wells for training and held out): {_format_list(split_experiments)}",
            fix="Nothing: statistics of wells (means, standard deviations, corrections, norms) are estimated on each "
            "side separately.",
            count=len(split_experiments),
        )
    if few_controls:
        yield Problem(
            severity="note",
            kind="few controls on a side",
            what=f"fewer than {MIN_CONTROLS} control wells: {_format_list(few_controls)}",
            fix="There, a correction by controls shrinks to none; `correction.wells=all` uses all wells of the group.",
            count=len(few_controls),
        )


def _format_list(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
