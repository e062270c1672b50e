"""Report experiments with wells on both sides, and the controls of each side."""

from collections.abc import Iterator

import numpy as np

from distangle.screen.folds.folds import HELD_OUT, TRAIN, Folds
from distangle.screen.plate_groups import group_codes
from distangle.screen.problems import Problem
from distangle.screen.roles import NEGATIVE
from distangle.screen.screen import WELL_COLUMNS, Screen

FEW = 2  # control wells, below which a side's own correction rests on nearly nothing


def shared_references(screen: Screen, folds: Folds) -> Iterator[Problem]:
    """Find experiments whose wells are on both sides, and sides with few controls.

    What is subtracted from held-out sites must not rest on wells whose estimate the training sites use too: its
    sampling error would stand on both sides, name the experiment, and with it the labels that only this one has.

    Args:
        screen: The screen.
        folds: Its division.
    """
    fold = folds.of(screen)
    experiment = screen.sites["experiment"].astype(str).to_numpy(dtype=object)
    control = screen.sites["role"].isin(NEGATIVE).to_numpy()
    well = group_codes(screen.sites, list(WELL_COLUMNS))
    divided, few = [], []
    for name in dict.fromkeys(experiment.tolist()):
        here = experiment == name
        if not all((here & (fold == side)).any() for side in (TRAIN, HELD_OUT)):
            continue
        n = {side: len(np.unique(well[here & control & (fold == side)])) for side in (TRAIN, HELD_OUT)}
        divided.append(f"{name} ({n[TRAIN]} and {n[HELD_OUT]})")
        few += [f"{name} ({n[side]}, {side.replace('_', ' ')})" for side in (TRAIN, HELD_OUT) if n[side] < FEW]
    if divided:
        yield Problem(
            severity="note",
            kind="references of each side its own",
            what=f"{len(divided)} experiments have wells on both sides (control wells for training and held out): "
            f"{_listed(divided)}",
            fix="Nothing: what is estimated from wells (means, spreads, corrections, norms) is estimated on each side "
            "by itself.",
            count=len(divided),
        )
    if few:
        yield Problem(
            severity="note",
            kind="few controls on a side",
            what=f"fewer than {FEW} control wells: {_listed(few)}",
            fix="A correction by controls fades to none there; `correction.wells=all` rests on all wells of the group.",
            count=len(few),
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
