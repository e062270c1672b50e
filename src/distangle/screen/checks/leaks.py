"""Find leaks of a screen and its folds, and predict labels from positions."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from distangle.screen.checks.duplicates import location_fields
from distangle.screen.checks.shared_layouts import (
    plate_groups,
    position_baseline_share,
    shared_layouts,
    varies_within_wells,
)
from distangle.screen.checks.shared_references import shared_references
from distangle.screen.folds.coverage import check_target
from distangle.screen.folds.folds import HELD_OUT, NO_HOLD_OUT, TRAIN, Folds, find_overlaps
from distangle.screen.folds.wilds import size_differences
from distangle.screen.indexing.files import SAME_BYTES
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.roles import CONTROLS
from distangle.screen.screen import KEY_COLUMNS, WELL_COLUMNS, Screen, path_columns

# A position predicts the label if its accuracy exceeds guessing by `MIN_STANDARD_ERRORS`, and either is
# `MIN_RATIO` times that of guessing or avoids `MIN_GAIN` of its errors.
MIN_STANDARD_ERRORS = 4.0
MIN_RATIO = 2.0
MIN_GAIN = 0.2
FIXED_LAYOUT = 0.5  # share of predictable wells above which the layout is nearly fixed


def predict_from_position(
    wells: pd.DataFrame, labels: Sequence[str] | np.ndarray, training: np.ndarray
) -> dict[str, np.ndarray]:
    """Predict labels from the plate or the well position alone.

    `position`: the most frequent training label of the same row and column, in the same experiment if it has other
    training plates, else on plates of the same name, else on any plate. `plate`: the most frequent label of the
    plate, or of plates of the same name. Without such training rows, the most frequent label of all is used. Ties go
    to the label that comes first in the training rows.

    Args:
        wells: Table with the columns `experiment`, `plate` and `well`.
        labels: Label of every row; only those of training rows are used.
        training: Whether a row is for training, bool [row].

    Returns:
        A label for every row by predictor; empty without training rows.
    """
    is_training = np.asarray(training, dtype=bool)
    if not is_training.any():
        return {}
    experiment, plate, well = (pd.factorize(wells[name].astype(str))[0] for name in WELL_COLUMNS)
    well_names = wells["well"].astype(str).unique()
    position = pd.factorize(pd.Series([str(split_well(name) or name) for name in well_names], dtype="str"))[0][well]
    names = np.asarray(labels, dtype=object)
    by_position = _most_frequent_label([(experiment, position), (plate, position), (position,)], names, is_training)
    by_plate = _most_frequent_label([(experiment, plate), (plate,)], names, is_training)
    return {"position": by_position, "plate": by_plate}


def _most_frequent_label(
    keys: Sequence[Sequence[np.ndarray]], labels: np.ndarray, is_training: np.ndarray
) -> np.ndarray:
    """Return the most frequent label of each row's first key that training has.

    Args:
        keys: Columns of codes of each key, int [row].
        labels: Label of each row; only those of training rows are used.
        is_training: Whether a row is for training, bool [row].
    """
    rows = np.flatnonzero(is_training)
    code, names = pd.factorize(labels[rows], use_na_sentinel=False)
    majority = np.bincount(code).argmax()  # the first of equal ones, and codes are in order of appearance
    predicted = np.full(len(labels), majority)
    is_open = np.ones(len(labels), dtype=bool)
    for columns in keys:
        key = _join_codes(columns)
        best = np.full(int(key.max(initial=-1)) + 1, -1)
        pairs, first, counts = np.unique(key[rows] * len(names) + code, return_index=True, return_counts=True)
        key_of_pair, label_of_pair = np.divmod(pairs, len(names))
        order = np.lexsort((first, -counts, key_of_pair))
        best_keys, position = np.unique(key_of_pair[order], return_index=True)
        best[best_keys] = label_of_pair[order][position]
        known = is_open & (best[key] >= 0)
        predicted[known] = best[key[known]]
        is_open &= ~known
    return np.asarray(names, dtype=object)[predicted]


def _join_codes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return one code for each combination of codes, int [row]."""
    joined = columns[0].astype(np.int64)
    for column in columns[1:]:
        joined = pd.factorize(joined * (int(column.max(initial=0)) + 1) + column)[0]
    return joined


def find_leaks(screen: Screen, folds: Folds | None = None, *, label: str = "perturbation") -> list[Problem]:
    """Find leaks that would inflate a score on this screen.

    Args:
        screen: The screen.
        folds: Its folds; None finds only leaks that do not depend on folds.
        label: The column to predict.

    Raises:
        FoldError: No such column.
    """
    check_target(screen, label)
    problems = [
        *_shared_layout_problems(screen, label, folds),
        *_plate_group_problems(screen, label),
        *_position_problems(screen, label),
    ]
    if folds is None:
        return problems
    return [
        *_overlap_problems(screen, folds),
        *_mismatched_folds(screen, folds),
        *shared_references(screen, folds),
        *_baseline_problems(screen, folds, label),
        *problems,
    ]


def _overlap_problems(screen: Screen, folds: Folds) -> Iterator[Problem]:
    fold = folds.of(screen)
    used = (fold == TRAIN) | (fold == HELD_OUT)
    for overlap in find_overlaps(screen.sites[used], fold[used] == HELD_OUT):
        advice = "Hold out whole experiments; a score on these folds is inflated."
        yield Problem(
            severity="error",
            kind="on both sides of the folds",
            what=overlap.replace("picture would be", "picture is").replace(" would be ", " are "),
            fix="Index without the copy, or hold out both." if "byte for byte" in overlap else advice,
        )
    for paths, rows in _same_files(screen):
        crossed = {TRAIN, HELD_OUT} <= set(fold[rows].tolist())
        if crossed and screen.sites["sha256"].iloc[rows].nunique() > 1:  # equal sites are reported above
            yield Problem(
                severity="warning",
                kind="a file on both sides of the folds",
                what=f"{' = '.join(paths[:4])}{' = ...' if len(paths) > 4 else ''}, byte for byte",
                **location_fields(screen.sites.iloc[rows[0]][list(KEY_COLUMNS)].tolist()),
                file=paths[0],
                fix="Nothing, if these planes are blank; otherwise a file is a wrong copy: index without it.",
                count=len(paths),
            )
    if not screen.metadata.tables_only and (screen.sites["sha256"].astype(str) == "").any():
        yield Problem(
            severity="note",
            kind="bytes not compared",
            what="the screen was indexed without hashes, so equal images on both sides are not detected",
            fix="Index it again without --no-hash-files.",
        )


def _mismatched_folds(screen: Screen, folds: Folds) -> Iterator[Problem]:
    fold = folds.of(screen)
    for name in (TRAIN,) if folds.description == NO_HOLD_OUT else (TRAIN, HELD_OUT):
        if not (fold == name).any():
            yield Problem(
                severity="error",
                kind="an empty side of the folds",
                what=f"no site of this screen is {name.replace('_', ' ')} by {folds.description}",
                fix="These are the folds of another screen: make folds of this one.",
            )
    n_more = len(folds.table) - len(screen.sites)
    if n_more > 0:
        yield Problem(
            severity="warning",
            kind="folds of a larger screen",
            what=f"{n_more:,} of {len(folds.table):,} sites of the folds are not in this screen",
            fix="Nothing, if this is a part of that screen; otherwise make folds of this one.",
            count=n_more,
        )
    if folds.description.startswith("wilds=") and (differences := size_differences(screen, folds)):
        yield Problem(
            severity="warning",
            kind="other sizes than WILDS",
            what=differences,
            fix="Do not compare a score on these folds with published ones: index RxRx1 with the tables of 2019.",
        )


def _same_files(screen: Screen) -> Iterator[tuple[list[str], list[int]]]:
    """Yield groups of equal files that the index reported, with their rows."""
    duplicates = screen.problems[screen.problems["kind"] == SAME_BYTES]
    groups = [[path for path in str(cell).split(" = ") if path != "..."] for cell in duplicates["found"]]
    paths_to_find = {path for paths in groups for path in paths}
    rows_of: dict[str, list[int]] = {}
    for column in path_columns(len(screen.metadata.channels))[::2] if paths_to_find else ():
        for row in np.flatnonzero(screen.sites[column].isin(paths_to_find)).tolist():
            rows_of.setdefault(str(screen.sites[column].iat[row]), []).append(row)
    for paths in groups:
        yield paths, sorted({row for path in paths for row in rows_of.get(path, [])})


def _shared_layout_problems(screen: Screen, label: str, folds: Folds | None) -> Iterator[Problem]:
    sides: dict[str, set[str]] = {}
    if folds is not None:
        pairs = pd.DataFrame({"experiment": screen.sites["experiment"].astype(str), "side": folds.of(screen)})
        for experiment, side in pairs.drop_duplicates().itertuples(index=False, name=None):
            sides.setdefault(experiment, set()).add(side)
    for shared in shared_layouts(screen, label=label):
        sides_of_group = {side for name in shared.experiments for side in sides.get(name, set())}
        crossed = {TRAIN, HELD_OUT} <= sides_of_group
        listed = ", ".join(shared.experiments[:6])
        more = f" and {len(shared.experiments) - 6} more" if len(shared.experiments) > 6 else ""
        yield Problem(
            severity="warning" if crossed else "note",
            kind="layout twins on both sides of the folds" if crossed else "layout twins",
            what=f"{listed}{more} have one layout: wells of one name hold the same for {shared.share:.0%} of the "
            f"{shared.by.replace('_', ' ')}s{_plate_list(shared.plates)}",
            experiment=shared.experiments[0],
            fix="Hold them out together, and compare the score with the position-only baseline.",
            count=len(shared.experiments),
        )


def _plate_list(plates: Sequence[str]) -> str:
    return f" ({', '.join(plates[:4])}{', ...' if len(plates) > 4 else ''})" if plates else ""


def _plate_group_problems(screen: Screen, label: str) -> Iterator[Problem]:
    groups = plate_groups(screen, label=label)
    if groups:
        sizes = ", ".join(f"{n_names} on {n_plates}" for n_names, n_plates in groups)
        yield Problem(
            severity="note",
            kind="plate groups",
            what=f"{len(groups)} groups of plates carry treatments of their own (treatments on plates: {sizes}): "
            "knowing the group of a plate rules out all other treatments",
            fix="A score that uses this (a plate mask, an assignment) is transductive: report it separately.",
            count=len(groups),
        )


def _position_problems(screen: Screen, label: str) -> Iterator[Problem]:
    share, chance, n = position_baseline_share(screen, label=label)
    if n and _is_predictive(share, chance, n):
        yield Problem(
            severity="warning",
            kind="position predicts the label",
            what=f"the well's name alone gives {_share_text(screen, label, share, n)}, guessing {chance:.1%}: "
            + ("the layout is nearly fixed" if share > FIXED_LAYOUT else "part of the layout repeats"),
            fix="A network can learn the position (light, edge, focus) instead of the label: compare with the "
            "position-only baseline, and vary the layout.",
            count=n,
        )
    share, chance, n = position_baseline_share(screen, label=label, within=True)
    if n and _is_predictive(share, chance, n):
        yield Problem(
            severity="note",
            kind="plates of one layout",
            what=f"on the plates of an experiment the well's name alone gives {_share_text(screen, label, share, n)}, "
            f"guessing {chance:.1%}: replicate plates share one layout",
            fix="Hold out whole experiments: on other folds a network can learn the position instead of the label.",
            count=n,
        )


def _share_text(screen: Screen, label: str, share: float, n: int) -> str:
    if varies_within_wells(screen, label):
        return f"the label of most sites for {share:.1%} of {n} wells"
    return f"{share:.1%} of {n} treated wells"


def _is_predictive(share: float, chance: float, n: int) -> bool:
    """Return whether a position predicts n labels clearly better than guessing."""
    is_significant = share > chance + MIN_STANDARD_ERRORS * math.sqrt(max(chance * (1 - chance), 1 / n) / n)
    return is_significant and (share > MIN_RATIO * chance or share - chance > MIN_GAIN * (1 - chance))


def _baseline_problems(screen: Screen, folds: Folds, label: str) -> Iterator[Problem]:
    fold, labels = folds.of(screen), screen.sites[label].astype(str).to_numpy(dtype=object)
    is_treated = (labels != "") & ~screen.sites["role"].isin([role.value for role in CONTROLS]).to_numpy()
    trained = pd.unique(labels[(fold == TRAIN) & is_treated])
    is_held_out = (fold == HELD_OUT) & is_treated & pd.Series(labels).isin(trained).to_numpy()
    guesses = predict_from_position(screen.sites, labels, (fold == TRAIN) & is_treated)
    if not is_held_out.any():
        return
    code, names = pd.factorize(labels[(fold == TRAIN) & is_treated], sort=True)
    majority_share = float((labels[is_held_out] == names[np.bincount(code).argmax()]).mean())
    shares = {name: float((guess[is_held_out] == labels[is_held_out]).mean()) for name, guess in guesses.items()}
    n = len(screen.sites.loc[is_held_out, list(WELL_COLUMNS)].drop_duplicates())
    is_predictive = _is_predictive(max(shares.values()), majority_share, n)
    listed = ", ".join(f"{name} alone {share:.1%}" for name, share in shares.items())
    yield Problem(
        severity="warning" if is_predictive else "note",
        kind="place predicts the label" if is_predictive else "accuracy without looking",
        what=f"of {int(is_held_out.sum())} held-out sites of treatments {listed}, "
        f"the most frequent label {majority_share:.1%} right",
        fix="A network that is no better has learned the position, not the cells: compare with these baselines in the "
        "score table.",
        count=int(is_held_out.sum()),
    )
