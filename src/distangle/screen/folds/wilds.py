"""The RxRx1 split of WILDS: sites of known against unseen experiments."""

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
"""Sites of each part, of the tables of 2019."""


def wilds_parts(screen: Screen) -> list[str]:
    """Return the part of each site: `train`, `val`, `test` or `id_test`.

    Site 1 of every well of the experiments for training is trained on, site 2 is `id_test`; four experiments, the
    first one of each cell type in the test part, are `val`, the other fourteen `test`.

    Source: WILDS (arXiv:2012.07421), RxRx1

    Raises:
        FoldError: The screen is not RxRx1 with both sites of its wells.
    """
    sites = screen.sites
    has = {(split, int(site)) for split, site in zip(sites["split"], sites["site"], strict=True)}
    if not {("train", 1), ("train", 2), ("test", 1)} <= has or not set(VALIDATION) & set(sites["experiment"]):
        raise FoldError(
            "The division of WILDS is of RxRx1 with two sites a well, and this screen has not its splits, sites 1 "
            f"and 2, and experiments ({', '.join(VALIDATION)}). Use --folds or --hold-out."
        )
    parts = []
    for split, experiment, site in zip(sites["split"], sites["experiment"], sites["site"], strict=True):
        if split == "train":
            parts.append("train" if int(site) == 1 else "id_test")
        else:
            parts.append("val" if experiment in VALIDATION else "test")
    return parts


def unlike_published(screen: Screen, folds: Folds) -> str:
    """Report parts of a WILDS split that differ in size from the published ones.

    Args:
        screen: That was divided.
        folds: From `by_wilds`.
    """
    fold = folds.of(screen)
    part = folds.description.removeprefix("wilds=")
    found = {"train": int((fold == TRAIN).sum()), part: int((fold == HELD_OUT).sum())}
    other = [f"{n:,} sites of {name} (published: {SIZES[name]:,})" for name, n in found.items() if n != SIZES.get(name)]
    return f"here are {' and '.join(other)}" if other else ""


def part_named(word: str) -> Part:
    """Return a part by its name.

    Raises:
        FoldError: There is none, or it is not one to hold out.
    """
    for part in PARTS:
        if word == part:
            return part
    raise FoldError(f"WILDS has no part {word!r} to hold out: expected val, test or id_test.")


def by_wilds(screen: Screen, *, part: Part = "test", force: bool = False) -> Folds:
    """Train and hold out as WILDS does; leave its other parts aside.

    Args:
        screen: RxRx1, both sites of its wells.
        part: `val` and `test` are experiments never seen; `id_test` is the other site of the very wells that are
            trained on, which is refused unless `force`.
        force: As in `hold_out`.

    Raises:
        FoldError: Not this screen, or something on both sides.
    """
    parts = wilds_parts(screen)
    named = np.array(parts, dtype=object)
    held, aside = named == part, (named != part) & (named != "train")
    return build_folds(screen, held, f"wilds={part}", force=force, aside=aside)
