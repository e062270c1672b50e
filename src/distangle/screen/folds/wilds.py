"""Make the RxRx1 folds of WILDS."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from distangle.errors import FoldError
from distangle.screen.folds.folds import HELD_OUT, TRAIN, Folds, build_folds
from distangle.screen.screen import Screen

Part = Literal["val", "test", "id_test"]
PARTS: tuple[Part, ...] = ("val", "test", "id_test")
VALIDATION = ("HEPG2-08", "HUVEC-17", "RPE-08", "U2OS-04")
SIZES: Mapping[str, int] = {"train": 40_612, "val": 9_854, "test": 34_432, "id_test": 40_612}
"""Number of sites of each part, from the tables of 2019."""


def wilds_parts(screen: Screen) -> list[str]:
    """Return the part of each site: `train`, `val`, `test` or `id_test`.

    Site 1 of the wells of training experiments is `train`, site 2 is `id_test`; four experiments, the first of each
    cell type in the test part, are `val`, and the other fourteen are `test`.

    Source: WILDS (arXiv:2012.07421), RxRx1

    Raises:
        FoldError: The screen is not RxRx1 with both sites of its wells.
    """
    sites = screen.sites
    has = {(split, int(site)) for split, site in zip(sites["split"], sites["site"], strict=True)}
    if not {("train", 1), ("train", 2), ("test", 1)} <= has or not set(VALIDATION) & set(sites["experiment"]):
        raise FoldError(
            "The folds of WILDS need RxRx1 with two sites per well, but this screen lacks its splits, sites 1 "
            f"and 2, or experiments ({', '.join(VALIDATION)}). Use --folds or --hold-out."
        )
    parts = []
    for split, experiment, site in zip(sites["split"], sites["experiment"], sites["site"], strict=True):
        if split == "train":
            parts.append("train" if int(site) == 1 else "id_test")
        else:
            parts.append("val" if experiment in VALIDATION else "test")
    return parts


def size_differences(screen: Screen, folds: Folds) -> str:
    """Report parts of a WILDS split that differ in size from the published ones.

    Args:
        screen: The screen of the folds.
        folds: From `by_wilds`.
    """
    fold = folds.of(screen)
    part = folds.description.removeprefix("wilds=")
    counts = {"train": int((fold == TRAIN).sum()), part: int((fold == HELD_OUT).sum())}
    other = [
        f"{n:,} sites of {name} (published: {SIZES[name]:,})" for name, n in counts.items() if n != SIZES.get(name)
    ]
    return f"here are {' and '.join(other)}" if other else ""


def parse_part(name: str) -> Part:
    """Return the part with a name.

    Raises:
        FoldError: Unknown part, or a part that cannot be held out.
    """
    for part in PARTS:
        if name == part:
            return part
    raise FoldError(f"WILDS has no part {name!r} to hold out: expected val, test or id_test.")


def by_wilds(screen: Screen, *, part: Part = "test", force: bool = False) -> Folds:
    """Train and hold out as in WILDS; exclude its other parts.

    Args:
        screen: RxRx1 with both sites of its wells.
        part: `val` and `test` are unseen experiments; `id_test` is the other site of the training wells, which is
            refused unless `force`.
        force: As in `hold_out`.

    Raises:
        FoldError: Another screen, or an overlap of both sides.
    """
    parts = wilds_parts(screen)
    part_of_site = np.array(parts, dtype=object)
    is_held_out, is_excluded = part_of_site == part, (part_of_site != part) & (part_of_site != "train")
    return build_folds(screen, is_held_out, f"wilds={part}", force=force, is_excluded=is_excluded)
