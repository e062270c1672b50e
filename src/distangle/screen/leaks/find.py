"""Leaks as findings: of a screen, and of a division of it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from distangle.screen.checks.finding import Finding
from distangle.screen.folds import HELD_OUT, TRAIN, Folds, shared_between
from distangle.screen.leaks.baselines import guess_by_place
from distangle.screen.leaks.layouts import layout_twins, plate_groups, share_told_by_place
from distangle.screen.table import Screen

TOLD = 4.0  # standard errors above guessing, and at least twice as often, before a place is said to tell the label


def find_leaks(screen: Screen, folds: Folds | None = None, *, label: str = "perturbation") -> list[Finding]:
    """Find what would make a score on this screen look better than it is.

    Args:
        screen: The screen.
        folds: Its division; None looks for what would leak in any.
        label: The column that is to be predicted.
    """
    found = [*_of_layouts(screen, label, folds), *_of_groups(screen, label), *_of_positions(screen, label)]
    return found if folds is None else [*_of_sides(screen, folds), *_of_places(screen, folds, label), *found]


def _of_sides(screen: Screen, folds: Folds) -> Iterator[Finding]:
    fold = folds.of(screen)
    used = (fold == TRAIN) | (fold == HELD_OUT)
    for said in shared_between(screen.sites[used], fold[used] == HELD_OUT):
        yield Finding(
            severity="error",
            kind="on both sides of the folds",
            what=said.replace(" would be ", " are "),
            fix="Hold out whole experiments; a score on these folds is too good.",
        )


def _of_layouts(screen: Screen, label: str, folds: Folds | None) -> Iterator[Finding]:
    sides: dict[str, set[str]] = {}
    if folds is not None:
        for experiment, side in zip(screen.sites["experiment"].astype(str), folds.of(screen).tolist(), strict=True):
            sides.setdefault(experiment, set()).add(side)
    for twins in layout_twins(screen, label=label):
        apart = {side for name in twins.experiments for side in sides.get(name, set())}
        crossed = {TRAIN, HELD_OUT} <= apart
        listed = ", ".join(twins.experiments[:6])
        more = f" and {len(twins.experiments) - 6} more" if len(twins.experiments) > 6 else ""
        yield Finding(
            severity="warning" if crossed else "note",
            kind="layout twins on both sides of the folds" if crossed else "layout twins",
            what=f"{listed}{more} have one layout: wells of one name hold the same for {twins.share:.0%} of the "
            f"{twins.by.replace('_', ' ')}s{_matched(twins.plates)}",
            experiment=twins.experiments[0],
            fix="Hold them out together, and read the position-only baseline beside the score.",
            count=len(twins.experiments),
        )


def _matched(plates: Sequence[str]) -> str:
    return f" ({', '.join(plates[:4])}{', ...' if len(plates) > 4 else ''})" if plates else ""


def _of_groups(screen: Screen, label: str) -> Iterator[Finding]:
    groups = plate_groups(screen, label=label)
    if groups:
        sizes = ", ".join(f"{n_names} on {n_plates}" for n_names, n_plates in groups)
        yield Finding(
            severity="note",
            kind="plate groups",
            what=f"{len(groups)} groups of plates carry treatments of their own (treatments on plates: {sizes}): "
            "to know the group of a plate rules out all others",
            fix="A score that uses this (a plate mask, an assignment) is transductive: keep it in a column of its own.",
            count=len(groups),
        )


def _of_positions(screen: Screen, label: str) -> Iterator[Finding]:
    share, guessed, n = share_told_by_place(screen, label=label)
    if n and share > max(2 * guessed, guessed + TOLD * math.sqrt(guessed * (1 - guessed) / n)):
        yield Finding(
            severity="warning",
            kind="position predicts the label",
            what=f"the well's name alone gives {share:.1%} of {n} treated wells, guessing {guessed:.1%}: the layout is "
            "fixed, or nearly so",
            fix="A network can learn the place (light, edge, focus) for the label: compare with the position-only "
            "baseline, and vary the layout.",
            count=n,
        )


def _of_places(screen: Screen, folds: Folds, label: str) -> Iterator[Finding]:
    fold, labels = folds.of(screen), screen.sites[label].astype(str).to_numpy(dtype=object)
    known = labels != ""
    held = (fold == HELD_OUT) & known & np.isin(labels, np.unique(labels[(fold == TRAIN) & known].astype(str)))
    guesses = guess_by_place(screen.sites, labels, (fold == TRAIN) & known)
    if not held.any():
        return
    counts = np.unique(labels[(fold == TRAIN) & known].astype(str), return_counts=True)
    usual = float((labels[held] == counts[0][counts[1].argmax()]).mean())
    shares = {name: float((guess[held] == labels[held]).mean()) for name, guess in guesses.items()}
    n = len(screen.sites.loc[held, ["experiment", "plate", "well"]].drop_duplicates())
    told = max(shares.values()) > max(2 * usual, usual + TOLD * math.sqrt(max(usual * (1 - usual), 1 / n) / n))
    said = ", ".join(f"{name} alone {share:.1%}" for name, share in shares.items())
    yield Finding(
        severity="warning" if told else "note",
        kind="place predicts the label" if told else "accuracy without looking",
        what=f"of {int(held.sum())} held-out sites {said}, the most frequent label {usual:.1%} right",
        fix="A network that is no better has learnt the place, not the cells: the score table has these beside it.",
        count=int(held.sum()),
    )
