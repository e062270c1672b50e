"""Predict labels without looking at a cell: the most frequent label of a place.

Leaks as findings: of a screen, and of a division of it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pandas as pd

from distangle.screen.checks.duplicates import place_of
from distangle.screen.checks.shared_layouts import is_of_sites, plate_groups, position_baseline_share, shared_layouts
from distangle.screen.checks.shared_references import shared_references
from distangle.screen.folds.coverage import check_target
from distangle.screen.folds.folds import HELD_OUT, NO_HOLD_OUT, TRAIN, Folds, shared_between
from distangle.screen.folds.wilds import unlike_published
from distangle.screen.indexing.files import SAME_BYTES
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.roles import CONTROLS
from distangle.screen.screen import KEY_COLUMNS, WELL_COLUMNS, Screen, path_columns


def predict_from_position(
    places: pd.DataFrame, labels: Sequence[str] | np.ndarray, training: np.ndarray
) -> dict[str, np.ndarray]:
    """Predict every row by its place alone, from the rows of the training.

    `position`: the most frequent label in the wells of the same row and column: of the same experiment where other
    plates of it were trained on, else of plates of the same name, else of any. `plate`: the most frequent label of the
    plate, or of plates of the same name. Where neither was trained on, the most frequent label of all. Ties go to the
    label that comes first in the training.

    Args:
        places: With the columns `experiment`, `plate` and `well`.
        labels: Of every row; those of the training are looked at.
        training: Whether a row is for training, bool [row].

    Returns:
        A label for every row by each; empty without a training row.
    """
    known = np.asarray(training, dtype=bool)
    if not known.any():
        return {}
    columns = [places[name].astype(str).tolist() for name in WELL_COLUMNS]
    keys = [(e, p, split_well(w) or w) for e, p, w in zip(*columns, strict=True)]
    names = np.asarray(labels, dtype=object)
    by_position = _guess([[(e, "", w), ("", p, w), w] for e, p, w in keys], names, known)
    by_plate = _guess([[(e, p), p] for e, p, _ in keys], names, known)
    return {"position": by_position, "plate": by_plate}


def _guess(keys: Sequence[Sequence[Hashable]], labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each row's first key that training has."""
    counts: dict[tuple[int, Hashable], Counter[str]] = defaultdict(Counter)
    for row in np.flatnonzero(known).tolist():
        for depth, key in enumerate(keys[row]):
            counts[depth, key][labels[row]] += 1
    best = {key: count.most_common(1)[0][0] for key, count in counts.items()}
    usual = Counter(labels[known].tolist()).most_common(1)[0][0]
    guessed = [next((best[depth, key] for depth, key in enumerate(own) if (depth, key) in best), usual) for own in keys]
    return np.array(guessed, dtype=object)


TOLD = 4.0  # standard errors above guessing before a place is said to tell the label; and besides:
TWICE = 2.0  # as often as guessing, or
FIXED = 0.5  # share of the wells from which a layout is nearly one
GAIN = 0.2  # of what guessing gets wrong is right


def find_leaks(screen: Screen, folds: Folds | None = None, *, label: str = "perturbation") -> list[Problem]:
    """Find what would make a score on this screen look better than it is.

    Args:
        screen: The screen.
        folds: Its division; None looks for what would leak in any.
        label: The column that is to be predicted.

    Raises:
        FoldError: No such column.
    """
    check_target(screen, label)
    found = [*_of_layouts(screen, label, folds), *_of_groups(screen, label), *_of_positions(screen, label)]
    if folds is None:
        return found
    return [
        *_of_sides(screen, folds),
        *_of_another_screen(screen, folds),
        *shared_references(screen, folds),
        *_of_places(screen, folds, label),
        *found,
    ]


def _of_sides(screen: Screen, folds: Folds) -> Iterator[Problem]:
    fold = folds.of(screen)
    used = (fold == TRAIN) | (fold == HELD_OUT)
    for said in shared_between(screen.sites[used], fold[used] == HELD_OUT):
        whole = "Hold out whole experiments; a score on these folds is too good."
        yield Problem(
            severity="error",
            kind="on both sides of the folds",
            what=said.replace("picture would be", "picture is").replace(" would be ", " are "),
            fix="Index without the copy, or hold out both." if "byte for byte" in said else whole,
        )
    for paths, rows in _same_files(screen):
        crossed = {TRAIN, HELD_OUT} <= set(fold[rows].tolist())
        if crossed and screen.sites["sha256"].iloc[rows].nunique() > 1:  # whole sites were named above
            yield Problem(
                severity="warning",
                kind="a file on both sides of the folds",
                what=f"{' = '.join(paths[:4])}{' = ...' if len(paths) > 4 else ''}, byte for byte",
                **place_of(screen.sites.iloc[rows[0]][list(KEY_COLUMNS)].tolist()),
                file=paths[0],
                fix="Nothing if these planes are blank; else a file was copied under a wrong name: index without it.",
                count=len(paths),
            )
    if not screen.card.tables_only and (screen.sites["sha256"].astype(str) == "").any():
        yield Problem(
            severity="note",
            kind="bytes not compared",
            what="the screen was indexed without hashes, so the same picture on both sides would not be seen",
            fix="Index it again without --no-hash-files.",
        )


def _of_another_screen(screen: Screen, folds: Folds) -> Iterator[Problem]:
    fold = folds.of(screen)
    for name in (TRAIN,) if folds.description == NO_HOLD_OUT else (TRAIN, HELD_OUT):
        if not (fold == name).any():
            yield Problem(
                severity="error",
                kind="an empty side of the folds",
                what=f"no site of this screen is {name.replace('_', ' ')} by {folds.description}",
                fix="These are the folds of another screen: make them of this one.",
            )
    n_more = len(folds.table) - len(screen.sites)
    if n_more > 0:
        yield Problem(
            severity="warning",
            kind="folds of a larger screen",
            what=f"{n_more:,} of {len(folds.table):,} sites of the folds are not in this screen",
            fix="Nothing if this is a part of that screen; else make the folds of this one.",
            count=n_more,
        )
    if folds.description.startswith("wilds=") and (said := unlike_published(screen, folds)):
        yield Problem(
            severity="warning",
            kind="other sizes than WILDS",
            what=said,
            fix="A score on these folds stands beside no published one: index all of RxRx1, by the tables of 2019.",
        )


def _same_files(screen: Screen) -> Iterator[tuple[list[str], list[int]]]:
    """Give files of equal content that the index reported, with their rows."""
    said = screen.problems[screen.problems["kind"] == SAME_BYTES]
    contents = [[path for path in str(found).split(" = ") if path != "..."] for found in said["found"]]
    wanted = {path for paths in contents for path in paths}
    rows_of: dict[str, list[int]] = {}
    for column in path_columns(len(screen.card.channels))[::2] if wanted else ():
        for row in np.flatnonzero(screen.sites[column].isin(wanted)).tolist():
            rows_of.setdefault(str(screen.sites[column].iat[row]), []).append(row)
    for paths in contents:
        yield paths, sorted({row for path in paths for row in rows_of.get(path, [])})


def _of_layouts(screen: Screen, label: str, folds: Folds | None) -> Iterator[Problem]:
    sides: dict[str, set[str]] = {}
    if folds is not None:
        for experiment, side in zip(screen.sites["experiment"].astype(str), folds.of(screen).tolist(), strict=True):
            sides.setdefault(experiment, set()).add(side)
    for twins in shared_layouts(screen, label=label):
        apart = {side for name in twins.experiments for side in sides.get(name, set())}
        crossed = {TRAIN, HELD_OUT} <= apart
        listed = ", ".join(twins.experiments[:6])
        more = f" and {len(twins.experiments) - 6} more" if len(twins.experiments) > 6 else ""
        yield Problem(
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


def _of_groups(screen: Screen, label: str) -> Iterator[Problem]:
    groups = plate_groups(screen, label=label)
    if groups:
        sizes = ", ".join(f"{n_names} on {n_plates}" for n_names, n_plates in groups)
        yield Problem(
            severity="note",
            kind="plate groups",
            what=f"{len(groups)} groups of plates carry treatments of their own (treatments on plates: {sizes}): "
            "to know the group of a plate rules out all others",
            fix="A score that uses this (a plate mask, an assignment) is transductive: keep it in a column of its own.",
            count=len(groups),
        )


def _of_positions(screen: Screen, label: str) -> Iterator[Problem]:
    share, guessed, n = position_baseline_share(screen, label=label)
    if n and _is_told(share, guessed, n):
        yield Problem(
            severity="warning",
            kind="position predicts the label",
            what=f"the well's name alone gives {_of_wells(screen, label, share, n)}, guessing {guessed:.1%}: "
            + ("the layout is fixed, or nearly so" if share > FIXED else "part of the layout comes again"),
            fix="A network can learn the place (light, edge, focus) for the label: compare with the position-only "
            "baseline, and vary the layout.",
            count=n,
        )
    share, guessed, n = position_baseline_share(screen, label=label, within=True)
    if n and _is_told(share, guessed, n):
        yield Problem(
            severity="note",
            kind="plates of one layout",
            what=f"on the plates of an experiment the well's name alone gives {_of_wells(screen, label, share, n)}, "
            f"guessing {guessed:.1%}: replicate plates have one layout",
            fix="Hold out whole experiments: on any other folds a network can learn the place for the label.",
            count=n,
        )


def _of_wells(screen: Screen, label: str, share: float, n: int) -> str:
    if is_of_sites(screen, label):
        return f"what most sites of a well hold for {share:.1%} of {n} wells"
    return f"{share:.1%} of {n} treated wells"


def _is_told(share: float, guessed: float, n: int) -> bool:
    """Whether a place predicts n labels better than chance and frequency explain."""
    sure = share > guessed + TOLD * math.sqrt(max(guessed * (1 - guessed), 1 / n) / n)
    return sure and (share > TWICE * guessed or share - guessed > GAIN * (1 - guessed))


def _of_places(screen: Screen, folds: Folds, label: str) -> Iterator[Problem]:
    fold, labels = folds.of(screen), screen.sites[label].astype(str).to_numpy(dtype=object)
    known = (labels != "") & ~screen.sites["role"].isin([role.value for role in CONTROLS]).to_numpy()
    held = (fold == HELD_OUT) & known & np.isin(labels, np.unique(labels[(fold == TRAIN) & known].astype(str)))
    guesses = predict_from_position(screen.sites, labels, (fold == TRAIN) & known)
    if not held.any():
        return
    counts = np.unique(labels[(fold == TRAIN) & known].astype(str), return_counts=True)
    usual = float((labels[held] == counts[0][counts[1].argmax()]).mean())
    shares = {name: float((guess[held] == labels[held]).mean()) for name, guess in guesses.items()}
    n = len(screen.sites.loc[held, list(WELL_COLUMNS)].drop_duplicates())
    told = _is_told(max(shares.values()), usual, n)
    said = ", ".join(f"{name} alone {share:.1%}" for name, share in shares.items())
    yield Problem(
        severity="warning" if told else "note",
        kind="place predicts the label" if told else "accuracy without looking",
        what=f"of {int(held.sum())} held-out sites of treatments {said}, the most frequent label {usual:.1%} right",
        fix="A network that is no better has learnt the place, not the cells: the score table has these beside it.",
        count=int(held.sum()),
    )
